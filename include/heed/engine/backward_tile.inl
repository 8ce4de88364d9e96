// SPDX-License-Identifier: MIT
// One tile of queries in the backward pass: the weights of a block of keys are computed again from the
// log-sum-exp, and from them the block's share of dq, dk and dv. Five products a block, by the register tile:
//
//     P = exp(K Qᵀ - lse)      dS = P ∘ (V dOᵀ - D)      dV += P dO      dK += dS Q      dQᵀ += Kᵀ dS
//
// with queries in lanes for P, dS and dQᵀ, and D = rowsum(dO ∘ O) less the gradient of the log-sum-exp.

/// The state of a tile. Lane arrays are [row][query lane], row arrays [query][column].
template <class T>
struct GradientTile {
  T* query;          // [d][lanes], times scale (and log2 e unless scores are edited in natural units), or
                     // what a scorer makes of them; one row more for the scorer
  T* gradient;       // [d_v][lanes], of the output
  T* dq;             // [d][lanes], without the scale; room for whole packs
  T* query_rows;     // [lanes][d, whole packs], times scale
  T* out_rows;       // [lanes][d_v, whole packs], gradient of the output
  T* maximum;        // [lanes], and
  T* minus_log_sum;  // [lanes], both of which scores lose, in base 2: see RowNorm
  T* minus_d;        // [lanes]
  bool* finite;      // are all numbers of this tile finite?
  Index d, d_v;

  static Index size(Index d, Index d_v) {
    return (d + d_v + 2 * whole_packs<T>(d) + whole_packs<T>(d_v) + 5) * tile_lanes<T>;
  }

  GradientTile(T* memory, Index columns, Index value_columns) : d(columns), d_v(value_columns) {
    constexpr Index lanes = tile_lanes<T>;
    query = memory;
    gradient = query + (d + 1) * lanes;
    dq = gradient + d_v * lanes;
    query_rows = dq + whole_packs<T>(d) * lanes;
    out_rows = query_rows + whole_packs<T>(d) * lanes;
    maximum = out_rows + whole_packs<T>(d_v) * lanes;
    minus_log_sum = maximum + lanes;
    minus_d = minus_log_sum + lanes;
    finite = reinterpret_cast<bool*>(minus_d + lanes);
  }
};

/// What the tiles of one worker share: the arrays of the block at hand, [key][lanes].
template <class T>
struct GradientBlocks {
  T* weights;  // P
  T* ds;       // gradients of the scores
  T* seen;     // final scores, -inf where a pair is invisible
  T* through;  // where terms change scores: derivative of what biases are added to by the scaled score
  T* after;    // and of the final score by the sum with the biases
  T* scaled;   // the scaled scores, where parameters of the terms want them again

  static constexpr Index size = 6 * block_keys * tile_lanes<T>;
  explicit GradientBlocks(T* memory) : weights(memory) {
    ds = weights + block_keys * tile_lanes<T>;
    seen = ds + block_keys * tile_lanes<T>;
    through = seen + block_keys * tile_lanes<T>;
    after = through + block_keys * tile_lanes<T>;
    scaled = after + block_keys * tile_lanes<T>;
  }
};

/// Keys, values and where their gradients are added up.
template <class T>
struct GradientKeys {
  KeyBlock<T> in;
  T* dk;
  Index dk_row;
  T* dv;
  Index dv_row;

  GradientKeys from(Index j, Index count) const {
    return {in.from(j, count), dk + j * dk_row, dk_row, dv + j * dv_row, dv_row};
  }
};

/// 2^((score - maximum) - log sum), at most 1: a score that rounding has made greater than it was in the
/// forward pass is no more than that. Products are summed from 0, as where the forward pass found the
/// maximum: the key that has it loses exactly its own score.
template <class T>
HEED_INLINE Pack<T> weight_again(Pack<T> score, Pack<T> maximum, Pack<T> minus_log_sum) {
  return exp2<true>((score - maximum) + minus_log_sum);
}

/// weights[row + c] = 2^(K Qᵀ - lse) for one register tile of keys.
template <int rows, int packs, class T>
HEED_NOINLINE void weights_again(const GradientTile<T>& tile, int lane, const T* k, Index k_row, T* out) {
  constexpr Index lanes = tile_lanes<T>;
  constexpr int width = Pack<T>::width;
  Pack<T> acc[rows][packs];
#pragma GCC unroll 4
  for (int v = 0; v < packs; ++v)
#pragma GCC unroll 16
    for (int c = 0; c < rows; ++c) acc[c][v] = zero<T>();
  multiply_onto(acc, k, k_row, Index(1), tile.query + lane, lanes, tile.d);
#pragma GCC unroll 4
  for (int v = 0; v < packs; ++v) {
    const Pack<T> maximum = load(tile.maximum + lane + v * width);
    const Pack<T> minus_log_sum = load(tile.minus_log_sum + lane + v * width);
#pragma GCC unroll 16
    for (int c = 0; c < rows; ++c)
      store(out + c * lanes + v * width, weight_again(acc[c][v], maximum, minus_log_sum));
  }
}

