// SPDX-License-Identifier: MIT
// Hyperbolic tangents, and the two functions that sums of many of them are made of: with E = e^2q and
// F = e^2k
//
//     tanh(q + k) = 1 - 2 / (1 + E F),
//
// so that every pair of a query and a key needs a product and a reciprocal where each has its exponentials.

/// 1 / x to within 4 units of roundoff for x in [1, 2^122] (float) or [1, 2^1010] (double); NaN stays NaN.
/// Where the set has an approximation, Newton's step doubles its digits: 14 become 28 at a fifth of a
/// division's cost.
template <class T>
HEED_INLINE Pack<T> reciprocal(Pack<T> x) {
  const Pack<T> one = broadcast(T(1));
  (void)one;
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (sizeof(T) == 4) {
    const Pack<T> r = {_mm512_maskz_rcp14_ps(0xFFFF, x.raw)};
    return multiply_add(r, minus_product(x, r, one), r);
  } else {
    Pack<T> r = {_mm512_maskz_rcp14_pd(0xFF, x.raw)};
    r = multiply_add(r, minus_product(x, r, one), r);
    return multiply_add(r, minus_product(x, r, one), r);
  }
#elif HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4) {
    const Pack<T> r = {_mm256_rcp_ps(x.raw)};
    return multiply_add(r, minus_product(x, r, one), r);
  } else {
    return one / x;
  }
#else
  return one / x;
#endif
}

/// (e^2r - 1 - 2r) / r² for |r| ≤ 0.1737. Float, degree 4, and double, degree 9: the error that remains in
/// e^2r - 1 is 1.4e-8 and 1.9e-17 of it.
template <class T>
HEED_INLINE Pack<T> twice_exp_bend(Pack<T> r) {
  if constexpr (sizeof(T) == 4) {
    Pack<T> p = broadcast(T(0.08884791858));
    p = multiply_add(p, r, broadcast(T(0.2677327156)));
    p = multiply_add(p, r, broadcast(T(0.6666752651)));
    p = multiply_add(p, r, broadcast(T(1.333323414)));
    return multiply_add(p, r, broadcast(T(1.999999925)));
  } else {
    Pack<T> p = broadcast(T(5.1310242890385723984e-5));
    p = multiply_add(p, r, broadcast(T(2.828933214420978974e-4)));
    p = multiply_add(p, r, broadcast(T(1.4109392931214064851e-3)));
    p = multiply_add(p, r, broadcast(T(6.3491851888962759571e-3)));
    p = multiply_add(p, r, broadcast(T(2.5396825238736592445e-2)));
    p = multiply_add(p, r, broadcast(T(8.8888889165171466666e-2)));
    p = multiply_add(p, r, broadcast(T(0.26666666666849105174)));
    p = multiply_add(p, r, broadcast(T(0.66666666666520579388)));
    p = multiply_add(p, r, broadcast(T(1.333333333333327031)));
    return multiply_add(p, r, broadcast(T(2.0000000000000021122)));
  }
}

/// e^2x = power · (1 + rest), power = 2^n, |rest| < 0.42; for |x| ≤ 42 (float) or 350 (double). The argument
/// is reduced in two parts, so that its own rounding does not grow with |x|. NaN makes `rest` NaN.
template <class T>
struct TwiceExp {
  Pack<T> power, rest;
};
template <class T>
HEED_INLINE TwiceExp<T> twice_exp(Pack<T> x) {
  constexpr bool single = sizeof(T) == 4;
  // Half of log 2 in two parts: the first has so few digits that its product with n is exact.
  constexpr T high = single ? T(0.3465728759765625) : T(0x1.62e42fefa4000p-2);
  constexpr T low = single ? T(7.14303410155e-7) : T(-8.6197222628074173866e-14);
  const Pack<T> base = broadcast(T(2.8853900817779268));  // 2 log2 e
  // Added to this, a number is rounded to a whole one, whose exponent field lies in the last digits of the
  // sum.
  constexpr T shift = single ? T(0x1.8p23) + 127 : T(0x1.8p52) + 1023;
  constexpr int mantissa = single ? 23 : 52;
  const Pack<T> shifted = multiply_add(x, base, broadcast(shift));
  const Pack<T> n = shifted - broadcast(shift);
  const Pack<T> r = minus_product(n, broadcast(low), minus_product(n, broadcast(high), x));
  Pack<T> power;
  using Integer = std::conditional_t<single, std::int32_t, std::int64_t>;
#if defined(HEED_NO_VECTOR_EXTENSIONS)
  for (int l = 0; l < Pack<T>::width; ++l) {
    std::make_unsigned_t<Integer> bits;
    const T number = shifted.raw[l];
    std::memcpy(&bits, &number, sizeof(T));
    bits <<= mantissa;
    std::memcpy(&power.raw[l], &bits, sizeof(T));
  }
#else
  typedef Integer Integers __attribute__((vector_size(pack_bytes)));
  power = {reinterpret_cast<typename Pack<T>::Raw>(reinterpret_cast<Integers>(shifted.raw) << mantissa)};
#endif
  return {power, multiply_add(r * r, twice_exp_bend(r), r + r)};
}

