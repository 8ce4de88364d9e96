// SPDX-License-Identifier: MIT
// One vector register of numbers, for the instruction set at hand: load, store, arithmetic, comparison,
// interleaving. Included once per set, inside its namespace and under its target
// (engine/instruction_sets.hpp).

#if HEED_LANES == HEED_LANES_AVX512
inline constexpr int pack_bytes = 64;
inline constexpr int registers = 32;
#elif HEED_LANES == HEED_LANES_AVX2
inline constexpr int pack_bytes = 32;
inline constexpr int registers = 16;
#else
inline constexpr int pack_bytes = 16;
#if defined(__aarch64__) || defined(__powerpc64__)
inline constexpr int registers = 32;
#else
inline constexpr int registers = 16;
#endif
#endif

/// `width` numbers of type T in one register.
template <class T>
struct Pack {
  static constexpr int width = pack_bytes / static_cast<int>(sizeof(T));
#if defined(HEED_NO_VECTOR_EXTENSIONS)
  struct Raw {
    T lane[width];
    HEED_INLINE T operator[](int l) const { return lane[l]; }
    HEED_INLINE T& operator[](int l) { return lane[l]; }
  };
#else
  typedef T Raw __attribute__((vector_size(pack_bytes)));
  typedef std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t> Numbers
      __attribute__((vector_size(pack_bytes)));
  // Memory may be aligned to a single number only, and belongs to the caller.
  typedef T Unaligned __attribute__((vector_size(pack_bytes), aligned(sizeof(T)), may_alias));
#endif
  Raw raw;
};

#if defined(HEED_NO_VECTOR_EXTENSIONS)

#define HEED_LANEWISE(expression)                                   \
  Pack<T> r;                                                        \
  for (int l = 0; l < Pack<T>::width; ++l) r.raw[l] = (expression); \
  return r

template <class T>
HEED_INLINE Pack<T> load(const T* p) {
  HEED_LANEWISE(p[l]);
}
template <class T>
HEED_INLINE void store(T* p, Pack<T> a) {
  for (int l = 0; l < Pack<T>::width; ++l) p[l] = a.raw[l];
}
template <class T>
HEED_INLINE Pack<T> broadcast(T x) {
  HEED_LANEWISE(x);
}
template <class T>
HEED_INLINE Pack<T> operator+(Pack<T> a, Pack<T> b) {
  HEED_LANEWISE(a.raw[l] + b.raw[l]);
}
template <class T>
HEED_INLINE Pack<T> operator-(Pack<T> a, Pack<T> b) {
  HEED_LANEWISE(a.raw[l] - b.raw[l]);
}
template <class T>
HEED_INLINE Pack<T> operator*(Pack<T> a, Pack<T> b) {
  HEED_LANEWISE(a.raw[l] * b.raw[l]);
}
template <class T>
HEED_INLINE Pack<T> multiply_add(Pack<T> a, Pack<T> b, Pack<T> c) {
  HEED_LANEWISE(a.raw[l] * b.raw[l] + c.raw[l]);
}
template <class T>
HEED_INLINE Pack<T> operator/(Pack<T> a, Pack<T> b) {
  HEED_LANEWISE(a.raw[l] / b.raw[l]);
}
template <class T>
HEED_INLINE Pack<T> minus_product(Pack<T> a, Pack<T> b, Pack<T> c) {
  HEED_LANEWISE(c.raw[l] - a.raw[l] * b.raw[l]);
}
template <class T>
HEED_INLINE Pack<T> max_or_second(Pack<T> a, Pack<T> b) {
  HEED_LANEWISE(a.raw[l] > b.raw[l] ? a.raw[l] : b.raw[l]);
}
template <class T>
HEED_INLINE Pack<T> min_or_second(Pack<T> a, Pack<T> b) {
  HEED_LANEWISE(a.raw[l] < b.raw[l] ? a.raw[l] : b.raw[l]);
}
template <class T>
HEED_INLINE bool any_greater(Pack<T> a, Pack<T> b) {
  bool any = false;
  for (int l = 0; l < Pack<T>::width; ++l) any |= a.raw[l] > b.raw[l];
  return any;
}
template <class T>
HEED_INLINE Pack<T> where_greater(Pack<T> a, Pack<T> b, Pack<T> x, Pack<T> y) {
  HEED_LANEWISE(a.raw[l] > b.raw[l] ? x.raw[l] : y.raw[l]);
}
template <class T>
HEED_INLINE Pack<T> where_equal(Pack<T> a, Pack<T> b, Pack<T> x, Pack<T> y) {
  HEED_LANEWISE(a.raw[l] == b.raw[l] ? x.raw[l] : y.raw[l]);
}
template <class T>
HEED_INLINE unsigned nonzero_lanes(Pack<T> a) {
  unsigned bits = 0;
  for (int l = 0; l < Pack<T>::width; ++l) bits |= a.raw[l] == T(0) ? 0u : 1u << l;
  return bits;
}
template <class T>
HEED_INLINE Pack<T> interleave_low(Pack<T> a, Pack<T> b) {
  HEED_LANEWISE(l % 2 == 0 ? a.raw[l / 2] : b.raw[l / 2]);
}
template <class T>
HEED_INLINE Pack<T> interleave_high(Pack<T> a, Pack<T> b) {
  HEED_LANEWISE(l % 2 == 0 ? a.raw[(Pack<T>::width + l) / 2] : b.raw[(Pack<T>::width + l) / 2]);
}

