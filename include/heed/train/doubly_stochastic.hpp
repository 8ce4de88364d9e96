// SPDX-License-Identifier: MIT
/// @file
/// doubly_stochastic_penalty(): every key should be attended to about once.
#ifndef HEED_TRAIN_DOUBLY_STOCHASTIC_HPP
#define HEED_TRAIN_DOUBLY_STOCHASTIC_HPP

#include <heed/attention_weights.hpp>
#include <heed/config.hpp>
#include <heed/core/operand.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// 1 - Σ_i α_ij.
template <class Wide, class A>
Wide missing_weight(const A& alpha, Index j) {
  Wide rest(1);
  for (Index i = 0; i < alpha.rows(); ++i) rest -= static_cast<Wide>(alpha.coeff(i, j));
  return rest;
}

}  // namespace detail

/// λ Σ_j (1 - Σ_i α_ij)² over the columns of an N × M matrix of weights (1502.03044): added to a loss. In
/// double for float. O(N·M).
template <class A>
typename A::Scalar doubly_stochastic_penalty(const Eigen::MatrixBase<A>& weights, double lambda = 1) {
  using Scalar = typename A::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  detail::InPlace<A> alpha(weights.derived());
  Wide sum(0);
  for (Index j = 0; j < alpha.cols(); ++j) {
    const Wide rest = detail::missing_weight<Wide>(alpha, j);
    sum += Wide(rest * rest);
  }
  return static_cast<Scalar>(Wide(Wide(lambda) * sum));
}

/// Its gradient by the weights: -2 λ (1 - Σ_i α_ij), the same for all rows of a column. N × M, in the storage
/// order of the weights. softmax_rows_gradient() leads on to the scores.
template <class A>
typename A::PlainObject doubly_stochastic_gradient(const Eigen::MatrixBase<A>& weights, double lambda = 1) {
  using Scalar = typename A::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  detail::InPlace<A> alpha(weights.derived());
  typename A::PlainObject gradient(alpha.rows(), alpha.cols());
  for (Index j = 0; j < alpha.cols(); ++j) {
    const Scalar d = static_cast<Scalar>(Wide(Wide(-2 * lambda) * detail::missing_weight<Wide>(alpha, j)));
    for (Index i = 0; i < alpha.rows(); ++i) gradient.coeffRef(i, j) = d;
  }
  return gradient;
}

}  // namespace heed::inline HEED_ABI

#endif
