// SPDX-License-Identifier: MIT
// The forward pass of a group of query tiles: walk the keys that its mask admits, block by block, with a
// running softmax.

template <class T>
Index group_tiles(const ForwardProblem<T>& p) {
  const Index tiles = (p.shape.queries + tile_lanes<T> - 1) / tile_lanes<T>;
  return tiles < tiles_per_group ? (tiles < 1 ? 1 : tiles) : tiles_per_group;
}

/// Bytes of scratch that one worker needs.
template <class T>
Index tiled_scratch(const ForwardProblem<T>& p, const ForwardPlan& plan, Index scorer_numbers) {
  const Index numbers = scorer_numbers + group_tiles(p) * QueryTile<T>::size(p.shape.d, p.shape.d_v) +
                        block_keys * tile_lanes<T>;
  return CopiedKeys<T>::bytes(p.shape, plan) + numbers * static_cast<Index>(sizeof(T));
}

template <class T>
HEED_NOINLINE void load_queries(const QueryTile<T>& tile, const Operand<const T>& q, const TileRows& rows,
                                T factor) {
  for (int v = 0; v < rows.packs; ++v) {
    const Index i = rows.begin + v * Pack<T>::width;
    const int count = static_cast<int>(rows.end - i < Pack<T>::width ? rows.end - i : Pack<T>::width);
    if (q.column == 1)
      for (Index next = i + Pack<T>::width; next < i + 2 * Pack<T>::width && next < rows.end; ++next)
        prefetch_row(q.data + next * q.row, tile.d);
    rows_to_lanes(q.data + i * q.row, q.row, q.column, count, tile.d, factor, tile.query + v * Pack<T>::width,
                  Index(tile_lanes<T>));
  }
}

/// The maximum and the sum of a row that was stored, and its output as it was before it was divided.
template <class T>
HEED_INLINE void resume_sum(const RowNorm<T>& before, Index d_v, T* output, Index step, T& maximum, T& sum) {
  maximum = before.maximum;
  sum = std::exp2(-before.minus_log_sum);
  for (Index c = 0; c < d_v; ++c) output[c * step] *= sum;
}

/// Goes on where rows were stored, which hold outputs divided by their sums.
template <class T>
HEED_NOINLINE void resume_rows(const QueryTile<T>& tile, const Operand<T>& out, const LogSums<T>& lse,
                               const TileRows& rows) {
  for (int lane = 0; lane < rows.packs * Pack<T>::width; lane += Pack<T>::width) {
    const Index i = rows.begin + lane;
    const int count = static_cast<int>(rows.end - i < Pack<T>::width ? rows.end - i : Pack<T>::width);
    rows_to_lanes(static_cast<const T*>(out.data) + i * out.row, out.row, out.column, count, tile.d_v, T(1),
                  tile.output + lane, Index(tile_lanes<T>));
    for (int l = 0; l < count; ++l) {
      const RowNorm<T> before = lse.at(i + l, 0).norm();
      if (!before.lives()) continue;  // nothing, and a row of zeros
      resume_sum(before, tile.d_v, tile.output + lane + l, Index(tile_lanes<T>), tile.maximum[lane + l],
                 tile.sum[lane + l]);
    }
  }
}

/// Has some row of a tile to be looked at again (great_scores.inl)? Lanes without a query may say so, too.
template <class T>
HEED_INLINE bool lost_a_sum(const QueryTile<T>& tile, int packs) {
  Pack<T> lost = zero<T>();
  for (int lane = 0; lane < packs * Pack<T>::width; lane += Pack<T>::width)
    lost = where_greater(load(tile.sum + lane), zero<T>(), lost, broadcast(T(1)));
  return any_greater(lost, zero<T>());
}
template <class T, class Spec>
HEED_NOINLINE void attend_rows_again(const ForwardProblem<T>& p, const Spec& spec, const Place& place,
                                     const TileRows& rows, const QueryTile<T>& tile) {
  for (Index i = rows.begin; i < rows.end; ++i) {
    const Index l = i - rows.begin;
    if (lost_its_sum(tile.sum[l]))
      attend_again(p, spec, place, i, tile.output + l, Index(tile_lanes<T>), tile.maximum[l], tile.sum[l]);
  }
}

