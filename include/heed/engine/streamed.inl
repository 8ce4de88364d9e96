// SPDX-License-Identifier: MIT
// Few queries against many keys (decoding): memory-bound, so keys and values are streamed once, for all heads
// together.
//
// The head dimension lies in lanes. Keys are cut into pieces of fixed size, one task each, whose partial
// results are merged in order; inside a piece, blocks of a few keys are visited by all key heads before the
// next block, so that rows which hold many heads side by side are read from end to end.

inline constexpr Index piece_keys = 4096;
inline constexpr Index streamed_keys = 32;

/// Numbers of one partial result: maximum, sums by lane, output.
template <class T>
Index partial_size(const Shape& shape) {
  return Pack<T>::width * 2 + (shape.d_v + Pack<T>::width - 1) / Pack<T>::width * Pack<T>::width;
}

template <class T>
struct Partial {
  T* maximum;  // one number
  T* sum;      // [width], one share of the sum a lane
  T* output;   // [d_v]

  explicit Partial(T* memory)
      : maximum(memory), sum(memory + Pack<T>::width), output(memory + 2 * Pack<T>::width) {}
};

/// Tasks of one sequence start here: room for its pieces without counting those of the others.
inline Index first_piece(const Shape& shape, Index sequence) {
  return shape.key_offsets == nullptr ? 0 : shape.key_offsets[sequence] / piece_keys + sequence;
}

inline Index pieces_of(Index keys) { return keys == 0 ? 1 : (keys + piece_keys - 1) / piece_keys; }

/// Partial results are kept only of sequences of several pieces, which have more than piece_keys keys each.
inline Index first_partial(const Shape& shape, Index sequence) {
  return shape.key_offsets == nullptr ? 0 : shape.key_offsets[sequence] / piece_keys * 2;
}

/// The most queries of any streamed sequence; 0 when none is streamed.
inline Index streamed_queries(const Shape& shape) {
  Index most = 0;
  for (Index s = 0; s < shape.sequences; ++s) {
    const Index queries = shape.place(s, 0).queries;
    if (is_streamed(queries) && queries > most) most = queries;
  }
  return most;
}

/// Tasks for all pieces; those of sequences that are not streamed stay empty.
inline Index streamed_tasks(const Shape& shape, Index queries) {
  return queries == 0 ? 0 : shape.keys / piece_keys + shape.sequences;
}

/// Bytes for the partial results of all sequences of several pieces.
template <class T>
Index partial_scratch(const Shape& shape, Index queries) {
  if (queries == 0 || shape.longest <= piece_keys) return 0;
  const Index partials =
      shape.key_offsets == nullptr ? pieces_of(shape.keys) : 2 * (shape.keys / piece_keys) + 1;
  return partials * shape.heads * queries * partial_size<T>(shape) * static_cast<Index>(sizeof(T));
}

/// Bytes of one worker's scratch.
template <class T, class Scorer>
Index streamed_scratch(const Shape& shape, Index queries) {
  const Index rows = shape.heads / shape.key_heads * queries;
  const Index turned_keys = Scorer::fused ? 0 : streamed_keys * whole_packs<T>(shape.d);
  return (shape.heads * Scorer::numbers(shape.d) + turned_keys +
          shape.heads * queries * (partial_size<T>(shape) + shape.d) + 2 * rows * streamed_keys +
          streamed_keys * (shape.d + shape.d_v)) *
         static_cast<Index>(sizeof(T));
}

/// Applies terms and masks to one row of scores: query i, keys j … j + count - 1 in lanes. Pairs first, as
/// for tiles.
template <class T, class Rules>
HEED_NOINLINE HEED_FLATTEN void edit_row(const Rules& rules_in_memory, T* scores, Index count, Position i,
                                         Position j, bool full) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  constexpr int width = Pack<T>::width;
  const Rules rules = rules_in_memory;
  for (Index t = 0; t < count; t += width) {
    const int lanes = static_cast<int>(count - t < width ? count - t : width);
    const Position first = j + static_cast<Position>(t);
    alignas(64) T in[width], out[width];
    store(in, load(scores + t));
    std::int32_t seen[width];
    std::int32_t all = 1;
    if (lanes == width) {
      for (int l = 0; l < width; ++l) seen[l] = full || rules.visible(i, first + l) ? 1 : 0;
    } else {
      for (int l = 0; l < width; ++l) seen[l] = l < lanes && (full || rules.visible(i, first + l)) ? 1 : 0;
    }
    for (int l = 0; l < width; ++l) all &= seen[l];
    if constexpr (Rules::has_terms) {
      if (all != 0) {
        for (int l = 0; l < width; ++l) out[l] = rules.score(in[l], i, first + l);
      } else {
        for (int l = 0; l < width; ++l) {
          out[l] = hidden;
          if (seen[l] != 0) out[l] = rules.score(in[l], i, first + l);
        }
      }
      store(scores + t, score_in_base_2(load(out)));
    } else {
      for (int l = 0; l < width; ++l) out[l] = seen[l] != 0 ? in[l] : hidden;
      store(scores + t, load(out));
    }
  }
}