#else

template <class T>
HEED_INLINE Pack<T> load(const T* p) {
  return {*reinterpret_cast<const typename Pack<T>::Unaligned*>(p)};
}
template <class T>
HEED_INLINE void store(T* p, Pack<T> a) {
  *reinterpret_cast<typename Pack<T>::Unaligned*>(p) = a.raw;
}
template <class T>
HEED_INLINE Pack<T> operator+(Pack<T> a, Pack<T> b) {
  return {a.raw + b.raw};
}
template <class T>
HEED_INLINE Pack<T> operator-(Pack<T> a, Pack<T> b) {
  return {a.raw - b.raw};
}
template <class T>
HEED_INLINE Pack<T> operator*(Pack<T> a, Pack<T> b) {
  return {a.raw * b.raw};
}
template <class T>
HEED_INLINE Pack<T> operator/(Pack<T> a, Pack<T> b) {
  return {a.raw / b.raw};
}

/// All lanes x. (Adding a scalar to a zero vector would not do: x + 0 is not x for -0, and compilers keep
/// that addition.)
template <class T>
HEED_INLINE Pack<T> broadcast(T x) {
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (sizeof(T) == 4)
    return {_mm512_set1_ps(x)};
  else
    return {_mm512_set1_pd(x)};
#elif HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4)
    return {_mm256_set1_ps(x)};
  else
    return {_mm256_set1_pd(x)};
#else
  if constexpr (Pack<T>::width == 4)
    return {typename Pack<T>::Raw{x, x, x, x}};
  else
    return {typename Pack<T>::Raw{x, x}};
#endif
}

/// a * b + c, with one rounding where the set has it, whatever -ffp-contract says.
template <class T>
HEED_INLINE Pack<T> multiply_add(Pack<T> a, Pack<T> b, Pack<T> c) {
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (sizeof(T) == 4)
    return {_mm512_fmadd_ps(a.raw, b.raw, c.raw)};
  else
    return {_mm512_fmadd_pd(a.raw, b.raw, c.raw)};
#elif HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4)
    return {_mm256_fmadd_ps(a.raw, b.raw, c.raw)};
  else
    return {_mm256_fmadd_pd(a.raw, b.raw, c.raw)};
#else
  return {a.raw * b.raw + c.raw};
#endif
}

/// c - a * b, likewise.
template <class T>
HEED_INLINE Pack<T> minus_product(Pack<T> a, Pack<T> b, Pack<T> c) {
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (sizeof(T) == 4)
    return {_mm512_fnmadd_ps(a.raw, b.raw, c.raw)};
  else
    return {_mm512_fnmadd_pd(a.raw, b.raw, c.raw)};
#elif HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4)
    return {_mm256_fnmadd_ps(a.raw, b.raw, c.raw)};
  else
    return {_mm256_fnmadd_pd(a.raw, b.raw, c.raw)};
#else
  return {c.raw - a.raw * b.raw};
#endif
}

