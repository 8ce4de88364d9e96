// SPDX-License-Identifier: MIT
/// @file
/// Sorted lists in compressed rows, and the stretches that some or all of several lists hold: what masks
/// made of lists of keys or of blocks rest on.
#ifndef HEED_MASK_SORTED_LISTS_HPP
#define HEED_MASK_SORTED_LISTS_HPP

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI::detail {

/// Stretches end here at the latest, and go on in the next one: tiles take them by blocks that are shorter,
/// and would look to the end of a long one again for each block.
inline constexpr Index longest_stretch = 256;

/// The first stretch at or after `from` of items below `end` that are held, where first(x) is the first held
/// item at or after x, or at least `end` if there is none, and held_64(x) says which of the next 64 are. Gaps
/// of fewer than `gap` <= 64 items may be taken as held.
template <class First, class Held>
KeyRange held_stretch(const First& first, const Held& held_64, Index from, Index end, int gap) {
  const Index begin = first(from);
  if (begin >= end) return {end, end};
  Index stop = begin;
  for (Index at = begin; stop == at && at < begin + longest_stretch; at += 64) {
    const std::uint64_t held = held_64(at);
    int ones = std::countr_one(held);
    while (ones > 0 && ones < 64) {
      const int zeros = std::countr_zero(held >> ones);
      if (zeros >= gap) break;
      ones += zeros;
      ones += std::countr_one(held >> ones);
    }
    stop += ones;
  }
  return {begin, stop < end ? stop : end};
}

/// A stretch at or after `begin` of items below `end` that are held: the first one, or none if it begins 64
/// items later. (Who finds none tests pairs; but to look through all of long lists again for every stretch
/// would cost more.)
template <class Held>
KeyRange near_stretch(const Held& held_64, Index begin, Index end) {
  if (begin >= end) return {end, end};
  const std::uint64_t held = held_64(begin);
  if (held == 0) return {end, end};
  const int skip = std::countr_zero(held);
  Index stop = begin + skip + std::countr_one(held >> skip);
  for (Index at = begin + 64; stop == at && at < begin + longest_stretch; at += 64)
    stop += std::countr_one(held_64(at));
  begin += skip;
  return begin < end ? KeyRange{begin, stop < end ? stop : end} : KeyRange{end, end};
}

/// List r is items[offsets[r]] < ... < items[offsets[r + 1] - 1].
struct SortedLists {
  const Index* offsets;
  const Index* items;

  HEED_INLINE bool holds(Index list, Index item) const {
    const Index* at = find(list, item);
    return at != stop(list) && *at == item;
  }
  /// The first stretch at or after `from` of items below `end` that some list of [first, last) holds. Cost:
  /// a binary search in each list for every 64 items, and a step for each item.
  HEED_NOINLINE KeyRange some(Index first, Index last, Index from, Index end) const {
    const auto next = [&](Index x) {
      Index least = end;
      for (Index r = first; r < last; ++r) {
        const Index* at = find(r, x);
        if (at != stop(r) && *at < least) least = *at;
      }
      return least;
    };
    const auto held_64 = [&](Index x) {
      std::uint64_t held = 0;
      for (Index r = first; r < last && ~held != 0; ++r) held |= next_64(r, x);
      return held;
    };
    return held_stretch(next, held_64, from, end, 0);
  }
  /// A near stretch that every list of [first, last) holds.
  HEED_NOINLINE KeyRange every(Index first, Index last, Index from, Index end) const {
    for (Index r = first; r < last; ++r) {
      const Index* at = find(r, from);
      if (at == stop(r)) return {end, end};
      from = *at;
    }
    const auto held_64 = [&](Index x) {
      std::uint64_t held = ~std::uint64_t{0};
      for (Index r = first; r < last && held != 0; ++r) held &= next_64(r, x);
      return held;
    };
    return near_stretch(held_64, from, end);
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

/// What is wrong with lists that should increase and be no negative numbers, or "": the names are those of
/// the list of offsets and of the list of items. Cost: a step for each list and item.
inline std::string fault_of_lists(const char* offsets_name, const char* items_name, const IndexList& offsets,
                                  const IndexList& items) {
  const auto text = [](const auto&... parts) {
    std::string message;
    (append(message, parts), ...);
    return message;
  };
  const Index lists = offsets.size() - 1;
  if (lists < 0) return text("0 ", offsets_name, ", at least 1 is needed");
  if (offsets[0] != 0) return text("the first of the ", offsets_name, " is ", offsets[0], ", it must be 0");
  if (offsets[lists] != items.size())
    return text("the last of the ", offsets_name, " is ", offsets[lists], ", there are ", items.size(), " ",
                items_name);
  // All of them before any item: an offset out of order would lead outside of the items.
  for (Index r = 0; r < lists; ++r)
    if (offsets[r + 1] < offsets[r])
      return text("number ", r + 1, " of the ", offsets_name, " is ", offsets[r + 1], ", less than ",
                  offsets[r], " before it");
  for (Index r = 0; r < lists; ++r)
    for (Index n = offsets[r]; n < offsets[r + 1]; ++n) {
      if (items[n] < 0) return text("row ", r, " has ", items[n], " among its ", items_name);
      if (n > offsets[r] && items[n] <= items[n - 1])
        return text("the ", items_name, " of row ", r, " are not in increasing order: ", items[n - 1],
                    " before ", items[n]);
    }
  return "";
}

/// Refuses what is not `rows` rows.
inline void check_row_count(const char* policy, const char* offsets_name, Index offsets, Index rows) {
  if (offsets != rows + 1)
    fail(policy, ": ", offsets, " ", offsets_name, " for ", rows, " rows, ", rows + 1, " are needed");
}

}  // namespace heed::inline HEED_ABI::detail

#endif
