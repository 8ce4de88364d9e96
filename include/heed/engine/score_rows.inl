// SPDX-License-Identifier: MIT
// All scores of a tile of queries at once, for selections that must see a whole row before they know a
// weight: one row of the block for each key that some query of the tile may see, queries in lanes.

/// Packs of queries in a tile: fewer where rows are long, so that a block of scores stays in the second-level
/// cache as long as it can.
template <class T>
Index row_packs(Index longest) {
  constexpr Index most = Index(1) << 20;
  const Index pack = (longest + 1) * pack_bytes;
  return pack * tile_packs <= most ? tile_packs : pack >= most ? 1 : most / pack;
}

/// Arrays are [row][query lane] but for `keys`, the position of each row's key.
template <class T>
struct RowBlock {
  T* scores;  // natural units, -inf where a pair is invisible
  T* weights;
  Position* keys;
  Position* kept;  // [pack][row]: the rows in which some lane of a pack has weight, in order
  Index capacity;
  Index rows = 0;  // with the sink's, which is the last
  Index kept_rows[tile_packs] = {};
  Index pairs = 0;  // with weight

  /// Numbers of memory for at most `longest` keys, with so many arrays of scores' size.
  static Index size(Index longest, Index arrays) {
    const Index rows = longest + 1, positions = rows * (1 + tile_packs);
    constexpr Index each = static_cast<Index>(sizeof(T) / sizeof(Position));
    return arrays * rows * tile_lanes<T> + (positions / each + pack_bytes) / pack_bytes * pack_bytes;
  }
  /// With scores and weights in one array, which is the first of `arrays`; what else there is lies behind it.
  RowBlock(T* memory, Index longest, Index arrays) : scores(memory), weights(memory), capacity(longest + 1) {
    keys = reinterpret_cast<Position*>(array(arrays));
    kept = keys + capacity;
  }
  HEED_INLINE T* array(Index n) const { return scores + n * capacity * tile_lanes<T>; }
  HEED_INLINE Position* kept_of(int pack) const { return kept + pack * capacity; }
  HEED_INLINE T* row(T* array, Index r) const { return array + r * tile_lanes<T>; }
};

/// Where terms change scores: what the backward pass wants to know of them, each [row][query lane] or null.
template <class T>
struct RowSlopes {
  T* through = nullptr;  // as in GradientBlocks
  T* after = nullptr;
  T* scaled = nullptr;
};

/// Writes scores where the walk over the mask finds pairs.
template <class T, class Rules, class Scorer>
struct ScoreWork {
  static constexpr bool edits_all = Rules::has_terms;

  const Scorer& scorer;
  const T* query;  // [d + 1][lanes], as the scorer wants it
  Index d;
  const TileRows& rows;
  const Rules& rules;
  const Operand<const T>& k;  // from the sequence's key 0 on, columns side by side
  Index origin;               // the key of row `first` of the block
  T* scores;                  // its row
  const RowSlopes<T>& slopes;
  Index first;

  template <int packs>
  HEED_NOINLINE void full(int lane, Index begin, Index end) const {
    const KeyBlock<T> block{k.data + begin * k.row, k.row, 1, nullptr, 0, 0, end - begin};
    scorer.template scores<packs>(query + lane, d, block, scores + (begin - origin) * tile_lanes<T> + lane);
  }

  template <int packs>
  HEED_NOINLINE void edited(int lane, Index begin, Index end, unsigned full_packs) const {
    full<packs>(lane, begin, end);
    for (int v = 0; v < packs; ++v) {
      const int at = lane + v * Pack<T>::width;
      const Index i = rows.begin + at, left = rows.end - i;
      const int queries = static_cast<int>(left < Pack<T>::width ? left : Pack<T>::width);
      const bool sees_all = ((full_packs >> v) & 1u) != 0;
      const Index offset = (begin - origin) * tile_lanes<T> + at;
      if constexpr (Rules::has_terms) {
        if (slopes.through != nullptr) {
          const Index there = first * tile_lanes<T> + offset;
          if (slopes.scaled != nullptr)
            for (Index t = 0; t < end - begin; ++t)
              store(slopes.scaled + there + t * tile_lanes<T>, load(scores + offset + t * tile_lanes<T>));
          edit_pack_with_slopes<false>(rules, scores + offset, slopes.through + there, slopes.after + there,
                                       end - begin, static_cast<Position>(i), static_cast<Position>(begin),
                                       queries, sees_all);
          continue;
        }
      }
      if (Rules::has_terms || !sees_all)
        edit_pack<false>(rules, scores + offset, end - begin, static_cast<Position>(i),
                         static_cast<Position>(begin), queries, sees_all);
    }
  }
};

/// Fills the block with the scores of a tile, and with the sink's where there is one.
template <class T, class Rules, class Scorer>
HEED_NOINLINE void score_rows(RowBlock<T>& block, const Scorer& scorer, const T* query, Index d,
                              const TileRows& rows, const Rules& rules, const Operand<const T>& k, Index keys,
                              T sink, const RowSlopes<T>& slopes = {}) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  block.rows = 0;
  for (Index from = 0; from < keys;) {
    const KeyRange some = rules.key_ranges(rows.begin, rows.end, from);
    if (some.empty()) break;
    T* const scores = block.row(block.scores, block.rows);
    // The walk leaves out what nobody sees.
    if constexpr (Rules::has_mask)
      for (Index r = 0; r < some.size(); ++r)
        for (int v = 0; v < rows.packs; ++v) {
          const Index at = r * tile_lanes<T> + v * Pack<T>::width;
          store(scores + at, broadcast(hidden));
          for (T* const array : {slopes.through, slopes.after, slopes.scaled})
            if (array != nullptr) store(array + block.rows * tile_lanes<T> + at, zero<T>());
        }
    using Work = ScoreWork<T, Rules, Scorer>;
    const Work work{scorer, query, d, rows, rules, k, some.begin, scores, slopes, block.rows};
    TileWalk<T, Rules, Work>{rows, rules, work}.run(some.begin, some.end);
    for (Index r = 0; r < some.size(); ++r)
      block.keys[block.rows + r] = static_cast<Position>(some.begin + r);
    block.rows += some.size();
    from = some.end;
  }
  if (sink != hidden) {
    for (int v = 0; v < rows.packs; ++v)
      store(block.row(block.scores, block.rows) + v * Pack<T>::width, broadcast(sink));
    block.keys[block.rows++] = -1;
  }
  // Lanes without a query see nothing.
  const Index end = rows.packs * Pack<T>::width;
  if (rows.end - rows.begin < end)
    for (Index r = 0; r < block.rows; ++r)
      for (Index l = rows.end - rows.begin; l < end; ++l) block.row(block.scores, r)[l] = hidden;
}
