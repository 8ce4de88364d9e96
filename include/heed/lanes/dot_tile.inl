// SPDX-License-Identifier: MIT
// Dot products along memory: the product for few rows, where the summed dimension lies in lanes and every key
// is read once.

/// Sums each of `width` packs over its lanes: lane i of the result is the sum of a[i]. Interleaving the
/// halves of two packs and adding leaves half as many packs, each lane a partial sum of one of them;
/// log2(width) rounds leave one pack.
template <class T>
HEED_INLINE Pack<T> sums_of(Pack<T> (&a)[Pack<T>::width]) {
  constexpr int width = Pack<T>::width;
#pragma GCC unroll 4
  for (int half = width / 2; half >= 1; half /= 2)
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i)
      a[i] = interleave_low(a[i], a[i + half]) + interleave_high(a[i], a[i + half]);
  return a[0];
}

/// Rows at one distance from each other.
template <class T>
struct EvenRows {
  const T* data;
  Index row;
  HEED_INLINE const T* operator()(Index j) const { return data + j * row; }
};

/// Rows with numbers from a list.
template <class T>
struct ListedRows {
  const T* data;
  Index row;
  const Position* list;
  HEED_INLINE const T* operator()(Index j) const { return data + Index(list[j]) * row; }
};

/// scores[r · scores_row + j] = Σ_{t<d} q[r · q_row + t] · k(j)[t] for r < rows, j < keys; rows divides the
/// pack's width.
template <int rows, class T, class Rows>
HEED_NOINLINE void dot_tile(const T* q, Index q_row, const Rows& k, Index keys, Index d, T* scores,
                            Index scores_row) {
  constexpr int width = Pack<T>::width;
  constexpr int step = width / rows;  // keys at a time: rows · step sums fill one pack
  for (Index j = 0; j < keys; j += step) {
    const int count = static_cast<int>(keys - j < step ? keys - j : step);
    const T* key[step];
#pragma GCC unroll 16
    for (int c = 0; c < step; ++c)
      key[c] = k(j + (c < count ? c : count - 1));  // past the end: the last once more
    Pack<T> acc[width];
#pragma GCC unroll 16
    for (int c = 0; c < width; ++c) acc[c] = zero<T>();
    Index t = 0;
    for (; t + width <= d; t += width) {
      Pack<T> x[rows];
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) x[r] = load(q + r * q_row + t);
#pragma GCC unroll 16
      for (int c = 0; c < step; ++c) {
        const Pack<T> y = load(key[c] + t);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) acc[r * step + c] = multiply_add(x[r], y, acc[r * step + c]);
      }
    }
    if (t < d) {
      const int rest = static_cast<int>(d - t);
      Pack<T> x[rows];
#pragma GCC unroll 4
      for (int r = 0; r < rows; ++r) x[r] = load_first(q + r * q_row + t, rest);
#pragma GCC unroll 16
      for (int c = 0; c < step; ++c) {
        const Pack<T> y = load_first(key[c] + t, rest);
#pragma GCC unroll 4
        for (int r = 0; r < rows; ++r) acc[r * step + c] = multiply_add(x[r], y, acc[r * step + c]);
      }
    }
    alignas(64) T sums[width];
    store(sums, sums_of(acc));
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < count; ++c) scores[r * scores_row + j + c] = sums[r * step + c];
  }
}

/// The same for any number of rows.
template <class T>
HEED_NOINLINE void dot_rows(Index rows, const T* q, Index q_row, const T* k, Index k_row, Index keys, Index d,
                            T* scores, Index scores_row) {
  const EvenRows<T> key{k, k_row};
  Index r = 0;
  if constexpr (Pack<T>::width >= 4)
    for (; r + 4 <= rows; r += 4)
      dot_tile<4>(q + r * q_row, q_row, key, keys, d, scores + r * scores_row, scores_row);
  for (; r + 2 <= rows; r += 2)
    dot_tile<2>(q + r * q_row, q_row, key, keys, d, scores + r * scores_row, scores_row);
  if (r < rows) dot_tile<1>(q + r * q_row, q_row, key, keys, d, scores + r * scores_row, scores_row);
}
