// SPDX-License-Identifier: MIT
// One tile of queries and its running softmax: scores of a block of keys, their weights, the mix of the
// values. Knows nothing of masks, and of score functions only what block_terms.inl says; forward.inl edits
// the scores in between where there are others.

/// Tiles that share each block of keys while it is in the cache, and are worked on together.
inline constexpr int tiles_per_group = 4;

/// A score may exceed the running maximum by this much (a factor of 2^8 in its weight) before the maximum is
/// raised. The final division by the sum makes the slack exact.
template <class T>
inline constexpr T slack = T(8);

/// Asks for the cache lines of a row.
template <class T>
HEED_INLINE void prefetch_row(const T* row, Index columns) {
  for (Index c = 0; c < columns; c += static_cast<Index>(64 / sizeof(T))) __builtin_prefetch(row + c, 0, 2);
}

/// Asks for the next block of keys and values while this one is worked on, a few rows at a time. In a matrix
/// of many heads every row lies in another page, where no hardware prefetcher looks; asked for all at once,
/// the lines would wait for each other.
template <class T>
struct RowFetcher {
  const T* k = nullptr;
  Index k_row = 0, k_columns = 0;
  const T* v = nullptr;
  Index v_row = 0, v_columns = 0;
  Index rows = 0;  // left to ask for
  Index step = 0;  // at a time

  HEED_NOINLINE void fetch() {
    for (Index r = 0; r < step && rows > 0; ++r, --rows) {
      prefetch_row(k, k_columns);
      prefetch_row(v, v_columns);
      k += k_row;
      v += v_row;
    }
  }
};

/// The state of a tile. Arrays are [row][query lane]; scores are in base 2.
template <class T>
struct QueryTile {
  T* query;      // [d][lanes], times scale (and log2 e unless scores are edited in natural units), or what a
                 // scorer makes of them; one row more for the scorer
  T* output;     // [d_v][lanes], Σ weight · value
  T* weights;    // [block_keys][lanes], scores that become weights
  T* maximum;    // [lanes], what is subtracted from the scores; lowest finite number before the first key
  T* sum;        // [lanes], Σ weight of the blocks done
  T* block_sum;  // [lanes], of this block
  Index d, d_v;

  static Index size(Index d, Index d_v) { return (d + d_v + block_keys + 4) * tile_lanes<T>; }

  QueryTile(T* memory, Index columns, Index value_columns) : d(columns), d_v(value_columns) {
    query = memory;
    output = query + (d + 1) * tile_lanes<T>;
    weights = output + d_v * tile_lanes<T>;
    maximum = weights + block_keys * tile_lanes<T>;
    sum = maximum + tile_lanes<T>;
    block_sum = sum + tile_lanes<T>;
  }

  /// Before the first key: nothing weighed, or the sink alone.
  HEED_NOINLINE void start(T sink) const {
    const bool sinks = sink != -std::numeric_limits<T>::infinity();
    const Index end = d_v * tile_lanes<T>;
    for (Index t = 0; t < end; t += Pack<T>::width) store(output + t, zero<T>());
    for (Index t = 0; t < tile_lanes<T>; t += Pack<T>::width) {
      store(maximum + t, broadcast(sinks ? score_in_base_2(sink) : -std::numeric_limits<T>::max()));
      store(sum + t, broadcast(sinks ? T(1) : T(0)));
      store(block_sum + t, zero<T>());
    }
  }
};

/// A stretch of keys and values, read through strides.
template <class T>
struct KeyBlock {
  const T* k;
  Index k_row, k_column;
  const T* v;
  Index v_row, v_column;
  Index keys;

  KeyBlock from(Index j, Index count) const {
    return {k + j * k_row, k_row, k_column, v + j * v_row, v_row, v_column, count};
  }
};

