// SPDX-License-Identifier: MIT
/// @file
/// causal(): no query sees a later key.
#ifndef HEED_MASK_CAUSAL_HPP
#define HEED_MASK_CAUSAL_HPP

#include <limits>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

struct BoundCausal {
  Position offset;
  Index keys;

  // j - i never overflows, i + offset could.
  HEED_INLINE bool visible(Position i, Position j) const { return j - i <= offset; }
  HEED_INLINE KeyRange key_ranges(Index, Index i1, Index from) const {
    return clip(0, i1 + offset, from, keys);
  }
  HEED_INLINE KeyRange full_ranges(Index i0, Index, Index from) const {
    return clip(0, i0 + offset + 1, from, keys);
  }
};

}  // namespace detail

/// The policy made by causal().
struct Causal : mask_tag {
  static constexpr const char* same_as = "Window";  // window(unbounded, 0)
  Alignment alignment;

  explicit Causal(Alignment a = {}) : alignment(a) {}
  template <class Numbers>
  void identify(Numbers& n) const {
    n(std::numeric_limits<Index>::max(), Index(0), alignment);
  }
  detail::BoundCausal bind(const Place& place) const {
    return {detail::clamp_position(alignment.resolve(place.queries, place.keys)), place.keys};
  }
};

/// Query i sees keys j <= i + M - N: the last query stands at the last key, as in decoding and FlashAttention
/// (2205.14135). Where N > M the first N - M queries see nothing, and their output is 0.
inline Causal causal() { return Causal(); }
/// Query i sees keys j <= i: query 0 stands at key 0.
inline Causal causal(top_left_t) { return Causal({false, 0}); }
/// Query i sees keys j <= i + offset.
inline Causal causal(Index offset) { return Causal({false, offset}); }

}  // namespace heed::inline HEED_ABI

#endif
