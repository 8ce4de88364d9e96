// SPDX-License-Identifier: MIT
/// @file
/// Runs of 16-bit numbers (Eigen::half, Eigen::bfloat16) to float and back. To float is exact; back is
/// rounded to nearest, ties to even, beyond the range to infinity. Nothing depends on how denormal floats are
/// treated.
#ifndef HEED_LANES_SIXTEEN_BITS_HPP
#define HEED_LANES_SIXTEEN_BITS_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>

#if HEED_WITH_AVX512 || HEED_WITH_AVX2
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace heed::inline HEED_ABI::detail {

#if defined(HEED_NO_VECTOR_EXTENSIONS)
using BitLanes = std::int32_t;
inline constexpr int bit_lanes = 1;
HEED_INLINE BitLanes where(bool condition) { return -static_cast<BitLanes>(condition); }
HEED_INLINE BitLanes add_as_float(BitLanes a, float b) {
  return std::bit_cast<BitLanes>(std::bit_cast<float>(a) + b);
}
#else
// 16 bytes: every processor that compilers have vectors for has these.
typedef std::int32_t BitLanes __attribute__((vector_size(16)));
typedef float FloatLanes __attribute__((vector_size(16)));
typedef std::uint16_t SixteenLanes __attribute__((vector_size(8)));
inline constexpr int bit_lanes = 4;
HEED_INLINE BitLanes where(BitLanes mask) { return mask; }
HEED_INLINE BitLanes add_as_float(BitLanes a, float b) {
  return reinterpret_cast<BitLanes>(reinterpret_cast<FloatLanes>(a) + FloatLanes{b, b, b, b});
}
#endif

HEED_INLINE BitLanes choose(BitLanes mask, BitLanes x, BitLanes y) { return (x & mask) | (y & ~mask); }

/// The bits of a float that is worth a 16-bit number's, in the lower half of a lane, and back.
template <class Sixteen>
struct SixteenBits;

template <>
struct SixteenBits<Eigen::bfloat16> {
  static HEED_INLINE BitLanes to_float(BitLanes x) { return x << 16; }
  static HEED_INLINE BitLanes from_float(BitLanes x) {
    // Half of the last place, less one where the number below is even; a NaN might carry into infinity.
    const BitLanes rounded = ((x + 0x7fff) + ((x >> 16) & 1)) >> 16;
    return choose(where((x & 0x7fffffff) > 0x7f800000), (x >> 16) | 0x40, rounded) & 0xffff;
  }
};

template <>
struct SixteenBits<Eigen::half> {
  static HEED_INLINE BitLanes to_float(BitLanes x) {
    const BitLanes size = (x & 0x7fff) << 13;
    // Exponents are 112 apart, those of infinity and NaN twice that. Below the normal numbers the digits are
    // put behind the leading one of 2^-14, which is taken off again.
    const BitLanes normal = size + 0x38000000 + (where(size >= 0x0f800000) & 0x38000000);
    const BitLanes tiny = add_as_float(size + 0x38800000, -0x1p-14f);
    return choose(where(size < 0x00800000), tiny, normal) | ((x & 0x8000) << 16);
  }
  static HEED_INLINE BitLanes from_float(BitLanes x) {
    const BitLanes size = x & 0x7fffffff;
    // The last place of floats from 1/2 on is the least half.
    const BitLanes tiny = add_as_float(size, 0.5f) - 0x3f000000;
    const BitLanes rounded = (size - 0x38000000 + 0xfff + ((size >> 13) & 1)) >> 13;
    const BitLanes finite = choose(where(size < 0x38800000), tiny, rounded);
    const BitLanes bounded = choose(where(size >= 0x477ff000), finite - finite + 0x7c00, finite);
    return choose(where(size > 0x7f800000), finite - finite + 0x7e00, bounded) | ((x >> 16) & 0x8000);
  }
};

/// As many numbers as there are lanes, and what is left in the end, by the compiler's vectors.
template <class Sixteen>
HEED_INLINE void widen_lanes(const std::uint16_t* from, float* to) {
#if defined(HEED_NO_VECTOR_EXTENSIONS)
  const BitLanes x = SixteenBits<Sixteen>::to_float(*from);
#else
  SixteenLanes in;
  std::memcpy(&in, from, sizeof in);
  const BitLanes x = SixteenBits<Sixteen>::to_float(__builtin_convertvector(in, BitLanes));
#endif
  std::memcpy(to, &x, sizeof x);
}
template <class Sixteen>
HEED_INLINE void round_lanes(const float* from, std::uint16_t* to) {
  BitLanes x;
  std::memcpy(&x, from, sizeof x);
  x = SixteenBits<Sixteen>::from_float(x);
#if defined(HEED_NO_VECTOR_EXTENSIONS)
  *to = static_cast<std::uint16_t>(x);
#else
  const SixteenLanes out = __builtin_convertvector(x, SixteenLanes);
  std::memcpy(to, &out, sizeof out);
#endif
}

template <class Sixteen>
HEED_NOINLINE void widen_plainly(const Sixteen* from, float* to, Index count) {
  std::uint16_t in[bit_lanes] = {};
  float out[bit_lanes];
  Index n = 0;
  for (; n + bit_lanes <= count; n += bit_lanes) {
    std::memcpy(in, from + n, sizeof in);
    widen_lanes<Sixteen>(in, to + n);
  }
  const std::size_t rest = static_cast<std::size_t>(count - n);
  if (rest == 0) return;
  std::memcpy(in, from + n, rest * sizeof in[0]);
  widen_lanes<Sixteen>(in, out);
  std::memcpy(to + n, out, rest * sizeof out[0]);
}
template <class Sixteen>
HEED_NOINLINE void round_plainly(const float* from, Sixteen* to, Index count) {
  float in[bit_lanes] = {};
  std::uint16_t out[bit_lanes];
  Index n = 0;
  for (; n + bit_lanes <= count; n += bit_lanes) {
    round_lanes<Sixteen>(from + n, out);
    std::memcpy(static_cast<void*>(to + n), out, sizeof out);
  }
  const std::size_t rest = static_cast<std::size_t>(count - n);
  if (rest == 0) return;
  std::memcpy(in, from + n, rest * sizeof in[0]);
  round_lanes<Sixteen>(in, out);
  std::memcpy(static_cast<void*>(to + n), out, rest * sizeof out[0]);
}

#if HEED_WITH_AVX512 || HEED_WITH_AVX2

/// Conversions of half are instructions beside AVX2, with a bit of their own.
inline bool converts_half() {
  static const bool knows = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 29 & 1u) != 0;
  }();
  return knows;
}

