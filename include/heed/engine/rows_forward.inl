// SPDX-License-Identifier: MIT
// The forward pass with a selection that needs whole rows: the scores of a tile of queries, their weights,
// and the mix of those values that have weight, key by key. A value whose weights are 0 is not read.

/// Scratch of one worker, and how a problem falls into tasks.
template <class T, class Spec>
struct RowsPlan {
  using Scorer = ScorerOf<T, Spec>;
  static constexpr Index arrays = Spec::changes_weights ? 2 : 1;

  Index packs;           // of queries in a tile
  Index tiles_together;  // tiles in a task: more where keys or values are copied first
  Index k, v;            // numbers of the copies, 0 where the matrix is read in place
  Index scorer, block;   // numbers of the scorer and of a block of scores
  Index tile;            // of a tile's queries and outputs

  explicit RowsPlan(const ForwardProblem<T>& p) {
    const Shape& s = p.shape;
    packs = row_packs<T>(s.longest);
    k = p.k.column == 1 && !lie_apart(p.k, s.d) ? 0 : s.longest * s.d;
    v = p.v.column == 1 && !lie_apart(p.v, s.d_v) ? 0 : s.longest * s.d_v;
    tiles_together = k > 0 || v > 0 ? 16 : 1;
    scorer = Scorer::numbers(s.d);
    block = RowBlock<T>::size(s.longest, arrays);
    tile = (s.d + 1 + 2 * whole_packs<T>(s.d_v) + 1) * tile_lanes<T>;
  }
  /// Queries of a task.
  Index lanes() const { return tiles_together * packs * Pack<T>::width; }
  std::size_t bytes() const {
    const Index numbers = k + v + scorer + block + tile;
    return (static_cast<std::size_t>(numbers) * sizeof(T) + 63) / 64 * 64;
  }
};

/// The rows of a matrix side by side: itself, or its copy in `memory`.
template <class T>
HEED_NOINLINE Operand<const T> rows_in_place(const Operand<const T>& x, Index rows, Index columns, T* memory,
                                             Index room) {
  if (room == 0) return {x.data, x.row, 1};
  gather_rows(x.data, x.row, x.column, rows, columns, memory, columns);
  return {memory, columns, 1};
}

/// to[c] += w · from[c].
template <class T>
HEED_INLINE void add_scaled(T w, const T* from, Index columns, T* to) {
  Index c = 0;
  for (; c + Pack<T>::width <= columns; c += Pack<T>::width)
    store(to + c, multiply_add(broadcast(w), load(from + c), load(to + c)));
  for (; c < columns; ++c) to[c] += w * from[c];
}

/// So many products are added up before they are added to the rest.
inline constexpr int short_sum = 128;

/// Adds w · value for every pair with weight: sums[lane][column], of `columns` columns in whole packs.
template <class T>
HEED_NOINLINE void mix_kept(const RowBlock<T>& block, int packs, const Operand<const T>& v, Index d_v,
                            T* recent, T* done) {
  const Index columns = whole_packs<T>(d_v);
  for (int pack = 0; pack < packs; ++pack) {
    const Position* kept = block.kept_of(pack);
    int count[Pack<T>::width] = {};
    T* const to = recent + pack * Pack<T>::width * columns;
    T* const all = done + pack * Pack<T>::width * columns;
    for (Index n = 0; n < block.kept_rows[pack]; ++n) {
      const Position key = block.keys[kept[n]];
      if (key < 0) continue;  // the sink has no value
      if (n + 2 < block.kept_rows[pack] && block.keys[kept[n + 2]] >= 0)
        prefetch_row(v.data + block.keys[kept[n + 2]] * v.row, d_v);
      const T* w = block.weights + kept[n] * tile_lanes<T> + pack * Pack<T>::width;
      const T* value = v.data + key * v.row;
      for (unsigned lanes = nonzero_lanes(load(w)); lanes != 0; lanes &= lanes - 1) {
        const int l = __builtin_ctz(lanes);
        add_scaled(w[l], value, d_v, to + l * columns);
        if (++count[l] == short_sum) {
          count[l] = 0;
          add_scaled(T(1), to + l * columns, d_v, all + l * columns);
          for (Index c = 0; c < columns; c += Pack<T>::width) store(to + l * columns + c, zero<T>());
        }
      }
    }
  }
}

