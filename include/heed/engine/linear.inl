// SPDX-License-Identifier: MIT
// Linear attention, forward: chunks of keys, a small causal product inside each, and between them the running
// state Σ_j φ(k_j) [v_j, 1]ᵀ. The values get a last column of ones, so that numerators and denominators come
// from the same products:
//
//     A = φ(K) φ(Q)ᵀ, 0 where invisible      O = φ(Q) S + Aᵀ [V, 1]      S += φ(K)ᵀ [V, 1]

/// The arrays that one sequence and key head work on; rows are in sixteens.
template <class T>
struct LinearScratch {
  Index d_row, feature_row, value_row;
  T* query_rows;      // [chunk][d]
  T* key_rows;        // [chunk][d]
  T* query_features;  // [chunk][features]
  T* key_features;    // [chunk][features]
  T* query_lanes;     // [features][chunk]
  T* values;          // [chunk][d_v, 1]
  T* sums;            // [chunk][numerators, denominator]
  T* pairs;           // [key][query lane]
  T* state;           // [features][d_v, 1]
  T* rest;            // what a backward pass adds

  static Index size(const LinearProblem<T>& p) {
    return chunk_tokens *
               (2 * in_sixteens(p.shape.d) + 3 * in_sixteens(p.features) + 2 * p.value_row() + chunk_tokens) +
           p.state_size();
  }

  LinearScratch(const LinearProblem<T>& p, T* memory)
      : d_row(in_sixteens(p.shape.d)), feature_row(in_sixteens(p.features)), value_row(p.value_row()) {
    const auto take = [&](Index n) {
      T* const at = memory;
      memory += n;
      return at;
    };
    query_rows = take(chunk_tokens * d_row);
    key_rows = take(chunk_tokens * d_row);
    query_features = take(chunk_tokens * feature_row);
    key_features = take(chunk_tokens * feature_row);
    query_lanes = take(chunk_tokens * feature_row);
    values = take(chunk_tokens * value_row);
    sums = take(chunk_tokens * value_row);
    pairs = take(chunk_tokens * chunk_tokens);
    state = take(p.state_size());
    rest = memory;
  }
};

/// Rows of a strided matrix, filled up with zeros to `to_row` columns.
template <class T>
HEED_NOINLINE void take_rows(const Operand<const T>& from, Index rows, Index columns, T* to, Index to_row) {
  gather_rows(from.data, from.row, from.column, rows, columns, to, to_row);
  clear_rest(to, rows, to_row, columns);
}

/// The way back, or added.
template <class T>
HEED_NOINLINE void give_rows(const T* from, Index from_row, const Operand<T>& to, Index rows, Index columns,
                             bool add = false) {
  if (add) return put_rows<true>(from, from_row, to, rows, columns);
  Index r = 0;
  if (to.row == 1 && to.column != 1)
    for (; r + Pack<T>::width <= rows; r += Pack<T>::width)
      rows_to_lanes(from + r * from_row, from_row, Index(1), Pack<T>::width, columns, T(1), to.data + r,
                    to.column);
  put_rows<false>(from + r * from_row, from_row, to.at(r, 0), rows - r, columns);
}

/// Rows of zeros.
template <class T>
HEED_NOINLINE void give_zeros(const Operand<T>& to, Index rows, Index columns) {
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) to.data[r * to.row + c * to.column] = T(0);
}

/// lanes[t][r] = rows[r][t] for t < columns; lanes without a row are 0, up to whole groups (below).
template <class T>
inline constexpr Index lane_group = 2 * Pack<T>::width;
template <class T>
HEED_NOINLINE void turn_rows(const T* rows, Index row, Index count, Index columns, T* lanes) {
  constexpr Index width = Pack<T>::width;
  for (Index r = 0; r < (count + 2 * width - 1) / (2 * width) * (2 * width); r += width) {
    const Index left = count - r < 0 ? 0 : count - r < width ? count - r : width;
    rows_to_lanes(rows + (left > 0 ? r : 0) * row, row, Index(1), static_cast<int>(left), columns, T(1),
                  lanes + r, chunk_tokens);
  }
}

