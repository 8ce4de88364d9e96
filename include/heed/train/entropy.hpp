// SPDX-License-Identifier: MIT
/// @file
/// entropy(): how widely each row of weights is spread, and its gradient by the scores.
#ifndef HEED_TRAIN_ENTROPY_HPP
#define HEED_TRAIN_ENTROPY_HPP

#include <cmath>

#include <heed/attention_weights.hpp>
#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/train/softmax_rows.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// -Σ_j p_ij log p_ij of one row, 0 log 0 = 0.
template <class Wide, class P>
Wide row_entropy(const P& p, Index i) {
  using std::log;
  Wide sum(0);
  for (Index j = 0; j < p.cols(); ++j) {
    const Wide x = static_cast<Wide>(p.coeff(i, j));
    if (!(x == Wide(0))) sum -= Wide(x * Wide(log(x)));
  }
  return sum;
}

}  // namespace detail

/// H_i = -Σ_j p_ij log p_ij in nats, for every row of an N × M matrix of weights: N numbers, from 0 (all on
/// one key, or a query that sees none) to log M. In double for float. O(N·M).
template <class P>
Eigen::Matrix<typename P::Scalar, Eigen::Dynamic, 1> entropy(const Eigen::MatrixBase<P>& weights) {
  using Scalar = typename P::Scalar;
  detail::InPlace<P> p(weights.derived());
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> h(p.rows());
  for (Index i = 0; i < p.rows(); ++i)
    h(i) = static_cast<Scalar>(detail::row_entropy<detail::WeightsType<Scalar>>(p, i));
  return h;
}

/// The same from what a softmax leaves: H_i = LSE_i - Σ_j p_ij s_ij, without logarithms (entropy as a sign of
/// training that collapses: 2303.06296). s are the final scores; where p is 0 they are not read. A row whose
/// log-sum-exp is -inf has entropy 0.
/// @param lse N numbers @param p, s N × M
template <class L, class P, class S>
Eigen::Matrix<typename P::Scalar, Eigen::Dynamic, 1> entropy_from_lse(const Eigen::MatrixBase<L>& lse,
                                                                      const Eigen::MatrixBase<P>& weights,
                                                                      const Eigen::MatrixBase<S>& scores) {
  using Scalar = typename P::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  detail::check_same_size("entropy_from_lse: lse", lse.size(), 1, "what the rows of p need", weights.rows(),
                          1);
  detail::check_same_size("entropy_from_lse: s", scores.rows(), scores.cols(), "p", weights.rows(),
                          weights.cols());
  detail::InPlace<L> l(lse.derived());
  detail::InPlace<P> p(weights.derived());
  detail::InPlace<S> s(scores.derived());
  Eigen::Matrix<Scalar, Eigen::Dynamic, 1> h(p.rows());
  for (Index i = 0; i < p.rows(); ++i) {
    const Wide lse_i =
        static_cast<Wide>(L::ColsAtCompileTime == 1 || l.cols() == 1 ? l.coeff(i, 0) : l.coeff(0, i));
    Wide sum = lse_i;
    if (lse_i == detail::minus_infinity<Wide>()) sum = Wide(0);
    for (Index j = 0; j < p.cols(); ++j)
      if (!(p.coeff(i, j) == Scalar(0)))
        sum -= Wide(static_cast<Wide>(p.coeff(i, j)) * static_cast<Wide>(s.coeff(i, j)));
    h(i) = static_cast<Scalar>(sum);
  }
  return h;
}

/// ∂H_i/∂s_ij = -p_ij (log p_ij + H_i), N × M: the gradient of each row's entropy by the scores of that row,
/// in the storage order of p. Zeros in p give zeros. O(N·M).
template <class P>
typename P::PlainObject entropy_gradient(const Eigen::MatrixBase<P>& weights) {
  using std::log;
  using Scalar = typename P::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  detail::InPlace<P> p(weights.derived());
  typename P::PlainObject ds(p.rows(), p.cols());
  for (Index i = 0; i < p.rows(); ++i) {
    const Wide h = detail::row_entropy<Wide>(p, i);
    for (Index j = 0; j < p.cols(); ++j) {
      const Wide x = static_cast<Wide>(p.coeff(i, j));
      ds.coeffRef(i, j) =
          x == Wide(0) ? Scalar(0) : static_cast<Scalar>(Wide(-Wide(x * Wide(Wide(log(x)) + h))));
    }
  }
  return ds;
}

}  // namespace heed::inline HEED_ABI

#endif
