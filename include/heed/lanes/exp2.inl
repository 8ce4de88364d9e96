// SPDX-License-Identifier: MIT
// Powers of two, the only transcendental function of the softmax: exp(x) = 2^(x log2 e), and the factor is in
// the scale.

/// 2^f on [0, 1) by a polynomial that is exactly 1 at 0. Float, degree 5: the least greatest error under the
/// weight 1 - f/5, so that it falls from 1.3e-7 to 1.1e-7 towards 1, where f itself is rounded most; with
/// fused multiply-adds that stays below 2 ULP. Without them one degree more, 2.9e-9. Double, degree
/// 11: 3.1e-18.
template <class T>
HEED_INLINE Pack<T> exp2_fraction(Pack<T> f) {
  if constexpr (sizeof(T) == 4) {
#if HEED_LANES == HEED_LANES_GENERIC
    Pack<T> p = broadcast(T(2.161301107902e-04));
    p = multiply_add(p, f, broadcast(T(1.246781693474e-03)));
    p = multiply_add(p, f, broadcast(T(9.675454975272e-03)));
    p = multiply_add(p, f, broadcast(T(5.548527880263e-02)));
    p = multiply_add(p, f, broadcast(T(2.402293059854e-01)));
    p = multiply_add(p, f, broadcast(T(6.931470444082e-01)));
#else
    Pack<T> p = broadcast(T(1.891176287089e-03));
    p = multiply_add(p, f, broadcast(T(8.958971456794e-03)));
    p = multiply_add(p, f, broadcast(T(5.584811782986e-02)));
    p = multiply_add(p, f, broadcast(T(2.401487319808e-01)));
    p = multiply_add(p, f, broadcast(T(6.931528967625e-01)));
#endif
    return multiply_add(p, f, broadcast(T(1)));
  } else {
    Pack<T> p = broadcast(T(6.27244566602088233e-10));
    p = multiply_add(p, f, broadcast(T(6.55444951353669460e-09)));
    p = multiply_add(p, f, broadcast(T(1.02544595836815820e-07)));
    p = multiply_add(p, f, broadcast(T(1.32081931420527938e-06)));
    p = multiply_add(p, f, broadcast(T(1.52531902837326923e-05)));
    p = multiply_add(p, f, broadcast(T(1.54035114442886711e-04)));
    p = multiply_add(p, f, broadcast(T(1.33335586616649448e-03)));
    p = multiply_add(p, f, broadcast(T(9.61812909879035914e-03)));
    p = multiply_add(p, f, broadcast(T(5.55041086657114754e-02)));
    p = multiply_add(p, f, broadcast(T(2.40226506959054675e-01)));
    p = multiply_add(p, f, broadcast(T(6.93147180559946285e-01)));
    return multiply_add(p, f, broadcast(T(1)));
  }
}

/// 2^x to within 2 ULP for x in [-126, 127] (float) or [-1022, 1023] (double); exactly 0 below, also for
/// -inf; infinity from 128 (1024) up. NaN stays NaN. Weights that would be subnormal are 0 because products
/// with subnormal numbers take a hundred cycles.
///
/// With `at_most_1`, 2^min(x, 0).
template <bool at_most_1 = false, class T>
HEED_INLINE Pack<T> exp2(Pack<T> x) {
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (at_most_1) x = min_or_second(zero<T>(), x);
  // x - floor(x) is defined as 0 at infinity: no clamp. "Not less" keeps NaN.
  if constexpr (sizeof(T) == 4) {
    const Pack<T> f = {_mm512_maskz_reduce_ps(0xFFFF, x.raw, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
    return {_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x.raw, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ),
                                   exp2_fraction(f).raw, x.raw)};
  } else {
    const Pack<T> f = {_mm512_maskz_reduce_pd(0xFF, x.raw, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)};
    return {_mm512_maskz_scalef_pd(_mm512_cmp_pd_mask(x.raw, _mm512_set1_pd(-1022.0), _CMP_NLT_UQ),
                                   exp2_fraction(f).raw, x.raw)};
  }
#else
  // The clamps keep NaN (it is the second operand). At their ends the exponent field is all 0 or all 1:
  // exactly 0, or infinity.
  constexpr int bias = sizeof(T) == 4 ? 127 : 1023;
  constexpr int mantissa = sizeof(T) == 4 ? 23 : 52;
  const Pack<T> y =
      min_or_second(broadcast(T(at_most_1 ? 0 : bias + 1)), max_or_second(broadcast(T(-bias)), x));
#if HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4) {
    const __m256 n = _mm256_floor_ps(y.raw);
    const __m256i power =
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(bias)), mantissa);
    return exp2_fraction(Pack<T>{y.raw - n}) * Pack<T>{_mm256_castsi256_ps(power)};
  } else {
    const __m256d n = _mm256_floor_pd(y.raw);
    const __m256i wide = _mm256_cvtepi32_epi64(_mm256_cvtpd_epi32(n));
    const __m256i power = _mm256_slli_epi64(_mm256_add_epi64(wide, _mm256_set1_epi64x(bias)), mantissa);
    return exp2_fraction(Pack<T>{y.raw - n}) * Pack<T>{_mm256_castsi256_pd(power)};
  }
#else
  using Integer = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;
#if defined(HEED_NO_VECTOR_EXTENSIONS)
  Pack<T> f, power;
  for (int l = 0; l < Pack<T>::width; ++l) {
    const T kept = y.raw[l] == y.raw[l] ? y.raw[l] : T(0);
    Integer n = static_cast<Integer>(kept);
    n -= static_cast<T>(n) > kept;
    f.raw[l] = y.raw[l] - static_cast<T>(n);
    const Integer bits = (n + bias) << mantissa;
    std::memcpy(&power.raw[l], &bits, sizeof(T));
  }
  return exp2_fraction(f) * power;
#else
  typedef Integer Integers __attribute__((vector_size(pack_bytes)));
  // Conversion truncates; a comparison is -1 where true. NaN converts to something arbitrary and stays NaN in
  // the polynomial.
  Integers n = __builtin_convertvector(y.raw, Integers);
  n += __builtin_convertvector(n, typename Pack<T>::Raw) > y.raw;
  const Pack<T> f = {y.raw - __builtin_convertvector(n, typename Pack<T>::Raw)};
  const Integers power = (n + bias) << mantissa;
  return exp2_fraction(f) * Pack<T>{reinterpret_cast<typename Pack<T>::Raw>(power)};
#endif
#endif
#endif
}
