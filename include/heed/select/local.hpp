// SPDX-License-Identifier: MIT
/// @file
/// local_p(p, D): a window around a place that the network predicts; adaptive_span(z, R): a window as wide as
/// it learns.
#ifndef HEED_SELECT_LOCAL_HPP
#define HEED_SELECT_LOCAL_HPP

#include <cmath>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/spec.hpp>
#include <heed/core/stored.hpp>
#include <heed/dual.hpp>
#include <heed/functions.hpp>
#include <heed/mask/windows.hpp>
#include <heed/select/weight_with.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// The mask of local_p: |j - p_i| <= D, a range of keys for each query.
template <class X>
struct BoundAround {
  Index keys;
  Operand<const X> center;
  double reach;

  HEED_INLINE Index first(Index i) const {
    const double from = std::ceil(static_cast<double>(center.data[i * center.row]) - reach);
    return from > 0 ? from < static_cast<double>(keys) ? static_cast<Index>(from) : keys : 0;
  }
  HEED_INLINE Index end(Index i) const {
    const double to = std::floor(static_cast<double>(center.data[i * center.row]) + reach) + 1;
    return to > 0 ? to < static_cast<double>(keys) ? static_cast<Index>(to) : keys : 0;
  }
  HEED_INLINE bool visible(Position i, Position j) const {
    const double distance = static_cast<double>(center.data[i * center.row]) - static_cast<double>(j);
    return distance <= reach && -distance <= reach;
  }
  HEED_NOINLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    Index low = keys, high = 0;
    for (Index i = i0; i < i1; ++i) {
      const Index f = first(i), e = end(i);
      if (f >= e) continue;
      low = f < low ? f : low;
      high = e > high ? e : high;
    }
    return clip(low, high, from, keys);
  }
};

/// w · exp(-(j - p)² / 2σ²).
struct Gaussian {
  double inverse_twice_variance;

  template <class S>
  HEED_INLINE S operator()(S w, S p, Position, Position j) const {
    const S distance = static_cast<S>(S(static_cast<double>(j)) - p);
    return static_cast<S>(
        w * heed::exp(static_cast<S>(S(-inverse_twice_variance) * static_cast<S>(distance * distance))));
  }
};

/// s + log m, m = clamp((R + z - x) / R, 0, 1), x the distance back from the query.
template <class X>
struct BoundSpan {
  static constexpr int stage = heed::stage::functor;
  static constexpr bool may_hide = true;
  static constexpr int parameters = 1;
  X span;
  double ramp;
  Position offset;

  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    S z = static_cast<S>(span);
    if constexpr (directions<S> == 2) z.tangent[1] = 1;
    const S x = static_cast<S>(static_cast<double>(i + offset - j));
    const S m = heed::min(static_cast<S>(static_cast<S>(static_cast<S>(z - x) + S(ramp)) / S(ramp)), S(1));
    return static_cast<S>(s + heed::log(heed::max(m, S(0))));
  }
};

}  // namespace detail

/// The mask that local_p() looks through.
template <class P>
class Around : public mask_tag {
  using Scalar = typename std::remove_cvref_t<decltype(std::declval<const P&>().get())>::Scalar;

 public:
  static constexpr const char* made_by = "local_p";

  Around(P centers, double reach) : centers_(std::move(centers)), reach_(reach) {}
  void check(const Shape& shape) const {
    const auto& p = centers_.get();
    if (p.rows() != shape.queries || p.cols() != shape.heads)
      detail::fail("local_p: the centers are ", p.rows(), " x ", p.cols(), ", they must be ", shape.queries,
                   " x ", shape.heads);
    if (!(reach_ > 0 && std::isfinite(reach_)))
      detail::fail("local_p: D is ", reach_, ", it must be positive");
    for (Index h = 0; h < p.cols(); ++h)
      for (Index i = 0; i < p.rows(); ++i)
        if (!std::isfinite(static_cast<double>(p(i, h))))
          detail::fail("local_p: the center of query ", i, " and head ", h, " is not finite");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(reach_);
  }
  detail::BoundAround<Scalar> bind(const Place& place) const {
    return {place.keys, detail::operand_of<const Scalar>(centers_.get()).at(place.query_begin, place.head),
            reach_};
  }

