// SPDX-License-Identifier: MIT
/// @file
/// dense_mask(b): a boolean matrix says which pairs exist.
#ifndef HEED_MASK_DENSE_HPP
#define HEED_MASK_DENSE_HPP

#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// The columns of head `head` and the rows of its sequence in a matrix of pairs: N or 1 rows, `longest`
/// columns for each head or for all heads, or 1. A stride of 0 broadcasts.
template <class Scalar>
HEED_INLINE MatrixView<Scalar> pairs_of(MatrixView<Scalar> m, const Place& place) {
  if (m.rows == 0 || m.cols == 0) return m;
  const bool one_row = m.rows == 1, one_column = m.cols == 1 && place.longest != 1;
  if (one_row) {
    m.row_stride = 0;
  } else {
    m.data += place.query_begin * m.row_stride;
  }
  if (one_column) {
    m.col_stride = 0;
  } else if (m.cols != place.longest) {
    m.data += place.head * place.longest * m.col_stride;
  }
  return m;
}

/// Throws unless pairs_of() can serve every sequence and head.
template <class Scalar>
void check_pairs(const char* name, const MatrixView<Scalar>& m, const Shape& shape, bool broadcast) {
  if (m.rows != shape.queries && !(broadcast && m.rows == 1)) {
    fail(name, " has ", m.rows, " rows, q has ", shape.queries);
  }
  const bool shared = m.cols == shape.longest;
  const bool per_head = m.cols % shape.heads == 0 && m.cols / shape.heads == shape.longest;
  if (!shared && !per_head && !(broadcast && m.cols == 1)) {
    fail(name, " has ", m.cols, " columns, ", shape.longest, " keys and ", shape.heads, " heads allow ",
         shape.longest, " or ", shape.heads * shape.longest);
  }
}

struct BoundDense {
  const bool* data;
  Index row_stride, col_stride;

  HEED_INLINE bool visible(Position i, Position j) const { return data[i * row_stride + j * col_stride]; }
};

}  // namespace detail

/// The policy made by dense_mask().
template <class Matrix>
class DenseMask : public mask_tag {
 public:
  explicit DenseMask(Matrix matrix) : matrix_(std::move(matrix)) {}

  void check(const Shape& shape) const { detail::check_pairs("dense_mask", matrix_.view(), shape, false); }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(matrix_.view().rows, matrix_.view().cols);
  }
  detail::BoundDense bind(const Place& place) const {
    const auto m = detail::pairs_of(matrix_.view(), place);
    return {m.data, m.row_stride, m.col_stride};
  }

 private:
  Matrix matrix_;
};

/// b is N x M, shared by all heads, or N x (H·M) with the heads side by side: true where the query (row) sees
/// the key (column). With several sequences its rows are all rows of q, and its columns count keys inside the
/// sequence: as many for each head as the longest sequence has keys. Any dense expression of bool: plain
/// lvalues are referred to, rvalues owned, views kept as views. Other shapes are an std::invalid_argument. It
/// has no key ranges, so every pair is tested: add a mask that has (causal, window, lengths) where one
/// applies.
template <class B>
auto dense_mask(B&& b) {
  static_assert(std::is_same_v<typename std::remove_cvref_t<B>::Scalar, bool>,
                "heed: dense_mask needs a matrix of bool, true where a key is visible");
  auto matrix = detail::store_matrix(std::forward<B>(b));
  return DenseMask<decltype(matrix)>(std::move(matrix));
}

}  // namespace heed::inline HEED_ABI

#endif