/// ds = weights ∘ (V dOᵀ - D) for one register tile of keys.
template <int rows, int packs, class T>
HEED_NOINLINE void score_gradients(const GradientTile<T>& tile, int lane, const T* v_data, Index v_row,
                                   const T* weights, T* out) {
  constexpr Index lanes = tile_lanes<T>;
  constexpr int width = Pack<T>::width;
  Pack<T> acc[rows][packs];
#pragma GCC unroll 4
  for (int v = 0; v < packs; ++v) {
    const Pack<T> start = load(tile.minus_d + lane + v * width);
#pragma GCC unroll 16
    for (int c = 0; c < rows; ++c) acc[c][v] = start;
  }
  multiply_onto(acc, v_data, v_row, Index(1), tile.gradient + lane, lanes, tile.d_v);
#pragma GCC unroll 16
  for (int c = 0; c < rows; ++c)
#pragma GCC unroll 4
    for (int v = 0; v < packs; ++v)
      store(out + c * lanes + v * width, load(weights + c * lanes + v * width) * acc[c][v]);
}

template <int packs, class T>
HEED_NOINLINE void weigh_again(const GradientTile<T>& tile, int lane, const KeyBlock<T>& block, T* weights) {
  by_register_tiles<packs>(block.keys, [&](auto rows, Index c) {
    weights_again<rows, packs>(tile, lane, block.k + c * block.k_row, block.k_row,
                               weights + c * tile_lanes<T> + lane);
  });
}

template <int packs, class T>
HEED_NOINLINE void differentiate_scores(const GradientTile<T>& tile, int lane, const KeyBlock<T>& block,
                                        const T* weights, T* ds) {
  by_register_tiles<packs>(block.keys, [&](auto rows, Index c) {
    const Index at = c * tile_lanes<T> + lane;
    score_gradients<rows, packs>(tile, lane, block.v + c * block.v_row, block.v_row, weights + at, ds + at);
  });
}

/// out[r][c] += Σ_t a(r, t) · b[t][c] over whole packs of columns.
template <class T>
HEED_NOINLINE void add_rows(Index rows, const T* a, Index a_row, const T* b, Index b_row, Index n,
                            Index columns, T* out, Index out_row) {
  constexpr int width = Pack<T>::width;
  Index c = 0;
  if constexpr (tile_packs >= 4)
    for (; c + 4 * width <= columns; c += 4 * width)
      product_rows<4, true>(rows, a, a_row, Index(1), b + c, b_row, n, out + c, out_row);
  for (; c + 2 * width <= columns; c += 2 * width)
    product_rows<2, true>(rows, a, a_row, Index(1), b + c, b_row, n, out + c, out_row);
  for (; c + width <= columns; c += width)
    product_rows<1, true>(rows, a, a_row, Index(1), b + c, b_row, n, out + c, out_row);
}

/// dV += P dO, from `queries` queries in the lanes from `lane` on.
template <class T>
HEED_INLINE void add_value_gradients(const GradientTile<T>& tile, int lane, Index queries,
                                     const GradientKeys<T>& keys, const GradientBlocks<T>& blocks) {
  const Index value_columns = whole_packs<T>(tile.d_v);
  add_rows(keys.in.keys, blocks.weights + lane, Index(tile_lanes<T>), tile.out_rows + lane * value_columns,
           value_columns, queries, value_columns, keys.dv, keys.dv_row);
}

/// The same over visible pairs only, for blocks in which something is not finite.
template <class T>
HEED_NOINLINE void add_visible_value_gradients(const GradientTile<T>& tile, int lane, Index queries,
                                               const GradientKeys<T>& keys, const GradientBlocks<T>& blocks) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const Index value_columns = whole_packs<T>(tile.d_v);
  for (Index j = 0; j < keys.in.keys; ++j)
    for (Index l = lane; l < lane + queries; ++l) {
      const Index at = j * tile_lanes<T> + l;
      if (blocks.seen[at] == hidden) continue;
      for (Index c = 0; c < tile.d_v; ++c)
        keys.dv[j * keys.dv_row + c] += blocks.weights[at] * tile.out_rows[l * value_columns + c];
    }
}

/// dK += dS Q, dQᵀ += Kᵀ dS, from the gradients ds of the scores, [key][lanes]. Over visible pairs only where
/// `seen` is not null: it is -inf where a pair is invisible. Dot products have no weights: dw is null.
template <int packs, class T>
HEED_NOINLINE void add_score_gradients(const DotScorer<T>&, const GradientTile<T>& tile, int lane,
                                       Index queries, const GradientKeys<T>& keys, const T* ds, const T* seen,
                                       double*) {
  constexpr Index lanes = tile_lanes<T>;
  const Index columns = whole_packs<T>(tile.d);
  const KeyBlock<T>& block = keys.in;
  if (seen == nullptr) {
    add_rows(block.keys, ds + lane, lanes, tile.query_rows + lane * columns, columns, queries, columns,
             keys.dk, keys.dk_row);
    product_rows<packs, true>(tile.d, block.k, Index(1), block.k_row, ds + lane, lanes, block.keys,
                              tile.dq + lane, lanes);
    return;
  }
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  for (Index j = 0; j < block.keys; ++j)
    for (Index l = lane; l < lane + queries; ++l) {
      const Index at = j * lanes + l;
      if (seen[at] == hidden) continue;
      for (Index c = 0; c < tile.d; ++c) {
        keys.dk[j * keys.dk_row + c] += ds[at] * tile.query_rows[l * columns + c];
        tile.dq[c * lanes + l] += ds[at] * block.k[j * block.k_row + c];
      }
    }
}
