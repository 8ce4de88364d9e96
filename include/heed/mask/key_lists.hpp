// SPDX-License-Identifier: MIT
/// @file
/// key_lists(offsets, keys): every query names the keys that it sees.
#ifndef HEED_MASK_KEY_LISTS_HPP
#define HEED_MASK_KEY_LISTS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/rules.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/mask/algebra.hpp>
#include <heed/mask/sorted_lists.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// The lists of 16 rows at a time, turned over: each key that some of them hold, in order, with the rows that
/// hold it as bits. A pack of queries asks about one key after the other, and all its lanes find the same
/// entry. Entries are found through buckets of equally many keys, about as many as there are entries.
class KeyListTable {
 public:
  static constexpr Index group_rows = 16;
  using RowBits = std::uint16_t;

  struct Group {
    Index begin, end;    ///< its entries
    Index first_bucket;  ///< its buckets; one more tells where the last ends
    Position buckets;
    int shift;  ///< key >> shift is the bucket
  };

  KeyListTable(const IndexList& offsets, const IndexList& keys)
      : fault_(fault_of_lists("offsets", "keys", offsets, keys)) {
    rows_ = offsets.size() - 1;
    for (Index r = 0; fault_.empty() && r < rows_; ++r)
      if (offsets[r + 1] > offsets[r] && keys[offsets[r + 1] - 1] > greatest_) {
        greatest_ = keys[offsets[r + 1] - 1];
        greatest_row_ = r;
      }
    // Longer sequences do not exist: check() will refuse the call.
    if (!fault_.empty() || greatest_ > std::numeric_limits<Position>::max()) return;
    offsets_.assign(offsets.data(), offsets.data() + offsets.size());
    for (Index n = 0; n < keys.size(); ++n) listed_.push_back(static_cast<Position>(keys[n]));
    std::vector<RowBits> holders(static_cast<std::size_t>(greatest_ + 1), RowBits{0});
    std::vector<Position> held;
    for (Index first = 0; first < rows_; first += group_rows) {
      held.clear();
      const Index last = first + group_rows < rows_ ? first + group_rows : rows_;
      for (Index r = first; r < last; ++r)
        for (Index n = offsets[r]; n < offsets[r + 1]; ++n) {
          RowBits& bits = holders[static_cast<std::size_t>(keys[n])];
          if (bits == 0) held.push_back(static_cast<Position>(keys[n]));
          bits = static_cast<RowBits>(bits | 1u << (r - first));
        }
      std::sort(held.begin(), held.end());
      add_group(held);
      for (const Position key : held) {
        keys_.push_back(key);
        RowBits& bits = holders[static_cast<std::size_t>(key)];
        bits_.push_back(bits);
        bits = 0;
      }
    }
  }

  const std::string& fault() const { return fault_; }
  Index rows() const { return rows_; }
  Index greatest() const { return greatest_; }
  Index greatest_row() const { return greatest_row_; }
  const Group* groups() const { return groups_.data(); }
  const std::uint32_t* buckets() const { return buckets_.data(); }
  const Position* keys() const { return keys_.data(); }
  const RowBits* bits() const { return bits_.data(); }
  const Index* offsets() const { return offsets_.data(); }
  Index pairs() const { return static_cast<Index>(listed_.size()); }
  const Position* listed() const { return listed_.data(); }

 private:
  void add_group(const std::vector<Position>& held) {
    const Index begin = static_cast<Index>(keys_.size()), count = static_cast<Index>(held.size());
    Group group{begin, begin + count, static_cast<Index>(buckets_.size()), 0, 0};
    if (count > 0) {
      while ((held.back() >> group.shift) > 2 * count) ++group.shift;
      group.buckets = (held.back() >> group.shift) + 1;
      Index n = 0;
      for (Position b = 0; b <= group.buckets; ++b) {
        while (n < count && (held[static_cast<std::size_t>(n)] >> group.shift) < b) ++n;
        buckets_.push_back(static_cast<std::uint32_t>(n));
      }
    }
    groups_.push_back(group);
  }

  std::string fault_;
  Index rows_ = 0, greatest_ = -1, greatest_row_ = 0;
  std::vector<Group> groups_;
  std::vector<std::uint32_t> buckets_;  ///< the first entry of each, counted in its group
  std::vector<Position> keys_;          ///< of the entries
  std::vector<RowBits> bits_;
  std::vector<Index> offsets_;  ///< the lists as they were given
  std::vector<Position> listed_;
};

