// SPDX-License-Identifier: MIT
/// @file
/// score_with(f): a function of the score and its positions gives the score that counts.
#ifndef HEED_SCORE_SCORE_WITH_HPP
#define HEED_SCORE_SCORE_WITH_HPP

#include <array>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/dual.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

template <class Functor>
struct BoundScoreWith {
  static constexpr int stage = heed::stage::functor;
  static constexpr bool may_hide = true;
  Functor functor;
  Position head, sequence;

  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    const auto& f = functor.get();
    if constexpr (requires { f(s, i, j); }) {
      return static_cast<S>(f(s, i, j));
    } else if constexpr (requires { f(s, i, j, head); }) {
      return static_cast<S>(f(s, i, j, head));
    } else {
      static_assert(
          requires { f(s, i, j, head, sequence); },
          "heed: the function given to score_with takes (s, i, j), (s, i, j, head) or (s, i, j, head, "
          "sequence), "
          "s of the score's type (take it as auto) and the rest heed::Position, and is const");
      return static_cast<S>(f(s, i, j, head, sequence));
    }
  }
};

/// n parameters of the scalar X, for one head.
template <class Functor, class X, int n>
struct BoundScoreWithParameters {
  static constexpr int stage = heed::stage::functor;
  static constexpr bool may_hide = true;
  static constexpr int parameters = n;
  Functor functor;
  Position head, sequence;
  X values[n];

  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    std::array<S, n> p;
    for (int k = 0; k < n; ++k) {
      p[static_cast<std::size_t>(k)] = static_cast<S>(values[k]);
      // One direction for the score, and one for each parameter.
      if constexpr (directions<S> == n + 1) p[static_cast<std::size_t>(k)].tangent[k + 1] = 1;
    }
    const auto& f = functor.get();
    if constexpr (requires { f(s, p, i, j); }) {
      return static_cast<S>(f(s, p, i, j));
    } else if constexpr (requires { f(s, p, i, j, head); }) {
      return static_cast<S>(f(s, p, i, j, head));
    } else {
      static_assert(
          requires { f(s, p, i, j, head, sequence); },
          "heed: the function given to score_with with parameters takes (s, p, i, j), (s, p, i, j, head) or "
          "(s, p, i, j, head, sequence), s of the score's type and p an array of it (take both as auto), the "
          "rest heed::Position, and is const");
      return static_cast<S>(f(s, p, i, j, head, sequence));
    }
  }
};

/// Numbers of a head: an std::array or an Eigen vector of fixed size, the same for all heads, or an Eigen
/// matrix of fixed width with a row for each.
template <class Theta>
struct ParameterShape {
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
        Functor(functor_.get()),
        static_cast<Position>(place.head),
        static_cast<Position>(place.sequence),
        {}};
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

  auto bind(const Place& place) const {
    using Functor = detail::bound_functor<Holder>;
    return detail::BoundScoreWith<Functor>{Functor(functor_.get()), static_cast<Position>(place.head),
                                           static_cast<Position>(place.sequence)};
  }

 private:
  Holder functor_;
};

/// s <- f(s, i, j), after scale, softcap, positions and biases, in natural units; several act in the order
/// given (FlexAttention's score_mod). f takes (s, i, j), (s, i, j, head) or (s, i, j, head, sequence): s of
/// whatever type the pass computes in (take it as `auto`), 32-bit positions inside their sequence. -inf hides
/// the pair. f is never called on a pair that a mask hides; it may be called from several threads, in any
/// order, any number of times; what it throws reaches the caller. Owned if an rvalue, referred to if not. For
/// speed use heed::exp, log, tanh, abs, max, min, select. With scalars that are expression templates
/// (Eigen::AutoDiffScalar) it must return a value: `return decltype(s)(s * 2);`.
template <class F>
auto score_with(F&& f) {
  return ScoreWith<detail::stored<F>>(detail::stored<F>(std::forward<F>(f)));
}

/// The same with learnable parameters: f takes (s, p, i, j), (s, p, i, j, head) or (s, p, i, j, head,
/// sequence), p an std::array of n numbers of the type of s. theta holds their values: an std::array or a
/// fixed-size Eigen vector of n for all heads, or an H × n Eigen matrix (n fixed) with a row for each head;
/// owned if an rvalue, referred to if not. attention_backward() gives their gradient with
/// parameter_gradient(dtheta), from running f on dual numbers with a direction for each.
///
///     Eigen::Vector2f theta(0.1f, 2);
///     auto decay = heed::score_with([](auto s, const auto& p, auto i, auto j) {
///       return s * p[1] - p[0] * float(i - j); }, theta);
template <class F, class Theta>
auto score_with(F&& f, Theta&& theta) {
  using Shape_ = detail::ParameterShape<std::remove_cvref_t<Theta>>;
  static_assert(
      Shape_::count > 0,
      "heed: the parameters of score_with are an std::array, a fixed-size Eigen vector, or an Eigen "
      "matrix of fixed width with a row for each head");
  return ScoreWithParameters<detail::stored<F>, detail::stored<Theta>>(
      detail::stored<F>(std::forward<F>(f)), detail::stored<Theta>(std::forward<Theta>(theta)));
}

}  // namespace heed::inline HEED_ABI

#endif
