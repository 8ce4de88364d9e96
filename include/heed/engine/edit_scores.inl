// SPDX-License-Identifier: MIT
// Score terms and masks applied to a stored tile of scores, on the way from the product to the weights.
//
// Pairs are tested first. Where all lanes see the key, the terms run over the whole pack in a loop that the
// compiler turns into vectors; elsewhere they are called pair by pair, so that no functor is ever asked about
// an invisible pair or a lane without a query. Local arrays stand between memory and the functors: nothing
// that a functor reads can alias them. They are filled whole: a vector that is read just after its parts were
// written would wait for them.

/// s + b lane by lane, as add_to_score() makes it.
template <class T>
HEED_INLINE Pack<T> add_to_scores(Pack<T> s, Pack<T> b) {
  const Pack<T> all = broadcast(std::numeric_limits<T>::max()), lowest = zero<T>() - all, sum = s + b;
  const Pack<T> lesser = min_or_second(s, b), finite = max_or_second(lowest, min_or_second(all, sum));
  const Pack<T> inside = where_greater(max_or_second(s, b), all, sum, finite);
  return where_greater(lowest, lesser, lesser, inside);
}

/// Edits rows [0, keys) of one pack, all of whose queries see all keys, where all that terms do is to add
/// numbers that lie in memory: `step` apart for its queries, `key_step` for keys.
template <bool in_base_2, class T>
HEED_NOINLINE void add_from_memory(T* scores, Index keys, const T* numbers, Index step, Index key_step) {
  const auto add = [&](const auto& pack_of) {
    for (Index t = 0; t < keys; ++t, numbers += key_step) {
      T* const row = scores + t * tile_lanes<T>;
      const Pack<T> score = add_to_scores(load(row), pack_of(numbers));
      store(row, in_base_2 ? score_in_base_2(score) : score);
    }
  };
  if (step == 1)
    add([](const T* p) { return load(p); });
  else if (step == 0)
    add([](const T* p) { return broadcast(*p); });
  else
    add([step](const T* p) { return load_apart(p, step); });
}

/// Edits rows [0, keys) of one pack: scores[t * lanes + l] belongs to query i + l and key j + t. `queries`
/// lanes hold a query; `full` says that all of them see every key. Terms make scores in natural units; these
/// leave in base 2, or as they are.
template <bool in_base_2 = true, class T, class Rules>
HEED_NOINLINE HEED_FLATTEN void edit_pack(const Rules& rules_in_memory, T* scores, Index keys, Position i,
                                          Position j, int queries, bool full) {
  constexpr int width = Pack<T>::width;
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const Rules rules = rules_in_memory;
  if constexpr (Rules::template adds_from_memory<T>)
    if (full && queries == width) {
      const auto& term = get<0>(rules.terms);
      return add_from_memory<in_base_2>(scores, keys, term.data + i * term.row_stride + j * term.col_stride,
                                        term.row_stride, term.col_stride);
    }
  for (Index t = 0; t < keys; ++t, ++j) {
    T* row = scores + t * tile_lanes<T>;
    alignas(64) T in[width], out[width];
    store(in, load(row));
    if (full && queries == width) {
      if constexpr (Rules::has_terms)
        for (int l = 0; l < width; ++l) out[l] = rules.score(in[l], i + l, j);
      else
        for (int l = 0; l < width; ++l) out[l] = in[l];
    } else if constexpr (!Rules::has_terms) {
      if (queries == width) {
        for (int l = 0; l < width; ++l) out[l] = rules.visible(i + l, j) ? in[l] : hidden;
      } else {
        for (int l = 0; l < width; ++l)
          out[l] = l < queries && (full || rules.visible(i + l, j)) ? in[l] : hidden;
      }
    } else {
      std::int32_t seen[width];
      std::int32_t all = 1;
      if (queries == width) {
        for (int l = 0; l < width; ++l) seen[l] = rules.visible(i + l, j) ? 1 : 0;
      } else {
        for (int l = 0; l < width; ++l) seen[l] = l < queries && (full || rules.visible(i + l, j)) ? 1 : 0;
      }
      for (int l = 0; l < width; ++l) all &= seen[l];
      if (all != 0) {
        for (int l = 0; l < width; ++l) out[l] = rules.score(in[l], i + l, j);
      } else {
        for (int l = 0; l < width; ++l) {
          out[l] = hidden;
          if (seen[l] != 0) out[l] = rules.score(in[l], i + l, j);
        }
      }
    }
    if constexpr (in_base_2 && Rules::has_terms)
      store(row, score_in_base_2(load(out)));
    else
      store(row, load(out));
  }
}

