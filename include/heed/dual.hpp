// SPDX-License-Identifier: MIT
/// @file
/// dual: a number with its derivatives. A function of the score that is run on it differentiates itself.
#ifndef HEED_DUAL_HPP
#define HEED_DUAL_HPP

#include <cmath>
#include <type_traits>

#include <heed/config.hpp>
#include <heed/functions.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// What a dual may be made of as a constant: numbers, and whatever its own scalar is made of.
template <class A, class T, class Dual>
concept constant_of = std::is_arithmetic_v<A> ||
    (!std::is_same_v<A, Dual> && std::is_constructible_v<T, const A&>);

}  // namespace detail

/// value + Σ_k tangent[k] ε_k with ε_k ε_l = 0: every operation carries n derivatives along, exactly (forward
/// mode). The kernels run the functions given to score_with() on it, in a loop over lanes that vectorises.
/// Any arithmetic type converts to it, as a constant; nothing converts back, because that would drop the
/// derivative without a word: write x.value where that is meant. Comparisons look at the value alone.
template <class T, int n = 1>
struct dual {
  T value;
  T tangent[n];

  /// 0. (Not T{}: a scalar's own default may be no number at all.)
  HEED_INLINE constexpr dual() : dual(T(0)) {}
  /// A constant.
  template <detail::constant_of<T, dual> A>
  HEED_INLINE constexpr dual(const A& x) : value(static_cast<T>(x)) {
    for (int k = 0; k < n; ++k) tangent[k] = T(0);
  }
  /// The variable of direction k: the identity has slope 1.
  HEED_INLINE constexpr dual(const T& x, const T& slope, int k = 0) : dual(x) { tangent[k] = slope; }

  /// f(x), where f(value) = y and f'(value) = slope.
  HEED_INLINE constexpr dual chain(const T& y, const T& slope) const {
    dual r;
    r.value = y;
    for (int k = 0; k < n; ++k) r.tangent[k] = T(slope * tangent[k]);
    return r;
  }

  HEED_INLINE constexpr dual operator-() const { return chain(T(-value), T(-1)); }
  HEED_INLINE constexpr dual operator+() const { return *this; }
  HEED_INLINE constexpr dual& operator+=(const dual& b) { return *this = *this + b; }
  HEED_INLINE constexpr dual& operator-=(const dual& b) { return *this = *this - b; }
  HEED_INLINE constexpr dual& operator*=(const dual& b) { return *this = *this * b; }
  HEED_INLINE constexpr dual& operator/=(const dual& b) { return *this = *this / b; }

  // Friends, so that whatever converts to a dual may stand on either side.
  friend HEED_INLINE constexpr dual operator+(const dual& a, const dual& b) {
    dual r;
    r.value = T(a.value + b.value);
    for (int k = 0; k < n; ++k) r.tangent[k] = T(a.tangent[k] + b.tangent[k]);
    return r;
  }
  friend HEED_INLINE constexpr dual operator-(const dual& a, const dual& b) {
    dual r;
    r.value = T(a.value - b.value);
    for (int k = 0; k < n; ++k) r.tangent[k] = T(a.tangent[k] - b.tangent[k]);
    return r;
  }
  friend HEED_INLINE constexpr dual operator*(const dual& a, const dual& b) {
    dual r;
    r.value = T(a.value * b.value);
    for (int k = 0; k < n; ++k) r.tangent[k] = T(T(a.tangent[k] * b.value) + T(a.value * b.tangent[k]));
    return r;
  }
  friend HEED_INLINE constexpr dual operator/(const dual& a, const dual& b) {
    dual r;
    r.value = T(a.value / b.value);
    for (int k = 0; k < n; ++k) r.tangent[k] = T(T(a.tangent[k] - T(r.value * b.tangent[k])) / b.value);
    return r;
  }
  friend HEED_INLINE constexpr bool operator==(const dual& a, const dual& b) { return a.value == b.value; }
  friend HEED_INLINE constexpr bool operator!=(const dual& a, const dual& b) { return a.value != b.value; }
  friend HEED_INLINE constexpr bool operator<(const dual& a, const dual& b) { return a.value < b.value; }
  friend HEED_INLINE constexpr bool operator>(const dual& a, const dual& b) { return a.value > b.value; }
  friend HEED_INLINE constexpr bool operator<=(const dual& a, const dual& b) { return a.value <= b.value; }
  friend HEED_INLINE constexpr bool operator>=(const dual& a, const dual& b) { return a.value >= b.value; }
};

/// e^x.
template <class T, int n>
HEED_INLINE dual<T, n> exp(const dual<T, n>& x) {
  const T y(heed::exp(x.value));
  return x.chain(y, y);
}
/// Natural logarithm.
template <class T, int n>
HEED_INLINE dual<T, n> log(const dual<T, n>& x) {
  return x.chain(T(heed::log(x.value)), T(T(1) / x.value));
}
/// Square root.
template <class T, int n>
HEED_INLINE dual<T, n> sqrt(const dual<T, n>& x) {
  using std::sqrt;
  const T y(sqrt(x.value));
  return x.chain(y, T(T(0.5) / y));
}
/// Hyperbolic tangent. Its slope 1 - tanh² is taken as (1 - tanh)(1 + tanh).
template <class T, int n>
HEED_INLINE dual<T, n> tanh(const dual<T, n>& x) {
  const T y(heed::tanh(x.value));
  return x.chain(y, T(T(T(1) - y) * T(T(1) + y)));
}
/// Absolute value; slope 0 at 0.
template <class T, int n>
HEED_INLINE dual<T, n> abs(const dual<T, n>& x) {
  const T slope = T(static_cast<int>(x.value > T(0)) - static_cast<int>(x.value < T(0)));
  return x.chain(T(heed::abs(x.value)), slope);
}

namespace detail {

/// Directions of a number.
template <class S>
inline constexpr int directions = 0;
template <class T, int n>
inline constexpr int directions<dual<T, n>> = n;

}  // namespace detail
}  // namespace heed::inline HEED_ABI

#endif
