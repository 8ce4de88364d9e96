// SPDX-License-Identifier: MIT
// Transposing in registers: between rows of tokens in memory and tokens in lanes.

/// Transposes a square of `width` packs. Interleaving pack i with pack i + width/2 rotates the bits of every
/// element's address by one; log2(width) such rounds swap row and lane.
template <class T>
HEED_INLINE void transpose(Pack<T> (&r)[Pack<T>::width]) {
  constexpr int width = Pack<T>::width;
#pragma GCC unroll 4
  for (int round = 1; round < width; round *= 2) {
    Pack<T> s[width];
#pragma GCC unroll 16
    for (int i = 0; i < width / 2; ++i) {
      s[2 * i] = interleave_low(r[i], r[i + width / 2]);
      s[2 * i + 1] = interleave_high(r[i], r[i + width / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < width; ++i) r[i] = s[i];
  }
}

/// lanes[t * lanes_stride + l] = factor · rows[l][t] for t < columns and l < count; 0 for count ≤ l < width.
/// rows[l][t] = rows[l · row_stride + t · column_stride]. Reads nothing else.
template <class T>
HEED_NOINLINE void rows_to_lanes(const T* rows, Index row_stride, Index column_stride, int count,
                                 Index columns, T factor, T* lanes, Index lanes_stride) {
  constexpr int width = Pack<T>::width;
  Index t = 0;
  if (column_stride == 1 && count == width) {
    for (; t + width <= columns; t += width) {
      Pack<T> r[width];
      const T* row = rows + t;  // stepped, or sixteen addresses would be kept in sixteen registers
#pragma GCC unroll 16
      for (int l = 0; l < width; ++l, row += row_stride) r[l] = load(row) * broadcast(factor);
      transpose(r);
#pragma GCC unroll 16
      for (int l = 0; l < width; ++l) store(lanes + (t + l) * lanes_stride, r[l]);
    }
  } else if (column_stride == 1) {
    for (; t + width <= columns; t += width) {
      Pack<T> r[width];
#pragma GCC unroll 16
      for (int l = 0; l < width; ++l)
        r[l] = l < count ? load(rows + l * row_stride + t) * broadcast(factor) : zero<T>();
      transpose(r);
#pragma GCC unroll 16
      for (int l = 0; l < width; ++l) store(lanes + (t + l) * lanes_stride, r[l]);
    }
  } else if (row_stride == 1 && count == width) {
    for (; t < columns; ++t)
      store(lanes + t * lanes_stride, load(rows + t * column_stride) * broadcast(factor));
  }
  for (; t < columns; ++t)
    for (int l = 0; l < width; ++l)
      lanes[t * lanes_stride + l] = l < count ? rows[l * row_stride + t * column_stride] * factor : T(0);
}

/// The way back: rows[l][t] = factor[l] · lanes[t * lanes_stride + l] for l < count, or added to what is
/// there. Writes nothing else.
template <bool add = false, class T>
HEED_NOINLINE void lanes_to_rows(const T* lanes, Index lanes_stride, const T* factor, int count,
                                 Index columns, T* rows, Index row_stride, Index column_stride) {
  constexpr int width = Pack<T>::width;
  const Pack<T> scale = load(factor);
  const auto put = [](T* to, Pack<T> x) { store(to, add ? load(to) + x : x); };
  Index t = 0;
  if (column_stride == 1) {
    for (; t + width <= columns; t += width) {
      Pack<T> r[width];
#pragma GCC unroll 16
      for (int l = 0; l < width; ++l) r[l] = load(lanes + (t + l) * lanes_stride) * scale;
      transpose(r);
      T* row = rows + t;
      if (count == width) {
#pragma GCC unroll 16
        for (int l = 0; l < width; ++l, row += row_stride) put(row, r[l]);
      } else {
#pragma GCC unroll 16
        for (int l = 0; l < width; ++l, row += row_stride)
          if (l < count) put(row, r[l]);
      }
    }
  } else if (row_stride == 1 && count == width) {
    for (; t < columns; ++t) put(rows + t * column_stride, load(lanes + t * lanes_stride) * scale);
  }
  for (; t < columns; ++t)
    for (int l = 0; l < count; ++l) {
      T& to = rows[l * row_stride + t * column_stride];
      const T x = lanes[t * lanes_stride + l] * factor[l];
      to = add ? to + x : x;
    }
}
