// SPDX-License-Identifier: MIT
/// @file
/// score_with(f): a function of the score and its positions gives the score that counts.
#ifndef HEED_SCORE_SCORE_WITH_HPP
#define HEED_SCORE_SCORE_WITH_HPP

#include <array>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/differentiable.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/pair.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/dual.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// Says what is wrong with a functor, once for every type of scores and not at every call.
template <class F, class S>
struct ScoreFunctor {
  static constexpr Fit fit = fit_of<F, S>();
  static_assert(fit != Fit::values_only,
                "heed: the function given to score_with does not take dual numbers: it is differentiated by "
                "calling it with a heed::dual for the score, so write `auto s`, and heed::tanh in place of "
                "std::tanh (so too exp, log, abs, max, min, select)");
  static_assert(fit != Fit::none,
                "heed: the function given to score_with takes (s, heed::Pair pair), or (s, i, j), (s, i, j, "
                "head) or (s, i, j, head, sequence), s of the score's type (take it as auto) and the rest "
                "heed::Position, and is const");
};

template <class Functor>
struct BoundScoreWith {
  static constexpr int stage = heed::stage::functor;
  static constexpr bool may_hide = true;
  using Function = std::remove_cvref_t<decltype(std::declval<const Functor&>().get())>;
  Functor functor;
  PairOrigin origin;

  template <class S>
  using must_take = ScoreFunctor<Function, S>;
  template <class S>
  static constexpr bool takes = fit_of<Function, S>() == Fit::whole;
  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    (void)sizeof(must_take<S>);
    if constexpr (takes<S>)
      return static_cast<S>(ask_about_pair(functor.get(), origin, i, j, s));
    else
      return s;
  }
};

/// The same where parameters stand beside the score.
template <class F, class S, int n>
struct ScoreFunctorWithParameters {
  static constexpr Fit fit = fit_of<F, S, std::array<S, n>>();
  static_assert(
      fit != Fit::values_only,
      "heed: the function given to score_with does not take dual numbers: it is differentiated by "
      "calling it with heed::dual for the score and an array of them for the parameters, so write "
      "`auto s, const auto& p`, and heed::tanh in place of std::tanh (so too exp, log, abs, max, min, "
      "select)");
  static_assert(
      fit != Fit::none,
      "heed: the function given to score_with with parameters takes (s, p, heed::Pair pair), or (s, "
      "p, i, j), (s, p, i, j, head) or (s, p, i, j, head, sequence), s of the score's type and p an "
      "array of it (take both as auto), the rest heed::Position, and is const");
};

/// n parameters of the scalar X, for one head.
template <class Functor, class X, int n>
struct BoundScoreWithParameters {
  static constexpr int stage = heed::stage::functor;
  static constexpr bool may_hide = true;
  static constexpr int parameters = n;
  using Function = std::remove_cvref_t<decltype(std::declval<const Functor&>().get())>;
  Functor functor;
  PairOrigin origin;
  X values[n];

  template <class S>
  using must_take = ScoreFunctorWithParameters<Function, S, n>;
  template <class S>
  static constexpr bool takes = fit_of<Function, S, std::array<S, n>>() == Fit::whole;
  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    std::array<S, n> p;
    for (int k = 0; k < n; ++k) {
      p[static_cast<std::size_t>(k)] = static_cast<S>(values[k]);
      // One direction for the score, and one for each parameter.
      if constexpr (directions<S> == n + 1) p[static_cast<std::size_t>(k)].tangent[k + 1] = 1;
    }
    (void)sizeof(must_take<S>);
    if constexpr (takes<S>)
      return static_cast<S>(ask_about_pair(functor.get(), origin, i, j, s, p));
    else
      return s;
  }
};

/// Numbers of a head: an std::array or an Eigen vector of fixed size, the same for all heads, or an Eigen
/// matrix of fixed width with a row for each. Anything else has none.
template <class Theta>
struct ParameterShape {
  static constexpr int count = -1;
};
template <class Theta>
  requires std::is_base_of_v<Eigen::DenseBase<Theta>, Theta>
struct ParameterShape<Theta> {
  static constexpr bool is_matrix = Theta::ColsAtCompileTime > 1 && Theta::RowsAtCompileTime != 1;
  static constexpr int count = int(is_matrix ? Theta::ColsAtCompileTime : Theta::SizeAtCompileTime);
  using Scalar = typename Theta::Scalar;
  static Scalar at(const Theta& theta, Index head, int k) {
    if constexpr (is_matrix)
      return theta.coeff(head, k);
    else
      return theta.coeff(k);
  }
};
template <class X, std::size_t n>
struct ParameterShape<std::array<X, n>> {
  static constexpr bool is_matrix = false;
  static constexpr int count = static_cast<int>(n);
  using Scalar = X;
  static X at(const std::array<X, n>& theta, Index, int k) { return theta[static_cast<std::size_t>(k)]; }
};

template <class Theta>
auto own_parameters(const Theta& theta) {
  if constexpr (requires { typename Theta::PlainObject; })
    return Owned<typename Theta::PlainObject>(typename Theta::PlainObject(theta));
  else
    return Owned<Theta>(theta);
}

}  // namespace detail

