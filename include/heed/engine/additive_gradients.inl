// SPDX-License-Identifier: MIT
// Gradients through additive scores. With t = tanh(q_ia + k_ja) = 1 - 2 r and ds the gradient of the scaled
// score,
//
//     dq_ia += Σ_j ds_ij scale w_a (1 - t²)     dk_ja += Σ_i ds_ij scale w_a (1 - t²)     dw_a += Σ_ij ds_ij
//     scale t
//
// and 1 - t² = 4 r (1 - r): r is made once for a pair and an a, with a in lanes, so that dq and dk add up in
// registers and nothing has to be summed across lanes. Queries are laid out for that in panels, one for each
// pack of a: [panel][query][width].

/// Turns a loaded tile: its queries in lanes as for scores, its query_rows and dq into panels.
template <class T>
HEED_NOINLINE void turn_gradient_tile(const AdditiveScorer<T>& scorer, const GradientTile<T>& tile,
                                      int packs) {
  constexpr int width = Pack<T>::width, lanes = tile_lanes<T>;
  scorer.turn_queries(tile.query, packs, tile.d);
  alignas(64) T one[width];
  store(one, broadcast(T(1)));
  for (Index t = 0; t < whole_packs<T>(tile.d) * lanes; t += width) {
    store(tile.query_rows + t, zero<T>());
    store(tile.dq + t, zero<T>());
  }
  for (Index a = 0; a < tile.d; a += width)
    for (int v = 0; v < packs; ++v)
      lanes_to_rows(tile.query + a * lanes + v * width, Index(lanes), one, width,
                    tile.d - a < width ? tile.d - a : Index(width),
                    tile.query_rows + a * lanes + v * width * width, Index(width), Index(1));
}

/// all_dq = the sums of a tile times 4 · scale · w, or added.
template <class T>
HEED_NOINLINE void store_gradient_tile(const AdditiveScorer<T>& scorer, const GradientTile<T>& tile, T,
                                       const Operand<T>& all_dq, bool add, const Place& place,
                                       const TileRows& rows) {
  constexpr int width = Pack<T>::width, lanes = tile_lanes<T>;
  const Operand<T> dq = all_dq.at(place.query_begin + rows.begin, place.head * tile.d);
  for (Index l = 0; l < rows.end - rows.begin; ++l)
    for (Index a = 0; a < tile.d; a += width) {
      const Pack<T> x = load(tile.dq + a * lanes + l * width) * load(scorer.slopes + a);
      T* const to = dq.data + l * dq.row + a * dq.column;
      if (dq.column == 1 && a + width <= tile.d) {
        store(to, add ? load(to) + x : x);
        continue;
      }
      alignas(64) T numbers[width];
      store(numbers, x);
      for (Index c = 0; c < width && a + c < tile.d; ++c)
        to[c * dq.column] = add ? to[c * dq.column] + numbers[c] : numbers[c];
    }
}

