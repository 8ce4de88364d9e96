// SPDX-License-Identifier: MIT
// The derivative of the backward pass along one direction (forward over reverse), which is the gradient of
// its gradients. With U the direction of q, k and v, R = rowsum(P ∘ Ṡ), Ȯ from forward mode (tangents.inl)
// and Ḋ = rowsum(dO ∘ Ȯ), block by block:
//
//     P = exp(S - lse)    dP = V dOᵀ     dS = P ∘ (dP - D)
//     Ṗ = P ∘ (Ṡ - R)     dṖ = V̇ dOᵀ    dṠ = Ṗ ∘ (dP - D) + P ∘ (dṖ - Ḋ)
//     gV += Ṗ dO          gK += dṠ Q + dS Q̇          gQᵀ += Kᵀ dṠ + K̇ᵀ dS
//
// with queries in lanes as in the backward pass (backward_tile.inl): ten products.

/// A tile of the backward pass, and the tangents of what it holds.
template <class T>
struct SecondTile {
  GradientTile<T> first;  // its dq gathers gq
  T* query_tangent;       // [d][lanes], as `query`
  T* query_tangent_rows;  // [lanes][d, whole packs], as `query_rows`
  T* mean;                // [lanes], R
  T* minus_d_tangent;     // [lanes], -Ḋ

  static Index size(Index d, Index d_v) {
    return GradientTile<T>::size(d, d_v) + (d + whole_packs<T>(d) + 2) * tile_lanes<T>;
  }
  SecondTile(T* memory, Index d, Index d_v) : first(memory, d, d_v) {
    query_tangent = memory + GradientTile<T>::size(d, d_v);
    query_tangent_rows = query_tangent + d * tile_lanes<T>;
    mean = query_tangent_rows + whole_packs<T>(d) * tile_lanes<T>;
    minus_d_tangent = mean + tile_lanes<T>;
  }
};

/// The arrays of the block at hand, [key][lanes].
template <class T>
struct SecondBlocks {
  static constexpr Index arrays = 8;
  static constexpr Index size = arrays * block_keys * tile_lanes<T>;
  T *weights, *moved;        // P, Ṗ
  T *ds, *ds_tangent;        // dP - D, then dS; dṖ - Ḋ, then dṠ
  T *seen, *seen_tangent;    // S, Ṡ
  T *slope, *slope_tangent;  // of the terms, where there are any

  explicit SecondBlocks(T* memory) {
    T** const all[arrays] = {&weights, &moved,        &ds,    &ds_tangent,
                             &seen,    &seen_tangent, &slope, &slope_tangent};
    for (Index n = 0; n < arrays; ++n) *all[n] = memory + n * block_keys * tile_lanes<T>;
  }
};

/// Final scores in base 2 of one pack, their tangents and, with terms, the terms' slopes and those slopes'
/// tangents; -inf and 0 where a pair is invisible.
template <class T, class Rules>
HEED_NOINLINE HEED_FLATTEN void edit_pack_twice(const Rules& rules_in_memory, const SecondBlocks<T>& blocks,
                                                Index at, Index keys, Position i, Position j, int queries,
                                                bool full) {
  constexpr int width = Pack<T>::width;
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const Rules rules = rules_in_memory;
  for (Index t = 0; t < keys; ++t, ++j, at += tile_lanes<T>) {
    T s[width], moving[width], slope[width], bend[width];
    std::int32_t seen[width];
    std::int32_t all = 1;
    for (int l = 0; l < width; ++l) s[l] = blocks.seen[at + l], moving[l] = blocks.seen_tangent[at + l];
    for (int l = 0; l < width; ++l) seen[l] = l < queries && (full || rules.visible(i + l, j)) ? 1 : 0;
    for (int l = 0; l < width; ++l) all &= seen[l];
    const auto differentiate = [&](int l) {
      if constexpr (Rules::has_terms) {
        const dual<dual<T>> x(dual<T>(s[l], moving[l]), dual<T>(T(1)));
        const dual<dual<T>> y = rules.score(x, i + l, j);
        const bool lives = y.value.value != hidden;
        s[l] = score_in_base_2(y.value.value);
        moving[l] = lives ? y.value.tangent[0] : T(0);
        slope[l] = lives ? y.tangent[0].value : T(0);
        bend[l] = lives ? y.tangent[0].tangent[0] : T(0);
      }
    };
    if (all != 0) {
      for (int l = 0; l < width; ++l) differentiate(l);
    } else {
      for (int l = 0; l < width; ++l) {
        if (seen[l] != 0)
          differentiate(l);
        else
          s[l] = hidden, moving[l] = slope[l] = bend[l] = T(0);
      }
    }
    for (int l = 0; l < width; ++l) blocks.seen[at + l] = s[l], blocks.seen_tangent[at + l] = moving[l];
    if constexpr (Rules::has_terms)
      for (int l = 0; l < width; ++l) blocks.slope[at + l] = slope[l], blocks.slope_tangent[at + l] = bend[l];
  }
}

