// SPDX-License-Identifier: MIT
/// @file
/// Compiles the kernels once per instruction set and chooses among them at run time.
///
/// An x86-64 build without -m flags carries three sets: AVX-512 (F, DQ, BW, VL), AVX2 with FMA, and the
/// baseline. Flags that allow one of the first two make it the only one. Elsewhere the baseline is whatever
/// the compiler's vectors become, NEON for instance.
#ifndef HEED_ENGINE_INSTRUCTION_SETS_HPP
#define HEED_ENGINE_INSTRUCTION_SETS_HPP

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/saturate.hpp>
#include <heed/dual.hpp>
#include <heed/engine/linear_problem.hpp>
#include <heed/engine/problem.hpp>
#include <heed/random.hpp>
#include <heed/select/row_selection.hpp>

#if HEED_WITH_AVX512 || HEED_WITH_AVX2
#include <immintrin.h>
#endif

namespace heed::inline HEED_ABI {

/// The instruction sets that kernels exist for, from the plainest on.
enum class InstructionSet { generic, avx2, avx512 };

/// "generic", "avx2" or "avx512".
inline const char* name(InstructionSet set) {
  return set == InstructionSet::avx512 ? "avx512" : set == InstructionSet::avx2 ? "avx2" : "generic";
}

/// Is this set compiled into the program and known to the processor?
inline bool available(InstructionSet set) {
  switch (set) {
    case InstructionSet::avx512:
#if HEED_WITH_AVX512
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
             __builtin_cpu_supports("fma");
#else
      return false;
#endif
    case InstructionSet::avx2:
#if HEED_WITH_AVX2
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
      return false;
#endif
    default:
      return HEED_WITH_GENERIC != 0;
  }
}

namespace detail {

inline InstructionSet choose_instruction_set() {
  // The program was compiled for one set only: it could not run here otherwise.
  if constexpr (HEED_WITH_GENERIC == 0)
    return HEED_WITH_AVX512 ? InstructionSet::avx512 : InstructionSet::avx2;
  if (const char* wish = std::getenv("HEED_INSTRUCTION_SET"))
    for (InstructionSet set : {InstructionSet::generic, InstructionSet::avx2, InstructionSet::avx512})
      if (std::strcmp(wish, name(set)) == 0 && available(set)) return set;
  if (available(InstructionSet::avx512)) return InstructionSet::avx512;
  if (available(InstructionSet::avx2)) return InstructionSet::avx2;
  return InstructionSet::generic;
}

}  // namespace detail

/// The set that kernels run on: the best available one, or the one that the environment variable
/// `HEED_INSTRUCTION_SET` names when it is available. Decided once, at the first call.
inline InstructionSet instruction_set() {
  static const InstructionSet set = detail::choose_instruction_set();
  return set;
}

}  // namespace heed::inline HEED_ABI

#define HEED_LANES_GENERIC 0
#define HEED_LANES_AVX2 2
#define HEED_LANES_AVX512 3

#if HEED_WITH_GENERIC
#define HEED_LANES HEED_LANES_GENERIC
namespace heed::inline HEED_ABI::detail::generic {
#include <heed/engine/kernels.inl>
}
#undef HEED_LANES
#endif

#if HEED_WITH_AVX2
#define HEED_LANES HEED_LANES_AVX2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace heed::inline HEED_ABI::detail::avx2 {
#include <heed/engine/kernels.inl>
}
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef HEED_LANES
#endif

#if HEED_WITH_AVX512
#define HEED_LANES HEED_LANES_AVX512
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
namespace heed::inline HEED_ABI::detail::avx512 {
#include <heed/engine/kernels.inl>
}
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef HEED_LANES
#endif

namespace heed::inline HEED_ABI::detail {

/// HEED_DISPATCH(f(x)) calls f of the set that runs. A macro, because each set has functions of its own with
/// the same names.
#if HEED_WITH_GENERIC && HEED_WITH_AVX512
#define HEED_DISPATCH(call)                                                   \
  (::heed::instruction_set() == ::heed::InstructionSet::avx512 ? avx512::call \
   : ::heed::instruction_set() == ::heed::InstructionSet::avx2 ? avx2::call   \
                                                               : generic::call)
#elif HEED_WITH_AVX512
#define HEED_DISPATCH(call) (avx512::call)
#elif HEED_WITH_AVX2
#define HEED_DISPATCH(call) (avx2::call)
#else
#define HEED_DISPATCH(call) (generic::call)
#endif

}  // namespace heed::inline HEED_ABI::detail

#endif
