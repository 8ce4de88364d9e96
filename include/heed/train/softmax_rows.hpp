// SPDX-License-Identifier: MIT
/// @file
/// softmax_rows(): the weights of a matrix of scores, for losses on the weights themselves.
#ifndef HEED_TRAIN_SOFTMAX_ROWS_HPP
#define HEED_TRAIN_SOFTMAX_ROWS_HPP

#include <cmath>

#include <heed/attention_weights.hpp>
#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// Two matrices of one call that must be of one size.
inline void check_same_size(const char* name, Index rows, Index columns, const char* of, Index of_rows,
                            Index of_columns) {
  if (rows != of_rows || columns != of_columns)
    fail(name, " is ", rows, " x ", columns, ", ", of, " is ", of_rows, " x ", of_columns);
}

/// y = softmax of s(i, ·) / temperature for every row, s in Wide.
template <class Wide, class S, class Y>
void softmax_each_row(const S& s, Wide temperature, Y& y) {
  using std::exp;
  for (Index i = 0; i < y.rows(); ++i) {
    Wide top = minus_infinity<Wide>();
    for (Index j = 0; j < y.cols(); ++j) {
      const Wide x = s(i, j);
      if (!(x <= top)) top = x;  // NaN goes through
    }
    Wide sum(0);
    if (!(top == minus_infinity<Wide>()))
      for (Index j = 0; j < y.cols(); ++j) sum += Wide(exp(Wide(Wide(s(i, j) - top) / temperature)));
    for (Index j = 0; j < y.cols(); ++j)
      y.coeffRef(i, j) = static_cast<typename Y::Scalar>(
          sum == Wide(0) ? Wide(0) : Wide(Wide(exp(Wide(Wide(s(i, j) - top) / temperature))) / sum));
  }
}

}  // namespace detail

/// p_ij = exp(s_ij) / Σ_j exp(s_ij): any dense expression, in its size and storage order, in double for
/// float. -inf is a pair that does not exist; a row of nothing else gives zeros. O(N·M).
template <class S>
typename S::PlainObject softmax_rows(const Eigen::MatrixBase<S>& scores) {
  using Wide = detail::WeightsType<typename S::Scalar>;
  detail::InPlace<S> s(scores.derived());
  typename S::PlainObject p(scores.rows(), scores.cols());
  detail::softmax_each_row<Wide>([&](Index i, Index j) { return static_cast<Wide>(s.coeff(i, j)); }, Wide(1),
                                 p);
  return p;
}

/// The gradient by the scores, given that by the weights: ds_ij = p_ij (dp_ij - Σ_j p_ij dp_ij). Zeros in p
/// give zeros, whatever stands in dp. N × M both, else std::invalid_argument.
template <class DP, class P>
typename P::PlainObject softmax_rows_gradient(const Eigen::MatrixBase<DP>& dp_argument,
                                              const Eigen::MatrixBase<P>& p_argument) {
  using Scalar = typename P::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  detail::check_same_size("softmax_rows_gradient: dp", dp_argument.rows(), dp_argument.cols(), "p",
                          p_argument.rows(), p_argument.cols());
  detail::InPlace<DP> dp(dp_argument.derived());
  detail::InPlace<P> p(p_argument.derived());
  typename P::PlainObject ds(p.rows(), p.cols());
  for (Index i = 0; i < p.rows(); ++i) {
    Wide mean(0);
    for (Index j = 0; j < p.cols(); ++j)
      if (!(p.coeff(i, j) == Scalar(0)))
        mean += Wide(static_cast<Wide>(p.coeff(i, j)) * static_cast<Wide>(dp.coeff(i, j)));
    for (Index j = 0; j < p.cols(); ++j)
      ds.coeffRef(i, j) = p.coeff(i, j) == Scalar(0)
                              ? Scalar(0)
                              : static_cast<Scalar>(Wide(static_cast<Wide>(p.coeff(i, j)) *
                                                         Wide(static_cast<Wide>(dp.coeff(i, j)) - mean)));
  }
  return ds;
}

}  // namespace heed::inline HEED_ABI

#endif