/// Raises the maximum of every lane in which some of `rows` scores exceeds it by more than 3 (8 is what calls
/// for raising; a lower bar here keeps scores just under 8 from calling again and again), and rescales all
/// that was weighed with the old one: output, sums, the `weighed` rows of this block. Rare, hence out of
/// line.
template <int packs, class T>
HEED_NOINLINE void raise_maximum(const QueryTile<T>& tile, int lane, const T* scores, Index rows,
                                 KeyRange weighed) {
  constexpr int lanes = tile_lanes<T>;
  constexpr int width = Pack<T>::width;
  for (int v = 0; v < packs; ++v) {
    const int at = lane + v * width;
    const Pack<T> old = load(tile.maximum + at);
    Pack<T> top = old;
    for (Index c = 0; c < rows; ++c) top = max_or_second(load(scores + c * lanes + v * width), top);
    alignas(64) T before[width], after[width];
    store(before, old);
    store(after, top);
    bool any = false;
    for (int l = 0; l < width; ++l) {
      if (!(after[l] > before[l] + T(3))) after[l] = before[l];
      any |= before[l] != -std::numeric_limits<T>::max();
    }
    store(tile.maximum + at, load(after));
    if (!any) continue;  // nothing to rescale yet
    // The lowest number minus a great one is -inf, and its power 0. Lanes that stay are multiplied by 2^0,
    // exactly 1.
    const Pack<T> factor = exp2(old - load(after));
    store(tile.sum + at, load(tile.sum + at) * factor);
    store(tile.block_sum + at, load(tile.block_sum + at) * factor);
    for (Index c = weighed.begin; c < weighed.end; ++c) {
      T* w = tile.weights + c * lanes + at;
      store(w, load(w) * factor);
    }
    for (Index c = 0; c < tile.d_v; ++c) {
      T* o = tile.output + c * lanes + at;
      store(o, load(o) * factor);
    }
  }
}

/// Turns stored scores into weights: rows [begin, end) of the block. Its `weighed` rows are weights already.
template <int packs, class T>
HEED_NOINLINE void weigh_rows(const QueryTile<T>& tile, int lane, Index begin, Index end, KeyRange weighed) {
  constexpr int lanes = tile_lanes<T>;
  constexpr int width = Pack<T>::width;
  T* scores = tile.weights + begin * lanes + lane;
  bool raise = false;
  for (int v = 0; v < packs; ++v) {
    Pack<T> top = load(scores + v * width);
    for (Index c = 1; c < end - begin; ++c) top = max_or_second(top, load(scores + c * lanes + v * width));
    raise |= any_greater(top, load(tile.maximum + lane + v * width) + broadcast(slack<T>));
  }
  if (raise) raise_maximum<packs>(tile, lane, scores, end - begin, weighed);
  for (int v = 0; v < packs; ++v) {
    const int at = lane + v * width;
    const Pack<T> base = load(tile.maximum + at);
    Pack<T> total = zero<T>();
    for (Index c = 0; c < end - begin; ++c) {
      T* s = scores + c * lanes + v * width;
      const Pack<T> w = exp2(load(s) - base);
      store(s, w);
      total = total + w;
    }
    store(tile.block_sum + at, load(tile.block_sum + at) + total);
  }
}

/// Has a lane so great a maximum that a score is rounded by more than 2^-8 when it is stored? Sums that start
/// from minus the maximum are not rounded so: then all scores must be stored, or equal ones would get weights
/// apart.
template <int packs, class T>
HEED_INLINE bool rounds_scores(const QueryTile<T>& tile, int lane) {
  const Pack<T> great = broadcast(T(0x1p-7) / std::numeric_limits<T>::epsilon());
  bool any = false;
  for (int v = 0; v < packs; ++v) {
    const Pack<T> m = load(tile.maximum + lane + v * Pack<T>::width);
    any |= any_greater(max_or_second(m, zero<T>() - m), great);
  }
  return any;
}

/// A score minus the maximum becomes a weight in memory and in a sum.
template <class T>
HEED_INLINE void weigh_score(Pack<T> score, T* to, Pack<T>& total) {
  const Pack<T> w = exp2(score);
  store(to, w);
  total = total + w;
}

