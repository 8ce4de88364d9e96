// SPDX-License-Identifier: MIT
// Linear attention, backward. With w_i the denominator of query i, G_i = [dO_i, -dO_i · O_i] / w_i and V' =
// [V, 1]: two sweeps over the chunks, each with a running state; nothing is stored for a token but 1 / w_i.
//
//     dφ(q_i) = Σ_j (G_i · V'_j) φ(k_j)        forward, S as in linear.inl
//     dφ(k_j) = Σ_i (G_i · V'_j) φ(q_i)        in reverse, R = Σ_i G_iᵀ φ(q_i) over the queries that come
//     later dv_j    = Σ_i (φ(q_i) · φ(k_j)) dO_i / w_i

/// What the backward pass needs beside LinearScratch.
template <class T>
struct LinearGradientScratch {
  Index feature_row, value_row, queries;
  T* gradient_rows;      // [chunk][d_v, 1], G
  T* gradient_lanes;     // [d_v, 1][chunk]
  T* pair_gradients;     // [key][query lane], G · V'
  T* lanes;              // [features or d_v][chunk]
  T* feature_gradients;  // [chunk][features]
  T* value_gradients;    // [chunk][d_v, 1]
  T* row_gradients;      // [chunk][d]
  T* after;              // R, [d_v, 1][features]
  T* inverses;           // 1 / w: [head of the group][query]
  T* references;         // of every chunk
  Index* begins;         // the first key of every chunk

  static Index size(const LinearProblem<T>& p, Index queries, Index keys) {
    const Index f = in_sixteens(p.features), v = p.value_row();
    const Index marks = (keys + 1) * static_cast<Index>(1 + sizeof(Index) / sizeof(T));
    return chunk_tokens * (3 * v + chunk_tokens + (f > v ? f : v) + f + in_sixteens(p.shape.d)) + v * f +
           in_sixteens(queries * quotient(p.shape.heads, p.shape.key_heads)) + in_sixteens(marks);
  }

  LinearGradientScratch(const LinearProblem<T>& p, Index most_queries, Index most_keys, T* memory)
      : feature_row(in_sixteens(p.features)), value_row(p.value_row()), queries(most_queries) {
    const auto take = [&](Index n) {
      T* const at = memory;
      memory += n;
      return at;
    };
    gradient_rows = take(chunk_tokens * value_row);
    gradient_lanes = take(chunk_tokens * value_row);
    pair_gradients = take(chunk_tokens * chunk_tokens);
    lanes = take(chunk_tokens * (feature_row > value_row ? feature_row : value_row));
    feature_gradients = take(chunk_tokens * feature_row);
    value_gradients = take(chunk_tokens * value_row);
    row_gradients = take(chunk_tokens * in_sixteens(p.shape.d));
    after = take(value_row * feature_row);
    inverses = take(in_sixteens(queries * quotient(p.shape.heads, p.shape.key_heads)));
    begins = reinterpret_cast<Index*>(take((most_keys + 1) * static_cast<Index>(sizeof(Index) / sizeof(T))));
    references = take(most_keys + 1);
  }
};

/// out[j][c] += Σ_i pairs[j][i] · rows[i][c] over the queries that see key j.
template <class T>
HEED_NOINLINE void mix_queries(const T* pairs, const T* rows, Index row, Index queries, Index keys,
                               Index shift, Index columns, T* out, Index out_row) {
  if (all_finite(rows, row, Index(1), queries, columns))
    return multiply_rows<true>(keys, pairs, chunk_tokens, Index(1), rows, row, queries, columns, out,
                               out_row);
  for (Index j = 0; j < keys; ++j)
    for (Index i = j - shift < 0 ? 0 : j - shift; i < queries; ++i)
      for (Index c = 0; c < columns; ++c)
        out[j * out_row + c] += pairs[j * chunk_tokens + i] * rows[i * row + c];
}

/// lanes[f][i] += Σ_j rows[j][f] · pairs[j][i] over the keys that query i sees.
template <class T>
HEED_NOINLINE void mix_keys_in_lanes(const T* pairs, const T* rows, Index row, Index queries, Index keys,
                                     Index shift, Index columns, T* lanes) {
  if (!all_finite(rows, row, Index(1), keys, columns)) {
    for (Index i = 0; i < queries; ++i)
      for (Index j = 0; j < keys && j <= i + shift; ++j)
        for (Index f = 0; f < columns; ++f)
          lanes[f * chunk_tokens + i] += rows[j * row + f] * pairs[j * chunk_tokens + i];
    return;
  }
  for (Index i = 0; i < queries; i += lane_group<T>) {
    const Index reach = i + lane_group<T> + shift, seen = reach < keys ? reach : keys;
    product_rows<2, true>(columns, rows, Index(1), row, pairs + i, chunk_tokens, seen, lanes + i,
                          chunk_tokens);
  }
}

