// SPDX-License-Identifier: MIT
// The forward pass together with its derivative along one direction (forward mode): one walk over the keys,
// with P the weights, Ṡ the tangents of the scores and R = rowsum(P ∘ Ṡ),
//
//     O = P V        Ȯ = (P ∘ Ṡ) V + P V̇ - R ∘ O        log-sum-exp's tangent = R
//
// The running softmax carries O, (P ∘ Ṡ) V + P V̇ and R, all of which scale alike when the maximum rises.

/// The state of a tile, a QueryTile with more rows.
template <class T>
struct TangentTile {
  QueryTile<T> all;     // d_v rows of O, d_v of its tangent and one of R as output
  QueryTile<T> primal;  // the part of it that the forward pass has
  T* output_tangent;    // [d_v][lanes]
  T* sum_tangent;       // [lanes]
  T* query_tangent;     // [d][lanes]

  static Index size(Index d, Index d_v) { return QueryTile<T>::size(d, 2 * d_v + 1) + d * tile_lanes<T>; }

  TangentTile(T* memory, Index d, Index d_v) : all(memory, d, 2 * d_v + 1), primal(all) {
    primal.d_v = d_v;
    output_tangent = all.output + d_v * tile_lanes<T>;
    sum_tangent = output_tangent + d_v * tile_lanes<T>;
    query_tangent = memory + QueryTile<T>::size(d, 2 * d_v + 1);
  }
};

/// Keys, values and their tangents.
template <class T>
struct TangentKeys {
  KeyBlock<T> in, tangent;
  TangentKeys from(Index j, Index count) const { return {in.from(j, count), tangent.from(j, count)}; }
};

/// Final scores in base 2 of one pack and their tangents, in place of the scaled ones; -inf and 0 where a
/// pair is invisible.
template <class T, class Rules>
HEED_NOINLINE HEED_FLATTEN void edit_pack_with_tangents(const Rules& rules_in_memory, T* scores, T* tangents,
                                                        Index keys, Position i, Position j, int queries,
                                                        bool full) {
  constexpr int width = Pack<T>::width;
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const Rules rules = rules_in_memory;
  for (Index t = 0; t < keys; ++t, ++j) {
    const Index at = t * tile_lanes<T>;
    T in[width], slope[width], out[width], out_slope[width];
    for (int l = 0; l < width; ++l) in[l] = scores[at + l], slope[l] = tangents[at + l];
    std::int32_t seen[width];
    std::int32_t all = 1;
    for (int l = 0; l < width; ++l) seen[l] = l < queries && (full || rules.visible(i + l, j)) ? 1 : 0;
    for (int l = 0; l < width; ++l) all &= seen[l];
    const auto differentiate = [&](int l) {
      if constexpr (Rules::has_terms) {
        const dual<T> s = rules.score(dual<T>(in[l], slope[l]), i + l, j);
        out[l] = score_in_base_2(s.value);
        out_slope[l] = s.value != hidden ? s.tangent[0] : T(0);
      } else {
        out[l] = in[l];
        out_slope[l] = slope[l];
      }
    };
    if (all != 0) {
      for (int l = 0; l < width; ++l) differentiate(l);
    } else {
      for (int l = 0; l < width; ++l) {
        out[l] = hidden;
        out_slope[l] = T(0);
        if (seen[l] != 0) differentiate(l);
      }
    }
    for (int l = 0; l < width; ++l) scores[at + l] = out[l], tangents[at + l] = out_slope[l];
  }
}

/// tangents = weights ∘ tangents · factor, and their sums onto `sum`. Invisible pairs (a weight of 0 whose
/// tangent was set to 0) give 0.
template <int packs, class T>
HEED_NOINLINE void weigh_tangents(const T* weights, T* tangents, Index keys, T factor, T* sum) {
  constexpr int width = Pack<T>::width;
  for (int v = 0; v < packs; ++v) {
    Pack<T> total = zero<T>();
    for (Index t = 0; t < keys; ++t) {
      const Index at = t * tile_lanes<T> + v * width;
      const Pack<T> x = load(weights + at) * load(tangents + at) * broadcast(factor);
      store(tangents + at, x);
      total = total + x;
    }
    store(sum + v * width, load(sum + v * width) + total);
  }
}

