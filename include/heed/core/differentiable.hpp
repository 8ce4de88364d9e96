// SPDX-License-Identifier: MIT
/// @file
/// Whether the functors of a spec can be differentiated, asked before anything else: a call with dual numbers
/// is how they are, and what does not take them is refused in one message.
#ifndef HEED_CORE_DIFFERENTIABLE_HPP
#define HEED_CORE_DIFFERENTIABLE_HPP

#include <array>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/pair.hpp>
#include <heed/core/rules.hpp>
#include <heed/dual.hpp>

namespace heed::inline HEED_ABI::detail {

/// Where the body of a generic functor does not compile with dual numbers, the error is the compiler's own,
/// and this name stands beside it.
template <class F, class... First>
inline constexpr bool functor_is_called_with_heed_dual_so_use_heed_tanh_not_std_tanh =
    takes_positions<F, First...> || takes_pair<F, First...>;

/// What the forward pass calls a functor with where a backward pass calls it with X: numbers, not dual ones.
template <class X>
struct ValueOf {
  using type = X;
};
template <class T, int n>
struct ValueOf<dual<T, n>> : ValueOf<T> {};
template <class X, std::size_t n>
struct ValueOf<std::array<X, n>> {
  using type = std::array<typename ValueOf<X>::type, n>;
};

/// Does a functor take these arguments and a pair; if not, would it take values in place of dual numbers?
enum class Fit { none, values_only, whole };
template <class F, class S, class... More>
constexpr Fit fit_of() {
  if constexpr (directions<S> == 0)
    return takes_positions<F, S, More...> || takes_pair<F, S, More...> ? Fit::whole : Fit::none;
  else if constexpr (functor_is_called_with_heed_dual_so_use_heed_tanh_not_std_tanh<F, S, More...>)
    return Fit::whole;
  else
    return fit_of<F, typename ValueOf<S>::type, typename ValueOf<More>::type...>() == Fit::whole
               ? Fit::values_only
               : Fit::none;
}

/// Asks a bound policy with a functor whether it takes numbers of type S: its type must_take<S> says what is
/// wrong when it is made. (Functions that return auto are made at once, so this comes before other errors.)
template <class S, class Bound>
auto must_take(const Bound*) {
  if constexpr (requires { typename Bound::template must_take<S>; })
    (void)sizeof(typename Bound::template must_take<S>);
  return true;
}
template <class S, class T, class Dropped, class Mask, class... Terms>
auto terms_must_take(const Rules<T, Dropped, Mask, Terms...>*) {
  return (true && ... && must_take<S>(static_cast<const Terms*>(nullptr)));
}

/// To stand first in whatever differentiates.
template <class Spec, class T>
auto check_differentiable() {
  using Rules = std::remove_cvref_t<decltype(std::declval<const Spec&>().template bind<T>(Place{}))>;
  using Function = std::remove_cvref_t<decltype(std::declval<const Spec&>().bind_weight_function(Place{}))>;
  return terms_must_take<dual<T>>(static_cast<const Rules*>(nullptr)) &&
         must_take<dual<T>>(static_cast<const Function*>(nullptr));
}

}  // namespace heed::inline HEED_ABI::detail

#endif
