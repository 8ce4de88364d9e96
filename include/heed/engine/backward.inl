// SPDX-License-Identifier: MIT
// The backward pass of one key head: its query heads' tiles walk over the keys as in the forward pass, and
// add up dk and dv where the keys lie.

/// What the backward pass does with a stretch of keys. Functions of i - j (ALiBi, T5's bias) are added to
/// whole blocks, as in the forward pass: they have a slope of 1, and `Rules` are those without them; with
/// other terms `AllRules` are the same.
template <class T, class Rules, class AllRules, class Scorer, class Bias, class Buckets>
struct BackwardWork {
  static constexpr bool adds_by_distance = AllRules::adds_by_distance;
  static constexpr bool wants_bias = !std::is_same_v<Bias, std::nullptr_t>;
  static constexpr bool wants_buckets = !std::is_same_v<Buckets, std::nullptr_t>;
  static constexpr bool edits_all =
      AllRules::has_terms || Rules::drops || wants_bias || wants_buckets || !Scorer::fused;

  const GradientTile<T>& tile;
  const GradientBlocks<T>& blocks;
  const TileRows& rows;
  const Rules& rules;
  const AllRules& all_rules;
  const Scorer& scorer;
  const ScoresByRow<T>& by_row;
  const GradientKeys<T>& keys;
  Index origin;  // the key that element 0 of `keys` is
  const Bias& bias;
  const Buckets& buckets;
  double* parameter_sums;
  double* score_sums;

  Index queries(int lane, int packs) const {
    const Index left = rows.end - rows.begin - lane, most = packs * Pack<T>::width;
    return left < most ? left : most;
  }

  template <int packs>
  HEED_NOINLINE void full(int lane, Index begin, Index end) const {
    for (Index j = begin; j < end;) {
      const Index count = balanced_block<packs>(end - j);
      const GradientKeys<T> block = keys.from(j - origin, count);
      if (by_row.order == ScoresByRow<T>::Order::lanes) {
        weigh_again<packs>(tile, lane, block.in, blocks.weights);
      } else {
        by_row.scores(rows.begin + lane, queries(lane, packs), block.in, j, packs * Pack<T>::width,
                      blocks.seen + lane);
        weigh_scores<packs>(tile, lane, count, blocks.seen, blocks.weights);
      }
      differentiate_scores<packs>(tile, lane, block.in, blocks.weights, blocks.ds);
      add_value_gradients(tile, lane, queries(lane, packs), block, blocks);
      add_score_gradients<packs>(scorer, tile, lane, queries(lane, packs), block, blocks.ds,
                                 static_cast<const T*>(nullptr), nullptr);
      j += count;
    }
  }

