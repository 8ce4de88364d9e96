// SPDX-License-Identifier: MIT
/// @file
/// sample(seed, n): keys drawn at random, with their softmax weights as probabilities.
#ifndef HEED_SELECT_SAMPLE_HPP
#define HEED_SELECT_SAMPLE_HPP

#include <cstdint>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/random.hpp>
#include <heed/select/row_selection.hpp>

namespace heed::inline HEED_ABI {

/// The policy made by sample().
struct Sample : row_selection_tag {
  std::uint64_t seed;
  Index count;
  bool through;

  Sample(std::uint64_t s, Index n, bool t) : seed(s), count(n), through(t) {}
  void check(const Shape&) const {
    if (count < 1 || count > detail::BoundDraw::most)
      detail::fail("sample: ", count, " draws, at least 1 and at most ", detail::BoundDraw::most,
                   " are possible");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(seed, count, through);
  }
  detail::BoundDraw bind_selection(const Place& place) const {
    return {PairDraws(seed, place), static_cast<int>(count),
            through ? detail::Slopes::softmax : detail::Slopes::none};
  }
};

/// Hard attention: each row draws n keys, with replacement, with the softmax weights as probabilities, and
/// looks at their values alone: a weight is the share of draws that its key got (1502.03044). The mean over
/// seeds is the soft output. The uniform numbers depend on seed, sequence, head and row alone (random.hpp),
/// so that the backward pass and any number of threads see the same draws; another instruction set may draw
/// another key where a number falls within rounding of a boundary. dv is exact for what was drawn; the scores
/// have no gradient (train/ has estimators of it). `save` keeps the log-sum-exp; a sink may be drawn, and has
/// no value. n below 1 or above 64 is an std::invalid_argument. Memory as with sparsemax().
inline Sample sample(std::uint64_t seed, Index n = 1) { return Sample(seed, n, false); }
/// The same with softmax's gradient for the scores, straight through the draw.
inline Sample sample(std::uint64_t seed, straight_through_t) { return Sample(seed, 1, true); }
inline Sample sample(std::uint64_t seed, Index n, straight_through_t) { return Sample(seed, n, true); }

}  // namespace heed::inline HEED_ABI

#endif