/// Divides by the sums and writes the rows; a row whose sum is 0 saw nothing and is 0, its log-sum-exp -inf.
template <class T>
HEED_NOINLINE void store_rows(const QueryTile<T>& tile, const Operand<T>& out, const LogSums<T>& lse,
                              const TileRows& rows) {
  for (int v = 0; v < rows.packs; ++v) {
    const int lane = v * Pack<T>::width;
    const Index i = rows.begin + lane;
    const int count = static_cast<int>(rows.end - i < Pack<T>::width ? rows.end - i : Pack<T>::width);
    alignas(64) T factor[Pack<T>::width];
    for (int l = 0; l < Pack<T>::width; ++l)
      factor[l] = tile.sum[lane + l] == T(0) ? T(0) : T(1) / tile.sum[lane + l];
    lanes_to_rows(tile.output + lane, Index(tile_lanes<T>), factor, count, tile.d_v, out.data + i * out.row,
                  out.row, out.column);
    if (lse.data != nullptr) {
      const LogSums<T> of_rows = lse.at(i, 0);
      for (int l = 0; l < count; ++l) of_rows.put(l * lse.row, tile.maximum[lane + l], tile.sum[lane + l]);
    }
  }
}

/// What the forward pass does with a stretch of keys: element 0 of `keys` is key `origin` of the sequence.
template <class T, class Rules, class Scorer, class AllRules = Rules>
struct ForwardWork {
  static constexpr bool edits_all = Rules::has_terms || Rules::drops || !Scorer::fused;

  const QueryTile<T>& tile;
  T* seen;
  const TileRows& rows;
  const Rules& rules;
  const Scorer& scorer;
  KeyBlock<T> keys;
  Index origin;
  RowFetcher<T>& ahead;
  const AllRules& all_rules;

  template <int packs>
  HEED_NOINLINE void full(int lane, Index begin, Index end) const {
    for (Index j = begin; j < end;) {
      const Index count = balanced_block<packs>(end - j);
      const KeyBlock<T> block = keys.from(j - origin, count);
      BlockTerms<T, AllRules> terms;
      attend_block<packs>(tile, lane, block, ahead,
                          terms.of(all_rules, rows.begin + lane, j, count, packs * Pack<T>::width));
      j += count;
    }
  }

  /// Scores are edited between product and softmax. Bit v of `full`: pack v sees every key.
  template <int packs>
  HEED_NOINLINE void edited(int lane, Index begin, Index end, unsigned full) const {
    const Index i = rows.begin + lane;
    for (Index j = begin; j < end;) {
      const Index count = balanced_block<packs>(end - j);
      const KeyBlock<T> block = keys.from(j - origin, count);
      scorer.template scores<packs>(tile.query + lane, tile.d, block, tile.weights + lane);
      BlockTerms<T, AllRules> terms;
      finish_scores<packs>(terms.of(all_rules, i, j, count, packs * Pack<T>::width), tile.weights + lane,
                           count);
      bool hides = Rules::may_hide;
      for (int v = 0; v < packs; ++v) {
        const Index first = i + v * Pack<T>::width, left = rows.end - first;
        const int queries = static_cast<int>(left < Pack<T>::width ? left : Pack<T>::width);
        const bool sees_all = ((full >> v) & 1u) != 0;
        hides |= !sees_all;
        if (Rules::has_terms || !sees_all)
          edit_pack(rules, tile.weights + lane + v * Pack<T>::width, count, static_cast<Position>(first),
                    static_cast<Position>(j), queries, sees_all);
      }
      if (hides && !values_finite(block, tile.d_v)) {
        std::memcpy(seen, tile.weights, static_cast<std::size_t>(count * tile_lanes<T>) * sizeof(T));
        weigh<packs>(lane, count, j);
        mix_visible(tile, lane, packs * Pack<T>::width, block, seen);
      } else {
        weigh<packs>(lane, count, j);
        mix_block<packs>(tile, lane, block, ahead);
      }
      j += count;
    }
  }

