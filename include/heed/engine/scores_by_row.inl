// SPDX-License-Identifier: MIT
// The scores of few queries once more, for backward passes: at great ones, as the forward pass summed them.

/// The scores of few queries. A sum of products rounds by the order in which it is taken, and at great
/// scores a weight is that of the forward pass only where its score is, bit for bit. The forward pass takes
/// few queries row by row (streamed.inl) and tiny problems pair by pair (direct.inl), and so does this.
template <class T>
struct ScoresByRow {
  enum class Order { lanes, rows, pairs };

  Order order;
  Operand<const T> q, k;  // of the head, from the sequence's first query and key on
  Index d;
  T scale, unit;  // `unit` takes scaled products to what masks and terms edit: to base 2, or 1
  T* queries;     // [query][d], times scale and unit

  HEED_NOINLINE void load_queries(Index count) const {
    const T factor = scale * unit;
    if (order != Order::rows) return;
    for (Index i = 0; i < count; ++i) copy_scaled(q.at(i, 0), d, factor, queries + i * d);
  }
  /// out[t · tile_lanes + l] for queries i + l and the block's keys, the first of which is key j; 0 in lanes
  /// without a query.
  HEED_NOINLINE void scores(Index i, Index count, const KeyBlock<T>& block, Index j, int lanes,
                            T* out) const {
    if (order == Order::rows) {
      T rows[most_streamed_queries * block_keys];
      dot_rows(count, queries + i * d, d, block.k, block.k_row, block.keys, d, rows, block_keys);
      for (Index t = 0; t < block.keys; ++t)
        for (Index l = 0; l < lanes; ++l)
          out[t * tile_lanes<T> + l] = l < count ? rows[l * block_keys + t] : T(0);
      return;
    }
    for (Index t = 0; t < block.keys; ++t)
      for (Index l = 0; l < lanes; ++l) {
        T& s = out[t * tile_lanes<T> + l];
        s = T(0);
        if (l < count)
          s = scale * dot(q.at(i + l, 0).data, q.column, k.at(j + t, 0).data, k.column, d) * unit;
      }
  }
};

/// Scores from so much on, in base 2, are great: below, orders of summation differ by less than weights are
/// exact to anyway, and tiles are faster.
template <class T>
inline constexpr T great_score = T(64);

/// Those of one head; `memory` has room for what rows_numbers() says.
template <class T>
Index rows_numbers(Index d) {
  return most_streamed_queries * whole_packs<T>(d);
}
template <class T>
ScoresByRow<T> scores_by_row(const BackwardProblem<T>& p, const Place& place, bool products, bool in_base_2,
                             T* memory) {
  using Order = typename ScoresByRow<T>::Order;
  const Index d = p.shape.d, key_head = place.head / (place.heads / place.key_heads);
  bool pairs = products && is_direct(p), rows = products && !pairs && is_streamed(place.queries);
  if (pairs || rows) {
    bool great = false;
    for (Index i = 0; i < place.queries; ++i) {
      const T maximum = p.lse.at(place.query_begin + i, place.head).norm().maximum;
      great |= maximum > great_score<T> || maximum < -great_score<T>;
    }
    pairs &= great, rows &= great;
  }
  const ScoresByRow<T> scores{pairs ? Order::pairs : rows ? Order::rows : Order::lanes,
                              p.q.at(place.query_begin, place.head * d),
                              p.k.at(place.key_begin, key_head * d),
                              d,
                              p.scale,
                              in_base_2 ? log2_e<T> : T(1),
                              memory};
  scores.load_queries(place.queries);
  return scores;
}