/// The greater of each pair; b where either is NaN.
template <class T>
HEED_INLINE Pack<T> max_or_second(Pack<T> a, Pack<T> b) {
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (sizeof(T) == 4)
    return {_mm512_maskz_max_ps(0xFFFF, a.raw, b.raw)};
  else
    return {_mm512_maskz_max_pd(0xFF, a.raw, b.raw)};
#elif HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4)
    return {_mm256_max_ps(a.raw, b.raw)};
  else
    return {_mm256_max_pd(a.raw, b.raw)};
#else
  return {a.raw > b.raw ? a.raw : b.raw};
#endif
}

/// The lesser of each pair; b where either is NaN.
template <class T>
HEED_INLINE Pack<T> min_or_second(Pack<T> a, Pack<T> b) {
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (sizeof(T) == 4)
    return {_mm512_maskz_min_ps(0xFFFF, a.raw, b.raw)};
  else
    return {_mm512_maskz_min_pd(0xFF, a.raw, b.raw)};
#elif HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4)
    return {_mm256_min_ps(a.raw, b.raw)};
  else
    return {_mm256_min_pd(a.raw, b.raw)};
#else
  return {a.raw < b.raw ? a.raw : b.raw};
#endif
}

/// Is a > b in any lane? NaN is never greater.
template <class T>
HEED_INLINE bool any_greater(Pack<T> a, Pack<T> b) {
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (sizeof(T) == 4)
    return _mm512_cmp_ps_mask(a.raw, b.raw, _CMP_GT_OQ) != 0;
  else
    return _mm512_cmp_pd_mask(a.raw, b.raw, _CMP_GT_OQ) != 0;
#elif HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4)
    return _mm256_movemask_ps(_mm256_cmp_ps(a.raw, b.raw, _CMP_GT_OQ)) != 0;
  else
    return _mm256_movemask_pd(_mm256_cmp_pd(a.raw, b.raw, _CMP_GT_OQ)) != 0;
#else
  const auto greater = a.raw > b.raw;
  decltype(greater[0] + 0) any = 0;
  for (int l = 0; l < Pack<T>::width; ++l) any |= greater[l];
  return any != 0;
#endif
}

/// a > b ? x : y in each lane; y where a or b is NaN.
template <class T>
HEED_INLINE Pack<T> where_greater(Pack<T> a, Pack<T> b, Pack<T> x, Pack<T> y) {
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (sizeof(T) == 4)
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.raw, b.raw, _CMP_GT_OQ), y.raw, x.raw)};
  else
    return {_mm512_mask_blend_pd(_mm512_cmp_pd_mask(a.raw, b.raw, _CMP_GT_OQ), y.raw, x.raw)};
#elif HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4)
    return {_mm256_blendv_ps(y.raw, x.raw, _mm256_cmp_ps(a.raw, b.raw, _CMP_GT_OQ))};
  else
    return {_mm256_blendv_pd(y.raw, x.raw, _mm256_cmp_pd(a.raw, b.raw, _CMP_GT_OQ))};
#else
  // By bits: g++ 12 breaks down over choices of vectors within choices.
  const auto mask = a.raw > b.raw;
  using Mask = std::remove_const_t<decltype(mask)>;
  return {reinterpret_cast<typename Pack<T>::Raw>((reinterpret_cast<Mask>(x.raw) & mask) |
                                                  (reinterpret_cast<Mask>(y.raw) & ~mask))};
#endif
}

/// a == b ? x : y in each lane; y where a or b is NaN.
template <class T>
HEED_INLINE Pack<T> where_equal(Pack<T> a, Pack<T> b, Pack<T> x, Pack<T> y) {
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (sizeof(T) == 4)
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.raw, b.raw, _CMP_EQ_OQ), y.raw, x.raw)};
  else
    return {_mm512_mask_blend_pd(_mm512_cmp_pd_mask(a.raw, b.raw, _CMP_EQ_OQ), y.raw, x.raw)};
#elif HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4)
    return {_mm256_blendv_ps(y.raw, x.raw, _mm256_cmp_ps(a.raw, b.raw, _CMP_EQ_OQ))};
  else
    return {_mm256_blendv_pd(y.raw, x.raw, _mm256_cmp_pd(a.raw, b.raw, _CMP_EQ_OQ))};
#else
  // By bits: g++ 12 breaks down over choices of vectors within choices.
  const auto mask = a.raw == b.raw;
  using Mask = std::remove_const_t<decltype(mask)>;
  return {reinterpret_cast<typename Pack<T>::Raw>((reinterpret_cast<Mask>(x.raw) & mask) |
                                                  (reinterpret_cast<Mask>(y.raw) & ~mask))};