/// out[j][i] = Σ_t rows[j][t] · lanes[t][i] where key j <= i + shift, for i < queries, j < keys, and 0
/// elsewhere; of keys that no query of a lane group sees nothing is written unless `all`.
template <bool all, class T>
HEED_NOINLINE void multiply_pairs(const T* rows, Index row, const T* lanes, Index n, Index queries,
                                  Index keys, Index shift, T* out) {
  for (Index lane = 0; lane < queries; lane += lane_group<T>) {
    const Index reach = lane + lane_group<T> + shift, seen = reach < keys ? reach : keys;
    product_rows<2, false>(seen, rows, row, Index(1), lanes + lane, chunk_tokens, n, out + lane,
                           chunk_tokens);
    for (Index j = lane + shift + 1; j < seen; ++j)
      for (Index l = 0; l < j - shift - lane; ++l) out[j * chunk_tokens + lane + l] = T(0);
    if constexpr (all)
      for (Index j = seen; j < keys; ++j)
        for (Index l = 0; l < lane_group<T>; ++l) out[j * chunk_tokens + lane + l] = T(0);
  }
}

/// out[i][c] += Σ_j pairs[j][i] · rows[j][c] over the keys that query i sees.
template <class T>
HEED_NOINLINE void mix_pairs(const T* pairs, const T* rows, Index row, Index queries, Index keys, Index shift,
                             Index columns, T* out, Index out_row) {
  if (!all_finite(rows, row, Index(1), keys, columns)) {
    // Invisible pairs are 0, and 0 times infinity would not be 0.
    for (Index i = 0; i < queries; ++i)
      for (Index j = 0; j < keys && j <= i + shift; ++j)
        for (Index c = 0; c < columns; ++c)
          out[i * out_row + c] += pairs[j * chunk_tokens + i] * rows[j * row + c];
    return;
  }
  for (Index i = 0; i < queries; i += lane_group<T>) {
    const Index reach = i + lane_group<T> + shift, seen = reach < keys ? reach : keys;
    const Index count = queries - i < lane_group<T> ? queries - i : lane_group<T>;
    multiply_rows<true>(count, pairs + i, Index(1), chunk_tokens, rows, row, seen, columns, out + i * out_row,
                        out_row);
  }
}

/// One sequence and key head: its keys, chunk by chunk, and what queries learn from them.
template <class T, class Features>
struct LinearHead {
  const LinearProblem<T>& p;
  const Features& features;
  Place place;  // of the key head's first query head
  LinearScratch<T> s;
  T* state;
  T reference = -std::numeric_limits<T>::max();
  bool started = false;

  LinearHead(const LinearProblem<T>& problem, const Features& f, const Place& at, T* scratch)
      : p(problem), features(f), place(at), s(problem, scratch), state(s.state) {
    if (p.state != nullptr) {
      state = p.state + key_head() * p.state_size();
      started = p.started;
      if (started) reference = p.references[key_head()];
    }
    if (!started) clear_rows(state, s.value_row, p.features, s.value_row);
  }

  Index group() const { return quotient(p.shape.heads, p.shape.key_heads); }
  Index key_head() const { return quotient(place.head, group()); }
  FeatureSizes sizes() const { return {p.shape.d, p.features}; }
  Index value_columns() const { return whole_packs<T>(p.shape.d_v + 1); }

  HEED_NOINLINE void take_keys(Index j, Index count) {
    const Index d_v = p.shape.d_v;
    take_rows(p.k.at(place.key_begin + j, key_head() * p.shape.d), count, p.shape.d, s.key_rows, s.d_row);
    take_rows(p.v.at(place.key_begin + j, key_head() * d_v), count, d_v, s.values, s.value_row);
    for (Index r = 0; r < count; ++r) s.values[r * s.value_row + d_v] = T(1);
  }

  /// Takes at most `count` keys from j on, and returns how many. The state is then relative to the same
  /// reference as their features.
  Index begin_chunk(Index j, Index count) {
    take_keys(j, count);
    const T before = reference;
    const Index kept = key_features(features, sizes(), s.key_rows, count, s.key_features, reference);
    if constexpr (Features::projects)
      if (started && reference != before) scale_numbers(state, p.state_size(), std::exp2(before - reference));
    return kept;
  }

  /// S += φ(K)ᵀ [V, 1].
  HEED_NOINLINE void end_chunk(Index keys) {
    multiply_rows<true>(p.features, s.key_features, Index(1), s.feature_row, s.values, s.value_row, keys,
                        value_columns(), state, s.value_row);
    started = true;
  }