/// Rows without weight get zeros, so that whole blocks may be multiplied.
template <class T>
HEED_NOINLINE void clear_rest(const RowBlock<T>& block, int packs, T* array) {
  for (int pack = 0; pack < packs; ++pack) {
    const Position* kept = block.kept_of(pack);
    Index next = 0;
    for (Index n = 0; n <= block.kept_rows[pack]; ++n) {
      const Index end = n < block.kept_rows[pack] ? kept[n] : block.rows;
      for (; next < end; ++next) store(array + next * tile_lanes<T> + pack * Pack<T>::width, zero<T>());
      ++next;
    }
  }
}

/// Calls f(row of the block, key, count) for stretches of at most `most` rows whose keys follow one another.
template <class T, class F>
HEED_INLINE void by_stretches(const RowBlock<T>& block, Index most, const F& f) {
  for (Index r = 0; r < block.rows;) {
    if (block.keys[r] < 0) break;
    Index count = 1;
    while (count < most && r + count < block.rows && block.keys[r + count] == block.keys[r] + count) ++count;
    f(r, Index(block.keys[r]), count);
    r += count;
  }
}

/// Is a block better multiplied as a whole? Only where most pairs have weight, and where no value is infinite
/// or NaN (or has an infinite product, for gradients), which would reach rows that give it no weight.
template <bool products = false, class T>
HEED_NOINLINE bool is_dense(const RowBlock<T>& block, const TileRows& rows, const Operand<const T>& v,
                            Index d_v) {
  if (block.pairs * 4 < block.rows * rows.packs * Pack<T>::width) return false;
  bool finite = true;
  by_stretches(block, block.rows, [&](Index, Index key, Index count) {
    finite = finite && all_finite<products>(v.data + key * v.row, v.row, Index(1), count, d_v);
  });
  return finite;
}

/// output[column][lane] += Σ weight · value.
template <class T>
HEED_NOINLINE void mix_all(const RowBlock<T>& block, int packs, const Operand<const T>& v, Index d_v,
                           T* output) {
  by_stretches(block, block_keys, [&](Index r, Index key, Index count) {
    const auto multiply = [&](auto n) {
      product_rows<n, true>(d_v, v.data + key * v.row, Index(1), v.row, block.weights + r * tile_lanes<T>,
                            Index(tile_lanes<T>), count, output, Index(tile_lanes<T>));
    };
    if (packs == 1) multiply(std::integral_constant<int, 1>());
    if (packs == 2) multiply(std::integral_constant<int, 2>());
    if constexpr (tile_packs >= 4) {
      if (packs == 3) multiply(std::integral_constant<int, 3>());
      if (packs == 4) multiply(std::integral_constant<int, 4>());
    }
  });
}

/// Dropout on all of an array of the block.
template <class T, class Rules>
HEED_NOINLINE void drop_rows(const Rules& rules, const RowBlock<T>& block, const TileRows& rows, T* array) {
  by_stretches(block, block.rows, [&](Index r, Index key, Index count) {
    for (int at = 0; at < rows.packs * Pack<T>::width; at += Pack<T>::width)
      drop_weights(rules, array + r * tile_lanes<T> + at, count, static_cast<Position>(rows.begin + at),
                   static_cast<Position>(key));
  });
}

/// weights[lane] = f(weight, i + l, key) for one row of one pack, and its derivatives by the weight and by
/// the number of the query's row where arrays for them are given. Only pairs that can be seen are asked
/// about.
template <class T, class F>
HEED_NOINLINE HEED_FLATTEN void change_pack(const F& f_in_memory, const T* scores, T* weights, T* slopes,
                                            T* moved, Position i, Position key) {
  constexpr int width = Pack<T>::width;
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const F f = f_in_memory;
  T in[width], out[width], slope[width], by_row[width];
  std::int32_t seen[width];
  std::int32_t all = 1;
  for (int l = 0; l < width; ++l) in[l] = weights[l];
  for (int l = 0; l < width; ++l) seen[l] = scores[l] != hidden ? 1 : 0;
  for (int l = 0; l < width; ++l) all &= seen[l];
  const auto run = [&](const auto& change) {
    if (all != 0) {
      for (int l = 0; l < width; ++l) change(l);
    } else {
      for (int l = 0; l < width; ++l) {
        out[l] = slope[l] = by_row[l] = T(0);
        if (seen[l] != 0) change(l);
      }
    }
  };
  if (slopes == nullptr) {
    run([&](int l) { out[l] = f(in[l], i + l, key); });
  } else {
    run([&](int l) {
      using Many = dual<T, F::has_parameter ? 2 : 1>;
      const Many y = f(Many(in[l], T(1)), i + l, key);
      out[l] = y.value;
      slope[l] = y.tangent[0];
      if constexpr (F::has_parameter)
        by_row[l] = y.tangent[1];
      else
        by_row[l] = T(0);
    });
    for (int l = 0; l < width; ++l) slopes[l] = slope[l];
    if (moved != nullptr)
      for (int l = 0; l < width; ++l) moved[l] = by_row[l];
  }
  for (int l = 0; l < width; ++l) weights[l] = out[l];
}