/// The same by eights; returns how many were converted, the rest is left.
__attribute__((target("avx2,f16c"))) inline Index widen_eights(const Eigen::half* from, float* to,
                                                               Index count) {
  Index n = 0;
  for (; n + 8 <= count; n += 8)
    _mm256_storeu_ps(to + n, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + n))));
  return n;
}
__attribute__((target("avx2,f16c"))) inline Index round_eights(const float* from, Eigen::half* to,
                                                               Index count) {
  Index n = 0;
  for (; n + 8 <= count; n += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + n),
                     _mm256_cvtps_ph(_mm256_loadu_ps(from + n), _MM_FROUND_TO_NEAREST_INT));
  return n;
}
__attribute__((target("avx2"))) inline Index widen_eights(const Eigen::bfloat16* from, float* to,
                                                          Index count) {
  Index n = 0;
  for (; n + 8 <= count; n += 8) {
    const __m256i x = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + n)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + n), _mm256_slli_epi32(x, 16));
  }
  return n;
}
__attribute__((target("avx2"))) inline Index round_eights(const float* from, Eigen::bfloat16* to,
                                                          Index count) {
  Index n = 0;
  const __m256i one = _mm256_set1_epi32(1), less_than_half = _mm256_set1_epi32(0x7fff);
  for (; n + 8 <= count; n += 8) {
    const __m256 x = _mm256_loadu_ps(from + n);
    const __m256i bits = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
    const __m256i rounded =
        _mm256_srli_epi32(_mm256_add_epi32(_mm256_add_epi32(bits, less_than_half), odd), 16);
    const __m256i nan = _mm256_or_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(0x40));
    const __m256i chosen =
        _mm256_blendv_epi8(rounded, nan, _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to + n),
                     _mm_packus_epi32(_mm256_castsi256_si128(chosen), _mm256_extracti128_si256(chosen, 1)));
  }
  return n;
}

#endif

/// to[n] = from[n]; `vectors`: may AVX2 be used?
template <class Sixteen>
void widen_run(const Sixteen* from, float* to, Index count, [[maybe_unused]] bool vectors) {
  Index done = 0;
#if HEED_WITH_AVX512 || HEED_WITH_AVX2
  if (vectors && (std::is_same_v<Sixteen, Eigen::bfloat16> || converts_half()))
    done = widen_eights(from, to, count);
#endif
  if (done < count) widen_plainly(from + done, to + done, count - done);
}
template <class Sixteen>
void round_run(const float* from, Sixteen* to, Index count, [[maybe_unused]] bool vectors) {
  Index done = 0;
#if HEED_WITH_AVX512 || HEED_WITH_AVX2
  if (vectors && (std::is_same_v<Sixteen, Eigen::bfloat16> || converts_half()))
    done = round_eights(from, to, count);
#endif
  if (done < count) round_plainly(from + done, to + done, count - done);
}

}  // namespace heed::inline HEED_ABI::detail

#endif