 private:
  P centers_;
  double reach_;
};

/// Luong's local-p (1508.04025): query i looks at keys j with |j - p_i| <= D, and its softmax weights over
/// them are multiplied by exp(-(j - p_i)² / (2σ²)), σ = D/2, not normalised again. p: N × H, a place for
/// each query and head, in keys of its sequence, predicted by p_i = S·sigmoid(v_pᵀ tanh(W_p h_i)), say;
/// owned if an rvalue, referred to if not. D > 0. weight_parameter_gradient(dp) gives the derivative by p
/// (of the Gaussian; that a key enters or leaves the window has none). (local-m is window(D, D).)
template <class P>
auto local_p(P&& p, double reach) {
  static_assert(detail::directly_accessible<std::remove_cvref_t<P>>,
                "heed: local_p takes its centers as an Eigen matrix, block or map");
  using Centers = detail::stored<P>;
  using Weights = detail::Owned<detail::Gaussian>;
  const double sigma = reach / 2;
  const Centers centers(std::forward<P>(p));
  return spec(Around<Centers>(centers, reach),
              WeightWithRow<Weights, Centers>(Weights({1 / (2 * sigma * sigma)}), centers));
}

/// The score term of adaptive_span().
template <class Holder>
class AdaptiveSpan : public position_tag {
  using Scalar = typename std::remove_cvref_t<decltype(std::declval<const Holder&>().get())>::Scalar;

 public:
  static constexpr int parameters = 1;

  AdaptiveSpan(Holder spans, double ramp) : spans_(std::move(spans)), ramp_(ramp) {}
  void check(const Shape& shape) const {
    if (spans_.get().size() != shape.heads)
      detail::fail("adaptive_span: ", spans_.get().size(), " spans for ", shape.heads, " heads");
    for (Index h = 0; h < shape.heads; ++h)
      if (!(spans_.get()(h) >= Scalar(0) && std::isfinite(static_cast<double>(spans_.get()(h)))))
        detail::fail("adaptive_span: the span of head ", h, " must be finite and not negative");
    if (!(ramp_ > 0 && std::isfinite(ramp_)))
      detail::fail("adaptive_span: R is ", ramp_, ", it must be positive");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(ramp_);
  }
  detail::BoundSpan<Scalar> bind(const Place& place) const {
    return {spans_.get()(place.head), ramp_, static_cast<Position>(place.keys - place.queries)};
  }

 private:
  Holder spans_;
  double ramp_;
};

/// A window that learns how far back it reaches (1905.07799): weights m(x) e^s / Σ m(x) e^s over the keys up
/// to the query's own, x = i + off - j >= 0 (off = M - N), with m(x) = clamp((R + z - x) / R, 0, 1) and a
/// span z of each head: an Eigen vector of H, copied when the policy is made (so make it anew after a step of
/// training). Keys further back than z + R are not read. The
/// derivative by z comes with parameter_gradient(dz), dz H × 1; adaptive_span_penalty() keeps spans short. R
/// > 0, z >= 0.
template <class Z>
auto adaptive_span(const Z& spans, double ramp) {
  std::vector<Index> lefts, rights;
  for (Index h = 0; h < spans.size(); ++h) {
    const double reach = std::ceil(static_cast<double>(spans(h)) + ramp);
    lefts.push_back(reach >= 0 && reach < 1e9 ? static_cast<Index>(reach) : Index(1000000000));
    rights.push_back(0);
  }
  using Spans = detail::Owned<typename Z::PlainObject>;
  return spec(AdaptiveSpan<Spans>(Spans(typename Z::PlainObject(spans)), ramp),
              windows(std::move(lefts), std::move(rights)));
}

/// λ Σ_h z_h / M, M the longest span; its derivative by each z is λ / M.
template <class Z>
typename Z::Scalar adaptive_span_penalty(const Eigen::MatrixBase<Z>& spans, typename Z::Scalar lambda,
                                         Index longest) {
  return lambda * spans.sum() / static_cast<typename Z::Scalar>(longest);
}

}  // namespace heed::inline HEED_ABI

#endif
