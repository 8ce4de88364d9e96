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
/// - `HEED_ASSERT_ONLY`: bad arguments fail an `assert` instead of throwing `std::invalid_argument`;
/// - `HEED_NO_OPTIMIZATION_WARNING`: says nothing when it is compiled without optimization.
#ifndef HEED_CONFIG_HPP
#define HEED_CONFIG_HPP

// Before Eigen, so that this is the first message.
#if defined(__SIZEOF_POINTER__) && __SIZEOF_POINTER__ < 8
#error "Heed needs a target of 64 bits: sizes and bounds are computed in 64-bit integers"
#endif

#include <Eigen/Core>

#define HEED_VERSION_MAJOR 0
#define HEED_VERSION_MINOR 1
#define HEED_VERSION_PATCH 0

#if !EIGEN_VERSION_AT_LEAST(3, 4, 0)
#error "Heed needs Eigen 3.4 or newer"
#endif

// A masked score is minus infinity, and a NaN must reach the rows that see it; a compiler that may assume
// neither exists removes both. One that may reorder sums undoes the rounding in hyperbolic tangents and
// exponentials: (x + c) - c is x to it. One that may multiply by reciprocals makes a quotient of two small
// numbers infinite. (What clang 14 does not say, it does not do here: engine/instruction_sets.hpp.)
#if (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || defined(__ASSOCIATIVE_MATH__) || \
    defined(__RECIPROCAL_MATH__)
#error \
    "Heed needs infinities, NaN and sums in their order: compile without -ffast-math, -ffinite-math-only, -fassociative-math and -freciprocal-math (-O3 -fno-math-errno is fine)"
#endif

// Results must be rounded to their type. x87 registers keep more digits (1, 2); reordering leaves it open
// (-1, as later versions of clang say). 16 is about 16-bit numbers.
#if defined(__FLT_EVAL_METHOD__) && __FLT_EVAL_METHOD__ != 0 && __FLT_EVAL_METHOD__ != 16
#error \
    "Heed needs float and double to be computed as such: compile without -mfpmath=387 and without -ffast-math or parts of it"
#endif

static_assert(sizeof(Eigen::Index) >= 8,
              "heed: EIGEN_DEFAULT_DENSE_INDEX_TYPE must have 64 bits, as it has by default");
static_assert(static_cast<double>(0.1f) > 0.1,
              "heed: constants must keep their digits: compile without -fsingle-precision-constant");

// A note and no warning, which -Werror would make an error.
#if (defined(__GNUC__) || defined(__clang__)) && !defined(__OPTIMIZE__) && \
    !defined(HEED_NO_OPTIMIZATION_WARNING)
#pragma message( \
    "Heed is compiled without optimization and runs some fifty times slower: add -O2, or CMAKE_BUILD_TYPE=Release; HEED_NO_OPTIMIZATION_WARNING switches this note off")
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


// Which instruction sets this translation unit compiles: HEED_WITH_AVX512, HEED_WITH_AVX2, HEED_WITH_GENERIC,
// each 0 or 1. Flags that already allow a set make it the only one; otherwise an x86-64 build carries all
// three and chooses at run time.
//
// HEED_ABI, the inline namespace that everything is in, has whatever changes the code in its name, such as
// v0_s7b0f0m0o1e0 for -O2 -fopenmp:
//
//     s  instruction sets: 0 plain arrays, or the sum of 1 generic, 2 AVX2, 4 AVX-512
//     b  what the compiler may use everywhere else: 0 the target's baseline, 1 SSE 4.1, 2 AVX, 3 AVX2,
//        4 AVX-512F, 5 extensions of it
//     f  1: fused multiply-adds there; m  1: BMI2 there; o  1: OpenMP
//     e  errors: 0 throw, 1 abort, 2 fail an assert, 3 are not looked for
//
// Without it the linker would keep one of two differently compiled twins, and a program that mixes a
// -march=native file with a plain one could die on an older processor. (Digits, since a user's macro may be
// called by any letter.)
#if defined(HEED_NO_VECTOR_EXTENSIONS) || defined(HEED_GENERIC_ONLY) || !defined(__x86_64__)
#define HEED_WITH_AVX512 0
#define HEED_WITH_AVX2 0
#define HEED_WITH_GENERIC 1
#if defined(HEED_NO_VECTOR_EXTENSIONS)
#define HEED_ABI_SETS 0
#else
#define HEED_ABI_SETS 1
#endif
#elif defined(__AVX512F__) && defined(__AVX512DQ__) && defined(__AVX512BW__) && defined(__AVX512VL__) && \
    defined(__FMA__)
#define HEED_WITH_AVX512 1
#define HEED_WITH_AVX2 0
#define HEED_WITH_GENERIC 0
#define HEED_ABI_SETS 4
#elif defined(__AVX2__) && defined(__FMA__)
#define HEED_WITH_AVX512 0
#define HEED_WITH_AVX2 1
#define HEED_WITH_GENERIC 0
#define HEED_ABI_SETS 2
#else
#define HEED_WITH_AVX512 1
#define HEED_WITH_AVX2 1
#define HEED_WITH_GENERIC 1
#define HEED_ABI_SETS 7
#endif

#if defined(__AVX512VNNI__) || defined(__AVX512BF16__) || defined(__AVX512IFMA__)
#define HEED_ABI_BASE 5
#elif defined(__AVX512F__)
#define HEED_ABI_BASE 4
#elif defined(__AVX2__)
#define HEED_ABI_BASE 3
#elif defined(__AVX__)
#define HEED_ABI_BASE 2
#elif defined(__SSE4_1__)
#define HEED_ABI_BASE 1
#else
#define HEED_ABI_BASE 0
#endif
#if defined(__FMA__)
#define HEED_ABI_FMA 1
#else
#define HEED_ABI_FMA 0
#endif
#if defined(__BMI2__)
#define HEED_ABI_BMI 1
#else
#define HEED_ABI_BMI 0
#endif

#if defined(_OPENMP)
#define HEED_ABI_OPENMP 1
#else
#define HEED_ABI_OPENMP 0
#endif

#if defined(HEED_ASSERT_ONLY)
#if defined(NDEBUG)
#define HEED_ABI_ERRORS 3
#else
#define HEED_ABI_ERRORS 2
#endif
#elif defined(__cpp_exceptions)
#define HEED_ABI_ERRORS 0
#else
#define HEED_ABI_ERRORS 1
#endif

#define HEED_JOIN_(sets, base, fma, bmi, openmp, errors) \
  v0_s##sets##b##base##f##fma##m##bmi##o##openmp##e##errors
#define HEED_JOIN(sets, base, fma, bmi, openmp, errors) HEED_JOIN_(sets, base, fma, bmi, openmp, errors)
#define HEED_ABI \
  HEED_JOIN(HEED_ABI_SETS, HEED_ABI_BASE, HEED_ABI_FMA, HEED_ABI_BMI, HEED_ABI_OPENMP, HEED_ABI_ERRORS)

#endif