/// The weight function on all of a block; lists anew which rows have weight, or anything else in the arrays
/// given.
template <class T, class F>
HEED_NOINLINE void change_weights(const F& f, RowBlock<T>& block, const TileRows& rows, const T* kept_too,
                                  T* slopes, T* moved) {
  clear_rest(block, rows.packs, block.weights);
  block.pairs = 0;
  for (int pack = 0; pack < rows.packs; ++pack) {
    const Index lane = pack * Pack<T>::width, left = rows.end - rows.begin - lane;
    Index kept = 0;
    for (Index r = 0; r < block.rows; ++r) {
      const Index at = r * tile_lanes<T> + lane;
      const Position key = block.keys[r];
      if (key < 0) {
        if (slopes != nullptr) store(slopes + at, zero<T>());
        if (moved != nullptr) store(moved + at, zero<T>());
      } else if (left < Pack<T>::width) {
        // Lanes without a query have no number of their own: pairs one by one.
        T scores[Pack<T>::width];
        for (Index l = 0; l < Pack<T>::width; ++l)
          scores[l] = l < left ? block.scores[at + l] : -std::numeric_limits<T>::infinity();
        change_pack(f, scores, block.weights + at, slopes == nullptr ? nullptr : slopes + at,
                    moved == nullptr ? nullptr : moved + at, static_cast<Position>(rows.begin + lane), key);
      } else {
        change_pack(f, block.scores + at, block.weights + at, slopes == nullptr ? nullptr : slopes + at,
                    moved == nullptr ? nullptr : moved + at, static_cast<Position>(rows.begin + lane), key);
      }
      unsigned lanes = nonzero_lanes(load(block.weights + at));
      block.pairs += __builtin_popcount(lanes);
      if (kept_too != nullptr) lanes |= nonzero_lanes(load(kept_too + at));
      if (moved != nullptr) lanes |= nonzero_lanes(load(moved + at));
      block.kept_of(pack)[kept] = static_cast<Position>(r);
      kept += lanes != 0 ? 1 : 0;
    }
    block.kept_rows[pack] = kept;
  }
}

