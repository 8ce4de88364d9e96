// SPDX-License-Identifier: MIT
// The gradients of queries that name their keys, query by query as in listed.inl.

/// to[numbers[t]][c] += w[t] · x[c] for the keys of a chunk.
template <class T>
HEED_NOINLINE void add_to_rows(const Operand<T>& to, const ListedChunk<T>& chunk, const T* w, const T* x,
                               Index columns) {
  constexpr int width = Pack<T>::width;
  for (Index t = 0; t < chunk.count; ++t) {
    T* row = to.data + chunk.numbers[t] * to.row;
    Index c = 0;
    if (to.column == 1)
      for (; c + width <= columns; c += width)
        store(row + c, multiply_add(broadcast(w[t]), load(x + c), load(row + c)));
    for (; c < columns; ++c) row[c * to.column] += w[t] * x[c];
  }
}

/// From the scaled products of a chunk to weights and the slopes of the terms; keys that a term hides leave
/// the chunk.
template <class T, class Rules>
HEED_NOINLINE HEED_FLATTEN void weigh_chunk(const Rules& rules_in_memory, Position i, const RowNorm<T>& norm,
                                            ListedChunk<T>& chunk, T* slopes) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const Rules rules = rules_in_memory;
  if constexpr (Rules::has_terms) {
    Index left = 0;
    for (Index t = 0; t < chunk.count; ++t) {
      const dual<T> s = rules.score(dual<T>(chunk.scores[t], T(1)), i, chunk.numbers[t]);
      chunk.scores[left] = score_in_base_2(s.value);
      slopes[left] = s.tangent[0];
      chunk.numbers[left] = chunk.numbers[t];
      left += s.value != hidden ? 1 : 0;
    }
    chunk.count = left;
  }
  for (Index t = chunk.count; t < listed_keys; ++t) chunk.scores[t] = hidden;
  for (Index t = 0; t < listed_keys; t += Pack<T>::width)
    store(chunk.scores + t, weight_again(load(chunk.scores + t), broadcast(norm.maximum),
                                         broadcast(norm.minus_log_sum)));
}

/// All queries of one sequence and head.
template <class T, class Spec, class Lists>
HEED_NOINLINE void listed_backward(const BackwardProblem<T>& p, const Spec& spec, const Lists& lists_of,
                                   const Place& place, T* scratch) {
  const auto rules = beyond_lists(spec.template bind<T>(place));
  using Rules = std::remove_cvref_t<decltype(rules)>;
  const auto lists = lists_of.bind_lists(place);
  const Index d = p.shape.d, d_v = p.shape.d_v, key_head = place.head / (place.heads / place.key_heads);
  const Operand<const T> k = p.k.at(place.key_begin, key_head * d),
                         v = p.v.at(place.key_begin, key_head * d_v);
  const Operand<T> dk = p.dk.at(place.key_begin, key_head * d), dv = p.dv.at(place.key_begin, key_head * d_v);
  const T factor = Rules::has_terms ? p.scale : p.scale * log2_e<T>;
  T* const query = scratch;
  T* const scaled_query = query + whole_packs<T>(d);
  T* const query_gradient = scaled_query + whole_packs<T>(d);
  T* const incoming = query_gradient + whole_packs<T>(d);
  T* const copied_k = incoming + whole_packs<T>(d_v);
  T* const copied_v = copied_k + listed_keys * d;
  const InOrder in_order;
  ListedChunk<T> chunk;
  T slopes[listed_keys], gradients[listed_keys];
  for (Index i = 0; i < place.queries; ++i) {
    const auto at = static_cast<Position>(i);
    const Index row = place.query_begin + i;
    const Operand<T> dq = p.dq.at(row, place.head * d);
    const RowNorm<T> norm = p.lse.at(row, place.head).norm();
    for (Index c = 0; c < whole_packs<T>(d); ++c) query_gradient[c] = T(0);
    if (norm.lives()) {
      const Operand<const T> out = p.out.at(row, place.head * d_v);
      copy_scaled(p.q.at(row, place.head * d), d, p.scale, query);
      copy_scaled(p.q.at(row, place.head * d), d, factor, scaled_query);
      copy_scaled(p.dout.at(row, place.head * d_v), d_v, T(1), incoming);
      T mean = p.dlse.data == nullptr ? T(0) : -*p.dlse.at(row, place.head).data;
      for (Index c = 0; c < d_v; ++c) mean += incoming[c] * out.data[c * out.column];
      const Position* list = lists.begin(i);
      for (Index from = 0, end = lists.count(i); from < end;) {
        from = chunk.take(rules, at, list, from, end);
        if (chunk.count == 0) continue;
        prefetch_chunk(v, chunk, d_v);
        prefetch_chunk(dk, chunk, d);
        prefetch_chunk(dv, chunk, d_v);
        const auto dots = [&](const T* x, const Operand<const T>& rows, Index columns, T* copies, T* to) {
          dot_tile<1>(x, columns, rows_of_chunk(rows, chunk, columns, copies, in_order.numbers), chunk.count,
                      columns, to, listed_keys);
        };
        dots(scaled_query, k, d, copied_k, chunk.scores);
        weigh_chunk(rules, at, norm, chunk, slopes);
        dots(incoming, v, d_v, copied_v, gradients);
        for (Index t = 0; t < chunk.count; ++t) {
          T dropped = T(1);
          if constexpr (Rules::drops) dropped = rules.dropped.template factor<T>(at, chunk.numbers[t]);
          gradients[t] = chunk.scores[t] * (dropped * gradients[t] - mean);
          if constexpr (Rules::has_terms) gradients[t] *= slopes[t];
          chunk.scores[t] *= dropped;
        }
        add_rows(gradients, rows_of_chunk(k, chunk, d, copied_k, in_order.numbers), chunk.count, d,
                 query_gradient);
        add_to_rows(dk, chunk, gradients, query, d);
        add_to_rows(dv, chunk, chunk.scores, incoming, d_v);
      }
    }
    for (Index c = 0; c < d; ++c) {
      T& to = dq.data[c * dq.column];
      to = (p.accumulate ? to : T(0)) + p.scale * query_gradient[c];
    }
  }
}

/// Task t: one key head of one sequence, all its query heads.
template <class T, class Spec, class Lists>
HEED_NOINLINE void listed_backward_task(const BackwardProblem<T>& p, const Spec& spec, const Lists& lists,
                                        Index t, T* scratch) {
  const Index sequence = t / p.shape.key_heads, key_head = t % p.shape.key_heads;
  const Index group = p.shape.heads / p.shape.key_heads;
  const Place keys = p.shape.place(sequence, key_head * group);
  if (!p.accumulate) {
    set_to_zero(p.dk.at(keys.key_begin, key_head * p.shape.d), keys.keys, p.shape.d);
    set_to_zero(p.dv.at(keys.key_begin, key_head * p.shape.d_v), keys.keys, p.shape.d_v);
  }
  for (Index head = key_head * group; head < (key_head + 1) * group; ++head)
    listed_backward(p, spec, lists, p.shape.place(sequence, head), scratch);
}
