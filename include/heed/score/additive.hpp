// SPDX-License-Identifier: MIT
/// @file
/// additive(w): scores are sums of hyperbolic tangents instead of dot products (Bahdanau's attention).
#ifndef HEED_SCORE_ADDITIVE_HPP
#define HEED_SCORE_ADDITIVE_HPP

#include <cmath>
#include <initializer_list>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// The weights of one query head: w_a = data[a · step].
template <class X>
struct AdditiveWeights {
  const X* data;
  Index step;

  template <class S>
  HEED_INLINE S at(Index a) const {
    return static_cast<S>(data[a * step]);
  }
};

}  // namespace detail

/// The policy made by additive().
template <class Holder>
class Additive : public score_tag {
 public:
  explicit Additive(Holder w) : w_(std::move(w)) {}

  void check(const Shape& shape) const {
    const Index count = static_cast<Index>(w_.get().size());
    if (count != shape.d && count != shape.heads * shape.d)
      detail::fail("additive: w has ", count, " numbers, q has ", shape.d, " columns for each of ",
                   shape.heads, " heads");
    using X = std::remove_cvref_t<decltype(*w_.get().data())>;
    if constexpr (std::is_floating_point_v<X>)
      for (Index a = 0; a < count; ++a) {
        const X x = w_.get().data()[a * detail::list_stride(w_.get())];
        if (!std::isfinite(x))
          detail::fail("additive: number ", a, " of w is ", static_cast<double>(x), ", it must be finite");
      }
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(static_cast<Index>(w_.get().size()));
  }
  auto weights(Index head, Index d) const {
    const auto& w = w_.get();
    using X = std::remove_cvref_t<decltype(*w.data())>;
    const Index step = detail::list_stride(w), first = static_cast<Index>(w.size()) == d ? 0 : head * d;
    return detail::AdditiveWeights<X>{w.data() + first * step, step};
  }

 private:
  Holder w_;
};

/// Additive scores, in place of dot products:
///
///     s_ij = scale · Σ_a w_a tanh(q_ia + k_ja)                                         (1409.0473)
///
///     y = heed::attention(x * w_q, h * w_k + b, v, heed::additive(w));
///
/// q (N × H·A) and k (M × H_kv·A) are projected already, as for dot products; a bias is added to either. The
/// scale is 1 unless scale(x) is given. Luong's concatenation vᵀ tanh(W[h; h̄]) (1508.04025) is the same with
/// W cut in two: q = h W₁ᵀ, k = h̄ W₂ᵀ. For a weight that is normed see weight_normed().
///
/// @param w A numbers, shared by all heads, or H·A numbers, one set after the other for each query head: a
///   contiguous list or an Eigen vector, copied when the policy is made (so make it anew after a step of
///   training). Another count, and what is not finite, is an std::invalid_argument.
///
/// Goes with every mask, term, layout and selection, and has gradients (score_gradient() for that of w), but
/// neither attention_jvp nor attention_double_backward. On float and double, tanh(q + k) = 1 - 2 / (1 +
/// e^2q e^2k), and e^2q and e^2k are computed once for a tile of queries and a block of keys: a pair costs a
/// product, a reciprocal and a multiply-add for each a, and nothing of size N × M × A is stored. Tiles with
/// some |q| above 16 (150 in double) take about three times as long. Error of a score: (12 + 5 √A) u ·
/// |scale| Σ|w| at most, u the unit roundoff.
template <class W>
  requires requires(const std::remove_cvref_t<W>& w) { w.data(), w.size(); }
auto additive(W&& w) {
  auto list = detail::own_list(w);
  return Additive<decltype(list)>(std::move(list));
}
inline auto additive(std::initializer_list<double> w) { return additive(std::vector<double>(w)); }

/// g · v / ‖v‖: a weight of given length, to be handed to additive() (weight normalisation, 1602.07868). v is
/// an Eigen vector of A numbers; zeros alone are an std::invalid_argument.
template <class V>
typename V::PlainObject weight_normed(const Eigen::MatrixBase<V>& v, const typename V::Scalar& g) {
  using std::sqrt;
  using Scalar = typename V::Scalar;
  const Scalar length = Scalar(sqrt(Scalar(v.squaredNorm())));
  if (!(length > Scalar(0))) detail::fail("weight_normed: v has length 0, it needs a direction");
  return v * Scalar(g / length);
}

/// dv and dg, the gradients of a loss by v and g.
template <class V>
struct WeightNormedGradient {
  V dv;
  typename V::Scalar dg;
};

/// The gradients of a loss by v and g, given its gradient dw by w = g · v / ‖v‖:
///
///     dg = dw · v / ‖v‖        dv = g / ‖v‖ · (dw - dg · v / ‖v‖)        (1602.07868, equation 3)
///
/// dw and v are Eigen vectors of A numbers; other sizes, and a v of zeros, are an std::invalid_argument.
template <class DW, class V>
WeightNormedGradient<typename V::PlainObject> weight_normed_gradient(const Eigen::MatrixBase<DW>& dw,
                                                                     const Eigen::MatrixBase<V>& v,
                                                                     const typename V::Scalar& g) {
  using Scalar = typename V::Scalar;
  if (dw.size() != v.size())
    detail::fail("weight_normed_gradient: dw has ", dw.size(), " numbers, v has ", v.size());
  const typename V::PlainObject direction = weight_normed(v, Scalar(1));
  using std::sqrt;
  const Scalar length = Scalar(sqrt(Scalar(v.squaredNorm())));
  WeightNormedGradient<typename V::PlainObject> gradient{direction, Scalar(0)};
  for (Index a = 0; a < v.size(); ++a) gradient.dg += dw.coeff(a) * direction.coeff(a);
  for (Index a = 0; a < v.size(); ++a)
    gradient.dv.coeffRef(a) = Scalar(g / length) * (dw.coeff(a) - gradient.dg * direction.coeff(a));
  return gradient;
}

}  // namespace heed::inline HEED_ABI

#endif