  template <int packs>
  HEED_NOINLINE void edited(int lane, Index begin, Index end, unsigned full) const {
    const Index i = rows.begin + lane;
    for (Index j = begin; j < end;) {
      const Index count = balanced_block<packs>(end - j);
      const GradientKeys<T> block = keys.from(j - origin, count);
      const bool in_lanes = by_row.order == ScoresByRow<T>::Order::lanes;
      if (in_lanes)
        scorer.template scores<packs>(tile.query + lane, tile.d, block.in, blocks.seen + lane);
      else
        by_row.scores(i, queries(lane, packs), block.in, j, packs * Pack<T>::width, blocks.seen + lane);
      if constexpr (adds_by_distance)
        if (in_lanes) {
          BlockTerms<T, AllRules> terms;
          finish_scores<packs>(terms.of(all_rules, i, j, count, packs * Pack<T>::width), blocks.seen + lane,
                               count);
        }
      if constexpr (Rules::parameters > 0)
        if (parameter_sums != nullptr)
          std::memcpy(blocks.scaled, blocks.seen,
                      static_cast<std::size_t>(count * tile_lanes<T>) * sizeof(T));
      bool hides = Rules::may_hide;
      for (int v = 0; v < packs; ++v) {
        const int at = lane + v * Pack<T>::width;
        const int seen = static_cast<int>(queries(at, 1));
        const bool sees_all = ((full >> v) & 1u) != 0;
        hides |= !sees_all;
        const auto first = static_cast<Position>(rows.begin + at);
        if constexpr (Rules::has_terms)
          edit_pack_with_slopes(rules, blocks.seen + at, blocks.through + at, blocks.after + at, count, first,
                                static_cast<Position>(j), seen, sees_all);
        else if (adds_by_distance && !in_lanes)
          edit_pack(all_rules, blocks.seen + at, count, first, static_cast<Position>(j), seen, sees_all);
        else if (!sees_all)
          edit_pack(rules, blocks.seen + at, count, first, static_cast<Position>(j), seen, sees_all);
      }
      weigh_scores<packs>(tile, lane, count, blocks.seen, blocks.weights);
      differentiate_scores<packs>(tile, lane, block.in, blocks.weights, blocks.ds);
      if constexpr (Rules::drops)
        for (int at = lane; at < lane + packs * Pack<T>::width; at += Pack<T>::width)
          drop_gradients(rules, blocks.weights + at, blocks.ds + at, tile.minus_d + at, count,
                         static_cast<Position>(rows.begin + at), static_cast<Position>(j));
      const bool guarded =
          hides && !(*tile.finite && all_finite<true>(block.in.k, block.in.k_row, Index(1), count, tile.d) &&
                     all_finite<true>(block.in.v, block.in.v_row, Index(1), count, tile.d_v));
      if (guarded) clear_hidden(blocks, count);
      if constexpr (Rules::parameters > 0)
        if (parameter_sums != nullptr)
          for (int at = lane; at < lane + packs * Pack<T>::width; at += Pack<T>::width)
            add_parameter_gradients(rules, blocks.scaled + at, blocks.seen + at, blocks.ds + at, count,
                                    static_cast<Position>(rows.begin + at), static_cast<Position>(j),
                                    parameter_sums);
      if constexpr (Rules::has_terms) multiply_block<packs>(blocks.ds, blocks.after, lane, count);
      if constexpr (wants_bias) add_bias_gradient(bias, blocks.ds + lane, queries(lane, packs), count, i, j);
      if constexpr (wants_buckets)
        add_bucket_gradient(buckets, blocks.ds + lane, queries(lane, packs), count, i, j);
      if constexpr (Rules::has_terms) multiply_block<packs>(blocks.ds, blocks.through, lane, count);
      if (guarded)
        add_visible_value_gradients(tile, lane, queries(lane, packs), block, blocks);
      else
        add_value_gradients(tile, lane, queries(lane, packs), block, blocks);
      add_score_gradients<packs>(scorer, tile, lane, queries(lane, packs), block, blocks.ds,
                                 guarded ? blocks.seen : nullptr, score_sums);
      j += count;
    }
  }
};

/// What scores lose, of `count` rows; lanes behind them see nothing.
template <class T>
HEED_NOINLINE void load_norms(const GradientTile<T>& tile, const LogSums<const T>& lse, Index count,
                              int packs) {
  constexpr int width = Pack<T>::width;
  const Pack<T> nothing = broadcast(-std::numeric_limits<T>::infinity());
  for (Index l = 0; l < packs * width; l += width) {
    if (lse.maximum != nullptr && lse.row == 1 && l + width <= count) {
      const Pack<T> whole = load(lse.data + l), maximum = load(lse.maximum + l),
                    log_sum = load(lse.log_sum + l);
      const Pack<T> joined = (maximum + log_sum) / broadcast(log2_e<T>);
      store(tile.maximum + l, maximum);
      store(tile.minus_log_sum + l, where_equal(joined, whole, zero<T>() - log_sum, nothing));
      // Rows that saw nothing, or were changed, one by one.
      if (nonzero_lanes(where_equal(joined, whole, zero<T>(), broadcast(T(1)))) == 0) continue;
    }
    for (Index r = l; r < l + width; ++r) {
      const RowNorm<T> norm =
          r < count ? lse.at(r, 0).norm() : RowNorm<T>{T(0), -std::numeric_limits<T>::infinity()};
      tile.maximum[r] = norm.maximum;
      tile.minus_log_sum[r] = norm.minus_log_sum;
    }
  }
}

