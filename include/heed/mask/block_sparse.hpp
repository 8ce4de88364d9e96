// SPDX-License-Identifier: MIT
/// @file
/// block_sparse(size, row_offsets, columns): any pattern of square blocks.
#ifndef HEED_MASK_BLOCK_SPARSE_HPP
#define HEED_MASK_BLOCK_SPARSE_HPP

#include <initializer_list>
#include <string>
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

struct BoundBlockSparse {
  SortedLists columns;
  Index first_row;  ///< of this head
  Index size, blocks, keys;

  HEED_INLINE bool visible(Position i, Position j) const {
    return columns.holds(first_row + quotient(i, size), quotient(j, size));
  }
  HEED_INLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    return of_keys(columns.some(row(i0), row(i1 - 1) + 1, quotient(from, size), blocks), from);
  }
  HEED_INLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    return of_keys(columns.every(row(i0), row(i1 - 1) + 1, quotient(from, size), blocks), from);
  }

 private:
  HEED_INLINE Index row(Index i) const { return first_row + quotient(i, size); }
  HEED_INLINE KeyRange of_keys(KeyRange r, Index from) const {
    return clip(r.begin * size, r.end * size, from, keys);
  }
};

}  // namespace detail

/// The policy made by block_sparse().
class BlockSparse : public mask_tag {
 public:
  BlockSparse(Index size, detail::IndexList row_offsets, detail::IndexList columns, Index patterns)
      : size_(size), offsets_(std::move(row_offsets)), columns_(std::move(columns)), patterns_(patterns) {}

  void check(const Shape& shape) const {
    if (size_ < 1) detail::fail("block_sparse: the block size is ", size_, ", it must be at least 1");
    if (patterns_ != 1 && patterns_ != shape.heads)
      detail::fail("block_sparse: ", patterns_, " patterns for ", shape.heads, " heads");
    Index queries = 0;
    for (Index s = 0; s < shape.sequences; ++s) {
      const Index n = shape.place(s, 0).queries;
      queries = n > queries ? n : queries;
    }
    detail::check_row_count("block_sparse", "row_offsets", offsets_.size(), patterns_ * blocks(queries));
    const std::string fault = detail::fault_of_lists("row_offsets", "columns", offsets_, columns_);
    if (!fault.empty()) detail::fail("block_sparse: ", fault);
    // Columns increase, so that the last of a row is its greatest.
    for (Index r = 1; r < offsets_.size(); ++r)
      if (offsets_[r] > offsets_[r - 1] && columns_[offsets_[r] - 1] >= blocks(shape.longest))
        detail::fail("block_sparse: row ", r - 1, " has ", columns_[offsets_[r] - 1],
                     " among its columns, there are ", blocks(shape.longest));
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(size_, offsets_.size(), columns_.size(), patterns_);
  }
  detail::BoundBlockSparse bind(const Place& place) const {
    const Index rows = (offsets_.size() - 1) / patterns_;
    return {{offsets_.data(), columns_.data()},
            patterns_ == 1 ? 0 : place.head * rows,
            size_,
            blocks(place.keys),
            place.keys};
  }

 private:
  Index blocks(Index tokens) const { return tokens / size_ + (tokens % size_ != 0); }

  Index size_;
  detail::IndexList offsets_;
  detail::IndexList columns_;
  Index patterns_;
};

/// Queries and keys fall into blocks of `size` tokens, the last of them maybe smaller; the queries of block
/// row r see the keys of block columns columns[row_offsets[r]] < ... < columns[row_offsets[r + 1] - 1]
/// (1904.10509). ⌈N / size⌉ + 1 offsets from 0 to the number of columns, each column below ⌈M / size⌉. With
/// `patterns` = H every query head has a pattern of its own, one after the other: row r of head h is number
/// h·⌈N / size⌉ + r of all. Several sequences share the pattern: N and M are those of the longest, and the
/// others take its upper left corner. Any contiguous lists of integers, copied when the policy is made. What
/// does not fit is an std::invalid_argument. A call reads the lists once to check them, then costs its
/// blocks; with blocks of 16, 32 or 64 tokens, or multiples of 64, no pair is tested.
template <detail::integer_list R, detail::integer_list C>
BlockSparse block_sparse(Index size, R&& row_offsets, C&& columns, Index patterns = 1) {
  return BlockSparse(size, detail::IndexList::copy(row_offsets), detail::IndexList::copy(columns), patterns);
}
inline BlockSparse block_sparse(Index size, std::initializer_list<Index> row_offsets,
                                std::initializer_list<Index> columns, Index patterns = 1) {
  return BlockSparse(size, detail::IndexList::copy(std::vector<Index>(row_offsets)),
                     detail::IndexList::copy(std::vector<Index>(columns)), patterns);
}

}  // namespace heed::inline HEED_ABI

#endif