/// Turns `streamed_keys` scores into weights and updates the row's maximum, sum and output.
template <class T>
HEED_NOINLINE void weigh_row(const Partial<T>& row, T* scores, Index d_v) {
  constexpr int width = Pack<T>::width;
  Pack<T> top = broadcast(*row.maximum);
  for (Index t = 0; t < streamed_keys; t += width) top = max_or_second(load(scores + t), top);
  if (any_greater(top, broadcast(*row.maximum + slack<T>))) {
    alignas(64) T lanes[width];
    store(lanes, top);
    T most = *row.maximum;
    for (int l = 0; l < width; ++l) most = lanes[l] > most ? lanes[l] : most;
    const Pack<T> factor = exp2(broadcast(*row.maximum - most));
    *row.maximum = most;
    store(row.sum, load(row.sum) * factor);
    for (Index c = 0; c < d_v; c += width) store(row.output + c, load(row.output + c) * factor);
  }
  const Pack<T> base = broadcast(*row.maximum);
  Pack<T> total = zero<T>();
  for (Index t = 0; t < streamed_keys; t += width) {
    const Pack<T> w = exp2(load(scores + t) - base);
    store(scores + t, w);
    total = total + w;
  }
  store(row.sum, load(row.sum) + total);
}

/// output[r][c] += Σ_j weights[r][j] · v[j][c]; v's rows are contiguous, and those of the output
/// have room for whole packs.
template <class T>
HEED_NOINLINE void mix_rows(Index rows, const T* weights, const T* v, Index v_row, Index keys, Index d_v,
                            T* output, Index output_row) {
  constexpr int width = Pack<T>::width;
  Index c = 0;
  if constexpr (tile_packs >= 4)
    for (; c + 4 * width <= d_v; c += 4 * width)
      product_rows<4, true>(rows, weights, streamed_keys, Index(1), v + c, v_row, keys, output + c,
                            output_row);
  for (; c + 2 * width <= d_v; c += 2 * width)
    product_rows<2, true>(rows, weights, streamed_keys, Index(1), v + c, v_row, keys, output + c, output_row);
  for (; c + width <= d_v; c += width)
    product_rows<1, true>(rows, weights, streamed_keys, Index(1), v + c, v_row, keys, output + c, output_row);
  if (c == d_v) return;
  // What is left of each row is copied beside zeros: outputs have room for whole packs, values have not.
  alignas(64) T rest[streamed_keys * width];
  for (Index j = 0; j < keys; ++j)
    store(rest + j * width, load_first(v + j * v_row + c, static_cast<int>(d_v - c)));
  product_rows<1, true>(rows, weights, streamed_keys, Index(1), rest, Index(width), keys, output + c,
                        output_row);
}

/// Divides the state of query i by its sum and writes the row.
template <class T, class Spec>
HEED_INLINE void write_row(const ForwardProblem<T>& p, const Spec& spec, const Place& place, Index i,
                           const Partial<T>& total) {
  const Index d_v = p.shape.d_v, row = place.query_begin + i, head = place.head;
  T sum = T(0);
  for (int l = 0; l < Pack<T>::width; ++l) sum += total.sum[l];
  if (lost_its_sum(sum)) {
    T new_sum = sum;
    attend_again(p, spec, place, i, total.output, Index(1), *total.maximum, new_sum);
    sum = new_sum;
  }
  const T inverse = sum == T(0) ? T(0) : T(1) / sum;
  for (Index c = 0; c < d_v; ++c)
    p.out.data[row * p.out.row + (head * d_v + c) * p.out.column] = total.output[c] * inverse;
  if (p.lse.data != nullptr) p.lse.at(row, head).put(0, *total.maximum, sum);
}

/// The same for all rows of a sequence, [head · queries + i].
template <class T, class Spec>
HEED_NOINLINE void write_rows(const ForwardProblem<T>& p, const Spec& spec, Index sequence, T* states) {
  const Index size = partial_size<T>(p.shape);
  for (Index h = 0; h < p.shape.heads; ++h) {
    const Place place = p.shape.place(sequence, h);
    for (Index i = 0; i < place.queries; ++i)
      write_row(p, spec, place, i, Partial<T>(states + (h * place.queries + i) * size));
  }
}

