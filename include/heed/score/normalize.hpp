// SPDX-License-Identifier: MIT
/// @file
/// normalize_heads(): queries and keys of one length, by their root mean square or their norm, and a learnt
/// gain.
#ifndef HEED_SCORE_NORMALIZE_HPP
#define HEED_SCORE_NORMALIZE_HPP

#include <cmath>
#include <type_traits>

#include <heed/attention_weights.hpp>
#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/operand.hpp>

namespace heed::inline HEED_ABI {

/// What each head of a row is divided by.
enum class Norm {
  rms,  ///< √(mean x² + ε) (1910.07467)
  l2,   ///< √(Σ x² + ε): rows of length 1 (2010.04245)
};

/// What can be chosen about normalize_heads().
struct NormalizeHeads {
  Index heads = 1;  ///< heads side by side in the columns
  Norm norm = Norm::rms;
  double epsilon = 1e-6;  ///< ε; with 0, a head of zeros gives zeros, and so does its gradient
};

/// What normalize_heads_gradient() returns.
template <class X, class Gain>
struct NormalizeHeadsGradients {
  X dx;
  Gain dgain;
};

namespace detail {

/// No gain.
struct UnitGain {
  Index size() const { return 0; }
};

inline void check_normalize(const char* name, const NormalizeHeads& options, Index columns, Index gains) {
  if (options.heads < 1) fail(name, ": ", options.heads, " heads, at least 1 is needed");
  if (columns % options.heads != 0)
    fail(name, ": x has ", columns, " columns, not a multiple of ", options.heads, " heads");
  if (gains != 0 && gains != columns / options.heads && gains != columns)
    fail(name, ": gain has ", gains, " elements, it must have ", columns / options.heads,
         ", one for each column of a head, or ", columns);
  if (!(options.epsilon >= 0) || !std::isfinite(options.epsilon))
    fail(name, ": epsilon is ", options.epsilon, ", it must be at least 0 and finite");
}

/// 1 / r of columns [begin, begin + d) of row i, or 0 where r is 0.
template <class Wide, class X>
Wide inverse_length(const X& x, const NormalizeHeads& options, Index i, Index begin, Index d) {
  using std::sqrt;
  Wide sum(0);
  for (Index c = begin; c < begin + d; ++c)
    sum += Wide(static_cast<Wide>(x.coeff(i, c)) * static_cast<Wide>(x.coeff(i, c)));
  if (options.norm == Norm::rms) sum = Wide(sum / Wide(static_cast<double>(d)));
  sum += Wide(options.epsilon);
  return sum == Wide(0) ? Wide(0) : Wide(Wide(1) / Wide(sqrt(sum)));
}

/// Gain of a column of x.
template <class Wide, class Gain>
Wide gain_of(const Gain& gain, Index column, Index d) {
  if constexpr (std::is_same_v<Gain, UnitGain>)
    return Wide(1);
  else
    return static_cast<Wide>(gain.coeff(gain.size() == d ? column % d : column));
}

template <class X, class Gain>
typename X::PlainObject normalize(const Eigen::MatrixBase<X>& x_argument, const NormalizeHeads& options,
                                  const Gain& gain) {
  using Scalar = typename X::Scalar;
  using Wide = WeightsType<Scalar>;
  InPlace<X> x(x_argument.derived());
  typename X::PlainObject y(x.rows(), x.cols());
  const Index d = x.cols() / options.heads;
  for (Index i = 0; i < x.rows(); ++i)
    for (Index begin = 0; begin < x.cols(); begin += d) {
      const Wide inverse = inverse_length<Wide>(x, options, i, begin, d);
      for (Index c = begin; c < begin + d; ++c)
        y.coeffRef(i, c) = static_cast<Scalar>(
            Wide(Wide(gain_of<Wide>(gain, c, d) * static_cast<Wide>(x.coeff(i, c))) * inverse));
    }
  return y;
}

/// dx, and add_gain(column, derivative by the gain there) for every element.
template <class DY, class X, class Gain, class AddGain>
typename X::PlainObject normalize_gradient(const Eigen::MatrixBase<DY>& dy_argument,
                                           const Eigen::MatrixBase<X>& x_argument,
                                           const NormalizeHeads& options, const Gain& gain,
                                           const AddGain& add_gain) {
  using Scalar = typename X::Scalar;
  using Wide = WeightsType<Scalar>;
  if (dy_argument.rows() != x_argument.rows() || dy_argument.cols() != x_argument.cols())
    fail("normalize_heads_gradient: dy is ", dy_argument.rows(), " x ", dy_argument.cols(), ", x is ",
         x_argument.rows(), " x ", x_argument.cols());
  InPlace<DY> dy(dy_argument.derived());
  InPlace<X> x(x_argument.derived());
  typename X::PlainObject dx(x.rows(), x.cols());
  const Index d = x.cols() / options.heads;
  for (Index i = 0; i < x.rows(); ++i)
    for (Index begin = 0; begin < x.cols(); begin += d) {
      const Wide inverse = inverse_length<Wide>(x, options, i, begin, d);
      const auto incoming = [&](Index c) {
        return Wide(gain_of<Wide>(gain, c, d) * static_cast<Wide>(dy.coeff(i, c)));
      };
      Wide along(0);  // Σ g dy x / r
      for (Index c = begin; c < begin + d; ++c) {
        const Wide unit = Wide(static_cast<Wide>(x.coeff(i, c)) * inverse);
        along += Wide(incoming(c) * unit);
        add_gain(c, Wide(static_cast<Wide>(dy.coeff(i, c)) * unit));
      }
      if (options.norm == Norm::rms) along = Wide(along / Wide(static_cast<double>(d)));
      for (Index c = begin; c < begin + d; ++c) {
        const Wide unit = Wide(static_cast<Wide>(x.coeff(i, c)) * inverse);
        dx.coeffRef(i, c) = static_cast<Scalar>(Wide(inverse * Wide(incoming(c) - Wide(unit * along))));
      }
    }
  return dx;
}

}  // namespace detail

/// y = x / r for every row and head of d columns, r = √(mean x² + ε) or √(Σ x² + ε): queries and keys that go
/// through it keep the scores, and with them the entropy of the rows, from running away in training
/// (query/key normalisation: 2010.04245; root mean square: 1910.07467).
///
///     q = heed::normalize_heads(q, {.heads = 8}, q_gain);
///     k = heed::normalize_heads(k, {.heads = 2}, k_gain);
///
/// @param x N × (H·d): any dense expression, either storage order, any scalar
/// @return the same size and storage order
/// @throws std::invalid_argument naming what does not fit
/// Sums in double for float. O(N·H·d); allocates the result.
template <class X>
typename X::PlainObject normalize_heads(const Eigen::MatrixBase<X>& x, const NormalizeHeads& options = {}) {
  detail::check_normalize("normalize_heads", options, x.cols(), 0);
  return detail::normalize(x, options, detail::UnitGain());
}
/// y = gain ∘ x / r.
/// @param gain a vector of d, for all heads, or of H·d
template <class X, class Gain>
typename X::PlainObject normalize_heads(const Eigen::MatrixBase<X>& x, const NormalizeHeads& options,
                                        const Eigen::MatrixBase<Gain>& gain) {
  static_assert(Gain::IsVectorAtCompileTime, "heed: the gain of normalize_heads() is a vector");
  detail::check_normalize("normalize_heads", options, x.cols(), gain.size());
  if (gain.size() == 0 && x.cols() > 0)
    detail::fail("normalize_heads: gain has 0 elements, it must have ", x.cols() / options.heads);
  detail::InPlace<Gain> gains(gain.derived());
  return detail::normalize(x, options, gains);
}

/// The gradient by x, given dy, that by normalize_heads(x, options):
/// dx = (dy - y Σ_c dy y / n) / r, the sum over the head's columns, with n = d for the root mean square and 1
/// for the norm.
template <class DY, class X>
typename X::PlainObject normalize_heads_gradient(const Eigen::MatrixBase<DY>& dy,
                                                 const Eigen::MatrixBase<X>& x,
                                                 const NormalizeHeads& options = {}) {
  detail::check_normalize("normalize_heads_gradient", options, x.cols(), 0);
  return detail::normalize_gradient(dy, x, options, detail::UnitGain(), [](Index, const auto&) {});
}
/// The same with a gain, and its gradient: `auto [dx, dgain] = …`, dgain of the size of the gain.
template <class DY, class X, class Gain>
auto normalize_heads_gradient(const Eigen::MatrixBase<DY>& dy, const Eigen::MatrixBase<X>& x,
                              const NormalizeHeads& options, const Eigen::MatrixBase<Gain>& gain) {
  using Wide = detail::WeightsType<typename X::Scalar>;
  static_assert(Gain::IsVectorAtCompileTime, "heed: the gain of normalize_heads() is a vector");
  detail::check_normalize("normalize_heads_gradient", options, x.cols(), gain.size());
  if (gain.size() == 0 && x.cols() > 0)
    detail::fail("normalize_heads_gradient: gain has 0 elements, it must have ", x.cols() / options.heads);
  detail::InPlace<Gain> gains(gain.derived());
  const Index d = x.cols() / options.heads, count = gain.size();
  Eigen::Matrix<Wide, Eigen::Dynamic, 1> sums =
      Eigen::Matrix<Wide, Eigen::Dynamic, 1>::Constant(count, Wide(0));
  NormalizeHeadsGradients<typename X::PlainObject, typename Gain::PlainObject> gradients;
  gradients.dx = detail::normalize_gradient(
      dy, x, options, gains, [&](Index c, const Wide& t) { sums(count == d ? c % d : c) += t; });
  gradients.dgain.resize(gain.rows(), gain.cols());
  for (Index c = 0; c < count; ++c) gradients.dgain.coeffRef(c) = static_cast<typename Gain::Scalar>(sums(c));
  return gradients;
}

}  // namespace heed::inline HEED_ABI

#endif
