// SPDX-License-Identifier: MIT
/// @file
/// chunked(size): tokens see those of their own chunk.
#ifndef HEED_MASK_CHUNKED_HPP
#define HEED_MASK_CHUNKED_HPP

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

struct BoundChunked {
  Index size, before, after;  ///< before and after in keys: chunks times size
  Position period;            ///< size, or more than any position
  Index offset, keys;

  /// With r = j mod size, the query's position i + off lies in [j - r - after, j - r + size + before). All
  /// that is not i - j depends on the key alone, so that a loop over queries divides once.
  HEED_INLINE bool visible(Position i, Position j) const {
    const Index rest = j % period + offset;
    const Position low = clamp_position(-rest - after), high = clamp_position(size - 1 - rest + before);
    return bool(int(i - j >= low) & int(i - j <= high));
  }
  HEED_INLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    return clip(begin_of(i0) - before, begin_of(i1 - 1) + size + after, from, keys);
  }
  HEED_INLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    return clip(begin_of(i1 - 1) - before, begin_of(i0) + size + after, from, keys);
  }

 private:
  /// First key of the chunk of query i.
  HEED_INLINE Index begin_of(Index i) const { return floor_quotient(i + offset, size) * size; }
};

}  // namespace detail

/// The policy made by chunked().
struct Chunked : mask_tag {
  Index size;
  Index before;
  Index after;
  Alignment alignment;

  Chunked(Index s, Index b, Index a, Alignment where) : size(s), before(b), after(a), alignment(where) {}

  void check(const Shape&) const {
    if (size < 1) detail::fail("chunked: size is ", size, ", it must be at least 1");
    if (before < 0 || after < 0)
      detail::fail("chunked: before is ", before, " and after is ", after, ", neither may be negative");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(size, before, after, alignment);
  }
  detail::BoundChunked bind(const Place& place) const {
    // Farther than any sequence reaches, and `all` chunks reach farther still, from any offset.
    constexpr Index far = Index{1} << 40, all = Index{1} << 42;
    const Index keys_each = size < far ? size : far;
    const Index given = alignment.resolve(place.queries, place.keys);
    const auto reach = [&](Index chunks) { return chunks < all / keys_each ? chunks * keys_each : all; };
    return {keys_each,
            reach(before),
            reach(after),
            detail::clamp_position(keys_each),
            given < -far  ? -far
            : given > far ? far
                          : given,
            place.keys};
  }
};

/// Block-diagonal attention: query i sees key j where ⌊(i + off) / size⌋ = ⌊j / size⌋, with off = M - N. `&
/// causal()` keeps the past of the chunk. size < 1 is an std::invalid_argument. Chunks cost their own
/// squares.
inline Chunked chunked(Index size) { return Chunked(size, 0, 0, {}); }
/// The same with off = 0.
inline Chunked chunked(Index size, top_left_t) { return Chunked(size, 0, 0, {false, 0}); }
/// Also `before` chunks before its own and `after` after it (`unbounded`: all): chunked(b, 1, 1) is the
/// window of three blocks of 2007.14062. Negative numbers are an std::invalid_argument.
inline Chunked chunked(Index size, Index before, Index after) { return Chunked(size, before, after, {}); }
/// The same with off = 0.
inline Chunked chunked(Index size, Index before, Index after, top_left_t) {
  return Chunked(size, before, after, {false, 0});
}
/// The same with a given off.
inline Chunked chunked(Index size, Index before, Index after, Index offset) {
  return Chunked(size, before, after, {false, offset});
}

}  // namespace heed::inline HEED_ABI

#endif
