// SPDX-License-Identifier: MIT
/// @file
/// What keeps finite scores finite, whatever terms add to them, and what -inf does to a score.
#ifndef HEED_CORE_SATURATE_HPP
#define HEED_CORE_SATURATE_HPP

#include <limits>
#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/scalars.hpp>
#include <heed/dual.hpp>
#include <heed/functions.hpp>

namespace heed::inline HEED_ABI::detail {

/// Final scores beyond it count as it: 2.36e38 in float, 1.25e308 in double. In base 2 it lies below the
/// greatest number by a millionth, so that a running maximum of minus that number is less than any score.
template <class T>
inline constexpr T score_limit = std::numeric_limits<T>::max() * T(0.6931471805599453094) *
                                    (T(1) - T(0x1p-20));

/// A final score such that base 2 can hold it in Scalar, in natural units; NaN and infinities stay what they
/// are, and so do the scores of types other than float and double.
template <class Scalar, class T>
HEED_INLINE T saturated_as(const T& s) {
  if constexpr (on_engine<T>) {
    constexpr T all = std::numeric_limits<T>::max();
    constexpr T most = score_limit<std::conditional_t<on_engine<Scalar>, Scalar, T>>;
    const T below = s > most ? most : s;
    const T inside = below < -most ? -most : below;
    return s >= -all && s <= all ? inside : s;
  } else {
    return s;
  }
}
template <class T>
HEED_INLINE T saturated(const T& s) {
  return saturated_as<T>(s);
}

/// s + b, where a term adds b to a score. -inf on either side is the result, also where the other is NaN: it
/// hides the pair, whatever stands in the key (what derivatives it has then is nobody's concern). The sum of
/// finite numbers is finite.
template <class S>
HEED_INLINE S add_to_score(const S& s, const S& b) {
  if constexpr (on_engine<S>) {
    constexpr S all = std::numeric_limits<S>::max();
    const S sum = s + b, lesser = s < b ? s : b, greater = s > b ? s : b;  // b where s is NaN
    const S below = sum > all ? all : sum;
    const S finite = below < -all ? -all : below;
    const S inside = greater > all ? sum : finite;
    return lesser < -all ? lesser : inside;
  } else {
    if (b == S(-std::numeric_limits<double>::infinity())) return b;
    return static_cast<S>(s + b);
  }
}
template <class T, int n>
HEED_INLINE dual<T, n> add_to_score(const dual<T, n>& s, const dual<T, n>& b) {
  dual<T, n> r;
  r.value = add_to_score(s.value, b.value);
  for (int k = 0; k < n; ++k) r.tangent[k] = static_cast<T>(s.tangent[k] + b.tangent[k]);
  return r;
}

/// x as an S, which is not infinite where only S is too narrow for it.
template <class S, class X>
HEED_INLINE S narrowed(const X& x) {
  if constexpr (std::is_floating_point_v<X> && on_engine<S> && sizeof(X) > sizeof(S)) {
    constexpr X most = static_cast<X>(std::numeric_limits<S>::max()), all = std::numeric_limits<X>::max();
    const X below = x > most ? most : x;
    const X inside = below < -most ? -most : below;
    return static_cast<S>(x >= -all && x <= all ? inside : x);
  } else {
    return static_cast<S>(x);
  }
}
template <class S, class X>
  requires(directions<S> > 0)
HEED_INLINE S narrowed(const X& x) { return S(narrowed<std::remove_cvref_t<decltype(S().value)>>(x)); }

/// s · factor for a finite factor, which leaves finite scores finite.
template <class S, class X>
HEED_INLINE S scale_score(const S& s, const X& factor) {
  if constexpr (on_engine<S>) {
    constexpr S all = std::numeric_limits<S>::max();
    const S scaled = s * static_cast<S>(factor);
    const S below = scaled > all ? all : scaled;
    return below < -all ? -all : below;
  } else {
    return static_cast<S>(s * static_cast<S>(factor));
  }
}
template <class T, int n, class X>
HEED_INLINE dual<T, n> scale_score(const dual<T, n>& s, const X& factor) {
  dual<T, n> r;
  r.value = scale_score(s.value, factor);
  for (int k = 0; k < n; ++k) r.tangent[k] = static_cast<T>(s.tangent[k] * static_cast<T>(factor));
  return r;
}

}  // namespace heed::inline HEED_ABI::detail

#endif
