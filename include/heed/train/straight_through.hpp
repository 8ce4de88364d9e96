// SPDX-License-Identifier: MIT
/// @file
/// argmax_rows(): one key forward, the softmax's gradient backward.
#ifndef HEED_TRAIN_STRAIGHT_THROUGH_HPP
#define HEED_TRAIN_STRAIGHT_THROUGH_HPP

#include <cmath>

#include <heed/config.hpp>
#include <heed/core/operand.hpp>
#include <heed/train/softmax_rows.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// Turns every row into 1 at its first maximum and 0 elsewhere; rows of zeros (`empty` says so) into zeros.
template <class Y, class Empty>
void one_hot_each_row(Y& y, const Empty& empty) {
  using Scalar = typename Y::Scalar;
  for (Index i = 0; i < y.rows(); ++i) {
    Index best = 0;
    for (Index j = 1; j < y.cols(); ++j)
      if (y.coeff(i, j) > y.coeff(i, best)) best = j;
    const bool none = y.cols() == 0 || empty(y.coeff(i, best));
    for (Index j = 0; j < y.cols(); ++j) y.coeffRef(i, j) = Scalar(!none && j == best ? 1 : 0);
  }
}

}  // namespace detail

/// y_ij = 1[j = argmax_j s_ij] for every row of scores, the lowest index of equal ones. -inf is a pair that
/// does not exist; a row of nothing else gives zeros. N × M, in the storage order of s.
template <class S>
typename S::PlainObject argmax_rows(const Eigen::MatrixBase<S>& scores) {
  using Scalar = typename S::Scalar;
  typename S::PlainObject y = scores;
  detail::one_hot_each_row(y, [](const Scalar& top) { return top == detail::minus_infinity<Scalar>(); });
  return y;
}

/// What stands in for the gradient of argmax_rows(), which is 0 almost everywhere: that of the softmax,
/// ds = p ∘ (dy - rowsum(p ∘ dy)), p = softmax_rows(s). Biased, and not the derivative of the forward pass
/// (straight-through: 1308.3432).
template <class DY, class S>
typename S::PlainObject straight_through_gradient(const Eigen::MatrixBase<DY>& dy,
                                                  const Eigen::MatrixBase<S>& scores) {
  return softmax_rows_gradient(dy, softmax_rows(scores));
}

}  // namespace heed::inline HEED_ABI

#endif