/// Scores of a register tile of keys, weighed before they leave the registers: row `row` of the block
/// onwards.
///
/// The products start from minus the maximum, which saves the subtraction. Weights are judged by their sum
/// after the fact, which saves the comparison of every score: too great a sum means that some score exceeded
/// the maximum by too much, and then (rarely) the scores are computed once more and the maximum raised.
/// Returns whether it now rounds_scores().
template <int rows, int packs, class T, class Terms>
HEED_NOINLINE bool weigh_product(const QueryTile<T>& tile, int lane, const T* k, Index k_row, Index k_column,
                                 Index row, KeyRange weighed, const Terms& terms) {
  constexpr int lanes = tile_lanes<T>;
  constexpr int width = Pack<T>::width;
  Pack<T> acc[rows][packs];
#pragma GCC unroll 4
  for (int v = 0; v < packs; ++v) {
    const Pack<T> start = zero<T>() - load(tile.maximum + lane + v * width);
#pragma GCC unroll 16
    for (int c = 0; c < rows; ++c) {
      if constexpr (Terms::bends)
        acc[c][v] = zero<T>();
      else
        acc[c][v] = terms.onto(start, c, v);
    }
  }
  multiply_onto(acc, k, k_row, k_column, tile.query + lane, Index(lanes), tile.d);
  T* out = tile.weights + row * lanes + lane;
  Pack<T> total[packs];
#pragma GCC unroll 4
  for (int v = 0; v < packs; ++v) total[v] = zero<T>();
  if constexpr (Terms::bends) {
    // By way of memory: what bends them needs the registers, and takes a row's packs step by step.
    Pack<T> start[packs];
#pragma GCC unroll 4
    for (int v = 0; v < packs; ++v) {
      start[v] = zero<T>() - load(tile.maximum + lane + v * width);
#pragma GCC unroll 16
      for (int c = 0; c < rows; ++c) store(out + c * lanes + v * width, acc[c][v]);
    }
    for (int c = 0; c < rows; ++c) {
      Pack<T> x[packs];
#pragma GCC unroll 4
      for (int v = 0; v < packs; ++v) x[v] = load(out + c * lanes + v * width);
      terms.bend(x, start);
#pragma GCC unroll 4
      for (int v = 0; v < packs; ++v) weigh_score(x[v], out + c * lanes + v * width, total[v]);
    }
  } else {
#pragma GCC unroll 4
    for (int v = 0; v < packs; ++v)
#pragma GCC unroll 16
      for (int c = 0; c < rows; ++c) weigh_score(acc[c][v], out + c * lanes + v * width, total[v]);
  }
  bool raise = false;
#pragma GCC unroll 4
  for (int v = 0; v < packs; ++v) raise |= any_greater(total[v], broadcast(T(256)));
  if (__builtin_expect(raise, 0)) {
    product<rows, packs, false>(k, k_row, k_column, tile.query + lane, Index(lanes), tile.d, out,
                                Index(lanes));
    finish_scores<packs>(terms, out, Index(rows));
    raise_maximum<packs>(tile, lane, out, Index(rows), weighed);
    weigh_rows<packs>(tile, lane, row, row + rows, weighed);
    return rounds_scores<packs>(tile, lane);
  }
#pragma GCC unroll 4
  for (int v = 0; v < packs; ++v) {
    T* sum = tile.block_sum + lane + v * width;
    store(sum, load(sum) + total[v]);
  }
  return false;
}

/// scores[key][lane] = (K Qᵀ)[key][lane], stored.
template <int packs, class T>
HEED_INLINE void score_block(const QueryTile<T>& tile, int lane, const KeyBlock<T>& block) {
  product_rows<packs, false>(block.keys, block.k, block.k_row, block.k_column, tile.query + lane,
                             Index(tile_lanes<T>), tile.d, tile.weights + lane, Index(tile_lanes<T>));
}