/// Fills a tile. A query that sees nothing (its log-sum-exp is -inf) is read as zeros: nothing goes through
/// it.
template <class T>
HEED_NOINLINE void load_gradient_tile(const GradientTile<T>& tile, const BackwardProblem<T>& p,
                                      const Place& place, const TileRows& rows, T factor) {
  constexpr int lanes = tile_lanes<T>, width = Pack<T>::width;
  const Index d = tile.d, d_v = tile.d_v, columns = whole_packs<T>(d), value_columns = whole_packs<T>(d_v);
  const Operand<const T> q = p.q.at(place.query_begin + rows.begin, place.head * d);
  const Operand<const T> out = p.out.at(place.query_begin + rows.begin, place.head * d_v);
  const Operand<const T> dout = p.dout.at(place.query_begin + rows.begin, place.head * d_v);
  const LogSums<const T> lse = p.lse.at(place.query_begin + rows.begin, place.head);
  const Index count = rows.end - rows.begin;
  gather_rows(q.data, q.row, q.column, count, d, tile.query_rows, columns);
  gather_rows(dout.data, dout.row, dout.column, count, d_v, tile.out_rows, value_columns);
  for (int v = 0; v < rows.packs; ++v) {
    const Index l = v * width;
    const int here = static_cast<int>(count - l < width ? count - l : width);
    rows_to_lanes(tile.query_rows + l * columns, columns, Index(1), here, d, factor, tile.query + l,
                  Index(lanes));
    rows_to_lanes(tile.out_rows + l * value_columns, value_columns, Index(1), here, d_v, T(1),
                  tile.gradient + l, Index(lanes));
  }
  load_norms(tile, lse, count, rows.packs);
  T probe = T(0);
  for (Index l = 0; l < count; ++l) {
    if (out.column == 1 && l + 8 < count) prefetch_row(out.data + (l + 8) * out.row, d_v);
    T* query_row = tile.query_rows + l * columns;
    T* out_row = tile.out_rows + l * value_columns;
    for (Index c = d; c < columns; ++c) query_row[c] = T(0);
    for (Index c = d_v; c < value_columns; ++c) out_row[c] = T(0);
    const RowNorm<T> norm{tile.maximum[l], tile.minus_log_sum[l]};
    if (!norm.lives()) {
      for (Index c = 0; c < columns; ++c) query_row[c] = T(0);
      for (Index c = 0; c < value_columns; ++c) out_row[c] = T(0);
      for (Index c = 0; c < d; ++c) tile.query[c * lanes + l] = T(0);
      for (Index c = 0; c < d_v; ++c) tile.gradient[c * lanes + l] = T(0);
      tile.minus_d[l] = T(0);
      continue;
    }
    T minus_d =
        p.dlse.data == nullptr
            ? T(0)
            : p.dlse.data[(place.query_begin + rows.begin + l) * p.dlse.row + place.head * p.dlse.column];
    minus_d -= dot(out_row, Index(1), out.data + l * out.row, out.column, d_v);
    for (Index c = 0; c < columns; c += width) store(query_row + c, load(query_row + c) * broadcast(p.scale));
    tile.minus_d[l] = minus_d;
    probe += minus_d * T(0) + norm.maximum * T(0) + norm.minus_log_sum * T(0);
  }
  for (Index l = count; l < rows.packs * width; ++l) tile.minus_d[l] = T(0);
  *tile.finite = probe == T(0) && all_finite<true>(tile.query_rows, columns, Index(1), count, columns) &&
                 all_finite<true>(tile.out_rows, value_columns, Index(1), count, value_columns);
  for (Index t = 0; t < d * lanes; t += width) store(tile.dq + t, zero<T>());
}

/// all_dq = scale · the sums of a tile, or added.
template <class T>
HEED_NOINLINE void store_gradient_tile(const GradientTile<T>& tile, T scale, const Operand<T>& all_dq,
                                       bool add, const Place& place, const TileRows& rows) {
  constexpr int width = Pack<T>::width;
  const Operand<T> dq = all_dq.at(place.query_begin + rows.begin, place.head * tile.d);
  alignas(64) T factor[width];
  store(factor, broadcast(scale));
  for (int v = 0; v < rows.packs; ++v) {
    const Index l = v * width, left = rows.end - rows.begin - l;
    const int count = static_cast<int>(left < width ? left : width);
    T* to = dq.data + l * dq.row;
    if (add)
      lanes_to_rows<true>(tile.dq + l, Index(tile_lanes<T>), factor, count, tile.d, to, dq.row, dq.column);
    else
      lanes_to_rows(tile.dq + l, Index(tile_lanes<T>), factor, count, tile.d, to, dq.row, dq.column);
  }
}

