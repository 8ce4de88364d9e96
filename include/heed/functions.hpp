// SPDX-License-Identifier: MIT
/// @file
/// exp, log, tanh, abs, max, min, select for functors: the same functions on every type that a pass may
/// compute in.
///
/// On float and double they are straight-line code (comparisons select, nothing branches, nothing is looked
/// up), so that a loop over lanes vectorises after inlining, in whatever instruction set the loop is compiled
/// for (the double ones need AVX2 with g++); std::tanh costs 5 ns a score, tanh below well under 1. On any
/// other type they are what argument-dependent lookup finds, else the standard's.
///
/// | function | greatest error, float | greatest error, double | range |
/// |---|---|---|---|
/// | exp  | 1.25 ULP | 1.25 ULP | all; overflow gives inf, underflow goes through subnormals to 0, exp(-inf)
/// = 0 | | log  | 1 ULP | 1 ULP | all; log(0) = -inf, log(x < 0) is NaN, subnormals are right | | tanh | 3
/// ULP | 3 ULP | all; tanh(-x) = -tanh(x), tanh(-0) = -0 |
///
/// NaN gives NaN. The bounds hold with and without fused multiply-adds (tests/functions_test.cpp enforces
/// them); one ULP is the spacing of the result's type at the exact result. Rounding to nearest is assumed,
/// and that subnormals are not flushed.
#ifndef HEED_FUNCTIONS_HPP
#define HEED_FUNCTIONS_HPP

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI {

// Sums in their order, whatever clang is told (config.hpp): the reductions of exp and log depend on it.
#if defined(__clang__)
#pragma float_control(precise, on, push)
#endif

namespace detail {

/// Constants and bit patterns of one type. The polynomials interpolate at Chebyshev nodes of the reduced
/// range; beside each stands its greatest error relative to the function. ln2_high times any exponent is
/// exact.
template <class T>
struct Elementary;

template <>
struct Elementary<float> {
  using Bits = std::uint32_t;
  static constexpr int fraction_bits = 23, bias = 127;
  static constexpr float exp_low = -104, exp_high = 89, tanh_high = 10;
  static constexpr float log2e = 0x1.715476p0f, ln2_high = 0x1.62e4p-1f, ln2_low = 0x1.7f7d1cp-20f;

  /// (e^r - 1 - r) / r² for |r| <= ln(2)/2; 8e-9.
  static HEED_INLINE float exp_tail(float r) {
    float p = 0x1.6d113cp-10f;
    p = p * r + 0x1.120ba2p-7f;
    p = p * r + 0x1.55551ap-5f;
    p = p * r + 0x1.5554dcp-3f;
    return p * r + 0.5f;
  }
  /// (log((1 + s) / (1 - s)) - 2s) / s³ for z = s², |s| <= (√2 - 1) / (√2 + 1); 2e-11.
  static HEED_INLINE float log_tail(float z) {
    float p = 0x1.ddd4dap-3f;
    p = p * z + 0x1.245c28p-2f;
    p = p * z + 0x1.9999ecp-2f;
    return p * z + 0x1.555556p-1f;
  }
};

template <>
struct Elementary<double> {
  using Bits = std::uint64_t;
  static constexpr int fraction_bits = 52, bias = 1023;
  static constexpr double exp_low = -746, exp_high = 710, tanh_high = 20;
  static constexpr double log2e = 0x1.71547652b82fep0, ln2_high = 0x1.62e42feep-1,
                          ln2_low = 0x1.a39ef35793c76p-33;

  /// 2e-17.
  static HEED_INLINE double exp_tail(double r) {
    double p = 0x1.af38d53857513p-26;
    p = p * r + 0x1.2891a8c1d838dp-22;
    p = p * r + 0x1.71de0d9c145d0p-19;
    p = p * r + 0x1.a019b8ef67c6cp-16;
    p = p * r + 0x1.a01a01a7c8d47p-13;
    p = p * r + 0x1.6c16c17893833p-10;
    p = p * r + 0x1.11111111109adp-7;
    p = p * r + 0x1.5555555553d4fp-5;
    p = p * r + 0x1.5555555555556p-3;
    return p * r + 0x1.0000000000001p-1;
  }
  /// 5e-18.
  static HEED_INLINE double log_tail(double z) {
    double p = 0x1.2b5f68a50d903p-3;
    p = p * z + 0x1.39fdcceb4bb45p-3;
    p = p * z + 0x1.7462b91b8df65p-3;
    p = p * z + 0x1.c71c62d5e53e0p-3;
    p = p * z + 0x1.2492492dfd86cp-2;
    p = p * z + 0x1.9999999995273p-2;
    return p * z + 0x1.5555555555558p-1;
  }
};

/// condition ? a : b by bits. Where one choice feeds another, g++ threads its jumps through both before it
/// looks for loops to vectorise, and finds none; it does not see through this.
template <class T>
HEED_INLINE T blend(bool condition, T a, T b) {
  using Bits = typename Elementary<T>::Bits;
  const Bits mask = Bits{0} - static_cast<Bits>(condition);
  return std::bit_cast<T>(
      static_cast<Bits>((std::bit_cast<Bits>(a) & mask) | (std::bit_cast<Bits>(b) & ~mask)));
}

/// Nearest integer of |x| < 2^30; 0 for NaN. Rounding by adding 1.5·2^23 would be folded away under
/// -fassociative-math.
template <class T>
HEED_INLINE std::int32_t nearest(T x) {
  using Bits = typename Elementary<T>::Bits;
  constexpr Bits sign = Bits{1} << (8 * sizeof(Bits) - 1);
  const T half =
      std::bit_cast<T>(static_cast<Bits>((std::bit_cast<Bits>(x) & sign) | std::bit_cast<Bits>(T(0.5))));
  return static_cast<std::int32_t>(blend(x == x, x + half, T(0)));
}

/// 2^n for a normal result.
template <class T>
HEED_INLINE T power_of_two(std::int32_t n) {
  using E = Elementary<T>;
  const auto biased = static_cast<typename E::Bits>(static_cast<std::uint32_t>(n + E::bias));
  return std::bit_cast<T>(static_cast<typename E::Bits>(biased << E::fraction_bits));
}

/// e^x = 2^n (1 + m): n and m, |m| < 0.42.
template <class T>
struct ExpParts {
  std::int32_t n;
  T m;
};
template <class T>
HEED_INLINE ExpParts<T> exp_parts(T x) {
  using E = Elementary<T>;
  const std::int32_t n = nearest(x * E::log2e);
  const T f = static_cast<T>(n);
  const T r = (x - f * E::ln2_high) - f * E::ln2_low;
  return {n, r + r * r * E::exp_tail(r)};
}

template <class T>
HEED_INLINE T exp_of(T x) {
  using E = Elementary<T>;
  T c = blend(x < E::exp_low, E::exp_low, x);
  c = blend(c > E::exp_high, E::exp_high, c);
  const ExpParts<T> parts = exp_parts(c);
  // In two factors, so that the result may be subnormal or overflow and is rounded once.
  const std::int32_t half = parts.n >> 1;
  return ((T(1) + parts.m) * power_of_two<T>(half)) * power_of_two<T>(parts.n - half);
}

template <class T>
HEED_INLINE T log_of(T x) {
  using E = Elementary<T>;
  using Bits = typename E::Bits;
  constexpr int upper = static_cast<int>(8 * sizeof(Bits)) - 32;  // what lies below the upper 32 bits
  constexpr int fraction = E::fraction_bits - upper;              // bits of fraction in the upper 32
  const bool tiny = x < std::numeric_limits<T>::min();
  const T normal = blend(tiny, x * T(Bits{1} << E::fraction_bits), x);
  const Bits bits = std::bit_cast<Bits>(normal);
  // x = 2^e · m with m in [√½, √2): the offset is the upper half of √½'s bits. All in 32 bits: few
  // instruction sets convert 64-bit integers to double.
  constexpr auto sqrt_half =
      static_cast<std::uint32_t>(std::bit_cast<Bits>(T(0x1.6a09e667f3bcdp-1)) >> upper);
  const auto offset = static_cast<std::uint32_t>(bits >> upper) - sqrt_half;
  const std::int32_t e = static_cast<std::int32_t>(offset) >> fraction;
  const T m = std::bit_cast<T>(
      static_cast<Bits>(bits - (static_cast<Bits>(static_cast<std::uint32_t>(e)) << E::fraction_bits)));
  const T k = static_cast<T>(e - static_cast<std::int32_t>(tiny) * E::fraction_bits);
  const T f = m - T(1);
  const T s = f / (T(2) + f);
  const T z = s * s;
  const T half_square = T(0.5) * f * f;
  const T r = z * E::log_tail(z);
  const T y = k * E::ln2_high - ((half_square - (s * (half_square + r) + k * E::ln2_low)) - f);
  const T positive = blend(x <= std::numeric_limits<T>::max(), y, x);
  const T other = blend(x == T(0), -std::numeric_limits<T>::infinity(), std::numeric_limits<T>::quiet_NaN());
  return blend(x > T(0), positive, other);
}

template <class T>
HEED_INLINE T tanh_of(T x) {
  using E = Elementary<T>;
  using Bits = typename E::Bits;
  constexpr Bits sign = Bits{1} << (8 * sizeof(Bits) - 1);
  const Bits bits = std::bit_cast<Bits>(x);
  T a = std::bit_cast<T>(static_cast<Bits>(bits & ~sign));
  a = blend(a > E::tanh_high, E::tanh_high, a);
  // tanh a = (e^2a - 1) / (e^2a + 1), with e^2a - 1 = 2^n m + (2^n - 1) free of cancellation.
  const ExpParts<T> parts = exp_parts(a + a);
  const T p = power_of_two<T>(parts.n);
  const T grown = p * parts.m + (p - T(1));
  const T t = grown / (grown + T(2));
  return std::bit_cast<T>(static_cast<Bits>(std::bit_cast<Bits>(t) | (bits & sign)));
}

template <class T>
concept number = std::is_arithmetic_v<T>;
template <class T>
concept other_scalar = !number<T>;
/// What functions of a number are computed in: whole ones in double.
template <class T>
using real = std::conditional_t<std::is_floating_point_v<T>, T, double>;

/// What two arguments have in common: C++'s rule for numbers, else the one that the other converts to.
template <class A, class B>
constexpr auto joint_of() {
  if constexpr (std::is_same_v<A, B>) {
    return std::type_identity<A>{};
  } else if constexpr (std::is_arithmetic_v<A> && std::is_arithmetic_v<B>) {
    return std::type_identity<std::common_type_t<A, B>>{};
  } else if constexpr (std::is_arithmetic_v<A> || (!std::is_arithmetic_v<B> && std::is_convertible_v<A, B>)) {
    return std::type_identity<B>{};
  } else {
    return std::type_identity<A>{};
  }
}
template <class A, class B>
using joint = typename decltype(joint_of<A, B>())::type;

}  // namespace detail

#if defined(__clang__)
#pragma float_control(pop)
#endif

// Those of numbers are templates: a plain exp(x) in a program that opens namespaces then takes the standard's
// function of the very type, where it is in scope, and is never ambiguous.

/// e^x.
template <detail::number T>
HEED_INLINE detail::real<T> exp(T x) {
  if constexpr (std::is_same_v<T, long double>)
    return std::exp(x);
  else
    return detail::exp_of(static_cast<detail::real<T>>(x));
}
/// Natural logarithm.
template <detail::number T>
HEED_INLINE detail::real<T> log(T x) {
  if constexpr (std::is_same_v<T, long double>)
    return std::log(x);
  else
    return detail::log_of(static_cast<detail::real<T>>(x));
}
/// Hyperbolic tangent.
template <detail::number T>
HEED_INLINE detail::real<T> tanh(T x) {
  if constexpr (std::is_same_v<T, long double>)
    return std::tanh(x);
  else
    return detail::tanh_of(static_cast<detail::real<T>>(x));
}
/// Absolute value; abs(-0) = 0.
template <detail::number T>
HEED_INLINE T abs(T x) {
  if constexpr (std::is_floating_point_v<T>)
    return std::fabs(x);
  else
    return x < T(0) ? static_cast<T>(-x) : x;
}

// Every other scalar: its own function, found through its namespace.
template <detail::other_scalar T>
auto exp(const T& x) {
  using std::exp;
  return exp(x);
}
template <detail::other_scalar T>
auto log(const T& x) {
  using std::log;
  return log(x);
}
template <detail::other_scalar T>
auto tanh(const T& x) {
  using std::tanh;
  return tanh(x);
}
template <detail::other_scalar T>
auto abs(const T& x) {
  using std::abs;
  return abs(x);
}

/// The greater of two, read as `a > b ? a : b`: b if either is NaN.
template <class A, class B>
HEED_INLINE detail::joint<A, B> max(const A& a, const B& b) {
  using T = detail::joint<A, B>;
  const T x = static_cast<T>(a), y = static_cast<T>(b);
  return x > y ? x : y;
}
/// The lesser of two, read as `a < b ? a : b`: b if either is NaN.
template <class A, class B>
HEED_INLINE detail::joint<A, B> min(const A& a, const B& b) {
  using T = detail::joint<A, B>;
  const T x = static_cast<T>(a), y = static_cast<T>(b);
  return x < y ? x : y;
}
/// a where the condition holds, else b; both are evaluated, so that nothing branches.
template <class A, class B>
HEED_INLINE detail::joint<A, B> select(bool condition, const A& a, const B& b) {
  using T = detail::joint<A, B>;
  const T x = static_cast<T>(a), y = static_cast<T>(b);
  return condition ? x : y;
}

}  // namespace heed::inline HEED_ABI

#endif
