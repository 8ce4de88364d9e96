// SPDX-License-Identifier: MIT
/// @file
/// strided(l) and fixed(l, c): the two factorised patterns of the Sparse Transformer (1904.10509). Two hops
/// lead from any token to any earlier one, at a cost of O(√N) pairs a query where l is about √N.
#ifndef HEED_MASK_STRIDED_HPP
#define HEED_MASK_STRIDED_HPP

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/mask/algebra.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/chunked.hpp>
#include <heed/mask/dilated.hpp>
#include <heed/mask/window.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

struct BoundSummaryKeys {
  Index period, first;  ///< keys j with j mod period >= first
  Index keys;

  HEED_INLINE bool visible(Position, Position j) const { return j % period >= first; }
  HEED_INLINE KeyRange key_ranges(Index, Index, Index from) const {
    if (first == 0) return clip(0, keys, from, keys);
    const Index begin = from / period * period;
    return clip(begin + first, begin + period, from, keys);
  }
  HEED_INLINE KeyRange full_ranges(Index i0, Index i1, Index from) const { return key_ranges(i0, i1, from); }
};

}  // namespace detail

/// The policy made by summary_keys().
struct SummaryKeys : mask_tag {
  Index period;
  Index count;

  SummaryKeys(Index l, Index c) : period(l), count(c) {}

  void check(const Shape&) const {
    if (period < 1) detail::fail("summary_keys: the period is ", period, ", it must be at least 1");
    if (count < 0 || count > period)
      detail::fail("summary_keys: the last ", count, " keys of every ", period, ", which has no so many");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(period, count);
  }
  detail::BoundSummaryKeys bind(const Place& place) const {
    // No sequence is that long, and no sum of such numbers overflows.
    constexpr Index far = Index{1} << 40;
    const Index first = period - count;
    return {period < far ? period : far, first < far ? first : far, place.keys};
  }
};

/// Keys j with j mod l >= l - c, for every query: the last c of every l keys, which the others write their
/// summaries to. l < 1, c < 0 and c > l are an std::invalid_argument.
inline SummaryKeys summary_keys(Index l, Index c) { return SummaryKeys(l, c); }

/// The first factor of strided(): the last l keys and the own one, i - l <= j <= i.
inline auto strided_local(Index l) { return window(l, 0); }
/// The second factor of strided(): every l-th key up to the own one, (i - j) mod l = 0 and j <= i.
inline auto strided_column(Index l) { return dilated(unbounded, 0, l); }
/// Query i sees the keys j <= i with i - j <= l or (i - j) mod l = 0: for data with a period of l, such as
/// rows of pixels. As everywhere i counts from the end, i + M - N, where N and M differ. l < 1 is an
/// std::invalid_argument. Heads may take one factor each, by in_heads().
inline auto strided(Index l) { return strided_local(l) | strided_column(l); }

/// The first factor of fixed(): earlier keys of the own block of l keys.
inline auto fixed_local(Index l) { return chunked(l) & causal(); }
/// The second factor of fixed(): earlier summary keys.
inline auto fixed_column(Index l, Index c) { return summary_keys(l, c) & causal(); }
/// Query i sees the keys j <= i of its own block of l keys and the last c of every block before. c < 0 and
/// c > l are an std::invalid_argument.
inline auto fixed(Index l, Index c) { return (chunked(l) | summary_keys(l, c)) & causal(); }

}  // namespace heed::inline HEED_ABI

#endif