/// The same by the scorer's name; and what a scorer makes of a loaded tile: dot products take it as it is.
template <class T>
void store_gradient_tile(const DotScorer<T>&, const GradientTile<T>& tile, T scale, const Operand<T>& all_dq,
                         bool add, const Place& place, const TileRows& rows) {
  store_gradient_tile(tile, scale, all_dq, add, place, rows);
}
template <class T>
void turn_gradient_tile(const DotScorer<T>&, const GradientTile<T>&, int) {}

/// Where the gradients of one key head are added up: in the caller's matrix where its rows hold whole packs
/// close together, else in scratch.
template <class T>
bool adds_in_place(const Operand<T>& gradient, Index columns) {
  return gradient.column == 1 && columns % Pack<T>::width == 0 &&
         !lie_apart(Operand<const T>{gradient.data, gradient.row, gradient.column}, columns);
}

/// data[r · row + c] = 0.
template <class T>
HEED_NOINLINE void clear_rows(T* data, Index row, Index rows, Index columns) {
  if (row == columns) columns *= rows, rows = rows > 0 ? 1 : 0;
  for (Index r = 0; r < rows; ++r)
    if (columns > 0) std::memset(data + r * row, 0, static_cast<std::size_t>(columns) * sizeof(T));
}

/// Sums from scratch to where they belong, or added to what is there.
template <bool add, class T>
HEED_NOINLINE void put_rows(const T* from, Index from_row, const Operand<T>& to, Index rows, Index columns) {
  if (to.column == 1) return copy_rows<add>(from, from_row, rows, columns, to.data, to.row);
  // Column by column: that is how such a matrix lies in memory.
  for (Index c = 0; c < columns; ++c)
    for (Index r = 0; r < rows; ++r) {
      T& x = to.data[r * to.row + c * to.column];
      x = add ? x + from[r * from_row + c] : from[r * from_row + c];
    }
}

template <class T>
Index backward_group(const BackwardProblem<T>& p) {
  const Index tiles = (p.shape.queries + tile_lanes<T> - 1) / tile_lanes<T>;
  return tiles < tiles_per_group ? (tiles < 1 ? 1 : tiles) : tiles_per_group;
}

/// Which of a key head's matrices need room in scratch.
template <class T>
struct BackwardScratch {
  Index k, v, dk, dv, tiles;  // numbers

  explicit BackwardScratch(const BackwardProblem<T>& p)
      : BackwardScratch(
            p, backward_group(p) * GradientTile<T>::size(p.shape.d, p.shape.d_v) + GradientBlocks<T>::size +
                   rows_numbers<T>(p.shape.d)) {}
  BackwardScratch(const BackwardProblem<T>& p, Index tile_numbers) : tiles(tile_numbers) {
    const Shape& s = p.shape;
    const Index keys = p.pieces == 1 ? s.longest : s.longest / p.pieces + 1;
    k = p.k.column == 1 && !lie_apart(p.k, s.d) ? 0 : keys * s.d;
    v = p.v.column == 1 && !lie_apart(p.v, s.d_v) ? 0 : keys * s.d_v;
    dk = adds_in_place(p.dk, s.d) ? 0 : keys * whole_packs<T>(s.d);
    dv = adds_in_place(p.dv, s.d_v) ? 0 : keys * whole_packs<T>(s.d_v);
  }
  Index bytes() const { return (k + v + dk + dv + tiles) * static_cast<Index>(sizeof(T)); }
};