/// The same from the products, for one register tile of keys: P ∘ (K̇ Qᵀ + K Q̇ᵀ) with weights as they are.
template <int rows, int packs, class T>
HEED_NOINLINE void tangent_product(const TangentTile<T>& tile, int lane, const TangentKeys<T>& keys,
                                   Index row, T* tangents) {
  constexpr Index lanes = tile_lanes<T>;
  constexpr int width = Pack<T>::width;
  Pack<T> acc[rows][packs];
#pragma GCC unroll 16
  for (int c = 0; c < rows; ++c)
#pragma GCC unroll 4
    for (int v = 0; v < packs; ++v) acc[c][v] = zero<T>();
  multiply_onto(acc, keys.in.k + row * keys.in.k_row, keys.in.k_row, Index(1), tile.query_tangent + lane,
                lanes, tile.primal.d);
  multiply_onto(acc, keys.tangent.k + row * keys.tangent.k_row, keys.tangent.k_row, Index(1),
                tile.primal.query + lane, lanes, tile.primal.d);
  const T* weights = tile.primal.weights + row * lanes + lane;
  tangents += row * lanes + lane;
#pragma GCC unroll 4
  for (int v = 0; v < packs; ++v) {
    Pack<T> total = zero<T>();
#pragma GCC unroll 16
    for (int c = 0; c < rows; ++c) {
      const Index at = c * lanes + v * width;
      const Pack<T> x = load(weights + at) * acc[c][v] * broadcast(T(1) / log2_e<T>);
      store(tangents + at, x);
      total = total + x;
    }
    T* sum = tile.primal.block_sum + lane + v * width;
    store(sum, load(sum) + total);
  }
}

/// Adds a block's share to R, which was gathered where the forward pass gathers its sums.
template <int packs, class T>
HEED_INLINE void close_tangents(const TangentTile<T>& tile, int lane) {
  QueryTile<T> r = tile.primal;
  r.sum = tile.sum_tangent;
  close_sums<packs>(r, lane);
}

/// What forward mode does with a stretch of keys.
template <class T, class Rules>
struct TangentWork {
  static constexpr bool edits_all = Rules::has_terms || Rules::drops;

  const TangentTile<T>& tile;
  T* tangents;  // [key][lanes]
  T* seen;      // final scores, where they are asked for again
  const TileRows& rows;
  const Rules& rules;
  const TangentKeys<T>& keys;
  Index origin;

  template <int packs>
  HEED_NOINLINE void full(int lane, Index begin, Index end) const {
    for (Index j = begin; j < end;) {
      const Index count = balanced_block<packs>(end - j);
      const TangentKeys<T> block = keys.from(j - origin, count);
      RowFetcher<T> nothing;
      weigh_block<packs>(tile.all, lane, block.in, nothing);
      by_register_tiles<packs>(count, [&](auto rows_at_once, Index c) {
        tangent_product<rows_at_once, packs>(tile, lane, block, c, tangents);
      });
      close_tangents<packs>(tile, lane);
      mix_block<packs>(tile.primal, lane, block.in);
      mix_block<packs>(moving(), lane, block.in);
      mix_block<packs>(moved(), lane, block.tangent);
      j += count;
    }
  }

  template <int packs>
  HEED_NOINLINE void edited(int lane, Index begin, Index end, unsigned full) const {
    constexpr Index lanes = tile_lanes<T>;
    constexpr int width = Pack<T>::width;
    const QueryTile<T>& primal = tile.primal;
    for (Index j = begin; j < end;) {
      const Index count = balanced_block<packs>(end - j);
      const TangentKeys<T> block = keys.from(j - origin, count);
      score_block<packs>(primal, lane, block.in);
      product_rows<packs, false>(count, block.in.k, block.in.k_row, Index(1), tile.query_tangent + lane,
                                 lanes, primal.d, tangents + lane, lanes);
      product_rows<packs, true>(count, block.tangent.k, block.tangent.k_row, Index(1), primal.query + lane,
                                lanes, primal.d, tangents + lane, lanes);
      bool hides = Rules::may_hide;
      for (int v = 0; v < packs; ++v) {
        const int at = lane + v * width;
        const Index left = rows.end - rows.begin - at;
        const bool sees_all = ((full >> v) & 1u) != 0;
        hides |= !sees_all;
        if (Rules::has_terms || !sees_all)
          edit_pack_with_tangents(rules, primal.weights + at, tangents + at, count,
                                  static_cast<Position>(rows.begin + at), static_cast<Position>(j),
                                  static_cast<int>(left < width ? left : width), sees_all);
      }
      const bool guarded =
          hides && !(values_finite(block.in, primal.d_v) && values_finite(block.tangent, primal.d_v));
      if (guarded) std::memcpy(seen, primal.weights, static_cast<std::size_t>(count * lanes) * sizeof(T));
      weigh_rows<packs>(tile.all, lane, 0, count, {});
      close_sums<packs>(primal, lane);
      weigh_tangents<packs>(primal.weights + lane, tangents + lane, count,
                            Rules::has_terms ? T(1) : T(1) / log2_e<T>, tile.sum_tangent + lane);
      if constexpr (Rules::drops)
        for (int at = lane; at < lane + packs * width; at += width) {
          const auto i = static_cast<Position>(rows.begin + at);
          drop_weights(rules, primal.weights + at, count, i, static_cast<Position>(j));
          drop_weights(rules, tangents + at, count, i, static_cast<Position>(j));
        }
      if (guarded) {
        mix_visible(primal, lane, packs * width, block.in, seen);
        mix_visible(moving(), lane, packs * width, block.in, seen);
        mix_visible(moved(), lane, packs * width, block.tangent, seen);
      } else {
        mix_block<packs>(primal, lane, block.in);
        mix_block<packs>(moving(), lane, block.in);
        mix_block<packs>(moved(), lane, block.tangent);
      }
      j += count;
    }
  }