/// From P, dP, dṖ (without D and Ḋ) and the tangents of the scores to Ṗ, dS and dṠ by the scaled scores, one
/// pack. `unit` takes the tangents of the scores to natural units.
template <class T, class Rules>
HEED_NOINLINE HEED_FLATTEN void second_gradients(const Rules& rules_in_memory, const SecondTile<T>& tile,
                                                 const SecondBlocks<T>& blocks, int lane, Index keys,
                                                 Position i, Position j, T unit) {
  constexpr int width = Pack<T>::width;
  const Rules rules = rules_in_memory;
  const auto row = [&](Index t, const T* kept) {
    const Index at = t * tile_lanes<T> + lane;
    for (int l = 0; l < width; ++l) {
      const T z = Rules::drops ? kept[l] : T(1);
      const T p = blocks.weights[at + l];
      const T moved = p * (blocks.seen_tangent[at + l] * unit - tile.mean[lane + l]);
      const T gap = z * blocks.ds[at + l] + tile.first.minus_d[lane + l];
      const T gap_tangent = z * blocks.ds_tangent[at + l] + tile.minus_d_tangent[lane + l];
      T ds = p * gap, ds_tangent = moved * gap + p * gap_tangent;
      if constexpr (Rules::has_terms) {
        ds_tangent = ds_tangent * blocks.slope[at + l] + ds * blocks.slope_tangent[at + l];
        ds = ds * blocks.slope[at + l];
      }
      blocks.moved[at + l] = z * moved;
      blocks.ds[at + l] = ds;
      blocks.ds_tangent[at + l] = ds_tangent;
    }
  };
  if constexpr (Rules::drops)
    with_dropout<T>(rules, keys, i, j, row);
  else
    for (Index t = 0; t < keys; ++t) row(t, nullptr);
}

/// Keys, values, their tangents, and where gk and gv are added up.
template <class T>
struct SecondKeys {
  TangentKeys<T> in;
  T* gk;
  Index gk_row;
  T* gv;
  Index gv_row;
  SecondKeys from(Index j, Index count) const {
    return {in.from(j, count), gk + j * gk_row, gk_row, gv + j * gv_row, gv_row};
  }
};

template <class T, class Rules>
struct SecondWork {
  static constexpr bool edits_all = true;

  const SecondTile<T>& tile;
  const SecondBlocks<T>& blocks;
  const TileRows& rows;
  const Rules& rules;
  const ScoresByRow<T>& by_row;
  const SecondKeys<T>& keys;
  Index origin;