 private:
  template <int packs>
  void weigh(int lane, Index count, Index j) const {
    weigh_rows<packs>(tile, lane, 0, count, {});
    close_sums<packs>(tile, lane);
    if constexpr (Rules::drops)
      for (int at = lane; at < lane + packs * Pack<T>::width; at += Pack<T>::width)
        drop_weights(rules, tile.weights + at, count, static_cast<Position>(rows.begin + at),
                     static_cast<Position>(j));
  }
};

/// Do several tiles see much the same of these keys? Otherwise each had better go through its own.
template <class Rules>
HEED_NOINLINE bool tiles_share(const Rules& rules, const TileRows* rows, int count, KeyRange keys) {
  Index seen = 0;
  for (int g = 0; g < count; ++g)
    for (Index from = keys.begin; from < keys.end;) {
      const KeyRange some = rules.key_ranges(rows[g].begin, rows[g].end, from);
      if (some.empty() || some.begin >= keys.end) break;
      from = some.end < keys.end ? some.end : keys.end;
      seen += from - some.begin;
      if (2 * seen > count * keys.size()) return true;
    }
  return false;
}

/// Asks for the first of some keys, and their values, in about so many steps.
template <class T>
RowFetcher<T> fetch_keys(const Operand<const T>& k, const Operand<const T>& v, const Shape& s, KeyRange keys,
                         Index steps) {
  if (k.column != 1 || v.column != 1) return {};
  const Index rows = keys.size() < block_keys ? keys.size() : block_keys;
  const T *const first_key = k.data + keys.begin * k.row, *const first_value = v.data + keys.begin * v.row;
  return {first_key, k.row, s.d, first_value, v.row, s.d_v, rows, rows / (steps + 1) + 1};
}

