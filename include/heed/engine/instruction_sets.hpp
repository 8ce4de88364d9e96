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
#include <iosfwd>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
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

/// Prints its name.
template <class Traits>
std::basic_ostream<char, Traits>& operator<<(std::basic_ostream<char, Traits>& out, InstructionSet set) {
  return out << name(set);
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

/// The set that `wish` names, the best available one where it is null or empty.
inline InstructionSet choose_instruction_set(const char* wish) {
  // A program compiled for one set only could not run here without it.
  const InstructionSet best =
      available(InstructionSet::avx512) || !(HEED_WITH_AVX2 || HEED_WITH_GENERIC) ? InstructionSet::avx512
      : available(InstructionSet::avx2) || !HEED_WITH_GENERIC                     ? InstructionSet::avx2
                                                                                  : InstructionSet::generic;
  if (wish == nullptr || *wish == '\0') return best;
  std::string there;
  for (const InstructionSet set : {InstructionSet::generic, InstructionSet::avx2, InstructionSet::avx512}) {
    if (!available(set)) continue;
    if (std::strcmp(wish, name(set)) == 0) return set;
    there += (there.empty() ? "" : ", ") + std::string(name(set));
  }
  fail("the environment variable HEED_INSTRUCTION_SET is \"", wish,
       "\", this program on this processor has: ", there);
  return best;
}

}  // namespace detail

/// The set that kernels run on: the best available one, or the one that the environment variable
/// `HEED_INSTRUCTION_SET` names. Decided once, at the first call.
/// @throws std::invalid_argument when the variable names a set that is not available, or none at all; so does
/// whatever runs on kernels
inline InstructionSet instruction_set() {
  static const InstructionSet set = detail::choose_instruction_set(std::getenv("HEED_INSTRUCTION_SET"));
  return set;
}

}  // namespace heed::inline HEED_ABI

// Kernels round to whole numbers by adding a large one and subtracting it again, and tell NaN from numbers by
// comparing. g++ says when it is told to compute by other rules, and config.hpp refuses; clang does not say,
// but keeps to IEEE's rules where it is asked to. It contracts products and sums as it does by default,
// within an expression.
#if defined(__clang__)
#pragma float_control(precise, on, push)
#endif

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

#if defined(__clang__)
#pragma float_control(pop)
#endif

namespace heed::inline HEED_ABI::detail {

/// HEED_DISPATCH(f(x)) calls f of the set that runs. A macro, because each set has functions of its own with
/// the same names. Where there is one set it asks all the same: a wish for another must not go unheard.
#if HEED_WITH_GENERIC && HEED_WITH_AVX512
#define HEED_DISPATCH(call)                                                   \
  (::heed::instruction_set() == ::heed::InstructionSet::avx512 ? avx512::call \
   : ::heed::instruction_set() == ::heed::InstructionSet::avx2 ? avx2::call   \
                                                               : generic::call)
#elif HEED_WITH_AVX512
#define HEED_DISPATCH(call) (static_cast<void>(::heed::instruction_set()), avx512::call)
#elif HEED_WITH_AVX2
#define HEED_DISPATCH(call) (static_cast<void>(::heed::instruction_set()), avx2::call)
#else
#define HEED_DISPATCH(call) (static_cast<void>(::heed::instruction_set()), generic::call)
#endif

}  // namespace heed::inline HEED_ABI::detail

#endif
