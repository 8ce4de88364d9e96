// SPDX-License-Identifier: MIT
/// @file
/// feature_map(f): what a linear attention compares queries and keys by.
#ifndef HEED_LINEAR_FEATURE_MAP_HPP
#define HEED_LINEAR_FEATURE_MAP_HPP

#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/stored.hpp>
#include <heed/dual.hpp>
#include <heed/engine/linear_problem.hpp>
#include <heed/functions.hpp>

namespace heed::inline HEED_ABI {

/// elu(x) + 1: x + 1 above 0, e^x below. Positive everywhere, with slope 1 from 0 on (2006.16236).
struct EluPlusOne {
  template <class X>
  HEED_INLINE X operator()(const X& x) const {
    X below;
    return split(x, below);
  }
  template <class T>
  HEED_INLINE dual<T> operator()(const dual<T>& x) const {
    T slope;
    const T y = split(x.value, slope);
    return x.chain(y, slope);
  }

 private:
  /// e^min(x, 0), which is also the slope, and in sum with max(x, 0) the function; NaN stays NaN. By bits
  /// where there are bits (detail::blend), so that a loop vectorises.
  template <class X>
  HEED_INLINE static X split(const X& x, X& below) {
    if constexpr (std::is_same_v<X, float> || std::is_same_v<X, double>) {
      const bool positive = x > X(0);
      below = heed::exp(detail::blend(positive, X(0), x));
      return below + detail::blend(positive, x, X(0));
    } else {
      const bool positive = x > X(0);
      below = positive ? X(1) : X(heed::exp(x));
      return positive ? X(x + X(1)) : below;
    }
  }
};

namespace detail {

/// Says what is wrong with a functor that a backward pass cannot differentiate.
template <class F, class S>
struct FeatureFunctor {
  static_assert(
      requires(const F& f, S x) { f(x); },
      "heed: the function given to feature_map does not take dual numbers: it is differentiated by "
      "calling it with a heed::dual, so write `auto x`, and heed::tanh in place of std::tanh (so too "
      "exp, log, abs, max, min, select)");
};

}  // namespace detail

/// The policy made by feature_map().
template <class Holder>
class FeatureMap : public feature_tag {
 public:
  template <class S>
  using must_take =
      detail::FeatureFunctor<std::remove_cvref_t<decltype(std::declval<const Holder&>().get())>, S>;

  explicit FeatureMap(Holder functor) : functor_(std::move(functor)) {}

  static constexpr bool projects = false;
  Index features(Index d) const { return d; }
  auto bind() const {
    using Functor = detail::bound_functor<Holder>;
    return detail::ElementwiseFeatures<Functor>{Functor(functor_.get())};
  }
  const auto& functor() const { return functor_.get(); }

 private:
  Holder functor_;
};

/// φ(x) = f(x) for every number of a query or key, in linear_attention(). f takes x of whatever type the pass
/// computes in (take it as `auto`: a dual number in the backward pass, which so gets its derivative) and
/// returns it; it is const, may be called from several threads, in any order, any number of times, and what
/// it throws reaches the caller. Owned if an rvalue, referred to if not. For speed use heed::exp, log, tanh,
/// abs, max, min, select. Weights are φ(q) · φ(k): take an f that is nowhere negative, or denominators may
/// come close to 0. Without this policy f is elu + 1.
template <class F>
auto feature_map(F&& f) {
  return FeatureMap<detail::stored<F>>(detail::stored<F>(std::forward<F>(f)));
}

}  // namespace heed::inline HEED_ABI

#endif