/// Tiles [first_tile, first_tile + tiles) of one head.
template <class T, class Spec>
HEED_NOINLINE void forward_group(const ForwardProblem<T>& p, const Spec& spec, const ForwardPlan& plan,
                                 Index sequence, Index head, Index first_tile, int tiles, T* scratch) {
  const Place place = p.shape.place(sequence, head);
  const auto all_rules = spec.template bind<T>(place);
  const auto rules = rules_of_blocks(all_rules);
  using AllRules = std::remove_cvref_t<decltype(all_rules)>;
  using Rules = std::remove_cvref_t<decltype(rules)>;
  const Index d = p.shape.d, d_v = p.shape.d_v;
  const Index key_head = head / (p.shape.heads / p.shape.key_heads);
  const Operand<const T> q = p.q.at(place.query_begin, head * d);
  const Operand<const T> k = p.k.at(place.key_begin, key_head * d);
  const Operand<const T> v = p.v.at(place.key_begin, key_head * d_v);
  const Operand<T> out = p.out.at(place.query_begin, head * d_v);
  const LogSums<T> lse = p.lse.data == nullptr ? p.lse : p.lse.at(place.query_begin, head);
  const T factor = natural_sums<AllRules> ? p.scale : p.scale * log2_e<T>;

  const CopiedKeys<T> copies(p, plan, scratch);
  if (copies.active()) copies.turn_to(sequence, key_head);
  scratch += CopiedKeys<T>::bytes(p.shape, plan) / static_cast<Index>(sizeof(T));
  T* seen = scratch;
  scratch += block_keys * tile_lanes<T>;
  using Scorer = ScorerOf<T, Spec>;
  Scorer::fill(scratch, spec, head, d, p.scale, factor);
  const Scorer scorer(scratch, d, factor);
  scratch += Scorer::numbers(d);
  const Index tile_size = QueryTile<T>::size(d, d_v);
  TileRows rows[tiles_per_group];
  int count = 0;
  const T sink = spec.template sink<T>(head);
  for (; count < tiles; ++count) {
    rows[count] = tile_of_sequence<T>(place.queries, first_tile + count);
    if (rows[count].packs == 0) break;
    const QueryTile<T> tile(scratch + count * tile_size, d, d_v);
    tile.start(sink);
    if (p.continues) resume_rows(tile, out, lse, rows[count]);
    load_queries(tile, q, rows[count], scorer.query_factor());
    scorer.turn_queries(tile.query, rows[count].packs, d);
  }
  if (count == 0) return;
  // A single tile takes keys that lie close together in one go; several tiles share each block while it is in
  // the cache, where they see much the same.
  const bool alone = count == 1 && !copies.active();
  const auto seen_from = [&](Index key) { return rules.key_ranges(rows[0].begin, rows[count - 1].end, key); };
  bool together = false;
  Index judged = 0;  // keys before this
  for (KeyRange some = seen_from(0), next; !some.empty(); some = next) {
    if (!alone && some.begin >= judged) {
      together = tiles_share(rules, rows, count, some);
      judged = some.end;
    }
    Index keys = some.size();
    if (copies.active() && copies.in_one_piece(some.begin) < keys) keys = copies.in_one_piece(some.begin);
    if (together) keys = shared_block<Rules>(keys);
    const Index from = some.begin + keys;
    KeyBlock<T> block = {
        k.data + some.begin * k.row, k.row, k.column, v.data + some.begin * v.row, v.row, v.column, keys};
    RowFetcher<T> ahead;
    next = from < some.end ? KeyRange{from, some.end} : seen_from(from);
    const auto ask_for = [&](KeyRange soon, Index steps) {
      if (soon.empty() || (copies.active() && copies.holds(soon.begin))) return;
      ahead = fetch_keys(k, v, p.shape, soon, steps);
    };
    const bool separate = !alone && !together;
    const Index steps = count * (keys + d_v) / tile_rows<tile_packs>;
    if (!separate) ask_for(next, steps);
    if (out.column == 1 && q.column == 1 && !alone && next.empty()) {
      // No more keys: what is needed next are the rows to be written, and the queries before these, whose
      // turn it probably is.
      const Index end = rows[count - 1].end, left = end - rows[0].begin;
      const Index before = rows[0].begin >= left ? rows[0].begin - left : rows[0].begin;
      ahead = {q.data + before * q.row, q.row, d, out.data + rows[0].begin * out.row, out.row, d_v, left,
               left / (steps + 1) + 1};
    }
    if (copies.active()) block = copies.block(place, key_head, some.begin, keys);
    for (int g = 0; g < count; ++g) {
      const QueryTile<T> tile(scratch + g * tile_size, d, d_v);
      if (separate) {
        // While this tile is worked on, what the next one sees here, or the first one further on.
        KeyRange soon =
            g + 1 < count ? rules.key_ranges(rows[g + 1].begin, rows[g + 1].end, some.begin) : next;
        if (soon.empty() || soon.begin >= from) soon = next;
        ask_for(soon, (block_keys + d_v) / tile_rows<tile_packs>);
      }
      using Work = ForwardWork<T, Rules, Scorer, AllRules>;
      const Work work{tile, seen, rows[g], rules, scorer, block, some.begin, ahead, all_rules};
      TileWalk<T, Rules, Work>{rows[g], rules, work}.run(some.begin, from);
    }
  }
  for (int g = 0; g < count; ++g) {
    const QueryTile<T> tile(scratch + g * tile_size, d, d_v);
    if (__builtin_expect(lost_a_sum(tile, rows[g].packs), 0)) attend_rows_again(p, spec, place, rows[g], tile);
    store_rows(tile, out, lse, rows[g]);
  }
}