/// The policy made by score_with(f, parameters).
template <class Holder, class Theta>
class ScoreWithParameters : public term_tag {
  using Shape_ = detail::ParameterShape<std::remove_cvref_t<decltype(std::declval<const Theta&>().get())>>;

 public:
  static constexpr int parameters = Shape_::count;
  static constexpr const char* made_by = "score_with";

  ScoreWithParameters(Holder functor, Theta theta) : functor_(std::move(functor)), theta_(std::move(theta)) {}

  void check(const Shape& shape) const {
    using F = std::remove_cvref_t<decltype(functor_.get())>;
    using Numbers = std::array<double, parameters>;
    if constexpr (detail::asks_for_pair<F, double, Numbers>) detail::check_pair_rows("score_with", shape);
    if constexpr (Shape_::is_matrix)
      if (theta_.get().rows() != shape.heads)
        detail::fail("score_with: parameters for ", theta_.get().rows(), " heads, there are ", shape.heads);
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(parameters);
  }
  auto bind(const Place& place) const {
    using Functor = detail::bound_functor<Holder>;
    detail::BoundScoreWithParameters<Functor, typename Shape_::Scalar, parameters> bound{
        Functor(functor_.get()), detail::PairOrigin(place), {}};
    for (int k = 0; k < parameters; ++k) bound.values[k] = Shape_::at(theta_.get(), place.head, k);
    return bound;
  }

 private:
  Holder functor_;
  Theta theta_;
};

/// The policy made by score_with().
template <class Holder>
class ScoreWith : public term_tag {
 public:
  explicit ScoreWith(Holder functor) : functor_(std::move(functor)) {}

  void check(const Shape& shape) const {
    using F = std::remove_cvref_t<decltype(functor_.get())>;
    if constexpr (detail::asks_for_pair<F, double>) detail::check_pair_rows("score_with", shape);
  }
  auto bind(const Place& place) const {
    using Functor = detail::bound_functor<Holder>;
    return detail::BoundScoreWith<Functor>{Functor(functor_.get()), detail::PairOrigin(place)};
  }

 private:
  Holder functor_;
};

/// s <- f(s, pair), after scale, softcap, positions and biases, in natural units; several act in the order
/// given (FlexAttention's score_mod). f takes the score and a heed::Pair, which has a name for everything:
/// `score_with([](auto s, heed::Pair p) { return s - 0.1f * (p.query - p.key); })`; or the score and
/// positions in this order: (s, i, j), (s, i, j, head) or (s, i, j, head, sequence), 32-bit and inside
/// their sequence. s is of whatever type the pass computes in (take it as `auto`; a derivative is found by
/// calling f with a heed::dual, which std::tanh, say, does not take). -inf hides the pair. f is never
/// called on a pair that a mask hides; it may be called from several threads, in any order, any number of
/// times; what it throws reaches the caller. Owned if an rvalue, referred to if not. For speed use
/// heed::exp, log, tanh, abs, max, min, select. With scalars that are expression templates
/// (Eigen::AutoDiffScalar) it must return a value: `return decltype(s)(s * 2);`.
template <class F>
auto score_with(F&& f) {
  return ScoreWith<detail::stored<F>>(detail::stored<F>(std::forward<F>(f)));
}

/// The same with learnable parameters: f takes (s, p, pair), or (s, p, i, j), (s, p, i, j, head) or (s, p, i,
/// j, head, sequence), p an std::array of n numbers of the type of s. theta holds their values: a number (n =
/// 1), an std::array or a fixed-size Eigen vector of n for all heads, or an H × n Eigen matrix (n fixed) with
/// a row for each head. n is part of f's type, so a list whose size the compiler does not know (std::vector,
/// Eigen::VectorXf) is refused. theta is copied: make the policy anew after a step of training.
/// attention_backward() gives the gradient with parameter_gradient(dtheta), from running f on dual numbers
/// with a direction for each.
///
///     Eigen::Vector2f theta(0.1f, 2);
///     auto decay = heed::score_with([](auto s, const auto& p, auto i, auto j) {
///       return s * p[1] - p[0] * float(i - j); }, theta);
template <class F, class Theta>
auto score_with(F&& f, Theta&& theta) {
  using Plain = std::remove_cvref_t<Theta>;
  if constexpr (std::is_arithmetic_v<Plain>) {
    return score_with(std::forward<F>(f), std::array<Plain, 1>{theta});
  } else if constexpr (detail::ParameterShape<Plain>::count > 0) {
    auto numbers = detail::own_parameters(theta);
    return ScoreWithParameters<detail::stored<F>, decltype(numbers)>(detail::stored<F>(std::forward<F>(f)),
                                                                     std::move(numbers));
  } else {
    static_assert(
        detail::ParameterShape<Plain>::count > 0,
        "heed: the parameters of score_with are a number, an std::array, a fixed-size Eigen vector, "
        "or an Eigen matrix of fixed width with a row for each head: their number must be known to "
        "the compiler (not std::vector or Eigen::VectorXf)");
    return score_with([](auto s, Pair) { return s; });  // so that no other error follows
  }
}

}  // namespace heed::inline HEED_ABI

#endif
