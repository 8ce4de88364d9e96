// SPDX-License-Identifier: MIT
/// @file
/// dilated(width, step): a sliding window with gaps.
#ifndef HEED_MASK_DILATED_HPP
#define HEED_MASK_DILATED_HPP

#include <cstdint>
#include <limits>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/mask/window.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// Is n a multiple of a number that is known beforehand? With step = 2^k·m and m odd, exactly the multiples
/// of step have n·m⁻¹ mod 2³², rotated right by k, among the first 2³² / step numbers: a multiplication
/// instead of a division, in lanes too.
struct MultipleOf {
  std::uint32_t inverse = 1, most = 0;
  int shift = 0;

  MultipleOf() = default;
  explicit HEED_INLINE MultipleOf(std::uint32_t step)
      : most(std::numeric_limits<std::uint32_t>::max() / step) {
    std::uint32_t odd = step;
    for (; odd % 2 == 0; odd /= 2) ++shift;
    // Newton's iteration doubles the number of right bits, 3 at first.
    inverse = odd;
    for (int n = 0; n < 4; ++n) inverse *= 2 - odd * inverse;
  }
  HEED_INLINE bool operator()(std::uint32_t n) const {
    const std::uint32_t x = n * inverse;
    return (x >> shift | x << (-shift & 31)) <= most;
  }
};

/// Keys low <= j - i <= high with j - i - low a multiple of step; so is high - low, or low > high and there
/// is none.
struct BoundDilated {
  Position low, high;
  MultipleOf multiple;
  Index step, keys;

  HEED_INLINE bool visible(Position i, Position j) const {
    const auto above = static_cast<std::uint32_t>(j - i) - static_cast<std::uint32_t>(low);
    return bool(int(j - i >= low) & int(j - i <= high) & int(multiple(above)));
  }
  /// Each key of the tile's first query begins a stretch as long as the tile has queries; where that is at
  /// least a step the stretches become one.
  HEED_INLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    if (low > high) return {keys, keys};
    if (i1 - i0 >= step) return clip(i0 + low, i1 + high, from, keys);
    Index begin = i0 + low;
    if (from >= i1 + low) begin += ((from - i1 - low) / step + 1) * step;
    return begin > i0 + high ? KeyRange{keys, keys} : clip(begin, begin + i1 - i0, from, keys);
  }
  HEED_INLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    if (i1 - i0 == 1) return key_ranges(i0, i1, from);
    return step == 1 ? clip(i1 - 1 + low, i0 + high + 1, from, keys) : KeyRange{keys, keys};
  }
};

}  // namespace detail

/// The policy made by dilated() and strided_column().
struct Dilated : mask_tag {
  Index left;
  Index right;
  Index step;
  Alignment alignment;

  Dilated(Index l, Index r, Index s, Alignment a) : left(l), right(r), step(s), alignment(a) {}

  void check(const Shape&) const {
    if (step < 1) detail::fail("dilated: step is ", step, ", it must be at least 1");
    const bool holds_one = left == unbounded || right == unbounded || (left >= 0 && right >= 0) ||
                           reach(left, 1) + reach(right, 1) >= 0;
    if (!holds_one)
      detail::fail("dilated: left is ", left, " and right is ", right, ", there is no position between");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(left, right, step, alignment);
  }
  detail::BoundDilated bind(const Place& place) const {
    const Index apart = step < far ? step : far;
    const Index given = alignment.resolve(place.queries, place.keys);
    const Index off = given > far ? far : given < -far ? -far : given;
    // Distances that the sequence has, and of these the first and the last that are off plus whole steps.
    Index low = off - reach(left, apart), high = off + reach(right, apart);
    if (low < 1 - place.queries) low = 1 - place.queries;
    if (high > place.keys - 1) high = place.keys - 1;
    if (low > high) return {1, 0, {}, apart, place.keys};
    low = off - detail::floor_quotient(off - low, apart) * apart;
    high = off + detail::floor_quotient(high - off, apart) * apart;
    if (low > high) return {1, 0, {}, apart, place.keys};
    constexpr Index most = std::numeric_limits<std::uint32_t>::max();
    return {static_cast<Position>(low), static_cast<Position>(high),
            detail::MultipleOf(static_cast<std::uint32_t>(apart < most ? apart : most)), apart, place.keys};
  }

 private:
  /// Sums of so great numbers do not overflow.
  static constexpr Index far = Index{1} << 60;
  static Index reach(Index steps, Index apart) {
    return steps > far / apart ? far : steps < -far / apart ? -far : steps * apart;
  }
};

/// Dilated sliding window (2004.05150): query i sees the keys i + off + t·step, -left <= t <= right, with
/// off = M - N. dilated(w, 0, step) is causal; either side may be `unbounded`. step < 1 or left + right < 0
/// is an std::invalid_argument. Costs what its pairs cost: every step-th token is a sequence of its own under
/// a plain window (gaps.hpp). Only where it stands inside in_heads(), when() or !, or beside another
/// dilated(), a row selection or dropout, and in forward mode, does a tile of `step` queries or more meet
/// every key between.
inline Dilated dilated(Index left, Index right, Index step) { return Dilated(left, right, step, {}); }
/// The same with off = 0.
inline Dilated dilated(Index left, Index right, Index step, top_left_t) {
  return Dilated(left, right, step, {false, 0});
}
/// The same with a given off.
inline Dilated dilated(Index left, Index right, Index step, Index offset) {
  return Dilated(left, right, step, {false, offset});
}
/// `width` keys to each side: |i + off - j| <= width·step, and a multiple of step.
inline Dilated dilated(Index width, Index step) { return dilated(width, width, step); }
/// The same with off = 0.
inline Dilated dilated(Index width, Index step, top_left_t) { return dilated(width, width, step, top_left); }

}  // namespace heed::inline HEED_ABI

#endif
