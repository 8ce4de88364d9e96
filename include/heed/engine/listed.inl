// SPDX-License-Identifier: MIT
// Queries that name their keys (key_lists): query by query, the head dimension in lanes, reading the rows
// that the query names and no others. What other masks hide, or a term, drops out of the list before its
// value is read.

/// Keys of a list that are worked on together.
inline constexpr Index listed_keys = streamed_keys;

/// Queries of one task.
inline constexpr Index listed_queries = 64;

/// to[c] += Σ_t w[t] · rows(t)[c], c < columns. `to` has room for whole packs.
template <int packs, class T, class Rows>
HEED_INLINE void add_rows_at(Index c, const T* w, const Rows& rows, Index count, T* to) {
  constexpr int width = Pack<T>::width;
  Pack<T> acc[packs];
#pragma GCC unroll 4
  for (int v = 0; v < packs; ++v) acc[v] = load(to + c + v * width);
  for (Index t = 0; t < count; ++t) {
    const T* row = rows(t) + c;
    const Pack<T> x = broadcast(w[t]);
#pragma GCC unroll 4
    for (int v = 0; v < packs; ++v) acc[v] = multiply_add(x, load(row + v * width), acc[v]);
  }
#pragma GCC unroll 4
  for (int v = 0; v < packs; ++v) store(to + c + v * width, acc[v]);
}
template <class T, class Rows>
HEED_NOINLINE void add_rows(const T* w, const Rows& rows, Index count, Index columns, T* to) {
  constexpr int width = Pack<T>::width;
  Index c = 0;
  for (; c + 4 * width <= columns; c += 4 * width) add_rows_at<4>(c, w, rows, count, to);
  for (; c + width <= columns; c += width) add_rows_at<1>(c, w, rows, count, to);
  if (c == columns) return;
  Pack<T> acc = load(to + c);
  for (Index t = 0; t < count; ++t)
    acc = multiply_add(broadcast(w[t]), load_first(rows(t) + c, static_cast<int>(columns - c)), acc);
  store(to + c, acc);
}

/// Up to listed_keys keys that a query sees: their numbers, and their rows in lanes.
template <class T>
struct ListedChunk {
  Position numbers[listed_keys];
  T scores[listed_keys];
  Index count = 0;

  /// Takes keys from [from, end) of a list until it is full; returns where the next chunk begins.
  template <class Rules>
  HEED_INLINE Index take(const Rules& rules, Position i, const Position* list, Index from, Index end) {
    count = 0;
    for (; from < end && count < listed_keys; ++from) {
      numbers[count] = list[from];
      if constexpr (Rules::has_mask)
        count += rules.visible(i, list[from]) ? 1 : 0;
      else
        ++count;
    }
    return from;
  }
};

/// The rows of a chunk: in place where they are contiguous, else copied.
template <class T>
HEED_INLINE ListedRows<T> rows_of_chunk(const Operand<const T>& x, const ListedChunk<T>& chunk, Index columns,
                                        T* copies, const Position* in_order) {
  if (x.column == 1) return {x.data, x.row, chunk.numbers};
  for (Index t = 0; t < chunk.count; ++t)
    for (Index c = 0; c < columns; ++c)
      copies[t * columns + c] = x.data[chunk.numbers[t] * x.row + c * x.column];
  return {copies, columns, in_order};
}

/// Asks for the rows of a chunk, which are needed a little later.
template <class T>
HEED_INLINE void prefetch_chunk(const Operand<T>& x, const ListedChunk<std::remove_const_t<T>>& chunk,
                                Index columns) {
  if (x.column != 1) return;
  for (Index t = 0; t < chunk.count; ++t) prefetch_row(x.data + chunk.numbers[t] * x.row, columns);
}

/// Scores of the chunk in base 2, from scaled products; keys that a term hides leave the chunk.
template <class T, class Rules>
HEED_NOINLINE HEED_FLATTEN void edit_chunk(const Rules& rules_in_memory, Position i, ListedChunk<T>& chunk) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const Rules rules = rules_in_memory;
  for (Index t = 0; t < chunk.count; ++t)
    chunk.scores[t] = score_in_base_2(rules.score(chunk.scores[t], i, chunk.numbers[t]));
  if constexpr (Rules::may_hide) {
    Index left = 0;
    for (Index t = 0; t < chunk.count; ++t) {
      chunk.scores[left] = chunk.scores[t];
      chunk.numbers[left] = chunk.numbers[t];
      left += chunk.scores[t] != hidden ? 1 : 0;
    }
    chunk.count = left;
  }
}