 private:
  /// What the tangents of the scores move the output by,
  QueryTile<T> moving() const {
    QueryTile<T> part = tile.primal;
    part.weights = tangents;
    part.output = tile.output_tangent;
    return part;
  }
  /// and those of the values.
  QueryTile<T> moved() const {
    QueryTile<T> part = tile.primal;
    part.output = tile.output_tangent;
    return part;
  }
};

/// Writes output, log-sum-exp and their tangents. A row that saw nothing is 0, and so is its tangent.
template <class T>
HEED_NOINLINE void store_tangent_rows(const TangentTile<T>& tile, const TangentProblem<T>& p,
                                      const Place& place, const TileRows& rows) {
  constexpr int width = Pack<T>::width;
  const Index d_v = tile.primal.d_v;
  for (int v = 0; v < rows.packs; ++v) {
    const int lane = v * width;
    const Index i = rows.begin + lane, token = place.query_begin + i;
    const int count = static_cast<int>(rows.end - i < width ? rows.end - i : width);
    alignas(64) T inverse[width], mean[width], one[width];
    for (int l = 0; l < width; ++l) {
      const T sum = tile.primal.sum[lane + l];
      one[l] = T(1);
      inverse[l] = sum == T(0) ? T(0) : T(1) / sum;
      mean[l] = sum == T(0) ? T(0) : tile.sum_tangent[lane + l] * inverse[l];
    }
    for (Index c = 0; c < d_v; ++c) {
      T* o = tile.primal.output + c * tile_lanes<T> + lane;
      T* t = tile.output_tangent + c * tile_lanes<T> + lane;
      const Pack<T> out = load(o) * load(inverse);
      store(o, out);
      store(t, load(t) * load(inverse) - load(mean) * out);
    }
    const Operand<T> out = p.out.at(token, place.head * d_v), dot = p.out_tangent.at(token, place.head * d_v);
    lanes_to_rows(tile.primal.output + lane, Index(tile_lanes<T>), one, count, d_v, out.data, out.row,
                  out.column);
    lanes_to_rows(tile.output_tangent + lane, Index(tile_lanes<T>), one, count, d_v, dot.data, dot.row,
                  dot.column);
    for (int l = 0; l < count; ++l) {
      const T sum = tile.primal.sum[lane + l];
      *p.lse.at(token + l, place.head).data =
          sum == T(0) ? -std::numeric_limits<T>::infinity()
                      : (tile.primal.maximum[lane + l] + std::log2(sum)) / log2_e<T>;
      *p.lse_tangent.at(token + l, place.head).data = mean[l];
    }
  }
}

/// One row of copies for each key of a block: what is not read in place.
template <class T>
const T* block_in_rows(const Operand<const T>& x, Index j, Index count, Index columns, T* copies,
                       Index& row) {
  if (x.column == 1 && !lie_apart(x, columns)) {
    row = x.row;
    return x.data + j * x.row;
  }
  gather_rows(x.data + j * x.row, x.row, x.column, count, columns, copies, columns);
  row = columns;
  return copies;
}

