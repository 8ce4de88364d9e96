// SPDX-License-Identifier: MIT
/// @file
/// pool_rows(): the means of neighbouring tokens.
#ifndef HEED_LINEAR_POOL_ROWS_HPP
#define HEED_LINEAR_POOL_ROWS_HPP

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/scalars.hpp>

namespace heed::inline HEED_ABI {
namespace detail {

inline void check_stride(Index stride) {
  if (stride < 1) fail("pooling: the stride is ", stride, ", at least 1 is needed");
}
inline Index pooled_rows(Index rows, Index stride) { return rows / stride + (rows % stride != 0); }
/// Rows that row b is the mean of: fewer at a ragged end.
inline Index pooled_count(Index rows, Index stride, Index b) {
  const Index left = rows - b * stride;
  return left < stride ? left : stride;
}

/// to = the means of x.
template <class X, class To>
void pool_into(const X& x, Index stride, To&& to) {
  using Scalar = typename X::Scalar;
  using Wide = Accumulator<Scalar>;
  for (Index b = 0; b < to.rows(); ++b) {
    const Index count = pooled_count(x.rows(), stride, b);
    const Wide share = Wide(Wide(1) / Wide(static_cast<double>(count)));
    for (Index c = 0; c < x.cols(); ++c) {
      Wide sum(0);
      for (Index r = 0; r < count; ++r) sum += static_cast<Wide>(x.coeff(b * stride + r, c));
      to(b, c) = static_cast<Scalar>(Wide(sum * share));
    }
  }
}

/// dx += what the gradients of the means give their rows.
template <class DY, class DX>
void add_pooled_gradient(const DY& dy, Index stride, DX& dx) {
  using Scalar = typename DX::Scalar;
  using Wide = Accumulator<Scalar>;
  for (Index b = 0; b < dy.rows(); ++b) {
    const Index count = pooled_count(dx.rows(), stride, b);
    const Wide share = Wide(Wide(1) / Wide(static_cast<double>(count)));
    for (Index c = 0; c < dx.cols(); ++c) {
      const Wide g = Wide(static_cast<Wide>(dy.coeff(b, c)) * share);
      for (Index r = 0; r < count; ++r) {
        Scalar& to = dx.coeffRef(b * stride + r, c);
        to = static_cast<Scalar>(Wide(static_cast<Wide>(to) + g));
      }
    }
  }
}

}  // namespace detail

/// Row b of the result is the mean of rows [b · stride, (b + 1) · stride) of x, at the end of those that are
/// left (2104.11227).
/// @param x M × n tokens, in any dense expression and storage order
/// @return ⌈M / stride⌉ × n in the storage order of x
/// @throws std::invalid_argument for a stride below 1
template <class X>
typename X::PlainObject pool_rows(const Eigen::MatrixBase<X>& x, Index stride) {
  detail::check_stride(stride);
  const detail::InPlace<X> in_place(x.derived());
  typename X::PlainObject pooled;
  pooled.resize(detail::pooled_rows(x.rows(), stride), x.cols());
  detail::pool_into(in_place, stride, pooled);
  return pooled;
}

/// The gradient by x of pool_rows(x, stride), x of `rows` rows, given the gradient by its result: each row
/// gets its share of the mean's.
/// @param dpooled ⌈rows / stride⌉ × n
/// @return rows × n
/// @throws std::invalid_argument for a stride below 1, or where dpooled has another number of rows
template <class D>
typename D::PlainObject pool_rows_gradient(const Eigen::MatrixBase<D>& dpooled, Index rows, Index stride) {
  detail::check_stride(stride);
  if (rows < 0) detail::fail("pool_rows_gradient: ", rows, " rows");
  if (dpooled.rows() != detail::pooled_rows(rows, stride))
    detail::fail("dpooled has ", dpooled.rows(), " rows, ", rows, " rows with a stride of ", stride, " make ",
                 detail::pooled_rows(rows, stride));
  const detail::InPlace<D> in_place(dpooled.derived());
  typename D::PlainObject dx;
  dx.resize(rows, dpooled.cols());
  dx.setConstant(typename D::Scalar(0));
  detail::add_pooled_gradient(in_place, stride, dx);
  return dx;
}

}  // namespace heed::inline HEED_ABI

#endif