  HEED_NOINLINE void take_queries(Index head, Index i, Index count) {
    take_rows(p.q.at(place.query_begin + i, head * p.shape.d), count, p.shape.d, s.query_rows, s.d_row);
    query_features(features, sizes(), s.query_rows, count, s.query_features);
  }

  /// Numerators and denominators, columns [from, to) of them, of queries that see the state and those keys
  /// of the chunk that lie at most `shift` after them.
  HEED_NOINLINE void add_up(Index count, Index keys, Index shift, Index from, Index to) {
    if (started)
      multiply_rows<false>(count, s.query_features, s.feature_row, Index(1), state + from, s.value_row,
                           p.features, to - from, s.sums + from, s.value_row);
    else
      clear_rows(s.sums + from, s.value_row, count, to - from);
    if (keys > 0)
      mix_pairs(s.pairs, s.values + from, s.value_row, count, keys, shift, to - from, s.sums + from,
                s.value_row);
  }

  /// row / sum, or zeros where the weights sum to exactly 0.
  HEED_INLINE void divide_row(T* row, T sum) const {
    const T inverse = sum == T(0) ? T(0) : T(1) / sum;
    if (inverse - inverse == T(0)) return scale_numbers(row, value_columns(), inverse);
    for (Index c = 0; c < p.shape.d_v; ++c) row[c] /= sum;
  }

  HEED_NOINLINE void answer(Index head, Index i, Index count, Index keys, Index shift) {
    take_queries(head, i, count);
    if (keys > 0) {
      turn_rows(s.query_features, s.feature_row, count, p.features, s.query_lanes);
      multiply_pairs<false>(s.key_features, s.feature_row, s.query_lanes, p.features, count, keys, shift,
                            s.pairs);
    }
    add_up(count, keys, shift, 0, value_columns());
    for (Index r = 0; r < count; ++r) {
      T* row = s.sums + r * s.value_row;
      divide_row(row, row[p.shape.d_v]);
    }
    give_rows(s.sums, s.value_row, p.out.at(place.query_begin + i, head * p.shape.d_v), count, p.shape.d_v);
  }

  /// Calls chunk(first query, queries, keys, shift, first key) for every chunk of keys, before it joins the
  /// state, and in the end for the queries that see the whole state, with 0 keys.
  template <class F>
  HEED_INLINE void sweep(const LinearBounds& bounds, const F& chunk) {
    const Index queries = place.queries;
    const Index keys = p.state != nullptr ? bounds.keys : bounds.seen_keys(queries);
    Index i = bounds.first_query(queries);
    for (Index j = 0; j < keys;) {
      const Index kept = begin_chunk(j, keys - j < chunk_tokens ? keys - j : chunk_tokens);
      const Index end = j + kept - bounds.offset;
      const Index next = end < i ? i : end < queries ? end : queries;
      chunk(i, next - i, kept, i + bounds.offset - j, j);
      i = next;
      end_chunk(kept);
      j += kept;
    }
    for (; i < queries; i += chunk_tokens)
      chunk(i, queries - i < chunk_tokens ? queries - i : chunk_tokens, Index(0), Index(0), keys);
  }
};

template <class T, class Features>
HEED_NOINLINE void linear_task(const LinearProblem<T>& p, const Features& features, const Place& place,
                               const LinearBounds& bounds, T* scratch) {
  LinearHead<T, Features> head(p, features, place, scratch);
  const Index first = place.head, last = place.head + head.group(), d_v = p.shape.d_v;
  for (Index h = first; h < last; ++h)
    give_zeros(p.out.at(place.query_begin, h * d_v), bounds.first_query(place.queries), d_v);
  head.sweep(bounds, [&](Index i, Index count, Index keys, Index shift, Index) {
    if (count > 0)
      for (Index h = first; h < last; ++h) head.answer(h, i, count, keys, shift);
  });
  if (p.state != nullptr) p.references[head.key_head()] = head.reference;
}

template <class T>
HEED_NOINLINE std::size_t linear_bytes(const LinearProblem<T>& p) {
  return static_cast<std::size_t>(LinearScratch<T>::size(p)) * sizeof(T);
}
