// SPDX-License-Identifier: MIT
/// @file
/// A stretch of keys, and what to assume of a bound mask that does not say where its keys lie.
///
/// A bound mask answers for a tile of query rows [i0, i1), 0 <= i0 < i1 <= N, and a first key `from` >= 0:
/// - `key_ranges(i0, i1, from)`: the first stretch of keys at or after `from` outside of which no query of
/// the tile sees
///   anything. Keys before the stretch are invisible to the whole tile; keys in it may or may not be visible.
/// - `full_ranges(i0, i1, from)`: the first stretch at or after `from` that every query of the tile sees
/// entirely.
///
/// A long stretch may come in pieces, and full_ranges may leave out what is dear to find: pairs are tested
/// there, and nothing is claimed.
///
/// Both return {M, M} when nothing is left and never an empty stretch otherwise, so that
/// `for (r = f(0); !r.empty(); r = f(r.end))` visits every stretch in order and ends.
#ifndef HEED_CORE_KEY_RANGE_HPP
#define HEED_CORE_KEY_RANGE_HPP

#include <cstdint>

#include <heed/config.hpp>
#include <heed/core/quotient.hpp>

namespace heed::inline HEED_ABI {

using Index = Eigen::Index;
/// A position inside one sequence. 32 bits, because loops over 64-bit positions cost ten times as much in
/// AVX2 lanes.
using Position = std::int32_t;

/// Keys [begin, end).
struct KeyRange {
  Index begin = 0;
  Index end = 0;

  HEED_INLINE constexpr bool empty() const { return begin >= end; }
  HEED_INLINE constexpr Index size() const { return empty() ? 0 : end - begin; }
  friend constexpr bool operator==(const KeyRange&, const KeyRange&) = default;
};

namespace detail {

/// The part of [begin, end) inside [from, keys), or {keys, keys}.
HEED_INLINE constexpr KeyRange clip(Index begin, Index end, Index from, Index keys) {
  if (begin < from) begin = from;
  if (end > keys) end = keys;
  return begin < end ? KeyRange{begin, end} : KeyRange{keys, keys};
}

/// What a mask that can only be asked pair by pair answers: any key may be seen, none is known to be.
template <class Bound>
HEED_INLINE constexpr KeyRange key_ranges(const Bound& mask, Index keys, Index i0, Index i1, Index from) {
  if constexpr (requires { mask.key_ranges(i0, i1, from); }) {
    return mask.key_ranges(i0, i1, from);
  } else {
    return clip(0, keys, from, keys);
  }
}

template <class Bound>
HEED_INLINE constexpr KeyRange full_ranges(const Bound& mask, Index keys, Index i0, Index i1, Index from) {
  if constexpr (requires { mask.full_ranges(i0, i1, from); }) {
    return mask.full_ranges(i0, i1, from);
  } else {
    return {keys, keys};
  }
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI

#endif