/// The share of `keys` keys and one panel in dq and dk; adds Σ ds r to `through`. `seen` is null where every
/// number is finite.
template <int keys, bool separates, class T>
HEED_NOINLINE void add_panel(const T* query, T* dq, Index queries, const T* k, Index k_row, int columns,
                             const T* ds, const T* seen, Pack<T> slope, T* dk, Index dk_row,
                             Pack<T>& through) {
  using Scorer = AdditiveScorer<T>;
  constexpr int width = Pack<T>::width, lanes = tile_lanes<T>;
  Pack<T> key[keys], sum[keys], all = through;
#pragma GCC unroll 4
  for (int c = 0; c < keys; ++c) {
    key[c] = Scorer::template turn_key<separates>(columns == width ? load(k + c * k_row)
                                                                   : load_first(k + c * k_row, columns));
    sum[c] = zero<T>();
  }
  if (seen == nullptr) {
    for (Index l = 0; l < queries; ++l) {
      const Pack<T> x = load(query + l * width);
      Pack<T> mine = load(dq + l * width);
#pragma GCC unroll 4
      for (int c = 0; c < keys; ++c) {
        const Pack<T> g = broadcast(ds[c * lanes + l]);
        const Pack<T> r = Scorer::template half<separates>(x, key[c]);
        const Pack<T> h = minus_product(r, r, r);
        mine = multiply_add(g, h, mine);
        sum[c] = multiply_add(g, h, sum[c]);
        all = multiply_add(g, r, all);
      }
      store(dq + l * width, mine);
    }
  } else {
    constexpr T hidden = -std::numeric_limits<T>::infinity();
    for (Index l = 0; l < queries; ++l)
      for (int c = 0; c < keys; ++c) {
        if (seen[c * lanes + l] == hidden) continue;
        const Pack<T> g = broadcast(ds[c * lanes + l]);
        const Pack<T> r = Scorer::template half<separates>(load(query + l * width), key[c]);
        const Pack<T> h = minus_product(r, r, r);
        store(dq + l * width, multiply_add(g, h, load(dq + l * width)));
        sum[c] = multiply_add(g, h, sum[c]);
        all = multiply_add(g, r, all);
      }
  }
  through = all;
#pragma GCC unroll 4
  for (int c = 0; c < keys; ++c) store(dk + c * dk_row, multiply_add(slope, sum[c], load(dk + c * dk_row)));
}

/// Gradients of queries and keys, and Σ ds scale t added to `dw` unless it is null, from `queries` queries in
/// the lanes from `lane` on. ds and seen are [key][lanes]; seen is null, or -inf where a pair is invisible.
template <int packs, class T>
HEED_NOINLINE void add_score_gradients(const AdditiveScorer<T>& scorer, const GradientTile<T>& tile, int lane,
                                       Index queries, const GradientKeys<T>& keys, const T* ds, const T* seen,
                                       double* dw) {
  constexpr int width = Pack<T>::width, lanes = tile_lanes<T>;
  const bool separates = tile.query[tile.d * lanes] != T(0);
  const KeyBlock<T>& block = keys.in;
  const auto panels = [&](auto separable) {
    for (Index a = 0; a < tile.d; a += width) {
      const int columns = static_cast<int>(tile.d - a < width ? tile.d - a : width);
      const Index at = a * lanes + lane * width;
      const Pack<T> slope = load(scorer.slopes + a);
      Pack<T> through = zero<T>();
      const auto some = [&](auto count, Index j) {
        add_panel<count, separable>(
            tile.query_rows + at, tile.dq + at, queries, block.k + j * block.k_row + a, block.k_row, columns,
            ds + j * lanes + lane, seen == nullptr ? nullptr : seen + j * lanes + lane, slope,
            keys.dk + j * keys.dk_row + a, keys.dk_row, through);
      };
      constexpr int together = registers == 32 ? 4 : 2;
      Index j = 0;
      for (; j + together <= block.keys; j += together) some(std::integral_constant<int, together>(), j);
      for (; j < block.keys; ++j) some(std::integral_constant<int, 1>(), j);
      if (dw == nullptr) continue;
      alignas(64) T sums[width];
      store(sums, through);
      for (int c = 0; c < columns; ++c)
        dw[a + c] -= 2 * static_cast<double>(scorer.scale) * static_cast<double>(sums[c]);
    }
  };
  if (separates)
    panels(std::true_type());
  else
    panels(std::false_type());
  if (dw == nullptr) return;
  double sum = 0;
  for (Index l = lane; l < lane + queries; l += width) {
    Pack<T> some = zero<T>();
    for (Index j = 0; j < block.keys; ++j) some = some + load(ds + j * lanes + l);
    alignas(64) T numbers[width];
    store(numbers, some);
    for (Index c = 0; c < width && l + c < lane + queries; ++c) sum += static_cast<double>(numbers[c]);
  }
  for (Index a = 0; a < tile.d; ++a) dw[a] += static_cast<double>(scorer.scale) * sum;
}
