// SPDX-License-Identifier: MIT
// Scorers: how a block of keys and a tile of queries become scaled scores, [key][query lane], and how
// gradients of these become gradients of queries and keys. The engine asks the scorer of its spec, bound to a
// head:
//
//     Scorer::fused                      true where the engine's own products do the work (dot products)
//     Scorer::numbers(d)                 scratch of one head's scorer, in numbers
//     fill(memory, spec, head, d, scale, factor)     prepares that scratch; factor = scale, or scale · log2 e
//     Scorer(memory, d, factor)
//     query_factor()                     what queries are multiplied by when they are loaded into lanes
//     turn_queries(query, packs, d)      makes of queries in lanes what scores() wants, in place
//     scores<packs>(query, d, block, out)            from the lane that query and out point to on
//     row_scores(...)                    the same for few queries, in rows (streamed.inl)
//
// and in the backward pass, with a tile whose query_rows and dq are the scorer's own between the first of
// these and the last,
//
//     turn_gradient_tile(scorer, tile, packs)
//     add_score_gradients<packs>(scorer, tile, lane, queries, keys, ds, seen, dw)     dq, dk and dw from ds
//     store_gradient_tile(scorer, tile, scale, dq, add, place, rows)
//
// `query` is [d + 1][lanes]: the last row is the scorer's own. additive.inl has the other scorer.

/// Columns of rows that vectors run over are filled up with zeros to whole packs.
template <class T>
HEED_INLINE Index whole_packs(Index columns) {
  return (columns + Pack<T>::width - 1) / Pack<T>::width * Pack<T>::width;
}

/// scale · q · k. The engine's fast paths multiply by themselves; what they do is here for the paths that
/// edit scores.
template <class T>
struct DotScorer {
  static constexpr bool fused = true;
  T factor;

  static Index numbers(Index) { return 0; }
  template <class Spec>
  static void fill(T*, const Spec&, Index, Index, T, T) {}
  DotScorer(const T*, Index, T f) : factor(f) {}

  T query_factor() const { return factor; }
  void turn_queries(T*, int, Index) const {}
  template <int packs>
  HEED_INLINE void scores(const T* query, Index d, const KeyBlock<T>& block, T* out) const {
    product_rows<packs, false>(block.keys, block.k, block.k_row, block.k_column, query, Index(tile_lanes<T>),
                               d, out, Index(tile_lanes<T>));
  }
};