/// rows[r][t] = lanes[t][r] for r < count, t < columns.
template <class T>
HEED_NOINLINE void turn_lanes(const T* lanes, Index count, Index columns, T* rows, Index row) {
  constexpr Index width = Pack<T>::width;
  alignas(64) T one[Pack<T>::width];
  store(one, broadcast(T(1)));
  for (Index r = 0; r < count; r += width)
    lanes_to_rows(lanes + r, chunk_tokens, one, static_cast<int>(count - r < width ? count - r : width),
                  columns, rows + r * row, row, Index(1));
}

template <class T>
HEED_INLINE Index whole_groups(Index count) {
  return (count + lane_group<T> - 1) / lane_group<T> * lane_group<T>;
}

template <class T, class Features>
struct LinearGradientHead {
  LinearHead<T, Features> forward;
  LinearGradientScratch<T> g;
  const LinearProblem<T>& p;
  const Place& place;
  LinearScratch<T>& s;

  LinearGradientHead(const LinearProblem<T>& problem, const Features& f, const Place& at, Index most_queries,
                     Index most_keys, T* scratch)
      : forward(problem, f, at, scratch),
        g(problem, most_queries, most_keys, forward.s.rest),
        p(problem),
        place(forward.place),
        s(forward.s) {}

  T* inverses(Index head, Index i) const { return g.inverses + (head - place.head) * g.queries + i; }

  /// G of queries whose 1 / w is known.
  HEED_NOINLINE void take_gradients(Index head, Index i, Index count) {
    const Index d_v = p.shape.d_v, row = s.value_row;
    take_rows(p.dout.at(place.query_begin + i, head * d_v), count, d_v, g.gradient_rows, row);
    take_rows(p.given.at(place.query_begin + i, head * d_v), count, d_v, s.sums, row);
    const T* inverse = inverses(head, i);
    for (Index r = 0; r < count; ++r) {
      T* x = g.gradient_rows + r * row;
      if (inverse[r] == T(0)) {
        clear_rows(x, row, Index(1), row);
        continue;
      }
      x[d_v] = -dot(x, Index(1), s.sums + r * row, Index(1), d_v);
      scale_numbers(x, row, inverse[r]);
    }
    turn_rows(g.gradient_rows, row, count, d_v + 1, g.gradient_lanes);
  }

  /// dq of the queries of a chunk, and their 1 / w.
  HEED_NOINLINE void differentiate_queries(Index head, Index i, Index count, Index keys, Index shift) {
    const Index d = p.shape.d, d_v = p.shape.d_v, lanes = whole_groups<T>(count);
    forward.take_queries(head, i, count);
    if (keys > 0) {
      turn_rows(s.query_features, s.feature_row, count, p.features, s.query_lanes);
      multiply_pairs<false>(s.key_features, s.feature_row, s.query_lanes, p.features, count, keys, shift,
                            s.pairs);
    }
    const Index last = d_v / Pack<T>::width * Pack<T>::width;  // the columns among which the denominators are
    forward.add_up(count, keys, shift, last, last + Pack<T>::width);
    for (Index r = 0; r < count; ++r) {
      const T sum = s.sums[r * s.value_row + d_v];
      inverses(head, i)[r] = sum == T(0) ? T(0) : T(1) / sum;
    }
    take_gradients(head, i, count);
    if (forward.started)
      multiply_rows<false>(p.features, forward.state, s.value_row, Index(1), g.gradient_lanes, chunk_tokens,
                           d_v + 1, lanes, g.lanes, chunk_tokens);
    else
      clear_rows(g.lanes, chunk_tokens, p.features, lanes);
    if (keys > 0) {
      multiply_pairs<false>(s.values, s.value_row, g.gradient_lanes, d_v + 1, count, keys, shift,
                            g.pair_gradients);
      mix_keys_in_lanes(g.pair_gradients, s.key_features, s.feature_row, count, keys, shift, p.features,
                        g.lanes);
    }
    turn_lanes(g.lanes, count, p.features, g.feature_gradients, s.feature_row);
    clear_rest(g.feature_gradients, count, s.feature_row, p.features);
    row_gradients<false>(forward.features, forward.sizes(), s.query_rows, s.query_features, count,
                         g.feature_gradients, g.row_gradients);
    give_rows(g.row_gradients, s.d_row, p.dq.at(place.query_begin + i, head * d), count, d, p.accumulate);
  }

  /// R += Gᵀ φ(Q).
  HEED_NOINLINE void add_queries(Index count) {
    multiply_rows<true>(p.shape.d_v + 1, g.gradient_rows, Index(1), s.value_row, s.query_features,
                        s.feature_row, count, whole_packs<T>(p.features), g.after, s.feature_row);
  }