  template <int packs>
  HEED_NOINLINE void edited(int lane, Index begin, Index end, unsigned full) const {
    constexpr Index lanes = tile_lanes<T>;
    constexpr int width = Pack<T>::width;
    const GradientTile<T>& first = tile.first;
    const Index left = rows.end - rows.begin - lane;
    const Index queries = left < packs * width ? left : packs * width;
    for (Index j = begin; j < end;) {
      const Index count = balanced_block<packs>(end - j);
      const SecondKeys<T> block = keys.from(j - origin, count);
      const KeyBlock<T>&in = block.in.in, &moving = block.in.tangent;
      const auto product = [&](auto add, const T* a, Index row, const T* b, Index n, T* out) {
        product_rows<packs, decltype(add)::value>(count, a, row, Index(1), b + lane, lanes, n, out + lane,
                                                  lanes);
      };
      const std::false_type anew;
      const std::true_type more;
      if (by_row.order == ScoresByRow<T>::Order::lanes)
        product(anew, in.k, in.k_row, first.query, first.d, blocks.seen);
      else
        by_row.scores(rows.begin + lane, queries, in, j, packs * width, blocks.seen + lane);
      product(anew, in.k, in.k_row, tile.query_tangent, first.d, blocks.seen_tangent);
      product(more, moving.k, moving.k_row, first.query, first.d, blocks.seen_tangent);
      product(anew, in.v, in.v_row, first.gradient, first.d_v, blocks.ds);
      product(anew, moving.v, moving.v_row, first.gradient, first.d_v, blocks.ds_tangent);
      bool hides = Rules::may_hide;
      for (int v = 0; v < packs; ++v) {
        const int at = lane + v * width;
        const Index some = rows.end - rows.begin - at;
        const bool sees_all = ((full >> v) & 1u) != 0;
        hides |= !sees_all;
        if (Rules::has_terms || !sees_all)
          edit_pack_twice(rules, blocks, Index(at), count, static_cast<Position>(rows.begin + at),
                          static_cast<Position>(j), static_cast<int>(some < width ? some : width), sees_all);
      }
      weigh_scores<packs>(first, lane, count, blocks.seen, blocks.weights);
      const T unit = Rules::has_terms ? T(1) : T(1) / log2_e<T>;
      for (int at = lane; at < lane + packs * width; at += width)
        second_gradients(rules, tile, blocks, at, count, static_cast<Position>(rows.begin + at),
                         static_cast<Position>(j), unit);
      const bool guarded = hides && !(*first.finite && rows_finite(in, first) && rows_finite(moving, first));
      if (guarded)
        add_visible(lane, queries, block);
      else
        add<packs>(lane, queries, block);
      j += count;
    }
  }

 private:
  static bool rows_finite(const KeyBlock<T>& block, const GradientTile<T>& tile) {
    return all_finite<true>(block.k, block.k_row, Index(1), block.keys, tile.d) &&
           all_finite<true>(block.v, block.v_row, Index(1), block.keys, tile.d_v);
  }

  template <int packs>
  void add(int lane, Index queries, const SecondKeys<T>& block) const {
    constexpr Index lanes = tile_lanes<T>;
    const GradientTile<T>& first = tile.first;
    const Index columns = whole_packs<T>(first.d), value_columns = whole_packs<T>(first.d_v);
    const Index keys_here = block.in.in.keys;
    add_rows(keys_here, blocks.moved + lane, lanes, first.out_rows + lane * value_columns, value_columns,
             queries, value_columns, block.gv, block.gv_row);
    add_rows(keys_here, blocks.ds_tangent + lane, lanes, first.query_rows + lane * columns, columns, queries,
             columns, block.gk, block.gk_row);
    add_rows(keys_here, blocks.ds + lane, lanes, tile.query_tangent_rows + lane * columns, columns, queries,
             columns, block.gk, block.gk_row);
    product_rows<packs, true>(first.d, block.in.in.k, Index(1), block.in.in.k_row, blocks.ds_tangent + lane,
                              lanes, keys_here, first.dq + lane, lanes);
    product_rows<packs, true>(first.d, block.in.tangent.k, Index(1), block.in.tangent.k_row, blocks.ds + lane,
                              lanes, keys_here, first.dq + lane, lanes);
  }

  /// Visible pairs only, for blocks in which something is not finite.
  HEED_NOINLINE void add_visible(int lane, Index queries, const SecondKeys<T>& block) const {
    constexpr T hidden = -std::numeric_limits<T>::infinity();
    const GradientTile<T>& first = tile.first;
    const Index columns = whole_packs<T>(first.d), value_columns = whole_packs<T>(first.d_v);
    const KeyBlock<T>&in = block.in.in, &moving = block.in.tangent;
    for (Index j = 0; j < in.keys; ++j)
      for (Index l = lane; l < lane + queries; ++l) {
        const Index at = j * tile_lanes<T> + l;
        if (blocks.seen[at] == hidden) continue;
        const T ds = blocks.ds[at], ds_tangent = blocks.ds_tangent[at];
        for (Index c = 0; c < first.d_v; ++c)
          block.gv[j * block.gv_row + c] += blocks.moved[at] * first.out_rows[l * value_columns + c];
        for (Index c = 0; c < first.d; ++c) {
          block.gk[j * block.gk_row + c] +=
              ds_tangent * first.query_rows[l * columns + c] + ds * tile.query_tangent_rows[l * columns + c];
          first.dq[c * tile_lanes<T> + l] +=
              ds_tangent * in.k[j * in.k_row + c] + ds * moving.k[j * moving.k_row + c];
        }
      }
  }
};