/// The lists of one sequence and head.
struct BoundLists {
  const Index* offsets;
  const Position* listed;
  Index first_row;
  Index keys;

  /// What query i names, of the keys that there are.
  HEED_INLINE const Position* begin(Index i) const { return listed + offsets[first_row + i]; }
  HEED_INLINE Index count(Index i) const {
    Index n = offsets[first_row + i + 1] - offsets[first_row + i];
    const Position* list = begin(i);
    while (n > 0 && list[n - 1] >= keys) --n;
    return n;
  }
};

struct BoundKeyLists {
  const KeyListTable::Group* groups;
  const std::uint32_t* buckets;
  const Position* entry_keys;
  const KeyListTable::RowBits* entry_bits;
  Index first_row;  ///< of this sequence and head
  Index keys;

  HEED_INLINE bool visible(Position i, Position j) const {
    const auto row = static_cast<std::uint64_t>(first_row + i);
    const KeyListTable::Group& group = groups[row / rows];
    const Index at = find(group, j);
    return at < group.end && entry_keys[at] == j && (entry_bits[at] >> row % rows & 1) != 0;
  }
  /// Gaps of fewer than 8 keys are not worth a stretch of their own.
  HEED_NOINLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    const Index r0 = first_row + i0, r1 = first_row + i1;
    const auto next = [&](Index x) {
      Index least = keys;
      for (Index g = r0 / rows; g * rows < r1; ++g) {
        const Index end = groups[g].end;
        Index at = find(groups[g], x);
        while (at < end && (entry_bits[at] & rows_of(g, r0, r1)) == 0) ++at;
        if (at < end && entry_keys[at] < least) least = entry_keys[at];
      }
      return least;
    };
    const auto held_64 = [&](Index x) {
      std::uint64_t held = 0;
      for (Index g = r0 / rows; g * rows < r1 && ~held != 0; ++g)
        held |= next_64(g, x, [&](int bits) { return (bits & rows_of(g, r0, r1)) != 0; });
      return held;
    };
    return held_stretch(next, held_64, from, keys, 8);
  }
  HEED_NOINLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    const Index r0 = first_row + i0, r1 = first_row + i1;
    for (Index g = r0 / rows; g * rows < r1; ++g) {
      const Index at = find(groups[g], from);
      if (at == groups[g].end) return {keys, keys};
      from = entry_keys[at];
    }
    const auto held_64 = [&](Index x) {
      std::uint64_t held = ~std::uint64_t{0};
      for (Index g = r0 / rows; g * rows < r1 && held != 0; ++g)
        held &= next_64(g, x, [&](int bits) { return (~bits & rows_of(g, r0, r1)) == 0; });
      return held;
    };
    return near_stretch(held_64, from, keys);
  }

 private:
  static constexpr Index rows = KeyListTable::group_rows;

  /// The first entry of a group at or after a key.
  HEED_INLINE Index find(const KeyListTable::Group& group, Index key) const {
    const Index bucket = key >> group.shift;
    if (bucket >= group.buckets) return group.end;
    const std::uint32_t* bounds = buckets + group.first_bucket + bucket;
    Index at = group.begin + bounds[0];
    const Index stop = group.begin + bounds[1];
    if (stop - at > 8) return std::lower_bound(entry_keys + at, entry_keys + stop, key) - entry_keys;
    while (at < stop && entry_keys[at] < key) ++at;
    return at;
  }
  /// Which bits of a group's entries belong to rows [r0, r1).
  static HEED_INLINE int rows_of(Index group, Index r0, Index r1) {
    const Index first = group * rows, low = r0 > first ? r0 - first : 0, high = r1 - first;
    return static_cast<int>((high < rows ? (1u << high) - 1 : 0xffffu) & ~((1u << low) - 1));
  }
  /// Bit b: has the group an entry of key + b that will do?
  template <class Test>
  HEED_INLINE std::uint64_t next_64(Index g, Index key, const Test& test) const {
    std::uint64_t held = 0;
    for (Index at = find(groups[g], key), end = groups[g].end; at < end && entry_keys[at] - key < 64; ++at)
      held |= std::uint64_t{test(entry_bits[at])} << (entry_keys[at] - key);
    return held;
  }
};

}  // namespace detail

/// The policy made by key_lists().
class KeyLists : public mask_tag {
 public:
  KeyLists(const detail::IndexList& offsets, const detail::IndexList& keys, Index patterns)
      : table_(std::make_shared<const detail::KeyListTable>(offsets, keys)), patterns_(patterns) {}