/// e^2x to within 2 units of roundoff for |x| ≤ 42 (float) or 350 (double); NaN stays NaN.
template <class T>
HEED_INLINE Pack<T> exp_twice(Pack<T> x) {
  const TwiceExp<T> e = twice_exp(x);
  return multiply_add(e.power, e.rest, e.power);
}

/// size's absolute value with the sign of `of`.
template <class T>
HEED_INLINE Pack<T> with_sign(Pack<T> size, Pack<T> of) {
#if defined(HEED_NO_VECTOR_EXTENSIONS)
  for (int l = 0; l < Pack<T>::width; ++l) size.raw[l] = std::copysign(size.raw[l], of.raw[l]);
  return size;
#else
  using Integer = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
  typedef Integer Integers __attribute__((vector_size(pack_bytes)));
  constexpr Integer most = std::numeric_limits<Integer>::max();
  const Integers bits =
      (reinterpret_cast<Integers>(size.raw) & most) | (reinterpret_cast<Integers>(of.raw) & ~most);
  return {reinterpret_cast<typename Pack<T>::Raw>(bits)};
#endif
}

/// a / b, b as for reciprocal(); in float by Newton's step on an approximation, where the set has one.
template <class T>
HEED_INLINE Pack<T> quotient_of(Pack<T> a, Pack<T> b) {
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (sizeof(T) == 4) {
    const Pack<T> r = {_mm512_maskz_rcp14_ps(0xFFFF, b.raw)};
    const Pack<T> t = a * r;
    return multiply_add(r, minus_product(b, t, a), t);
  }
#endif
  return a / b;
}

/// tanh x to within 3 ULP for every x: tanh(-x) is exactly -tanh(x), ±∞ gives ±1, |tanh x| ≤ 1, NaN stays
/// NaN. For a = |x| it is (e^2a - 1) / (e^2a + 1), with e^2a - 1 = power · rest + (power - 1) free of
/// cancellation.
template <class T>
HEED_INLINE Pack<T> tanh(Pack<T> x) {
  constexpr bool single = sizeof(T) == 4;
  const Pack<T> a = min_or_second(broadcast(T(single ? 10 : 20)), max_or_second(x, zero<T>() - x));
  const TwiceExp<T> e = twice_exp(a);
  const Pack<T> less = multiply_add(e.power, e.rest, e.power - broadcast(T(1)));
  const Pack<T> more = less + broadcast(T(2));
  return with_sign(quotient_of(less, more), x);
}

/// tanh of n packs at once, each step for all of them before the next: alone, every step would wait for the
/// one before. Float: x times a quotient of polynomials in x², whose coefficients are all positive,
/// within 2.4e-8 of exact and with rounding 6 ULP; ±∞ gives ±1 to as much, NaN stays NaN. Half the steps of
/// tanh(), and fewer that wait for each other: for scores, of which every pair has one. Double: as above.
template <int n, class T>
HEED_INLINE void tanh_together(Pack<T> (&x)[n]) {
  if constexpr (sizeof(T) == 8) {
    for (int v = 0; v < n; ++v) x[v] = tanh(x[v]);
  } else {
    // Beyond this tanh rounds to 1.
    constexpr T most = T(9.02);
    constexpr T above[] = {T(1.31774451425e-8), T(2.04811512929e-5), T(3.48781012216e-3), T(0.13374475012),
                           T(0.999999977433)};
    constexpr T below[] = {T(7.70402004074e-7), T(3.27291772213e-4), T(2.58473867583e-2), T(0.467077888732),
                           T(1)};
    Pack<T> z[n], p[n], q[n];
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) {
      x[v] = min_or_second(broadcast(most), max_or_second(broadcast(-most), x[v]));
      z[v] = x[v] * x[v];
      p[v] = broadcast(above[0]);
      q[v] = broadcast(below[0]);
    }
#pragma GCC unroll 4
    for (int c = 1; c < 5; ++c)
#pragma GCC unroll 4
      for (int v = 0; v < n; ++v) {
        p[v] = multiply_add(p[v], z[v], broadcast(above[c]));
        q[v] = multiply_add(q[v], z[v], broadcast(below[c]));
      }
#pragma GCC unroll 4
    for (int v = 0; v < n; ++v) x[v] = quotient_of(p[v] * x[v], q[v]);
  }
}
