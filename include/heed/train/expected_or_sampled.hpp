// SPDX-License-Identifier: MIT
/// @file
/// expected_or_sampled(): half of the time hard attention takes the expected value instead of the one it
/// drew.
#ifndef HEED_TRAIN_EXPECTED_OR_SAMPLED_HPP
#define HEED_TRAIN_EXPECTED_OR_SAMPLED_HPP

#include <cstdint>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/shape.hpp>
#include <heed/train/noise.hpp>
#include <heed/train/softmax_rows.hpp>

namespace heed::inline HEED_ABI {

/// Which rows take the expected value. Every row throws a coin of its own, or the whole sequence one
/// (1502.03044: once for an image).
struct ExpectedOrSampled {
  double probability = 0.5;
  std::uint64_t seed = 0;  ///< one of its own: not that of the draws
  bool whole_sequence = false;

  /// Does row i of this sequence and head take the expected value?
  bool expected(Index i, const Place& place = {}) const {
    const Index row = whole_sequence ? 0 : i;
    return uniform_noise(PairDraws(seed, place), static_cast<Position>(row), 0) < probability;
  }
  void check() const {
    if (!(probability >= 0 && probability <= 1))
      detail::fail("expected_or_sampled: the probability is ", probability, ", it must be from 0 to 1");
  }
};

/// Row by row `expected` (Σ_j p_ij v_j, what soft attention gives) with the given probability, `sampled`
/// (v_a) else: fewer of the noisy rows, the same mean (1502.03044). Both N × d_v, of one sequence and head.
/// @throws std::invalid_argument for sizes that differ and for a probability outside [0, 1]
template <class E, class S>
typename E::PlainObject expected_or_sampled(const Eigen::MatrixBase<E>& expected,
                                            const Eigen::MatrixBase<S>& sampled,
                                            const ExpectedOrSampled& options = {}, const Place& place = {}) {
  options.check();
  detail::check_same_size("expected_or_sampled: sampled", sampled.rows(), sampled.cols(), "expected",
                          expected.rows(), expected.cols());
  typename E::PlainObject out(expected.rows(), expected.cols());
  detail::InPlace<E> soft(expected.derived());
  detail::InPlace<S> hard(sampled.derived());
  for (Index i = 0; i < out.rows(); ++i) {
    const bool takes = options.expected(i, place);
    for (Index c = 0; c < out.cols(); ++c) out.coeffRef(i, c) = takes ? soft.coeff(i, c) : hard.coeff(i, c);
  }
  return out;
}

/// The gradients of the two.
template <class Matrix>
struct ExpectedOrSampledGradients {
  Matrix dexpected, dsampled;
};

/// Hands every row of dout to the side that it came from, zeros to the other.
template <class DO>
ExpectedOrSampledGradients<typename DO::PlainObject> expected_or_sampled_gradient(
    const Eigen::MatrixBase<DO>& dout, const ExpectedOrSampled& options = {}, const Place& place = {}) {
  using Plain = typename DO::PlainObject;
  using Scalar = typename DO::Scalar;
  options.check();
  ExpectedOrSampledGradients<Plain> gradients{Plain(dout), Plain(dout)};
  for (Index i = 0; i < dout.rows(); ++i)
    detail::rows_at(options.expected(i, place) ? gradients.dsampled : gradients.dexpected, i, 1)
        .setConstant(Scalar(0));
  return gradients;
}

}  // namespace heed::inline HEED_ABI

#endif