/// Task t: one piece of keys of one sequence, all heads.
template <class T, class Spec>
HEED_NOINLINE void streamed_task(const ForwardProblem<T>& p, const Spec& spec, Index t, Index most_queries,
                                 T* scratch, T* partials) {
  using Rules = std::remove_cvref_t<decltype(spec.template bind<T>(Place{}))>;
  constexpr int width = Pack<T>::width;
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const Shape& shape = p.shape;
  Index sequence = 0;
  for (Index low = 0, high = shape.sequences; high - low > 1;) {
    const Index middle = (low + high) / 2;
    (first_piece(shape, middle) <= t ? low : high) = middle;
    sequence = low;
  }
  const Place place = shape.place(sequence, 0);
  const Index piece = t - first_piece(shape, sequence);
  const Index begin = piece * piece_keys;
  if (!is_streamed(place.queries) || place.queries == 0 || (begin >= place.keys && piece > 0)) return;
  const Index end = begin + piece_keys < place.keys ? begin + piece_keys : place.keys;
  const Index d = shape.d, d_v = shape.d_v, n = place.queries;
  const Index group = shape.heads / shape.key_heads, rows = group * n;
  const Index size = partial_size<T>(shape);
  const bool whole = pieces_of(place.keys) == 1;
  T* states = whole ? scratch
                    : partials + (first_partial(shape, sequence) + piece) * shape.heads * most_queries * size;
  for (Index r = 0; r < shape.heads * n; ++r) {
    for (Index c = 0; c < size; c += width) store(states + r * size + c, zero<T>());
    const Partial<T> state(states + r * size);
    const T sink = piece == 0 ? spec.template sink<T>(r / n) : hidden;
    *state.maximum = sink != hidden ? score_in_base_2(sink) : -std::numeric_limits<T>::max();
    if (sink != hidden) state.sum[0] = T(1);
    if (!p.continues || piece != 0) continue;
    const Index row = place.query_begin + r % n, head = r / n;
    const RowNorm<T> before = p.lse.at(row, head).norm();
    if (!before.lives()) continue;
    for (Index c = 0; c < d_v; ++c) state.output[c] = *p.out.at(row, head * d_v + c).data;
    resume_sum(before, d_v, state.output, Index(1), *state.maximum, state.sum[0]);
  }

  T* queries = scratch + shape.heads * most_queries * size;  // [head · n + i][d]
  T* scores = queries + shape.heads * most_queries * d;
  T* seen = scores + group * most_queries * streamed_keys;
  T* gathered_k = seen + group * most_queries * streamed_keys;
  T* gathered_v = gathered_k + streamed_keys * d;
  using Scorer = ScorerOf<T, Spec>;
  T* const scorers = gathered_v + streamed_keys * d_v;
  T* const turned_k = scorers + shape.heads * Scorer::numbers(d);
  const T score_factor = Rules::has_terms ? p.scale : p.scale * log2_e<T>;
  const T factor = Scorer::fused ? score_factor : T(1);
  for (Index h = 0; h < shape.heads; ++h)
    for (Index i = 0; i < n; ++i)
      for (Index c = 0; c < d; ++c)
        queries[(h * n + i) * d + c] =
            factor * p.q.data[(place.query_begin + i) * p.q.row + (h * d + c) * p.q.column];

  bool separates = false;
  if constexpr (!Scorer::fused) {
    separates = Scorer::turn_query_rows(queries, shape.heads * n * d);
    for (Index h = 0; h < shape.heads; ++h)
      Scorer::fill(scorers + h * Scorer::numbers(d), spec, h, d, p.scale, score_factor);
  }

  const Index key_columns = shape.key_heads * d, value_columns = shape.key_heads * d_v;
  for (Index j = begin; j < end; j += streamed_keys) {
    const Index keys = end - j < streamed_keys ? end - j : streamed_keys;
    Index next = end;  // the first key from here on that any head sees
    for (Index kh = 0; kh < shape.key_heads; ++kh) {
      // Which heads see anything here, and whether all of them see all.
      bool any = true, all = true;
      if constexpr (Rules::has_mask) {
        any = false;
        for (Index g = 0; g < group; ++g) {
          const Rules rules = spec.template bind<T>(shape.place(sequence, kh * group + g));
          const KeyRange some = rules.key_ranges(0, n, j);
          any |= !some.empty() && some.begin < j + keys;
          if (!some.empty() && some.begin < next) next = some.begin;
          const KeyRange full = rules.full_ranges(0, n, j);
          all &= !full.empty() && full.begin <= j && full.end >= j + keys;
        }
      }
      if (!any) continue;
      Operand<const T> k = p.k.at(place.key_begin + j, kh * d);
      Operand<const T> v = p.v.at(place.key_begin + j, kh * d_v);
      // The next block, a share of its whole rows with every head.
      if (j + 2 * streamed_keys <= end && k.column == 1 && v.column == 1)
        for (Index r = streamed_keys * kh / shape.key_heads; r < streamed_keys * (kh + 1) / shape.key_heads;
             ++r) {
          prefetch_row(p.k.at(place.key_begin + j + streamed_keys + r, 0).data, key_columns);
          prefetch_row(p.v.at(place.key_begin + j + streamed_keys + r, 0).data, value_columns);
        }
      if (k.column != 1) {
        gather_rows(k.data, k.row, k.column, keys, d, gathered_k, d);
        k = {gathered_k, d, 1};
      }
      if (v.column != 1) {
        gather_rows(v.data, v.row, v.column, keys, d_v, gathered_v, d_v);
        v = {gathered_v, d_v, 1};
      }
      const Index first = kh * rows;
      if constexpr (Scorer::fused) {
        dot_rows(rows, queries + first * d, d, k.data, k.row, keys, d, scores, streamed_keys);
      } else {
        Scorer::turn_rows(k.data, k.row, keys, d, separates, turned_k);
        Scorer::row_scores(rows, n, scorers + kh * group * Scorer::numbers(d), queries + first * d, d,
                           separates, turned_k, keys, d, scores, streamed_keys);
      }
      if (keys < streamed_keys)
        for (Index r = 0; r < rows; ++r)
          for (Index c = keys; c < streamed_keys; ++c) scores[r * streamed_keys + c] = hidden;
      if (Rules::has_terms || !all)
        for (Index g = 0; g < group; ++g) {
          const Rules rules = spec.template bind<T>(shape.place(sequence, kh * group + g));
          for (Index i = 0; i < n; ++i)
            edit_row(rules, scores + (g * n + i) * streamed_keys, keys, static_cast<Position>(i),
                     static_cast<Position>(j), all);
        }
      const bool hides = Rules::may_hide || !all;
      const bool guarded =
          hides && !values_finite(KeyBlock<T>{nullptr, 0, 0, v.data, v.row, v.column, keys}, d_v);
      if (guarded) std::memcpy(seen, scores, static_cast<std::size_t>(rows * streamed_keys) * sizeof(T));
      for (Index r = 0; r < rows; ++r)
        weigh_row(Partial<T>(states + (first + r) * size), scores + r * streamed_keys, d_v);
      if constexpr (Rules::drops)
        for (Index r = 0; r < rows; ++r) {
          const Rules rules = spec.template bind<T>(shape.place(sequence, kh * group + r / n));
          for (Index u = 0; u < keys; ++u)
            scores[r * streamed_keys + u] *=
                rules.dropped.template factor<T>(static_cast<Position>(r % n), static_cast<Position>(j + u));
        }
      T* output = Partial<T>(states + first * size).output;
      if (!guarded) {
        mix_rows(rows, scores, v.data, v.row, keys, d_v, output, size);
      } else {
        for (Index r = 0; r < rows; ++r)
          for (Index c = 0; c < d_v; ++c)
            for (Index u = 0; u < keys; ++u)
              if (seen[r * streamed_keys + u] != hidden)
                output[r * size + c] += scores[r * streamed_keys + u] * v.data[u * v.row + c];
      }
    }
    if (Rules::has_mask && next >= j + 2 * streamed_keys)
      j += ((next < end ? next : end - 1) - j) / streamed_keys * streamed_keys - streamed_keys;
  }
  if (whole) write_rows(p, spec, sequence, states);
}