/// Fills a tile: what the backward pass puts there, and the tangents.
template <class T>
HEED_NOINLINE void load_second_tile(const SecondTile<T>& tile, const SecondProblem<T>& p, const Place& place,
                                    const TileRows& rows, T factor) {
  constexpr int lanes = tile_lanes<T>, width = Pack<T>::width;
  load_gradient_tile(tile.first, p.first, place, rows, factor);
  const Index d = tile.first.d, d_v = tile.first.d_v, columns = whole_packs<T>(d);
  const Operand<const T> q = p.q_tangent.at(place.query_begin + rows.begin, place.head * d),
                         out = p.out_tangent.at(place.query_begin + rows.begin, place.head * d_v);
  const Index count = rows.end - rows.begin;
  for (int v = 0; v < rows.packs; ++v) {
    const Index l = v * width;
    rows_to_lanes(q.data + l * q.row, q.row, q.column,
                  static_cast<int>(count - l < width ? count - l : width), d, factor, tile.query_tangent + l,
                  Index(lanes));
  }
  for (Index l = 0; l < lanes; ++l) {
    T* row = tile.query_tangent_rows + l * columns;
    const bool lives = l < count && tile.first.minus_log_sum[l] != -std::numeric_limits<T>::infinity();
    for (Index c = 0; c < columns; ++c)
      row[c] = lives && c < d ? q.data[l * q.row + c * q.column] * p.first.scale : T(0);
    if (!lives && l < rows.packs * width)
      for (Index c = 0; c < d; ++c) tile.query_tangent[c * lanes + l] = T(0);
    tile.mean[l] = lives ? *p.lse_tangent.at(place.query_begin + rows.begin + l, place.head).data : T(0);
    tile.minus_d_tangent[l] = lives ? -dot(tile.first.out_rows + l * whole_packs<T>(d_v), Index(1),
                                           out.data + l * out.row, out.column, d_v)
                                    : T(0);
  }
  *tile.first.finite = *tile.first.finite &&
                       all_finite<true>(tile.query_tangent_rows, columns, Index(1), count, columns) &&
                       all_finite<true>(tile.mean, Index(0), Index(1), Index(1), count) &&
                       all_finite<true>(tile.minus_d_tangent, Index(0), Index(1), Index(1), count);
}

/// Which of a key head's matrices need room in scratch: their numbers, 0 for what is used in place.
template <class T>
struct SecondScratch {
  BackwardScratch<T> first;
  Index k_tangent, v_tangent, tiles;

  explicit SecondScratch(const SecondProblem<T>& p) : first(p.first) {
    const Shape& s = p.first.shape;
    k_tangent = p.k_tangent.column == 1 && !lie_apart(p.k_tangent, s.d) ? 0 : s.longest * s.d;
    v_tangent = p.v_tangent.column == 1 && !lie_apart(p.v_tangent, s.d_v) ? 0 : s.longest * s.d_v;
    tiles = backward_group(p.first) * SecondTile<T>::size(s.d, s.d_v) + SecondBlocks<T>::size +
            rows_numbers<T>(s.d);
  }
  Index numbers() const { return first.k + first.v + first.dk + first.dv + k_tangent + v_tangent + tiles; }
};

template <class T>
HEED_NOINLINE std::size_t second_bytes(const SecondProblem<T>& p) {
  return (static_cast<std::size_t>(SecondScratch<T>(p).numbers()) * sizeof(T) + 63) / 64 * 64;
}

template <class T>
HEED_NOINLINE Index second_tasks(const SecondProblem<T>& p) {
  return p.first.shape.sequences * p.first.shape.key_heads;
}

