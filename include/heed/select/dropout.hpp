// SPDX-License-Identifier: MIT
/// @file
/// dropout(p, seed): in training, each weight is left out with probability p.
#ifndef HEED_SELECT_DROPOUT_HPP
#define HEED_SELECT_DROPOUT_HPP

#include <cmath>
#include <cstdint>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/random.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// A weight is dropped where its 32 random bits are below the threshold.
struct BoundDropout {
  static constexpr bool drops = true;
  PairDraws draws;
  std::uint32_t threshold;
  double kept;  // 1 / (1 - p)

  /// What a weight is multiplied by, given its random bits,
  template <class T>
  HEED_INLINE T factor(std::uint32_t bits) const {
    // A product, because compilers make branches of a choice, and these cannot be predicted.
    return T(T(static_cast<std::int32_t>(bits >= threshold)) * T(kept));
  }
  /// or its query and key.
  template <class T>
  HEED_INLINE T factor(Position i, Position j) const {
    return factor<T>(draws.bits(i, j));
  }
};

}  // namespace detail

/// The policy made by dropout().
struct Dropout : dropout_tag {
  double p;
  std::uint64_t seed;

  Dropout(double probability, std::uint64_t s) : p(probability), seed(s) {}
  void check(const Shape&) const {
    if (!(p >= 0 && p < 1)) detail::fail("dropout: p is ", p, ", it must be at least 0 and below 1");
  }
  bool idle() const { return p == 0; }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(p, seed);
  }
  detail::BoundDropout bind(const Place& place) const {
    return {PairDraws(seed, place), static_cast<std::uint32_t>(p * 0x1p32), 1 / (1 - p)};
  }
};

/// Multiplies every weight by 0 with probability p and by 1 / (1 - p) else, after the selection: the mean
/// stays what it was, while the network learns not to lean on single pairs (Srivastava et al., JMLR 15, 2014;
/// on attention weights 1706.03762). The random numbers depend on seed, sequence, head, i and j alone
/// (random.hpp), so that the backward pass, given the same spec, drops the same weights, whatever the tiling
/// and the number of threads; take another seed for each step and layer. The log-sum-exp and
/// attention_weights() know nothing of it. Rounds p to a multiple of 2⁻³². p outside [0, 1) is an
/// std::invalid_argument. Cost: about 35 vector operations for 16 pairs with AVX-512.
inline Dropout dropout(double p, std::uint64_t seed) { return Dropout(p, seed); }

}  // namespace heed::inline HEED_ABI

#endif
