// SPDX-License-Identifier: MIT
/// @file
/// key_lists(offsets, keys): every query names the keys that it sees.
#ifndef HEED_MASK_KEY_LISTS_HPP
#define HEED_MASK_KEY_LISTS_HPP

#include <initializer_list>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/mask/sorted_lists.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

struct BoundKeyLists {
  SortedLists lists;
  Index first_row;  ///< of this sequence and head
  Index keys;

  HEED_INLINE bool visible(Position i, Position j) const { return lists.holds(first_row + i, j); }
  /// Gaps so small are not worth a stretch of their own.
  HEED_INLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    return lists.some(first_row + i0, first_row + i1, from, keys, 8);
  }
  HEED_INLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    return lists.every(first_row + i0, first_row + i1, from, keys);
  }
};

}  // namespace detail

/// The policy made by key_lists().
class KeyLists : public mask_tag {
 public:
  KeyLists(detail::IndexList offsets, detail::IndexList keys, Index patterns)
      : offsets_(std::move(offsets)), keys_(std::move(keys)), patterns_(patterns) {}

  void check(const Shape& shape) const {
    if (patterns_ != 1 && patterns_ != shape.heads)
      detail::fail("key_lists: ", patterns_, " patterns for ", shape.heads, " heads");
    detail::check_lists("key_lists", "offsets", "keys", offsets_, keys_, patterns_ * shape.queries,
                        shape.longest);
  }
  detail::BoundKeyLists bind(const Place& place) const {
    const Index rows = (offsets_.size() - 1) / patterns_;
    return {{offsets_.data(), keys_.data()},
            place.query_begin + (patterns_ == 1 ? 0 : place.head * rows),
            place.keys};
  }

 private:
  detail::IndexList offsets_;
  detail::IndexList keys_;
  Index patterns_;
};

/// Query i sees keys[offsets[i]] < ... < keys[offsets[i + 1] - 1]: what a router, a clustering or a
/// nearest-neighbour search has chosen (2003.05997). One list for each row of q, over all sequences, hence
/// N + 1 offsets; keys count inside their own sequence, and those that it does not have are nobody's. With
/// `patterns` = H every query head has lists of its own: row i of head h is list h·N + i. Any contiguous
/// lists of integers: lvalue lists of Eigen::Index are referred to (and must neither go nor change size),
/// anything else is copied when the policy is made. What does not fit is an std::invalid_argument. A call
/// reads the lists once to check them. A tile of queries meets the union of its keys, and each of these pairs
/// costs a binary search: queries that stand near each other had better choose similar keys.
template <detail::integer_list R, detail::integer_list K>
KeyLists key_lists(R&& offsets, K&& keys, Index patterns = 1) {
  return KeyLists(detail::IndexList::refer_or_copy(std::forward<R>(offsets)),
                  detail::IndexList::refer_or_copy(std::forward<K>(keys)), patterns);
}
inline KeyLists key_lists(std::initializer_list<Index> offsets, std::initializer_list<Index> keys,
                          Index patterns = 1) {
  return KeyLists(detail::IndexList::copy(std::vector<Index>(offsets)),
                  detail::IndexList::copy(std::vector<Index>(keys)), patterns);
}

}  // namespace heed::inline HEED_ABI

#endif