/// Numbers of scratch of a worker.
template <class T>
Index listed_scratch(const Shape& shape) {
  return whole_packs<T>(shape.d) * 3 + whole_packs<T>(shape.d_v) * 2 + partial_size<T>(shape) +
         listed_keys * (shape.d + shape.d_v);
}

/// 0, 1, 2, ...
struct InOrder {
  Position numbers[listed_keys];
  InOrder() {
    for (Index t = 0; t < listed_keys; ++t) numbers[t] = static_cast<Position>(t);
  }
};

/// Queries [first, last) of one sequence and head.
template <class T, class Spec, class Lists>
HEED_NOINLINE void listed_forward(const ForwardProblem<T>& p, const Spec& spec, const Lists& lists_of,
                                  const Place& place, Index first, Index last, T* scratch) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const auto rules = beyond_lists(spec.template bind<T>(place));
  using Rules = std::remove_cvref_t<decltype(rules)>;
  const auto lists = lists_of.bind_lists(place);
  const Index d = p.shape.d, d_v = p.shape.d_v, key_head = place.head / (place.heads / place.key_heads);
  const Operand<const T> k = p.k.at(place.key_begin, key_head * d),
                         v = p.v.at(place.key_begin, key_head * d_v);
  const T factor = Rules::has_terms ? p.scale : p.scale * log2_e<T>, sink = spec.template sink<T>(place.head);
  T* const query = scratch;
  T* const state = query + whole_packs<T>(d);
  T* const copied_k = state + partial_size<T>(p.shape);
  T* const copied_v = copied_k + listed_keys * d;
  const InOrder in_order;
  const Partial<T> row(state);
  ListedChunk<T> chunk;
  for (Index i = first; i < last; ++i) {
    const auto at = static_cast<Position>(i);
    for (Index c = 0; c < partial_size<T>(p.shape); c += Pack<T>::width) store(state + c, zero<T>());
    *row.maximum = sink != hidden ? score_in_base_2(sink) : -std::numeric_limits<T>::max();
    if (sink != hidden) row.sum[0] = T(1);
    copy_scaled(p.q.at(place.query_begin + i, place.head * d), d, factor, query);
    const Position* list = lists.begin(i);
    for (Index from = 0, end = lists.count(i); from < end;) {
      from = chunk.take(rules, at, list, from, end);
      if (chunk.count == 0) continue;
      dot_tile<1>(query, d, rows_of_chunk(k, chunk, d, copied_k, in_order.numbers), chunk.count, d,
                  chunk.scores, listed_keys);
      if constexpr (Rules::has_terms) edit_chunk(rules, at, chunk);
      for (Index t = chunk.count; t < listed_keys; ++t) chunk.scores[t] = hidden;
      weigh_row(row, chunk.scores, d_v);
      if constexpr (Rules::drops)
        for (Index t = 0; t < chunk.count; ++t)
          chunk.scores[t] *= rules.dropped.template factor<T>(at, chunk.numbers[t]);
      add_rows(chunk.scores, rows_of_chunk(v, chunk, d_v, copied_v, in_order.numbers), chunk.count, d_v,
               row.output);
    }
    write_row(p, spec, place, i, row);
  }
}

/// Task t: some queries, all heads.
template <class T, class Spec, class Lists>
HEED_NOINLINE void listed_task(const ForwardProblem<T>& p, const Spec& spec, const Lists& lists, Index t,
                               T* scratch) {
  const Index sequence = sequence_of_slot(p.shape, t, listed_queries);
  const Index first = (t - first_slot(p.shape, sequence, listed_queries)) * listed_queries;
  const Index queries = p.shape.place(sequence, 0).queries;
  const Index last = first + listed_queries < queries ? first + listed_queries : queries;
  for (Index head = 0; head < p.shape.heads && first < last; ++head)
    listed_forward(p, spec, lists, p.shape.place(sequence, head), first, last, scratch);
}

template <class T>
HEED_NOINLINE Index listed_tasks(const ForwardProblem<T>& p) {
  return slot_count(p.shape, listed_queries);
}

template <class T>
HEED_NOINLINE std::size_t listed_bytes(const Shape& shape) {
  return (static_cast<std::size_t>(listed_scratch<T>(shape)) * sizeof(T) + 63) / 64 * 64;
}