/// Merges the pieces of one sequence, in order, and writes its rows.
template <class T, class Spec>
HEED_NOINLINE void merge_pieces(const ForwardProblem<T>& p, const Spec& spec, Index sequence,
                                Index most_queries, T* partials) {
  const Shape& shape = p.shape;
  const Place place = shape.place(sequence, 0);
  const Index pieces = pieces_of(place.keys);
  if (!is_streamed(place.queries) || pieces == 1) return;
  const Index size = partial_size<T>(shape), stride = shape.heads * most_queries * size;
  T* first = partials + first_partial(shape, sequence) * stride;
  for (Index r = 0; r < shape.heads * place.queries; ++r) {
    const Partial<T> total(first + r * size);
    for (Index piece = 1; piece < pieces; ++piece) {
      const Partial<T> next(first + piece * stride + r * size);
      const T most = *next.maximum > *total.maximum ? *next.maximum : *total.maximum;
      const Pack<T> a = exp2(broadcast(*total.maximum - most)), b = exp2(broadcast(*next.maximum - most));
      *total.maximum = most;
      store(total.sum, load(total.sum) * a + load(next.sum) * b);
      for (Index c = 0; c < shape.d_v; c += Pack<T>::width)
        store(total.output + c, load(total.output + c) * a + load(next.output + c) * b);
    }
  }
  write_rows(p, spec, sequence, first);
}
