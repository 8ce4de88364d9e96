// SPDX-License-Identifier: MIT
/// @file
/// weight_with(f): any function of a weight, its query and its key.
#ifndef HEED_SELECT_WEIGHT_WITH_HPP
#define HEED_SELECT_WEIGHT_WITH_HPP

#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/differentiable.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/pair.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/dual.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// Says what is wrong with a functor, once for every type of weights and not at every call. X is S where a
/// number of each row stands beside the weight.
template <class F, class S, class... X>
struct WeightFunctor {
  static constexpr Fit fit = fit_of<F, S, X...>();
  static_assert(fit != Fit::values_only,
                "heed: the function given to weight_with does not take dual numbers: it is differentiated by "
                "calling it with heed::dual for the weight, so write `auto w`, and heed::tanh in place of "
                "std::tanh (so too exp, log, abs, max, min, select)");
  static_assert(fit != Fit::none || sizeof...(X) > 0,
                "heed: the function given to weight_with takes (w, heed::Pair pair) or (w, i, j), w of the "
                "weight's type (take it as auto), the rest heed::Position, and is const");
  static_assert(fit != Fit::none || sizeof...(X) == 0,
                "heed: the function given to weight_with with a number of each row takes (w, x, heed::Pair "
                "pair) or (w, x, i, j), w and x of the weight's type (take them as auto), the rest "
                "heed::Position, and is const");
};

template <class Functor>
struct BoundWeightWith {
  static constexpr bool has_parameter = false;
  using Function = std::remove_cvref_t<decltype(std::declval<const Functor&>().get())>;
  Functor functor;
  PairOrigin origin;

  template <class S>
  using must_take = WeightFunctor<Function, S>;
  template <class S>
  static constexpr bool takes = fit_of<Function, S>() == Fit::whole;
  template <class S>
  HEED_INLINE S operator()(S w, Position i, Position j) const {
    (void)sizeof(must_take<S>);
    if constexpr (takes<S>)
      return static_cast<S>(ask_about_pair(functor.get(), origin, i, j, w));
    else
      return w;
  }
};

/// With a number of each row.
template <class Functor, class X>
struct BoundWeightWithRow {
  static constexpr bool has_parameter = true;
  using Function = std::remove_cvref_t<decltype(std::declval<const Functor&>().get())>;
  Functor functor;
  PairOrigin origin;
  Operand<const X> x;  // from the sequence's first row on, of this head

  template <class S>
  using must_take = WeightFunctor<Function, S, S>;
  template <class S>
  static constexpr bool takes = fit_of<Function, S, S>() == Fit::whole;
  template <class S>
  HEED_INLINE S operator()(S w, Position i, Position j) const {
    S parameter = static_cast<S>(x.data[i * x.row]);
    // One direction for the weight, one for the number.
    if constexpr (directions<S> == 2) parameter.tangent[1] = 1;
    (void)sizeof(must_take<S>);
    if constexpr (takes<S>)
      return static_cast<S>(ask_about_pair(functor.get(), origin, i, j, w, parameter));
    else
      return w;
  }
};

}  // namespace detail

/// The policy made by weight_with().
template <class Holder>
class WeightWith : public weight_function_tag {
 public:
  explicit WeightWith(Holder functor) : functor_(std::move(functor)) {}
  void check(const Shape& shape) const {
    using F = std::remove_cvref_t<decltype(functor_.get())>;
    if constexpr (detail::asks_for_pair<F, double>) detail::check_pair_rows("weight_with", shape);
  }
  auto bind_weights(const Place& place) const {
    using Functor = detail::bound_functor<Holder>;
    return detail::BoundWeightWith<Functor>{Functor(functor_.get()), detail::PairOrigin(place)};
  }

 private:
  Holder functor_;
};

/// The policy made by weight_with(f, x).
template <class Holder, class X>
class WeightWithRow : public weight_function_tag {
  using Scalar = typename std::remove_cvref_t<decltype(std::declval<const X&>().get())>::Scalar;

 public:
  static constexpr const char* made_by = "weight_with";

  WeightWithRow(Holder functor, X x) : functor_(std::move(functor)), x_(std::move(x)) {}
  void check(const Shape& shape) const {
    using F = std::remove_cvref_t<decltype(functor_.get())>;
    if constexpr (detail::asks_for_pair<F, double, double>) detail::check_pair_rows("weight_with", shape);
    if (x_.get().rows() != shape.queries || x_.get().cols() != shape.heads)
      detail::fail("weight_with: the numbers of the rows are ", x_.get().rows(), " x ", x_.get().cols(),
                   ", they must be ", shape.queries, " x ", shape.heads);
  }
  auto bind_weights(const Place& place) const {
    using Functor = detail::bound_functor<Holder>;
    return detail::BoundWeightWithRow<Functor, Scalar>{
        Functor(functor_.get()), detail::PairOrigin(place),
        detail::operand_of<const Scalar>(x_.get()).at(place.query_begin, place.head)};
  }

 private:
  Holder functor_;
  X x_;
};

/// w <- f(w, pair) on the normalised weights, after the selection and before dropout: the twin of
/// score_with(). Weights are not normalised again. f gets w of whatever type the pass computes in (take it
/// as `auto`; it is differentiated by running it on heed::dual, so use heed::exp, max and their like) and a
/// heed::Pair, or positions: (w, i, j), 32-bit and inside their sequence; it is never called on a pair that
/// a mask hides, and may be called from several threads. f(0, pair) need not be 0: then all visible values
/// are read. Owned if an rvalue, referred to if not. Memory: rows of scores, as with sparsemax().
template <class F>
auto weight_with(F&& f) {
  return WeightWith<detail::stored<F>>(detail::stored<F>(std::forward<F>(f)));
}
/// The same with a number of each row and head, an N × H matrix x: f takes (w, x, pair) or (w, x, i, j).
/// The backward pass gives its gradient with weight_parameter_gradient(dx).
template <class F, class X>
auto weight_with(F&& f, X&& x) {
  static_assert(detail::directly_accessible<std::remove_cvref_t<X>>,
                "heed: weight_with takes its numbers as an Eigen matrix, block or map");
  return WeightWithRow<detail::stored<F>, detail::stored<X>>(detail::stored<F>(std::forward<F>(f)),
                                                             detail::stored<X>(std::forward<X>(x)));
}

}  // namespace heed::inline HEED_ABI

#endif
