// SPDX-License-Identifier: MIT
/// @file
/// Version, compiler switches, and the inline namespace that keeps differently compiled copies of Heed apart.
///
/// Switches, defined before the first include or on the command line (the same way in a whole program or not:
/// both link):
/// - `HEED_GENERIC_ONLY`: no instruction set beyond the one the compiler's flags allow, through the
/// compiler's vectors;
/// - `HEED_NO_VECTOR_EXTENSIONS`: plain arrays instead of the compiler's vectors (implies
/// `HEED_GENERIC_ONLY`);
/// - `HEED_ASSERT_ONLY`: bad arguments fail an `assert` instead of throwing `std::invalid_argument`.
#ifndef HEED_CONFIG_HPP
#define HEED_CONFIG_HPP

#include <Eigen/Core>

#define HEED_VERSION_MAJOR 0
#define HEED_VERSION_MINOR 1
#define HEED_VERSION_PATCH 0

#if !EIGEN_VERSION_AT_LEAST(3, 4, 0)
#error "Heed needs Eigen 3.4 or newer"
#endif

// A masked score is minus infinity, and a NaN must reach the rows that see it; a compiler that may assume
// neither exists removes both.
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#error \
    "Heed needs infinities and NaN: compile without -ffast-math and -ffinite-math-only (-O3 -fno-math-errno is fine)"
#endif

#if defined(__GNUC__) || defined(__clang__)
#define HEED_INLINE inline __attribute__((always_inline))
#define HEED_NOINLINE __attribute__((noinline))
#define HEED_FLATTEN __attribute__((flatten))
#else
#define HEED_INLINE inline
#define HEED_NOINLINE
#define HEED_FLATTEN
#define HEED_NO_VECTOR_EXTENSIONS
#endif

// __builtin_shufflevector came with GCC 12; clang has always had it.
#if defined(__has_builtin) && !defined(HEED_NO_VECTOR_EXTENSIONS)
#if !__has_builtin(__builtin_shufflevector)
#define HEED_NO_VECTOR_EXTENSIONS
#endif
#endif

// Which instruction sets this translation unit compiles: HEED_WITH_AVX512, HEED_WITH_AVX2, HEED_WITH_GENERIC,
// each 0 or 1. Flags that already allow a set make it the only one; otherwise an x86-64 build carries all
// three and chooses at run time.
#if defined(HEED_NO_VECTOR_EXTENSIONS) || defined(HEED_GENERIC_ONLY) || !defined(__x86_64__)
#define HEED_WITH_AVX512 0
#define HEED_WITH_AVX2 0
#define HEED_WITH_GENERIC 1
#if defined(HEED_NO_VECTOR_EXTENSIONS)
#define HEED_ABI_SETS plain
#else
#define HEED_ABI_SETS generic
#endif
#elif defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    defined(__FMA__)
#define HEED_WITH_AVX512 1
#define HEED_WITH_AVX2 0
#define HEED_WITH_GENERIC 0
#define HEED_ABI_SETS avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define HEED_WITH_AVX512 0
#define HEED_WITH_AVX2 1
#define HEED_WITH_GENERIC 0
#define HEED_ABI_SETS avx2
#else
#define HEED_WITH_AVX512 1
#define HEED_WITH_AVX2 1
#define HEED_WITH_GENERIC 1
#define HEED_ABI_SETS all
#endif

// What the compiler may use everywhere else.
#if defined(__AVX512VNNI__) || defined(__AVX512BF16__) || defined(__AVX512IFMA__)
#define HEED_ABI_BASE avx512x
#elif defined(__AVX512F__)
#define HEED_ABI_BASE avx512f
#elif defined(__AVX2__)
#define HEED_ABI_BASE avx2
#elif defined(__AVX__)
#define HEED_ABI_BASE avx
#elif defined(__SSE4_1__)
#define HEED_ABI_BASE sse4
#else
#define HEED_ABI_BASE base
#endif
#if defined(__FMA__)
#define HEED_ABI_FMA fma
#else
#define HEED_ABI_FMA nofma
#endif
#if defined(__BMI2__)
#define HEED_ABI_BITS bmi
#else
#define HEED_ABI_BITS nobmi
#endif

#if defined(_OPENMP)
#define HEED_ABI_THREADS openmp
#else
#define HEED_ABI_THREADS serial
#endif

#if defined(HEED_ASSERT_ONLY)
#if defined(NDEBUG)
#define HEED_ABI_ERRORS unchecked
#else
#define HEED_ABI_ERRORS assert
#endif
#elif defined(__cpp_exceptions)
#define HEED_ABI_ERRORS throw
#else
#define HEED_ABI_ERRORS abort
#endif

// Whatever changes the code is in the name. Without it the linker would keep one of two differently compiled
// twins, and a program that mixes a -march=native file with a plain one could die on an older processor.
#define HEED_JOIN_(a, b, c, d, e, f, g) a##_##b##_##c##_##d##_##e##_##f##_##g
#define HEED_JOIN(a, b, c, d, e, f, g) HEED_JOIN_(a, b, c, d, e, f, g)
#define HEED_ABI \
  HEED_JOIN(v0, HEED_ABI_SETS, HEED_ABI_BASE, HEED_ABI_FMA, HEED_ABI_BITS, HEED_ABI_THREADS, HEED_ABI_ERRORS)

#endif