/// Calls f(t, factors): what dropout multiplies the weights of one pack of queries from i on, and key j + t,
/// by. Random numbers come for two keys at a time.
template <class T, class Rules, class F>
HEED_INLINE void with_dropout(const Rules& rules, Index keys, Position i, Position j, const F& f) {
  constexpr int width = Pack<T>::width;
  const Position end = j + static_cast<Position>(keys);
  for (Position m = j >> 1; 2 * m < end; ++m) {
    const LaneDraws draws(rules.dropped.draws, i, m);
    T even[width], odd[width];
    for (int l = 0; l < width; ++l) even[l] = rules.dropped.template factor<T>(draws.even[l]);
    for (int l = 0; l < width; ++l) odd[l] = rules.dropped.template factor<T>(draws.odd[l]);
    if (2 * m >= j) f(Index(2 * m - j), even);
    if (2 * m + 1 < end) f(Index(2 * m + 1 - j), odd);
  }
}

/// weights *= 0 or 1 / (1 - p), for one pack.
template <class T, class Rules>
HEED_NOINLINE HEED_FLATTEN void drop_weights(const Rules& rules_in_memory, T* weights, Index keys, Position i,
                                             Position j) {
  const Rules rules = rules_in_memory;
  with_dropout<T>(rules, keys, i, j, [&](Index t, const T* factors) {
    T* w = weights + t * tile_lanes<T>;
    for (int l = 0; l < Pack<T>::width; ++l) w[l] *= factors[l];
  });
}

/// Is every number finite? Invisible pairs have weight 0, and 0 times infinity would not be 0. With
/// `products`: and below 2^56 (double: 2^496), so that sums of products of two are finite, too.
template <bool products = false, class T>
HEED_NOINLINE bool all_finite(const T* data, Index row, Index column, Index rows, Index columns) {
  constexpr T up = static_cast<T>(!products ? 1.0 : sizeof(T) == 4 ? 0x1p72 : 0x1p528);
  Pack<T> probe = zero<T>();
  T rest = T(0);
  for (Index r = 0; r < rows; ++r) {
    const T* x = data + r * row;
    Index c = 0;
    if (column == 1)
      for (; c + Pack<T>::width <= columns; c += Pack<T>::width)
        probe = multiply_add(products ? load(x + c) * broadcast(up) : load(x + c), zero<T>(), probe);
    for (; c < columns; ++c) rest += x[c * column] * up * T(0);
  }
  alignas(64) T lanes[Pack<T>::width];
  store(lanes, probe);
  for (int l = 0; l < Pack<T>::width; ++l) rest += lanes[l];
  return rest == T(0);
}

template <class T>
HEED_INLINE bool values_finite(const KeyBlock<T>& block, Index d_v) {
  return all_finite(block.v, block.v_row, block.v_column, block.keys, d_v);
}

/// The guarded mix: multiplies visible pairs only. `seen` holds the edited scores, -inf where a pair is
/// invisible.
template <class T>
HEED_NOINLINE void mix_visible(const QueryTile<T>& tile, int lane, int lanes, const KeyBlock<T>& block,
                               const T* seen) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  for (Index c = 0; c < tile.d_v; ++c)
    for (int l = lane; l < lane + lanes; ++l) {
      T total = T(0);
      for (Index j = 0; j < block.keys; ++j)
        if (seen[j * tile_lanes<T> + l] != hidden)
          total += tile.weights[j * tile_lanes<T> + l] * block.v[j * block.v_row + c * block.v_column];
      tile.output[c * tile_lanes<T> + l] += total;
    }
}
