// SPDX-License-Identifier: MIT
/// @file
/// What selections that need a whole row of scores have in common: three ways to find the weights.
#ifndef HEED_SELECT_ROW_SELECTION_HPP
#define HEED_SELECT_ROW_SELECTION_HPP

#include <limits>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/random.hpp>

namespace heed::inline HEED_ABI {

/// argmax(straight_through), sample(seed, straight_through): backward, as if the weights had been the
/// softmax's (1308.3432).
struct straight_through_t {};
inline constexpr straight_through_t straight_through{};

namespace detail {

/// How the engine finds the weights of a row; each bound selection names one as `kind`.
enum class SelectionKind {
  threshold,  ///< weights are a function of the score and of one number τ of the row, such that they sum to 1
  rank,       ///< softmax over the greatest scores, so many or of so much weight
  draw,       ///< keys drawn at random, each with its softmax weight as probability
};

/// What the gradient of a score is: slope · (dp - Σ slope · dp / Σ slope), with the slopes
enum class Slopes {
  none,     ///< 0: a hard choice has no gradient
  kept,     ///< the selection's own
  softmax,  ///< the softmax's, of all scores: straight through
};

/// A weight and its derivative by the score.
template <class S>
struct WeightAndSlope {
  S weight, slope;
};

/// Softmax over the `count` greatest scores, or over the greatest that together have `mass` of the weight;
/// among equal ones the first.
struct BoundRank {
  static constexpr SelectionKind kind = SelectionKind::rank;
  Index count = std::numeric_limits<Index>::max();
  double mass = 1;
  Slopes slopes = Slopes::kept;
  bool by_mass = false;

  HEED_INLINE bool keeps_all() const { return !by_mass && count == std::numeric_limits<Index>::max(); }
};

/// `count` keys drawn with replacement; a weight is the share of draws that a key got.
struct BoundDraw {
  static constexpr SelectionKind kind = SelectionKind::draw;
  static constexpr int most = 64;
  PairDraws draws;
  int count = 1;
  Slopes slopes = Slopes::none;

  /// In [0, 1), by steps of 2^-bits: one for each row and draw.
  template <int bits = 52>
  HEED_INLINE double uniform(Position i, int n) const {
    // Pairs of keys are numbered from 0 below 2^30: draws of a row from 2^31.
    const Words w =
        threefry({static_cast<std::uint32_t>(i), 0x80000000u + static_cast<std::uint32_t>(n)}, draws.key);
    const std::uint64_t word = (static_cast<std::uint64_t>(w.first) << 32) | w.second;
    return static_cast<double>(word >> (64 - bits)) / static_cast<double>(std::uint64_t{1} << bits);
  }
};

}  // namespace detail
}  // namespace heed::inline HEED_ABI

#endif