#endif
}

/// Bit l: lane l is not 0 (it may be NaN).
template <class T>
HEED_INLINE unsigned nonzero_lanes(Pack<T> a) {
#if HEED_LANES == HEED_LANES_AVX512
  if constexpr (sizeof(T) == 4)
    return _mm512_cmp_ps_mask(a.raw, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  else
    return _mm512_cmp_pd_mask(a.raw, _mm512_setzero_pd(), _CMP_NEQ_UQ);
#elif HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4)
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a.raw, _mm256_setzero_ps(), _CMP_NEQ_UQ)));
  else
    return static_cast<unsigned>(_mm256_movemask_pd(_mm256_cmp_pd(a.raw, _mm256_setzero_pd(), _CMP_NEQ_UQ)));
#else
  unsigned bits = 0;
  for (int l = 0; l < Pack<T>::width; ++l) bits |= (a.raw[l] == T(0) ? 0u : 1u) << l;
  return bits;
#endif
}

// Lanes with the given numbers, counted through both vectors. GCC has the first builtin from 12 on.
#if __has_builtin(__builtin_shufflevector)
#define HEED_SHUFFLE(a, b, ...) __builtin_shufflevector(a.raw, b.raw, __VA_ARGS__)
#else
#define HEED_SHUFFLE(a, b, ...) __builtin_shuffle(a.raw, b.raw, typename Pack<T>::Numbers{__VA_ARGS__})
#endif

/// a0 b0 a1 b1 … of the lower halves.
template <class T>
HEED_INLINE Pack<T> interleave_low(Pack<T> a, Pack<T> b) {
  if constexpr (Pack<T>::width == 16)
    return {HEED_SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)};
  else if constexpr (Pack<T>::width == 8)
    return {HEED_SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)};
  else if constexpr (Pack<T>::width == 4)
    return {HEED_SHUFFLE(a, b, 0, 4, 1, 5)};
  else
    return {HEED_SHUFFLE(a, b, 0, 2)};
}

/// The same of the upper halves.
template <class T>
HEED_INLINE Pack<T> interleave_high(Pack<T> a, Pack<T> b) {
  if constexpr (Pack<T>::width == 16)
    return {HEED_SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)};
  else if constexpr (Pack<T>::width == 8)
    return {HEED_SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)};
  else if constexpr (Pack<T>::width == 4)
    return {HEED_SHUFFLE(a, b, 2, 6, 3, 7)};
  else
    return {HEED_SHUFFLE(a, b, 1, 3)};
}

#endif

template <class T>
HEED_INLINE Pack<T> zero() {
  return broadcast(T(0));
}

/// p[0], p[step], p[2 step], ...: put together in registers, since a vector that is read just after its parts
/// were written waits for them.
template <class T, std::size_t... l>
HEED_INLINE Pack<T> load_apart(const T* p, Index step, std::index_sequence<l...>) {
#if defined(HEED_NO_VECTOR_EXTENSIONS)
  return {{{p[static_cast<Index>(l) * step]...}}};
#else
  return {typename Pack<T>::Raw{p[static_cast<Index>(l) * step]...}};
#endif
}
template <class T>
HEED_INLINE Pack<T> load_apart(const T* p, Index step) {
  return load_apart(p, step, std::make_index_sequence<static_cast<std::size_t>(Pack<T>::width)>());
}

/// The first n numbers, 0 < n < width, and zeros; nothing else is read.
template <class T>
HEED_INLINE Pack<T> load_first(const T* p, int n) {
#if HEED_LANES == HEED_LANES_AVX512
  const unsigned first = (1u << n) - 1u;
  if constexpr (sizeof(T) == 4)
    return {_mm512_maskz_loadu_ps(static_cast<__mmask16>(first), p)};
  else
    return {_mm512_maskz_loadu_pd(static_cast<__mmask8>(first), p)};
#elif HEED_LANES == HEED_LANES_AVX2
  if constexpr (sizeof(T) == 4)
    return {_mm256_maskload_ps(
        p, _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))};
  else
    return {_mm256_maskload_pd(p, _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3)))};
#else
  T lanes[Pack<T>::width] = {};
  for (int l = 0; l < n; ++l) lanes[l] = p[l];
  return load(lanes);
#endif
}