  /// dk and dv of `keys` keys from j on; `count` queries from i on see some of them, and those after them
  /// see all.
  HEED_NOINLINE void differentiate_keys(Index j, Index keys, T reference, Index i, Index count, Index shift) {
    const Index d = p.shape.d, d_v = p.shape.d_v, group = forward.group();
    forward.take_keys(j, keys);
    key_features_again(forward.features, forward.sizes(), s.key_rows, keys, s.key_features, reference);
    turn_rows(s.key_features, s.feature_row, keys, p.features, s.query_lanes);
    multiply_rows<false>(d_v, g.after, s.feature_row, Index(1), s.query_lanes, chunk_tokens, p.features,
                         whole_groups<T>(keys), g.lanes, chunk_tokens);
    turn_lanes(g.lanes, keys, d_v, g.value_gradients, s.value_row);
    clear_rest(g.value_gradients, keys, s.value_row, d_v);
    multiply_rows<false>(keys, s.values, s.value_row, Index(1), g.after, s.feature_row, d_v + 1,
                         whole_packs<T>(p.features), g.feature_gradients, s.feature_row);
    for (Index head = place.head; count > 0 && head < place.head + group; ++head) {
      forward.take_queries(head, i, count);
      turn_rows(s.query_features, s.feature_row, count, p.features, s.query_lanes);
      take_gradients(head, i, count);
      multiply_pairs<true>(s.key_features, s.feature_row, s.query_lanes, p.features, count, keys, shift,
                           s.pairs);
      multiply_pairs<true>(s.values, s.value_row, g.gradient_lanes, d_v + 1, count, keys, shift,
                           g.pair_gradients);
      mix_queries(s.pairs, g.gradient_rows, s.value_row, count, keys, shift, whole_packs<T>(d_v + 1),
                  g.value_gradients, s.value_row);
      mix_queries(g.pair_gradients, s.query_features, s.feature_row, count, keys, shift,
                  whole_packs<T>(p.features), g.feature_gradients, s.feature_row);
      add_queries(count);
    }
    clear_rest(g.feature_gradients, keys, s.feature_row, p.features);
    row_gradients<true>(forward.features, forward.sizes(), s.key_rows, s.key_features, keys,
                        g.feature_gradients, g.row_gradients);
    const Index key_head = forward.key_head();
    give_rows(g.row_gradients, s.d_row, p.dk.at(place.key_begin + j, key_head * d), keys, d, p.accumulate);
    give_rows(g.value_gradients, s.value_row, p.dv.at(place.key_begin + j, key_head * d_v), keys, d_v,
              p.accumulate);
  }

  HEED_NOINLINE void run(const LinearBounds& bounds) {
    const Index queries = place.queries, first = bounds.first_query(queries), d = p.shape.d;
    const Index end = place.head + forward.group(), keys = bounds.seen_keys(queries);
    Index chunks = 0, last = first;
    forward.sweep(bounds, [&](Index i, Index count, Index kept, Index shift, Index j) {
      for (Index h = place.head; count > 0 && h < end; ++h) differentiate_queries(h, i, count, kept, shift);
      if (kept == 0) return;
      g.begins[chunks] = j;
      g.references[chunks++] = forward.reference;
      last = i + count;
    });
    clear_rows(g.after, s.feature_row, p.shape.d_v + 1, s.feature_row);
    for (Index i = last; chunks > 0 && i < queries; i += chunk_tokens)
      for (Index h = place.head; h < end; ++h) {
        const Index count = queries - i < chunk_tokens ? queries - i : chunk_tokens;
        forward.take_queries(h, i, count);
        take_gradients(h, i, count);
        add_queries(count);
      }
    const auto query_at = [&](Index j) {
      const Index i = j - bounds.offset;
      return i < first ? first : i < queries ? i : queries;
    };
    for (Index c = chunks; c-- > 0;) {
      // The state of what comes later is relative to the same reference as the features of the chunk.
      if constexpr (Features::projects)
        if (c + 1 < chunks && g.references[c] != g.references[c + 1])
          scale_numbers(g.after, (p.shape.d_v + 1) * s.feature_row,
                        std::exp2(g.references[c] - g.references[c + 1]));
      const Index j = g.begins[c], kept = (c + 1 < chunks ? g.begins[c + 1] : keys) - j;
      const Index i = query_at(j);
      differentiate_keys(j, kept, g.references[c], i, query_at(j + kept) - i, i + bounds.offset - j);
    }
    if (p.accumulate) return;
    const Index key_head = forward.key_head();
    for (Index h = place.head; h < end; ++h) give_zeros(p.dq.at(place.query_begin, h * d), first, d);
    give_zeros(p.dk.at(place.key_begin + keys, key_head * d), place.keys - keys, d);
    give_zeros(p.dv.at(place.key_begin + keys, key_head * p.shape.d_v), place.keys - keys, p.shape.d_v);
  }
};

template <class T, class Features>
HEED_NOINLINE void linear_gradient_task(const LinearProblem<T>& p, const Features& features,
                                        const Place& place, const LinearBounds& bounds, Index most_queries,
                                        Index most_keys, T* scratch) {
  LinearGradientHead<T, Features>(p, features, place, most_queries, most_keys, scratch).run(bounds);
}

template <class T>
HEED_NOINLINE std::size_t linear_gradient_bytes(const LinearProblem<T>& p, Index most_queries,
                                                Index most_keys) {
  return static_cast<std::size_t>(in_sixteens(LinearScratch<T>::size(p) +
                                              LinearGradientScratch<T>::size(p, most_queries, most_keys))) *
         sizeof(T);
}
