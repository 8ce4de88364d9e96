// SPDX-License-Identifier: MIT
/// @file
/// window(left, right): a query sees its own position and so many to each side.
#ifndef HEED_MASK_WINDOW_HPP
#define HEED_MASK_WINDOW_HPP

#include <limits>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>

namespace heed::inline HEED_ABI {

/// A side of a window that never ends.
inline constexpr Index unbounded = std::numeric_limits<Index>::max();

namespace detail {

/// Keys low <= j - i <= high.
struct BoundWindow {
  Position low, high;
  Index keys;

  // j - i never overflows, i + high could.
  HEED_INLINE bool visible(Position i, Position j) const {
    return bool(int(j - i >= low) & int(j - i <= high));
  }
  /// Some query of the tile sees j: the first one looks back farthest, the last one ahead farthest.
  HEED_INLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    return clip(i0 + low, i1 + high, from, keys);
  }
  HEED_INLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    return clip(i1 - 1 + low, i0 + high + 1, from, keys);
  }
};

}  // namespace detail

/// The policy made by window() and sliding_window().
struct Window : mask_tag {
  Index left;
  Index right;
  Alignment alignment;

  Window(Index l, Index r, Alignment a) : left(l), right(r), alignment(a) {}

  void check(const Shape&) const {
    // Either side may be negative, (256, -1) excludes the position itself, but together they must hold a
    // position.
    const bool holds_one = left == unbounded || right == unbounded || (left >= 0 && right >= 0) ||
                           clamp(left) + clamp(right) >= 0;
    if (!holds_one)
      detail::fail("window: left is ", left, " and right is ", right, ", there is no position between");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(left, right, alignment);
  }
  detail::BoundWindow bind(const Place& place) const {
    // Positions and offsets beyond 2^31 reach past every sequence, and sums of clamped ones cannot overflow.
    const Index off = detail::clamp_position(alignment.resolve(place.queries, place.keys));
    const Position low = detail::clamp_position(off - clamp(left));
    const Position high = detail::clamp_position(off + clamp(right));
    return {low, high, place.keys};
  }

 private:
  static Index clamp(Index x) {
    constexpr Index far = Index{1} << 40;
    return x > far ? far : x < -far ? -far : x;
  }
};

/// Sliding window (2004.05150): query i sees keys i + off - left <= j <= i + off + right, both ends included,
/// with off = M - N. Either side may be `unbounded`. left + right < 0 is an std::invalid_argument.
inline Window window(Index left, Index right) { return Window(left, right, {}); }
/// The same with off = 0.
inline Window window(Index left, Index right, top_left_t) { return Window(left, right, {false, 0}); }
/// The same with a given off.
inline Window window(Index left, Index right, Index offset) { return Window(left, right, {false, offset}); }
/// A sliding window (2004.05150): the last w keys up to the query's own position, window(w - 1, 0).
/// w < 1 is an std::invalid_argument.
inline Window sliding_window(Index w) { return window(w - 1, 0); }

}  // namespace heed::inline HEED_ABI

#endif