/// Numbers of scratch that one worker needs.
template <class T>
Index tangent_scratch(const TangentProblem<T>& p) {
  const Index d = p.shape.d, d_v = p.shape.d_v;
  return tiles_per_group * TangentTile<T>::size(d, d_v) + 2 * block_keys * tile_lanes<T> +
         2 * block_keys * (d + d_v);
}

template <class T>
HEED_NOINLINE std::size_t tangent_bytes(const TangentProblem<T>& p) {
  return (static_cast<std::size_t>(tangent_scratch(p)) * sizeof(T) + 63) / 64 * 64;
}

template <class T>
HEED_NOINLINE Index tangent_tasks(const TangentProblem<T>& p) {
  return slot_count(p.shape, tiles_per_group * tile_lanes<T>) * p.shape.heads;
}

/// Task t: one group of tiles of one head, head by head, the last queries first.
template <class T, class Spec>
HEED_NOINLINE void tangent_task(const TangentProblem<T>& p, const Spec& spec, Index t, T* scratch) {
  using Rules = std::remove_cvref_t<decltype(spec.template bind<T>(Place{}))>;
  const Shape& shape = p.shape;
  const Index d = shape.d, d_v = shape.d_v, lanes = tiles_per_group * tile_lanes<T>;
  const Index slots = slot_count(shape, lanes), slot = t % slots, head = t / slots;
  const Index sequence = sequence_of_slot(shape, slot, lanes);
  const Index end = sequence + 1 < shape.sequences ? first_slot(shape, sequence + 1, lanes) : slots;
  const Index group = end - 1 - slot, key_head = head / (shape.heads / shape.key_heads);
  const Place place = shape.place(sequence, head);
  const Rules rules = spec.template bind<T>(place);
  const T factor = Rules::has_terms ? p.scale : p.scale * log2_e<T>;
  const T sink = spec.template sink<T>(head);

  TileRows rows[tiles_per_group];
  int count = 0;
  const Index size = TangentTile<T>::size(d, d_v);
  for (; count < tiles_per_group; ++count) {
    rows[count] = tile_of_sequence<T>(place.queries, group * tiles_per_group + count);
    if (rows[count].packs == 0) break;
    const TangentTile<T> tile(scratch + count * size, d, d_v);
    tile.all.start(sink);
    load_queries(tile.primal, p.q.at(place.query_begin, head * d), rows[count], factor);
    QueryTile<T> other = tile.primal;
    other.query = tile.query_tangent;
    load_queries(other, p.q_tangent.at(place.query_begin, head * d), rows[count], factor);
  }
  if (count == 0) return;
  T* tangents = scratch + tiles_per_group * size;
  T* seen = tangents + block_keys * tile_lanes<T>;
  T* copies = seen + block_keys * tile_lanes<T>;
  const auto k = p.k.at(place.key_begin, key_head * d),
             k_tangent = p.k_tangent.at(place.key_begin, key_head * d),
             v = p.v.at(place.key_begin, key_head * d_v),
             v_tangent = p.v_tangent.at(place.key_begin, key_head * d_v);
  for (Index from = 0; from < place.keys;) {
    const KeyRange some = rules.key_ranges(rows[0].begin, rows[count - 1].end, from);
    if (some.empty()) break;
    const Index j = some.begin, keys = shared_block<Rules>(some.size());
    from = j + keys;
    TangentKeys<T> block{{nullptr, 0, 1, nullptr, 0, 1, keys}, {nullptr, 0, 1, nullptr, 0, 1, keys}};
    T* room = copies;
    block.in.k = block_in_rows(k, j, keys, d, room, block.in.k_row);
    room += block_keys * d;
    block.tangent.k = block_in_rows(k_tangent, j, keys, d, room, block.tangent.k_row);
    room += block_keys * d;
    block.in.v = block_in_rows(v, j, keys, d_v, room, block.in.v_row);
    room += block_keys * d_v;
    block.tangent.v = block_in_rows(v_tangent, j, keys, d_v, room, block.tangent.v_row);
    for (int g = 0; g < count; ++g) {
      const TangentTile<T> tile(scratch + g * size, d, d_v);
      const TangentWork<T, Rules> work{tile, tangents, seen, rows[g], rules, block, j};
      TileWalk<T, Rules, TangentWork<T, Rules>>{rows[g], rules, work}.run(j, from);
    }
  }
  for (int g = 0; g < count; ++g)
    store_tangent_rows(TangentTile<T>(scratch + g * size, d, d_v), p, place, rows[g]);
}