/// A tile of queries of one head.
template <class T, class Spec>
HEED_NOINLINE void rows_tile(const ForwardProblem<T>& p, const Spec& spec, const Place& place,
                             const TileRows& rows, const ScorerOf<T, Spec>& scorer, const Operand<const T>& k,
                             const Operand<const T>& v, T* scratch) {
  constexpr int width = Pack<T>::width;
  constexpr Index arrays = RowsPlan<T, Spec>::arrays;
  const Index d = p.shape.d, d_v = p.shape.d_v, columns = whole_packs<T>(d_v);
  const auto rules = spec.template bind<T>(place);
  const auto selection = spec.bind_selection(place);
  RowBlock<T> block(scratch, p.shape.longest, arrays);
  if constexpr (arrays > 1) block.weights = block.array(1);
  T* const query = scratch + RowBlock<T>::size(p.shape.longest, arrays);
  T* const recent = query + (d + 1) * tile_lanes<T>;
  T* const done = recent + columns * tile_lanes<T>;
  T* const summary = done + columns * tile_lanes<T>;
  const Operand<const T> q = p.q.at(place.query_begin, place.head * d);
  for (int pack = 0; pack < rows.packs; ++pack) {
    const Index i = rows.begin + pack * width;
    const int count = static_cast<int>(rows.end - i < width ? rows.end - i : width);
    rows_to_lanes(q.data + i * q.row, q.row, q.column, count, d, scorer.query_factor(), query + pack * width,
                  Index(tile_lanes<T>));
  }
  scorer.turn_queries(query, rows.packs, d);
  score_rows(block, scorer, query, d, rows, rules, k, place.keys, spec.template sink<T>(place.head));
  for (int pack = 0; pack < rows.packs; ++pack)
    select_rows(selection, block, pack, static_cast<T*>(nullptr), summary, rows.begin + pack * width);
  if constexpr (Spec::changes_weights) {
    T* const none = nullptr;
    change_weights(spec.bind_weight_function(place), block, rows, none, none, none);
  }
  if constexpr (rules.drops) {
    clear_rest(block, rows.packs, block.weights);
    drop_rows(rules, block, rows, block.weights);
  }

  const Operand<T> out = p.out.at(place.query_begin + rows.begin, place.head * d_v);
  const Index count = rows.end - rows.begin;
  std::memset(recent, 0, static_cast<std::size_t>(2 * columns * tile_lanes<T>) * sizeof(T));
  if (is_dense(block, rows, v, d_v)) {
    clear_rest(block, rows.packs, block.weights);
    mix_all(block, rows.packs, v, d_v, recent);
    alignas(64) T one[width];
    store(one, broadcast(T(1)));
    for (int pack = 0; pack < rows.packs; ++pack) {
      const Index l = pack * width, left = count - l < width ? count - l : width;
      lanes_to_rows(recent + l, Index(tile_lanes<T>), one, static_cast<int>(left), d_v,
                    out.data + l * out.row, out.row, out.column);
    }
  } else {
    mix_kept(block, rows.packs, v, d_v, recent, done);
    for (Index l = 0; l < count; ++l) add_scaled(T(1), done + l * columns, d_v, recent + l * columns);
    put_rows<false>(recent, columns, out, count, d_v);
  }
  if (p.lse.data != nullptr) {
    const LogSums<T> lse = p.lse.at(place.query_begin + rows.begin, place.head);
    for (Index l = 0; l < count; ++l) lse.data[l * lse.row] = summary[l];
  }
}

/// Task t: some tiles of one head of one sequence.
template <class T, class Spec>
HEED_NOINLINE void rows_task(const ForwardProblem<T>& p, const Spec& spec, Index t, T* scratch) {
  const RowsPlan<T, Spec> plan(p);
  const Index slot = t / p.shape.heads, head = t % p.shape.heads, d = p.shape.d, d_v = p.shape.d_v;
  const Index sequence = sequence_of_slot(p.shape, slot, plan.lanes());
  const Index tile = (slot - first_slot(p.shape, sequence, plan.lanes())) * plan.tiles_together;
  const Place place = p.shape.place(sequence, head);
  if (tile_of_sequence<T>(place.queries, tile, plan.packs).packs == 0) return;
  const Index key_head = head / (p.shape.heads / p.shape.key_heads);
  const Operand<const T> k =
      rows_in_place(p.k.at(place.key_begin, key_head * d), place.keys, d, scratch, plan.k);
  scratch += plan.k;
  const Operand<const T> v =
      rows_in_place(p.v.at(place.key_begin, key_head * d_v), place.keys, d_v, scratch, plan.v);
  scratch += plan.v;
  using Scorer = ScorerOf<T, Spec>;
  Scorer::fill(scratch, spec, head, d, p.scale, p.scale);
  const Scorer scorer(scratch, d, p.scale);
  scratch += plan.scorer;
  for (Index n = tile; n < tile + plan.tiles_together; ++n) {
    const TileRows rows = tile_of_sequence<T>(place.queries, n, plan.packs);
    if (rows.packs == 0) break;
    rows_tile(p, spec, place, rows, scorer, k, v, scratch);
  }
}

template <class T, class Spec>
HEED_NOINLINE Index rows_tasks(const ForwardProblem<T>& p, const Spec&) {
  return slot_count(p.shape, RowsPlan<T, Spec>(p).lanes()) * p.shape.heads;
}
template <class T, class Spec>
HEED_NOINLINE std::size_t rows_bytes(const ForwardProblem<T>& p, const Spec&) {
  return RowsPlan<T, Spec>(p).bytes();
}