/// The keys, values and gradients of one key head as rows side by side: the caller's, or copies in `memory`,
/// of which `rest` is what is left. Gradients begin at zero unless they are added to the caller's in place.
template <class T>
HEED_NOINLINE GradientKeys<T> open_keys(const BackwardProblem<T>& p, const BackwardScratch<T>& room,
                                        const Place& place, Index key_head, T* memory, T** rest) {
  const Index d = p.shape.d, d_v = p.shape.d_v;
  const Operand<const T> k = p.k.at(place.key_begin, key_head * d),
                         v = p.v.at(place.key_begin, key_head * d_v);
  const Operand<T> dk = p.dk.at(place.key_begin, key_head * d), dv = p.dv.at(place.key_begin, key_head * d_v);
  GradientKeys<T> keys{{k.data, k.row, 1, v.data, v.row, 1, place.keys}, dk.data, dk.row, dv.data, dv.row};
  if (room.k > 0) {
    gather_rows(k.data, k.row, k.column, place.keys, d, memory, d);
    keys.in.k = memory;
    keys.in.k_row = d;
    memory += room.k;
  }
  if (room.v > 0) {
    gather_rows(v.data, v.row, v.column, place.keys, d_v, memory, d_v);
    keys.in.v = memory;
    keys.in.v_row = d_v;
    memory += room.v;
  }
  if (room.dk > 0) {
    keys.dk = memory;
    keys.dk_row = whole_packs<T>(d);
    memory += room.dk;
  }
  if (room.dv > 0) {
    keys.dv = memory;
    keys.dv_row = whole_packs<T>(d_v);
    memory += room.dv;
  }
  *rest = memory;
  if (room.dk > 0 || !p.accumulate)
    clear_rows(keys.dk, keys.dk_row, place.keys, room.dk > 0 ? keys.dk_row : d);
  if (room.dv > 0 || !p.accumulate)
    clear_rows(keys.dv, keys.dv_row, place.keys, room.dv > 0 ? keys.dv_row : d_v);
  return keys;
}

/// Gradients that were added up in scratch go where they belong.
template <class T>
HEED_NOINLINE void close_keys(const BackwardProblem<T>& p, const BackwardScratch<T>& room, const Place& place,
                              Index key_head, const GradientKeys<T>& keys) {
  const auto put = [&](const T* from, Index row, const Operand<T>& all, Index columns) {
    const Operand<T> to = all.at(place.key_begin, key_head * columns);
    if (p.accumulate)
      put_rows<true>(from, row, to, place.keys, columns);
    else
      put_rows<false>(from, row, to, place.keys, columns);
  };
  if (room.dk > 0) put(keys.dk, keys.dk_row, p.dk, p.shape.d);
  if (room.dv > 0) put(keys.dv, keys.dv_row, p.dv, p.shape.d_v);
}