/// Adds a block's share Vᵀ P of the output.
template <int packs, class T>
HEED_NOINLINE void mix_block(const QueryTile<T>& tile, int lane, const KeyBlock<T>& block,
                             RowFetcher<T>& ahead) {
  by_register_tiles<packs>(tile.d_v, [&](auto rows, Index c) {
    if (ahead.rows > 0) ahead.fetch();
    product<rows, packs, true>(block.v + c * block.v_column, block.v_column, block.v_row, tile.weights + lane,
                               Index(tile_lanes<T>), block.keys, tile.output + c * tile_lanes<T> + lane,
                               Index(tile_lanes<T>));
  });
}

/// The same with nothing to ask for.
template <int packs, class T>
HEED_INLINE void mix_block(const QueryTile<T>& tile, int lane, const KeyBlock<T>& block) {
  RowFetcher<T> nothing;
  mix_block<packs>(tile, lane, block, nothing);
}

template <int packs, class T>
HEED_INLINE void close_sums(const QueryTile<T>& tile, int lane) {
  for (int v = 0; v < packs; ++v) {
    const int at = lane + v * Pack<T>::width;
    store(tile.sum + at, load(tile.sum + at) + load(tile.block_sum + at));
    store(tile.block_sum + at, zero<T>());
  }
}

/// The weights of a block of at most block_keys keys that every query of the packs sees, with nothing to
/// edit.
template <int packs, class T, class Terms = NoBlockTerms>
HEED_NOINLINE void weigh_block(const QueryTile<T>& tile, int lane, const KeyBlock<T>& block,
                               RowFetcher<T>& ahead, const Terms& terms = {}) {
  constexpr Index rows = tile_rows<packs>;
  constexpr Index lanes = tile_lanes<T>;
  const auto fused = [&](Index row, KeyRange weighed) {
    if (ahead.rows > 0) ahead.fetch();
    return weigh_product<rows, packs>(tile, lane, block.k + row * block.k_row, block.k_row, block.k_column,
                                      row, weighed, terms.from(row));
  };
  const auto stored = [&](Index row, Index end, KeyRange weighed) {
    product_rows<packs, false>(end - row, block.k + row * block.k_row, block.k_row, block.k_column,
                               tile.query + lane, lanes, tile.d, tile.weights + row * lanes + lane, lanes);
    finish_scores<packs>(terms.from(row), tile.weights + row * lanes + lane, end - row);
    weigh_rows<packs>(tile, lane, row, end, weighed);
  };
  const Index some = rows < block.keys ? rows : block.keys;
  if (terms.rise(block.keys, packs * Pack<T>::width)) {
    // The greatest scores first: they raise the maximum once, for all others.
    Index row = block.keys - some;
    stored(row, block.keys, {});
    bool great = rounds_scores<packs>(tile, lane);
    for (; row >= rows && !great; row -= rows) great = fused(row - rows, {row, block.keys});
    if (row > 0) stored(0, row, {row, block.keys});
  } else {
    Index row = 0;
    // The first scores of a tile always raise the maximum: no use weighing them before.
    if (tile.maximum[lane] == -std::numeric_limits<T>::max()) {
      stored(0, some, {});
      row = some;
    }
    bool great = rounds_scores<packs>(tile, lane);
    for (; row + rows <= block.keys && !great; row += rows) great = fused(row, {0, row});
    if (row < block.keys) stored(row, block.keys, {0, row});
  }
  close_sums<packs>(tile, lane);
}

/// The same, and the block's share of the output.
template <int packs, class T, class Terms = NoBlockTerms>
HEED_NOINLINE void attend_block(const QueryTile<T>& tile, int lane, const KeyBlock<T>& block,
                                RowFetcher<T>& ahead, const Terms& terms = {}) {
  weigh_block<packs>(tile, lane, block, ahead, terms);
  mix_block<packs>(tile, lane, block, ahead);
}
