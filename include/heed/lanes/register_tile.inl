// SPDX-License-Identifier: MIT
// The register tile: C[c][lanes] = Σ_t a(c, t) · B[t][lanes], the one product behind scores, outputs and
// gradients.

/// Packs in a full tile of queries, and how many rows c keep the multipliers busy beside a given number of
/// packs: as many accumulators as registers allow next to one row of B and one broadcast.
inline constexpr int tile_packs = registers == 32 ? 4 : 2;

template <int packs>
inline constexpr int tile_rows = registers == 32 ? (packs == 1 ? 16 : 24 / packs) : (packs == 1 ? 8 : 6);

/// acc[c][v] += Σ_{t<n} a[c·a_row + t·a_step] · b[t·b_step + v·width].
template <int rows, int packs, class T>
HEED_INLINE void multiply_onto(Pack<T> (&acc)[rows][packs], const T* a, Index a_row, Index a_step, const T* b,
                               Index b_step, Index n) {
  for (Index t = 0; t < n; ++t) {
    Pack<T> x[packs];
#pragma GCC unroll 4
    for (int v = 0; v < packs; ++v) x[v] = load(b + v * Pack<T>::width);
#pragma GCC unroll 16
    for (int c = 0; c < rows; ++c) {
#if defined(__aarch64__) && !defined(__clang__)
      // g++ would load what several rows multiply by ahead of all products, and store accumulators for want
      // of registers.
      asm("" ::: "memory");
#endif
      const Pack<T> s = broadcast(a[c * a_row]);
#pragma GCC unroll 4
      for (int v = 0; v < packs; ++v) acc[c][v] = multiply_add(s, x[v], acc[c][v]);
    }
    a += a_step;
    b += b_step;
  }
}

/// out[c·out_row + v·width] (+)= the product above.
template <int rows, int packs, bool add, class T>
HEED_NOINLINE void product(const T* a, Index a_row, Index a_step, const T* b, Index b_step, Index n, T* out,
                           Index out_row) {
  Pack<T> acc[rows][packs];
#pragma GCC unroll 16
  for (int c = 0; c < rows; ++c)
#pragma GCC unroll 4
    for (int v = 0; v < packs; ++v) acc[c][v] = zero<T>();
  multiply_onto(acc, a, a_row, a_step, b, b_step, n);
#pragma GCC unroll 16
  for (int c = 0; c < rows; ++c)
#pragma GCC unroll 4
    for (int v = 0; v < packs; ++v) {
      T* p = out + c * out_row + v * Pack<T>::width;
      store(p, add ? load(p) + acc[c][v] : acc[c][v]);
    }
}

/// Calls f(rows, first row), rows a constant, for full register tiles, then for 4, 2, 1 rows.
template <int packs, class F>
HEED_INLINE void by_register_tiles(Index rows, const F& f) {
  constexpr int full = tile_rows<packs>;
  Index c = 0;
  // 8 left over goes as 4 + 4: a tile of 2 rows waits for its loads.
  for (; c + full <= rows && !(full == 6 && rows - c == 8); c += full)
    f(std::integral_constant<int, full>(), c);
  for (; c + 4 <= rows; c += 4) f(std::integral_constant<int, 4>(), c);
  if (c + 2 <= rows) {
    f(std::integral_constant<int, 2>(), c);
    c += 2;
  }
  if (c < rows) f(std::integral_constant<int, 1>(), c);
}

/// The product for any number of rows.
template <int packs, bool add, class T>
HEED_NOINLINE void product_rows(Index rows, const T* a, Index a_row, Index a_step, const T* b, Index b_step,
                                Index n, T* out, Index out_row) {
  by_register_tiles<packs>(rows, [&](auto count, Index c) {
    product<count, packs, add>(a + c * a_row, a_row, a_step, b, b_step, n, out + c * out_row, out_row);
  });
}