/// All query heads of one key head against one piece of its keys.
template <class T, class Spec>
HEED_NOINLINE void backward_head(const BackwardProblem<T>& p, const Spec& spec, Index sequence,
                                 Index key_head, Index piece, T* scratch) {
  using AllRules = std::remove_cvref_t<decltype(spec.template bind<T>(Place{}))>;
  const Shape& shape = p.shape;
  const Index group = shape.heads / shape.key_heads, d = shape.d, d_v = shape.d_v;
  Place keys_place = shape.place(sequence, key_head * group);
  const Index begin = keys_place.keys * piece / p.pieces, end = keys_place.keys * (piece + 1) / p.pieces;
  keys_place.key_begin += begin;
  keys_place.keys = end - begin;
  const Operand<T> dq = p.dq_part(piece);
  const bool add_dq = p.accumulate && p.pieces == 1;
  using Scorer = ScorerOf<T, Spec>;
  const BackwardScratch<T> room(p);
  const Index tile_size = GradientTile<T>::size(d, d_v), tiles = backward_group(p);
  const GradientBlocks<T> blocks(scratch + tiles * tile_size);
  T* scorer_memory = nullptr;
  const GradientKeys<T> keys = open_keys(p, room, keys_place, key_head, scratch + room.tiles, &scorer_memory);

  for (Index head = key_head * group; head < (key_head + 1) * group; ++head) {
    const Place place = shape.place(sequence, head);
    const AllRules all_rules = spec.template bind<T>(place);
    const auto rules = rules_with_slopes(all_rules);
    using Rules = std::remove_cvref_t<decltype(rules)>;
    const auto bias = bias_gradient_of(spec, place);
    const auto buckets = bucket_gradient_of(p, spec, place);
    using Work = BackwardWork<T, Rules, AllRules, Scorer, std::remove_cvref_t<decltype(bias)>,
                              std::remove_cvref_t<decltype(buckets)>>;
    const T factor = Rules::has_terms ? p.scale : p.scale * log2_e<T>;
    Scorer::fill(scorer_memory, spec, head, d, p.scale, factor);
    const Scorer scorer(scorer_memory, d, factor);
    const ScoresByRow<T> by_row =
        scores_by_row(p, place, Scorer::fused, !AllRules::has_terms,
                      scratch + tiles * tile_size + GradientBlocks<T>::size);
    double* const score_sums =
        p.score_sums == nullptr ? nullptr : p.score_sums + (sequence * shape.heads + head) * d;
    double* const parameter_sums =
        p.parameter_sums == nullptr
            ? nullptr
            : p.parameter_sums + (sequence * shape.heads + head) * Index(Rules::parameters);
    for (Index first_tile = 0;; first_tile += tiles) {
      TileRows rows[tiles_per_group];
      int count = 0;
      for (; count < tiles; ++count) {
        rows[count] = tile_of_sequence<T>(place.queries, first_tile + count);
        if (rows[count].packs == 0) break;
        load_gradient_tile(GradientTile<T>(scratch + count * tile_size, d, d_v), p, place, rows[count],
                           scorer.query_factor());
        turn_gradient_tile(scorer, GradientTile<T>(scratch + count * tile_size, d, d_v), rows[count].packs);
      }
      if (count == 0) break;
      for (Index from = begin; from < end;) {
        KeyRange some = rules.key_ranges(rows[0].begin, rows[count - 1].end, from);
        if (some.empty() || some.begin >= end) break;
        if (some.end > end) some.end = end;
        from = some.begin + shared_block<Rules>(some.size());
        const GradientKeys<T> block = keys.from(some.begin - begin, from - some.begin);
        for (int g = 0; g < count; ++g) {
          const GradientTile<T> tile(scratch + g * tile_size, d, d_v);
          const Work work{tile,   blocks, rows[g],    rules, all_rules, scorer,
                          by_row, block,  some.begin, bias,  buckets,   parameter_sums, score_sums};
          TileWalk<T, Rules, Work>{rows[g], rules, work}.run(some.begin, from);
        }
      }
      for (int g = 0; g < count; ++g) {
        const GradientTile<T> tile(scratch + g * tile_size, d, d_v);
        store_gradient_tile(scorer, tile, p.scale, dq, add_dq, place, rows[g]);
      }
      if (count < tiles) break;
    }
  }
  close_keys(p, room, keys_place, key_head, keys);
}

/// Task t: one piece of one key head of one sequence, or as many key heads as share a bias's gradient.
template <class T, class Spec>
HEED_NOINLINE void backward_task(const BackwardProblem<T>& p, const Spec& spec, Index t, T* scratch) {
  const Index heads = p.shape.key_heads, all = p.shape.sequences * heads;
  const Index together = p.all_together ? all : p.heads_together ? heads : 1;
  const Index first = t / p.pieces * together;
  for (Index n = first; n < first + together; ++n)
    backward_head(p, spec, n / heads, n % heads, t % p.pieces, scratch);
}

template <class T>
HEED_NOINLINE Index backward_tasks(const BackwardProblem<T>& p) {
  return p.all_together     ? 1
         : p.heads_together ? p.shape.sequences
                            : p.shape.sequences * p.shape.key_heads * p.pieces;
}

/// Adds the pieces' dq in order.
template <class T>
HEED_NOINLINE void add_pieces(const BackwardProblem<T>& p) {
  const Index columns = p.shape.heads * p.shape.d;
  for (Index piece = 1; piece < p.pieces; ++piece)
    copy_rows<true>(p.dq_part(piece).data, columns, p.shape.queries, columns, p.dq_parts, columns);
  if (p.accumulate)
    put_rows<true>(p.dq_parts, columns, p.dq, p.shape.queries, columns);
  else
    put_rows<false>(p.dq_parts, columns, p.dq, p.shape.queries, columns);
}

template <class T, class Spec>
HEED_NOINLINE std::size_t backward_bytes(const BackwardProblem<T>& p, const Spec&) {
  const Index scorer = ScorerOf<T, Spec>::numbers(p.shape.d) * static_cast<Index>(sizeof(T));
  return (static_cast<std::size_t>(BackwardScratch<T>(p).bytes() + scorer) + 63) / 64 * 64;
}
