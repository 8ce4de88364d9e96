// SPDX-License-Identifier: MIT
/// @file
/// gumbel_softmax_rows(): a draw of one key a row that gradients can pass.
#ifndef HEED_TRAIN_GUMBEL_SOFTMAX_HPP
#define HEED_TRAIN_GUMBEL_SOFTMAX_HPP

#include <cmath>
#include <cstdint>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/shape.hpp>
#include <heed/train/noise.hpp>
#include <heed/train/softmax_rows.hpp>
#include <heed/train/straight_through.hpp>

namespace heed::inline HEED_ABI {

/// What can be chosen about gumbel_softmax_rows().
struct GumbelSoftmax {
  double temperature = 1;  ///< τ: towards 0 a row becomes one-hot and its gradients noisy
  std::uint64_t seed = 0;  ///< another one for each step and layer
  bool hard = false;       ///< one-hot forward; the gradient stays that of the soft row (straight-through)
};

namespace detail {

template <class S>
typename S::PlainObject soft_gumbel(const Eigen::MatrixBase<S>& scores, const GumbelSoftmax& options,
                                    const Place& place) {
  using Wide = WeightsType<typename S::Scalar>;
  if (!(options.temperature > 0) || !std::isfinite(options.temperature))
    fail("gumbel_softmax_rows: the temperature is ", options.temperature, ", it must be positive and finite");
  InPlace<S> s(scores.derived());
  const PairDraws draws(~options.seed, place);  // as gumbel_softmax() draws them in attention()
  typename S::PlainObject y(scores.rows(), scores.cols());
  softmax_each_row<Wide>(
      [&](Index i, Index j) {
        return Wide(static_cast<Wide>(s.coeff(i, j)) +
                    Wide(gumbel_noise(draws, static_cast<Position>(i), static_cast<Position>(j))));
      },
      Wide(options.temperature), y);
  return y;
}

}  // namespace detail

/// y = softmax((s + g) / τ) row by row, g = -log(-log u) (1611.01144): the place of a row's maximum is a draw
/// from softmax(s), exactly. Hard: 1 there and 0 elsewhere. Scores of one sequence and head, N × M, any
/// dense expression; -inf is a pair that does not exist, a row of nothing else gives zeros.
/// @param place whose sequence and head key the random numbers: a function of seed, sequence, head, i and j
///   alone (random.hpp)
/// @throws std::invalid_argument for a temperature that is not positive and finite
/// O(N·M), two logarithms and two exponentials a pair.
template <class S>
typename S::PlainObject gumbel_softmax_rows(const Eigen::MatrixBase<S>& scores,
                                            const GumbelSoftmax& options = {}, const Place& place = {}) {
  auto y = detail::soft_gumbel(scores, options, place);
  if (options.hard) {
    using Scalar = typename S::Scalar;
    detail::one_hot_each_row(y, [](const Scalar& top) { return top == Scalar(0); });
  }
  return y;
}

/// The gradient by the scores, given that by gumbel_softmax_rows(s) of the same arguments, which is computed
/// again: ds = y ∘ (dy - rowsum(y ∘ dy)) / τ with the soft y. Exact for the soft form; for the hard one it
/// stands in for a derivative that is 0 almost everywhere.
template <class DY, class S>
typename S::PlainObject gumbel_softmax_rows_gradient(const Eigen::MatrixBase<DY>& dy,
                                                     const Eigen::MatrixBase<S>& scores,
                                                     const GumbelSoftmax& options = {},
                                                     const Place& place = {}) {
  using Scalar = typename S::Scalar;
  detail::check_same_size("gumbel_softmax_rows_gradient: dy", dy.rows(), dy.cols(), "s", scores.rows(),
                          scores.cols());
  typename S::PlainObject ds = softmax_rows_gradient(dy, detail::soft_gumbel(scores, options, place));
  ds *= static_cast<Scalar>(1 / options.temperature);
  return ds;
}

}  // namespace heed::inline HEED_ABI

#endif