/// Task t: all query heads of one key head of one sequence.
template <class T, class Spec>
HEED_NOINLINE void second_task(const SecondProblem<T>& p, const Spec& spec, Index t, T* scratch) {
  using Rules = std::remove_cvref_t<decltype(spec.template bind<T>(Place{}))>;
  using Work = SecondWork<T, Rules>;
  const BackwardProblem<T>& first = p.first;
  const Shape& shape = first.shape;
  const Index sequence = t / shape.key_heads, key_head = t % shape.key_heads;
  const Index group = shape.heads / shape.key_heads, d = shape.d, d_v = shape.d_v;
  const Place keys_place = shape.place(sequence, key_head * group);
  const SecondScratch<T> room(p);
  const Index tile_size = SecondTile<T>::size(d, d_v), tiles = backward_group(first);
  const SecondBlocks<T> blocks(scratch + tiles * tile_size);
  T* memory = scratch + room.tiles;
  const auto take = [&](Index numbers) {
    T* const taken = memory;
    memory += numbers;
    return taken;
  };
  // Rows of one head that may be read as they lie, or copies of them.
  const auto rows_of = [&](const Operand<const T>& all, Index columns, Index numbers, Index& row) {
    const Operand<const T> x = all.at(keys_place.key_begin, key_head * columns);
    row = x.row;
    if (numbers == 0) return x.data;
    T* const copy = take(numbers);
    gather_rows(x.data, x.row, x.column, keys_place.keys, columns, copy, columns);
    row = columns;
    return static_cast<const T*>(copy);
  };
  SecondKeys<T> keys{};
  keys.in.in.k_column = keys.in.in.v_column = keys.in.tangent.k_column = keys.in.tangent.v_column = 1;
  keys.in.in.keys = keys.in.tangent.keys = keys_place.keys;
  keys.in.in.k = rows_of(first.k, d, room.first.k, keys.in.in.k_row);
  keys.in.in.v = rows_of(first.v, d_v, room.first.v, keys.in.in.v_row);
  keys.in.tangent.k = rows_of(p.k_tangent, d, room.k_tangent, keys.in.tangent.k_row);
  keys.in.tangent.v = rows_of(p.v_tangent, d_v, room.v_tangent, keys.in.tangent.v_row);
  const auto sums_of = [&](const Operand<T>& all, Index columns, Index numbers, Index& row) {
    const Operand<T> x = all.at(keys_place.key_begin, key_head * columns);
    T* const sums = numbers == 0 ? x.data : take(numbers);
    row = numbers == 0 ? x.row : whole_packs<T>(columns);
    clear_rows(sums, row, keys_place.keys, numbers == 0 ? columns : row);
    return sums;
  };
  keys.gk = sums_of(first.dk, d, room.first.dk, keys.gk_row);
  keys.gv = sums_of(first.dv, d_v, room.first.dv, keys.gv_row);

  for (Index head = key_head * group; head < (key_head + 1) * group; ++head) {
    const Place place = shape.place(sequence, head);
    const Rules rules = spec.template bind<T>(place);
    const T factor = Rules::has_terms ? first.scale : first.scale * log2_e<T>;
    const ScoresByRow<T> by_row = scores_by_row(first, place, true, !Rules::has_terms,
                                                scratch + tiles * tile_size + SecondBlocks<T>::size);
    for (Index first_tile = 0;; first_tile += tiles) {
      TileRows rows[tiles_per_group];
      int count = 0;
      for (; count < tiles; ++count) {
        rows[count] = tile_of_sequence<T>(place.queries, first_tile + count);
        if (rows[count].packs == 0) break;
        load_second_tile(SecondTile<T>(scratch + count * tile_size, d, d_v), p, place, rows[count], factor);
      }
      if (count == 0) break;
      for (Index from = 0; from < place.keys;) {
        const KeyRange some = rules.key_ranges(rows[0].begin, rows[count - 1].end, from);
        if (some.empty()) break;
        from = some.begin + shared_block<Rules>(some.size());
        const SecondKeys<T> block = keys.from(some.begin, from - some.begin);
        for (int g = 0; g < count; ++g) {
          const SecondTile<T> tile(scratch + g * tile_size, d, d_v);
          const Work work{tile, blocks, rows[g], rules, by_row, block, some.begin};
          TileWalk<T, Rules, Work>{rows[g], rules, work}.run(some.begin, from);
        }
      }
      for (int g = 0; g < count; ++g)
        store_gradient_tile(SecondTile<T>(scratch + g * tile_size, d, d_v).first, first.scale, first.dq,
                            false, place, rows[g]);
      if (count < tiles) break;
    }
  }
  if (room.first.dk > 0)
    put_rows<false>(keys.gk, keys.gk_row, first.dk.at(keys_place.key_begin, key_head * d), keys_place.keys,
                    d);
  if (room.first.dv > 0)
    put_rows<false>(keys.gv, keys.gv_row, first.dv.at(keys_place.key_begin, key_head * d_v), keys_place.keys,
                    d_v);
}
