// SPDX-License-Identifier: MIT
#ifndef HEED_BENCHMARKS_PEAK_HPP
#define HEED_BENCHMARKS_PEAK_HPP

// The multiply-add peak of one core: a loop of independent multiply-adds in registers, nothing read or
// written, on the instruction set that Heed's kernels run on. Every share of peak is a share of this,
// measured in the same run.

#include <heed/engine/instruction_sets.hpp>

#include <cstddef>
#include <cstdint>

#include "timing.hpp"

#if HEED_WITH_GENERIC
namespace measure::generic {
using namespace heed::detail::generic;
#include "peak_loop.inl"
}  // namespace measure::generic
#endif

#if HEED_WITH_AVX2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace measure::avx2 {
using namespace heed::detail::avx2;
#include "peak_loop.inl"
}  // namespace measure::avx2
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

#if HEED_WITH_AVX512
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
namespace measure::avx512 {
using namespace heed::detail::avx512;
#include "peak_loop.inl"
}  // namespace measure::avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif

namespace measure {

/// GFLOP/s of the multiply-add loop of one instruction set in the calling thread: the best of `repeats` runs
/// of about 10 ms.
template <class T>
double peak_gflops(heed::InstructionSet set = heed::instruction_set(), int repeats = 10) {
  volatile T start = T(0.5);  // not known to the compiler; a = a/2 + 1/2 stays at 1
  volatile T result;
  const auto best = [&](T (*loop)(std::int64_t, T), double operations) {
    std::int64_t steps = 1000;
    const auto run = [&] { result = loop(steps, start); };
    while (seconds_of<Clock::thread>(run) < 0.01) steps *= 2;
    double seconds = seconds_of<Clock::thread>(run);
    for (int repeat = 1; repeat < repeats; ++repeat)
      seconds = std::min(seconds, seconds_of<Clock::thread>(run));
    return static_cast<double>(steps) * operations / seconds * 1e-9;
  };
#if HEED_WITH_AVX512
  if (set == heed::InstructionSet::avx512)
    return best(avx512::peak_loop<T>, avx512::peak_loop_operations<T>());
#endif
#if HEED_WITH_AVX2
  if (set == heed::InstructionSet::avx2) return best(avx2::peak_loop<T>, avx2::peak_loop_operations<T>());
#endif
#if HEED_WITH_GENERIC
  if (set == heed::InstructionSet::generic)
    return best(generic::peak_loop<T>, generic::peak_loop_operations<T>());
#endif
  return 0;
}

/// Reads n numbers with the vectors that Heed's kernels use; the sum keeps the compiler from leaving it out.
template <class T>
T read_all(const T* p, std::ptrdiff_t n) {
  switch (heed::instruction_set()) {
#if HEED_WITH_AVX512
    case heed::InstructionSet::avx512:
      return avx512::read_loop(p, n);
#endif
#if HEED_WITH_AVX2
    case heed::InstructionSet::avx2:
      return avx2::read_loop(p, n);
#endif
#if HEED_WITH_GENERIC
    case heed::InstructionSet::generic:
      return generic::read_loop(p, n);
#endif
    default:
      return T(0);
  }
}

}  // namespace measure

#endif
