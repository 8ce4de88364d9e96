// SPDX-License-Identifier: MIT
/// @file
/// Cosine scores with a temperature, and the gradient of a learnt scale.
#ifndef HEED_SCORE_COSINE_HPP
#define HEED_SCORE_COSINE_HPP

#include <cmath>

#include <heed/attention_weights.hpp>
#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/score/normalize.hpp>
#include <heed/score/scale.hpp>

namespace heed::inline HEED_ABI {

/// x / ‖x‖ for every row and head, zeros where it is zero: both sides of a cosine. Its gradient is
/// unit_heads_gradient().
template <class X>
typename X::PlainObject unit_heads(const Eigen::MatrixBase<X>& x, Index heads = 1) {
  return normalize_heads(x, {.heads = heads, .norm = Norm::l2, .epsilon = 0});
}
template <class DY, class X>
typename X::PlainObject unit_heads_gradient(const Eigen::MatrixBase<DY>& dy, const Eigen::MatrixBase<X>& x,
                                            Index heads = 1) {
  return normalize_heads_gradient(dy, x, {.heads = heads, .norm = Norm::l2, .epsilon = 0});
}

/// The policy of cosine scores, a scale of 1/τ:
///
///     s_ij = q_i · k_j / (τ ‖q_i‖ ‖k_j‖)
///
///     y = heed::attention(heed::unit_heads(q, 8), heed::unit_heads(k, 2), v, heed::heads(8, 2),
///                         heed::cosine(0.1));
///
/// (1410.5401; with a learnt temperature 2111.09883.) With u = 1/τ learnt, scale_gradient() gives du, and
/// dτ = -du/τ².
/// @throws std::invalid_argument for a temperature that is 0 or not finite
inline Scale<double> cosine(double temperature) {
  if (temperature == 0 || !std::isfinite(temperature))
    detail::fail("cosine: the temperature is ", temperature, ", it must be finite and not 0");
  return scale(1 / temperature);
}

/// The derivative of a loss by a learnt scale c, scores being c · q kᵀ before everything else: with g_ij the
/// gradient of the score so scaled, dq_i = c Σ_j g_ij k_j, and therefore
///
///     dc = Σ_ij g_ij q_i·k_j = (1/c) Σ_i q_i · dq_i
///
/// @param dq, q N × (H·d): the dq of attention_backward(), and the q that it was given
/// @throws std::invalid_argument for sizes that differ, and for c = 0, where dq tells nothing
/// In double for float. O(N·H·d): no pair is looked at again.
template <class DQ, class Q>
typename Q::Scalar scale_gradient(const Eigen::MatrixBase<DQ>& dq_argument,
                                  const Eigen::MatrixBase<Q>& q_argument, double scale) {
  using Scalar = typename Q::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  if (dq_argument.rows() != q_argument.rows() || dq_argument.cols() != q_argument.cols())
    detail::fail("scale_gradient: dq is ", dq_argument.rows(), " x ", dq_argument.cols(), ", q is ",
                 q_argument.rows(), " x ", q_argument.cols());
  if (scale == 0 || !std::isfinite(scale))
    detail::fail("scale_gradient: the scale is ", scale, ", it must be finite and not 0");
  detail::InPlace<DQ> dq(dq_argument.derived());
  detail::InPlace<Q> q(q_argument.derived());
  Wide sum(0);
  for (Index j = 0; j < q.cols(); ++j)
    for (Index i = 0; i < q.rows(); ++i)
      sum += Wide(static_cast<Wide>(dq.coeff(i, j)) * static_cast<Wide>(q.coeff(i, j)));
  return static_cast<Scalar>(Wide(sum / Wide(scale)));
}

}  // namespace heed::inline HEED_ABI

#endif