  void check(const Shape& shape) const {
    if (patterns_ != 1 && patterns_ != shape.heads)
      detail::fail("key_lists: ", patterns_, " patterns for ", shape.heads, " heads");
    detail::check_row_count("key_lists", "offsets", table_->rows() + 1, patterns_ * shape.queries);
    if (!table_->fault().empty()) detail::fail("key_lists: ", table_->fault());
    if (table_->greatest() >= shape.longest)
      detail::fail("key_lists: row ", table_->greatest_row(), " has ", table_->greatest(),
                   " among its keys, there are ", shape.longest);
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(table_->rows(), table_->pairs(), patterns_);
  }
  detail::BoundKeyLists bind(const Place& place) const {
    return {table_->groups(), table_->buckets(), table_->keys(),
            table_->bits(),   first_row(place),  place.keys};
  }
  /// Pairs of all lists, for one head or for all.
  Index pairs() const { return table_->pairs(); }
  detail::BoundLists bind_lists(const Place& place) const {
    return {table_->offsets(), table_->listed(), first_row(place), place.keys};
  }

 private:
  Index first_row(const Place& place) const {
    const Index head = patterns_ == 1 ? 0 : place.head;
    return place.query_begin + (head == 0 ? 0 : head * (table_->rows() / patterns_));
  }

  std::shared_ptr<const detail::KeyListTable> table_;
  Index patterns_;
};

/// Query i sees keys[offsets[i]] < ... < keys[offsets[i + 1] - 1]: what a router, a clustering or a
/// nearest-neighbour search has chosen (2003.05997). One list for each row of q, over all sequences, hence
/// N + 1 offsets; keys count inside their own sequence, and those that it does not have are nobody's. With
/// `patterns` = H every query head has lists of its own: row i of head h is list h·N + i. Any contiguous
/// lists of integers, read when the policy is made, O(n log n) time and O(n) memory for n keys in all, so
/// make it once for many calls. What does not fit is an std::invalid_argument, of the call. Each query reads
/// the keys that it names and no others, a head's numbers in lanes: a pair costs a few times what one of a
/// dense tile does, wherever the keys lie. (Inside when(), | or !, under a selection of rows or additive(),
/// where gradients of biases or parameters are asked for, and in forward mode, a tile of queries meets the
/// union of its keys and asks about each of these pairs.)
template <detail::integer_list R, detail::integer_list K>
KeyLists key_lists(R&& offsets, K&& keys, Index patterns = 1) {
  return KeyLists(detail::IndexList::copy(offsets), detail::IndexList::copy(keys), patterns);
}
inline KeyLists key_lists(std::initializer_list<Index> offsets, std::initializer_list<Index> keys,
                          Index patterns = 1) {
  return KeyLists(detail::IndexList::copy(std::vector<Index>(offsets)),
                  detail::IndexList::copy(std::vector<Index>(keys)), patterns);
}

namespace detail {

/// A bound mask without the lists in it.
HEED_INLINE Everything beyond_lists(const BoundKeyLists& mask) { return {mask.keys}; }
template <class Bound>
HEED_INLINE const Bound& beyond_lists(const Bound& mask) {
  return mask;
}
template <class A, class B>
HEED_INLINE auto beyond_lists(const BoundAnd<A, B>& mask) {
  using RestA = std::remove_cvref_t<decltype(beyond_lists(mask.a))>;
  using RestB = std::remove_cvref_t<decltype(beyond_lists(mask.b))>;
  if constexpr (std::is_same_v<RestA, Everything>)
    return RestB(beyond_lists(mask.b));
  else if constexpr (std::is_same_v<RestB, Everything>)
    return RestA(beyond_lists(mask.a));
  else
    return BoundAnd<RestA, RestB>{mask.keys, beyond_lists(mask.a), beyond_lists(mask.b)};
}
template <class T, class Dropped, class Mask, class... Terms>
HEED_INLINE auto beyond_lists(const Rules<T, Dropped, Mask, Terms...>& rules) {
  using Rest = std::remove_cvref_t<decltype(beyond_lists(rules.mask))>;
  return Rules<T, Dropped, Rest, Terms...>{rules.keys, rules.dropped, beyond_lists(rules.mask), rules.terms};
}

}  // namespace detail

}  // namespace heed::inline HEED_ABI

#endif
