// SPDX-License-Identifier: MIT
/// @file
/// weight_with(f): any function of a weight, its query and its key.
#ifndef HEED_SELECT_WEIGHT_WITH_HPP
#define HEED_SELECT_WEIGHT_WITH_HPP

#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/dual.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

template <class Functor>
struct BoundWeightWith {
  static constexpr bool has_parameter = false;
  Functor functor;

  template <class S>
  HEED_INLINE S operator()(S w, Position i, Position j) const {
    static_assert(
        requires { functor.get()(w, i, j); },
        "heed: the function given to weight_with takes (w, i, j), w of the weight's type (take it as "
        "auto), the rest heed::Position, and is const");
    return static_cast<S>(functor.get()(w, i, j));
  }
};

/// With a number of each row.
template <class Functor, class X>
struct BoundWeightWithRow {
  static constexpr bool has_parameter = true;
  Functor functor;
  Operand<const X> x;  // from the sequence's first row on, of this head

  template <class S>
  HEED_INLINE S operator()(S w, Position i, Position j) const {
    S parameter = static_cast<S>(x.data[i * x.row]);
    // One direction for the weight, one for the number.
    if constexpr (directions<S> == 2) parameter.tangent[1] = 1;
    static_assert(
        requires { functor.get()(w, parameter, i, j); },
        "heed: the function given to weight_with with a number of each row takes (w, x, i, j), w and x "
        "of the weight's type (take them as auto), the rest heed::Position, and is const");
    return static_cast<S>(functor.get()(w, parameter, i, j));
  }
};

}  // namespace detail

/// The policy made by weight_with().
template <class Holder>
class WeightWith : public weight_function_tag {
 public:
  explicit WeightWith(Holder functor) : functor_(std::move(functor)) {}
  auto bind_weights(const Place&) const {
    using Functor = detail::bound_functor<Holder>;
    return detail::BoundWeightWith<Functor>{Functor(functor_.get())};
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
    if (x_.get().rows() != shape.queries || x_.get().cols() != shape.heads)
      detail::fail("weight_with: the numbers of the rows are ", x_.get().rows(), " x ", x_.get().cols(),
                   ", they must be ", shape.queries, " x ", shape.heads);
  }
  auto bind_weights(const Place& place) const {
    using Functor = detail::bound_functor<Holder>;
    return detail::BoundWeightWithRow<Functor, Scalar>{
        Functor(functor_.get()),
        detail::operand_of<const Scalar>(x_.get()).at(place.query_begin, place.head)};
  }

 private:
  Holder functor_;
  X x_;
};

/// w <- f(w, i, j) on the normalised weights, after the selection and before dropout: the twin of
/// score_with(). Weights are not normalised again. f gets w of whatever type the pass computes in (take it as
/// `auto`; it is differentiated by running it on heed::dual, so use heed::exp, max and their like) and 32-bit
/// positions inside their sequence; it is never called on a pair that a mask hides, and may be called from
/// several threads. f(0, i, j) need not be 0: then all visible values are read. Owned if an rvalue, referred
/// to if not. Memory: rows of scores, as with sparsemax().
template <class F>
auto weight_with(F&& f) {
  return WeightWith<detail::stored<F>>(detail::stored<F>(std::forward<F>(f)));
}
/// The same with a number of each row and head, an N × H matrix x: f takes (w, x, i, j). The backward pass
/// gives its gradient with weight_parameter_gradient(dx).
template <class F, class X>
auto weight_with(F&& f, X&& x) {
  static_assert(detail::directly_accessible<std::remove_cvref_t<X>>,
                "heed: weight_with takes its numbers as an Eigen matrix, block or map");
  return WeightWithRow<detail::stored<F>, detail::stored<X>>(detail::stored<F>(std::forward<F>(f)),
                                                             detail::stored<X>(std::forward<X>(x)));
}

}  // namespace heed::inline HEED_ABI

#endif
