// SPDX-License-Identifier: MIT
/// @file
/// Sorted lists in compressed rows, and the stretches that some or all of several lists hold: what masks
/// made of lists of keys or of blocks rest on.
#ifndef HEED_MASK_SORTED_LISTS_HPP
#define HEED_MASK_SORTED_LISTS_HPP

#include <algorithm>
#include <bit>
#include <cstdint>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI::detail {

/// List r is items[offsets[r]] < ... < items[offsets[r + 1] - 1].
struct SortedLists {
  const Index* offsets;
  const Index* items;

  HEED_INLINE bool holds(Index list, Index item) const {
    const Index* at = find(list, item);
    return at != stop(list) && *at == item;
  }

  /// The first stretch at or after `from` of items below `end` that some list of [first, last) holds. Gaps
  /// of fewer than `gap` items may be taken as held. Cost: a binary search in each list for every 64 items,
  /// and a step for each item.
  HEED_NOINLINE KeyRange some(Index first, Index last, Index from, Index end, int gap) const {
    Index begin = end;
    for (Index r = first; r < last; ++r) {
      const Index* at = find(r, from);
      if (at != stop(r) && *at < begin) begin = *at;
    }
    if (begin >= end) return {end, end};
    for (Index at = begin;; at += 64) {
      std::uint64_t held = 0;
      for (Index r = first; r < last && ~held != 0; ++r) held |= next_64(r, at);
      int ones = std::countr_one(held);
      while (ones > 0 && ones < 64) {
        const int zeros = std::countr_zero(held >> ones);
        if (zeros >= gap) break;
        ones += zeros;
        ones += std::countr_one(held >> ones);
      }
      if (ones < 64) return {begin, at + ones < end ? at + ones : end};
    }
  }

  /// A stretch at or after `from` of items below `end` that every list of [first, last) holds: the first
  /// one, or none if it begins more than 64 items after the first that could be. (Who finds none tests
  /// pairs; but to look through all of long lists again for every stretch would cost more.)
  HEED_NOINLINE KeyRange every(Index first, Index last, Index from, Index end) const {
    Index begin = from;
    for (Index r = first; r < last; ++r) {
      const Index* at = find(r, begin);
      if (at == stop(r)) return {end, end};
      begin = *at;
    }
    std::uint64_t held = next_64(first, begin);
    for (Index r = first + 1; r < last && held != 0; ++r) held &= next_64(r, begin);
    if (held == 0) return {end, end};
    const int skip = std::countr_zero(held);
    Index stop_at = begin + skip + std::countr_one(held >> skip);
    for (Index at = begin + 64; stop_at == at; at += 64) {
      held = ~std::uint64_t{0};
      for (Index r = first; r < last && held != 0; ++r) held &= next_64(r, at);
      stop_at += std::countr_one(held);
    }
    begin += skip;
    if (begin >= end) return {end, end};
    return {begin, stop_at < end ? stop_at : end};
  }

 private:
  HEED_INLINE const Index* stop(Index list) const { return items + offsets[list + 1]; }
  HEED_INLINE const Index* find(Index list, Index item) const {
    return std::lower_bound(items + offsets[list], stop(list), item);
  }
  /// Bit b: does the list hold item + b?
  HEED_INLINE std::uint64_t next_64(Index list, Index item) const {
    std::uint64_t held = 0;
    for (const Index *at = find(list, item), *end = stop(list); at != end && *at - item < 64; ++at)
      held |= std::uint64_t{1} << (*at - item);
    return held;
  }
};

/// Refuses what is not `lists` lists of increasing items in [0, limit). The names are those of the policy,
/// of its list of offsets and of its list of items. Cost: a step for each list and item.
inline void check_lists(const char* policy, const char* offsets_name, const char* items_name,
                        const IndexList& offsets, const IndexList& items, Index lists, Index limit) {
  if (offsets.size() != lists + 1)
    fail(policy, ": ", offsets.size(), " ", offsets_name, " for ", lists, " rows, ", lists + 1,
         " are needed");
  if (offsets[0] != 0)
    fail(policy, ": the first of the ", offsets_name, " is ", offsets[0], ", it must be 0");
  if (offsets[lists] != items.size())
    fail(policy, ": the last of the ", offsets_name, " is ", offsets[lists], ", there are ", items.size(),
         " ", items_name);
  // All of them before any item: an offset out of order would lead outside of the items.
  for (Index r = 0; r < lists; ++r)
    if (offsets[r + 1] < offsets[r])
      fail(policy, ": number ", r + 1, " of the ", offsets_name, " is ", offsets[r + 1], ", less than ",
           offsets[r], " before it");
  for (Index r = 0; r < lists; ++r)
    for (Index n = offsets[r]; n < offsets[r + 1]; ++n) {
      if (items[n] < 0 || items[n] >= limit)
        fail(policy, ": row ", r, " has ", items[n], " among its ", items_name, ", there are ", limit);
      if (n > offsets[r] && items[n] <= items[n - 1])
        fail(policy, ": the ", items_name, " of row ", r, " are not in increasing order: ", items[n - 1],
             " before ", items[n]);
    }
}

}  // namespace heed::inline HEED_ABI::detail

#endif
