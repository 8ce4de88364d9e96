// SPDX-License-Identifier: MIT
// How many queries and keys are worked on together.

/// log2 e: scores are exponentiated in base 2.
template <class T>
inline constexpr T log2_e = T(1.4426950408889634074);

/// Final scores from natural units to base 2: finite ones saturate, NaN and infinities stay.
template <class T>
  requires on_engine<T>
HEED_INLINE T score_in_base_2(T s) { return saturated(s) * log2_e<T>; }
template <class T>
HEED_INLINE Pack<T> score_in_base_2(Pack<T> s) {
  const Pack<T> most = broadcast(score_limit<T>);
  const Pack<T> inside = min_or_second(most, max_or_second(zero<T>() - most, s));
  return where_equal(s * zero<T>(), zero<T>(), inside, s) * broadcast(log2_e<T>);
}

/// x as a number of its own. g++ joins a product with the sum that it is used in, unless it is told not to, and
/// then one use of a product is rounded and another is not: the greatest score less itself would not be 0.
template <class T>
HEED_INLINE T rounded(T x) {
#if defined(__GNUC__) && !defined(__clang__)
#if defined(__SSE2__)
  asm("" : "+x"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#else
  asm("" : "+m"(x));
#endif
#endif
  return x;
}

/// Queries in a full tile, and the distance between rows of every array of a tile.
template <class T>
inline constexpr int tile_lanes = tile_packs* Pack<T>::width;

/// Keys in a block: its weights stay in the first-level cache's neighbourhood, and sums start afresh at each
/// block, so that rounding grows with the number of blocks and not of keys.
inline constexpr Index block_keys = 96;
