// SPDX-License-Identifier: MIT
// Included by peak.hpp once per instruction set, inside a namespace that sees the set's lanes.

/// `steps` times twelve independent multiply-adds. Twelve, because one takes four cycles and a core starts
/// two of them a cycle, and because 12 + 2 registers exist everywhere. Spelt out: at -O2 g++ leaves an array
/// of accumulators in memory.
template <class T>
HEED_NOINLINE T peak_loop(std::int64_t steps, T start) {
  const Pack<T> x = broadcast(start);
  // Different starts, or the compiler would see one chain where there are twelve.
  Pack<T> a0 = x, a1 = a0 + x, a2 = a1 + x, a3 = a2 + x, a4 = a3 + x, a5 = a4 + x, a6 = a5 + x, a7 = a6 + x;
  Pack<T> a8 = a7 + x, a9 = a8 + x, a10 = a9 + x, a11 = a10 + x;
  for (std::int64_t n = 0; n < steps; ++n) {
    a0 = multiply_add(a0, x, x);
    a1 = multiply_add(a1, x, x);
    a2 = multiply_add(a2, x, x);
    a3 = multiply_add(a3, x, x);
    a4 = multiply_add(a4, x, x);
    a5 = multiply_add(a5, x, x);
    a6 = multiply_add(a6, x, x);
    a7 = multiply_add(a7, x, x);
    a8 = multiply_add(a8, x, x);
    a9 = multiply_add(a9, x, x);
    a10 = multiply_add(a10, x, x);
    a11 = multiply_add(a11, x, x);
  }
  const Pack<T> sum = ((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7)) + ((a8 + a9) + (a10 + a11));
  return sum.raw[0];
}

/// Floating-point operations of one step: a multiplication and an addition in every lane of twelve registers.
template <class T>
constexpr double peak_loop_operations() {
  return 12.0 * 2.0 * Pack<T>::width;
}

/// Reads n numbers and adds them up: what memory gives.
template <class T>
HEED_NOINLINE T read_loop(const T* p, std::ptrdiff_t n) {
  constexpr int width = Pack<T>::width;
  Pack<T> a0 = zero<T>(), a1 = a0, a2 = a0, a3 = a0;
  std::ptrdiff_t i = 0;
  for (; i + 4 * width <= n; i += 4 * width) {
    a0 = a0 + load(p + i);
    a1 = a1 + load(p + i + width);
    a2 = a2 + load(p + i + 2 * width);
    a3 = a3 + load(p + i + 3 * width);
  }
  const Pack<T> sum = (a0 + a1) + (a2 + a3);
  return sum.raw[0];
}
