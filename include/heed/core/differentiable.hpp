// SPDX-License-Identifier: MIT
/// @file
/// Whether the functors of a spec can be differentiated, asked before anything else: a call with dual numbers
/// is how they are, and what does not take them is refused in one message.
#ifndef HEED_CORE_DIFFERENTIABLE_HPP
#define HEED_CORE_DIFFERENTIABLE_HPP

#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/pair.hpp>
#include <heed/core/rules.hpp>
#include <heed/dual.hpp>

namespace heed::inline HEED_ABI::detail {

/// Where the body of a generic functor does not compile with dual numbers, the error is the compiler's own,
/// and this name stands beside it.
template <class F, class... First>
struct functor_is_called_with_heed_dual_so_use_heed_tanh_not_std_tanh {
  static constexpr bool value = takes_positions<F, First...> || takes_pair<F, First...>;
};
template <class F, class... First>
constexpr bool takes_either() {
  if constexpr ((false || ... || (directions<First> > 0)))
    return functor_is_called_with_heed_dual_so_use_heed_tanh_not_std_tanh<F, First...>::value;
  else
    return takes_positions<F, First...> || takes_pair<F, First...>;
}

/// A number, or a dual number's own: what the forward pass calls a functor with.
template <class S>
struct ValueOf {
  using type = S;
};
template <class T, int n>
struct ValueOf<dual<T, n>> : ValueOf<T> {};

/// Asks a bound policy with a functor whether it takes numbers of type S; it refuses to compile if not.
template <class S, class Bound>
constexpr bool takes_numbers() {
  if constexpr (requires { Bound::template takes<S>(); })
    return Bound::template takes<S>();
  else
    return true;
}
template <class S, class T, class Dropped, class Mask, class... Terms>
constexpr bool terms_take(std::type_identity<Rules<T, Dropped, Mask, Terms...>>) {
  return (true && ... && takes_numbers<S, Terms>());
}

/// To stand first in whatever differentiates.
template <class Spec, class T>
constexpr void check_differentiable() {
  using Rules = std::remove_cvref_t<decltype(std::declval<const Spec&>().template bind<T>(Place{}))>;
  using Function = decltype(std::declval<const Spec&>().bind_weight_function(Place{}));
  constexpr bool asked = terms_take<dual<T>>(std::type_identity<Rules>{}) && takes_numbers<dual<T>, Function>();
  (void)asked;
}

}  // namespace heed::inline HEED_ABI::detail

#endif
