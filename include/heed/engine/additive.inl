// SPDX-License-Identifier: MIT
// Additive scores, scale · Σ_a w_a tanh(q_ia + k_ja).
//
// tanh(q + k) = 1 - 2 r with r = 1 / (1 + e^2q e^2k): exponentials are taken of queries (once a tile) and of
// keys (once a tile and key), and every pair costs a multiply-add, a reciprocal and a multiply-add for each
// a. That wants e^2q e^2k to be a number, so |q| may be `most_query` at most; keys are clamped to where tanh
// is 1 for every such query. A tile with a greater |q| keeps its queries as they are, and takes r from tanh
// itself.

template <class T>
struct AdditiveScorer {
  static constexpr bool fused = false;
  static constexpr int width = Pack<T>::width;
  static constexpr Index lanes = tile_lanes<T>;
  /// (2 (2 · 16 + 10) log2 e < 122, and tanh 10 = 1 - 4e-9; in double 2 (2 · 150 + 20) log2 e < 1010.)
  static constexpr T most_query = sizeof(T) == 4 ? T(16) : T(150);
  static constexpr T most_key = sizeof(T) == 4 ? T(26) : T(170);

  const T* weights;  // [d, whole packs], -2 · factor · w
  const T* slopes;   // [d, whole packs], 4 · scale · w
  T total;           // factor · Σ w
  T scale;

  static Index numbers(Index d) { return 2 * whole_packs<T>(d) + width; }

  template <class Spec>
  HEED_NOINLINE static void fill(T* memory, const Spec& spec, Index head, Index d, T scale, T factor) {
    const auto w = spec.template find<score_tag>()->weights(head, d);
    const Index columns = whole_packs<T>(d);
    double sum = 0;
    for (Index a = 0; a < columns; ++a) {
      const T x = a < d ? w.template at<T>(a) : T(0);
      memory[a] = T(-2) * (factor * x);
      memory[columns + a] = T(4) * (scale * x);
      sum -= static_cast<double>(memory[a]) / 2;
    }
    memory[2 * columns] = static_cast<T>(sum);
    memory[2 * columns + 1] = scale;
  }
  AdditiveScorer(const T* memory, Index d, T)
      : weights(memory),
        slopes(memory + whole_packs<T>(d)),
        total(memory[2 * whole_packs<T>(d)]),
        scale(memory[2 * whole_packs<T>(d) + 1]) {}

  T query_factor() const { return T(1); }

  /// Is every |x| small enough? NaN is: it stays NaN.
  HEED_INLINE static Pack<T> greatest(Pack<T> x, Pack<T> most) {
    return max_or_second(max_or_second(x, zero<T>() - x), most);
  }

  /// e^2q in place of q, or q as it is where that would be too great; row d tells which.
  HEED_NOINLINE void turn_queries(T* query, int packs, Index d) const {
    Pack<T> most = zero<T>();
    for (Index a = 0; a < d; ++a)
      for (int v = 0; v < packs; ++v) most = greatest(load(query + a * lanes + v * width), most);
    const bool separates = !any_greater(most, broadcast(most_query));
    if (separates)
      for (Index a = 0; a < d; ++a)
        for (int v = 0; v < packs; ++v) {
          T* const x = query + a * lanes + v * width;
          store(x, exp_twice(load(x)));
        }
    for (Index l = 0; l < lanes; l += width) store(query + d * lanes + l, broadcast(T(separates ? 1 : 0)));
  }

  /// What a pair's half is made of on the key's side.
  template <bool separates>
  HEED_INLINE static Pack<T> turn_key(Pack<T> k) {
    if constexpr (separates)
      return exp_twice(min_or_second(broadcast(most_key), max_or_second(broadcast(-most_key), k)));
    else
      return k;
  }
  /// r = (1 - tanh(q + k)) / 2
  template <bool separates>
  HEED_INLINE static Pack<T> half(Pack<T> query, Pack<T> key) {
    if constexpr (separates)
      return reciprocal(multiply_add(query, key, broadcast(T(1))));
    else
      return minus_product(broadcast(T(0.5)), tanh(query + key), broadcast(T(0.5)));
  }

  template <int packs>
  HEED_NOINLINE void scores(const T* query, Index d, const KeyBlock<T>& block, T* out) const {
    if (query[d * lanes] != T(0))
      scores_of<packs, true>(query, d, block, out);
    else
      scores_of<packs, false>(query, d, block, out);
  }

  /// The scores of rows of queries, each with its head's scorer of which `memory` holds one after the other,
  /// and `per_head` rows in turn: out[r · out_row + j]. k is what turn_rows() made, in rows of whole packs.
  HEED_NOINLINE static void row_scores(Index rows, Index per_head, const T* memory, const T* q, Index q_row,
                                       bool separates, const T* k, Index keys, Index d, T* out,
                                       Index out_row) {
    for (Index r = 0; r < rows; ++r) {
      const AdditiveScorer scorer(memory + r / per_head * numbers(d), d, T(0));
      if (separates)
        scorer.template one_row<true>(q + r * q_row, k, keys, d, out + r * out_row);
      else
        scorer.template one_row<false>(q + r * q_row, k, keys, d, out + r * out_row);
    }
  }
  /// Queries in place, rows that touch each other; tells whether they were small enough.
  HEED_NOINLINE static bool turn_query_rows(T* q, Index count) {
    Pack<T> most = zero<T>();
    Index t = 0;
    for (; t + width <= count; t += width) most = greatest(load(q + t), most);
    if (t < count) most = greatest(load_first(q + t, static_cast<int>(count - t)), most);
    if (any_greater(most, broadcast(most_query))) return false;
    for (t = 0; t + width <= count; t += width) store(q + t, exp_twice(load(q + t)));
    if (t < count) {
      alignas(64) T rest[width];
      store(rest, exp_twice(load_first(q + t, static_cast<int>(count - t))));
      for (Index l = 0; t + l < count; ++l) q[t + l] = rest[l];
    }
    return true;
  }
  /// Keys from rows to rows of whole packs.
  HEED_NOINLINE static void turn_rows(const T* k, Index k_row, Index keys, Index d, bool separates, T* to) {
    for (Index j = 0; j < keys; ++j, k += k_row)
      for (Index a = 0; a < d; a += width, to += width) {
        const Pack<T> x = load_columns(k, a, d);
        store(to, separates ? turn_key<true>(x) : x);
      }
  }

 private:
  static constexpr int together = 4;  // keys at a time
  static constexpr Index columns_together = 128;

  HEED_INLINE static Pack<T> load_columns(const T* row, Index a, Index d) {
    return a + width <= d ? load(row + a) : load_first(row + a, static_cast<int>(d - a));
  }

  template <int packs, bool separates>
  HEED_NOINLINE void scores_of(const T* query, Index d, const KeyBlock<T>& block, T* out) const {
    alignas(64) T key[together * columns_together];
    for (Index j = 0; j < block.keys; j += together) {
      const int count = static_cast<int>(block.keys - j < together ? block.keys - j : together);
      for (Index from = 0; from < d; from += columns_together) {
        const Index columns = d - from < columns_together ? d - from : columns_together;
        for (int c = 0; c < together; ++c) {
          // Past the end: the last key once more.
          const T* const k =
              block.k + (j + (c < count ? c : count - 1)) * block.k_row + from * block.k_column;
          T* const to = key + c * columns_together;
          if (block.k_column == 1) {
            for (Index a = 0; a < columns; a += width)
              store(to + a, turn_key<separates>(load_columns(k, a, columns)));
          } else {
            for (Index a = 0; a < columns; a += width) {
              for (Index b = a; b < a + width; ++b) to[b] = b < columns ? k[b * block.k_column] : T(0);
              store(to + a, turn_key<separates>(load(to + a)));
            }
          }
        }
        add_pairs<packs, separates>(query + from * lanes, key, weights + from, columns, from == 0,
                                    out + j * lanes, count);
      }
    }
  }

  template <int packs, bool separates>
  HEED_NOINLINE void add_pairs(const T* query, const T* key, const T* w, Index columns, bool first, T* out,
                               int count) const {
    Pack<T> acc[together][packs];
#pragma GCC unroll 4
    for (int c = 0; c < together; ++c)
#pragma GCC unroll 4
      for (int v = 0; v < packs; ++v)
        acc[c][v] = first || c >= count ? broadcast(total) : load(out + c * lanes + v * width);
    for (Index a = 0; a < columns; ++a, query += lanes) {
      const Pack<T> w_a = broadcast(w[a]);
      Pack<T> x[packs];
#pragma GCC unroll 4
      for (int v = 0; v < packs; ++v) x[v] = load(query + v * width);
#pragma GCC unroll 4
      for (int c = 0; c < together; ++c) {
        const Pack<T> y = broadcast(key[c * columns_together + a]);
#pragma GCC unroll 4
        for (int v = 0; v < packs; ++v) acc[c][v] = multiply_add(w_a, half<separates>(x[v], y), acc[c][v]);
      }
    }
#pragma GCC unroll 4
    for (int c = 0; c < together; ++c)
#pragma GCC unroll 4
      for (int v = 0; v < packs; ++v)
        if (c < count) store(out + c * lanes + v * width, acc[c][v]);
  }

  /// One query, a in lanes.
  template <bool separates>
  HEED_NOINLINE void one_row(const T* q, const T* k, Index keys, Index d, T* out) const {
    const Index columns = whole_packs<T>(d);
    for (Index j = 0; j < keys; j += width) {
      const int count = static_cast<int>(keys - j < width ? keys - j : width);
      Pack<T> sums[width];
      for (int c = 0; c < width; c += together) {
        Pack<T> acc[together];
        const T* key[together];
#pragma GCC unroll 4
        for (int b = 0; b < together; ++b) {
          acc[b] = zero<T>();
          key[b] = k + (j + (c + b < count ? c + b : count - 1)) * columns;
        }
        if (c < count)
          for (Index a = 0; a < d; a += width) {
            const Pack<T> x = load_columns(q, a, d), w = load(weights + a);
#pragma GCC unroll 4
            for (int b = 0; b < together; ++b)
              acc[b] = multiply_add(w, half<separates>(x, load(key[b] + a)), acc[b]);
          }
#pragma GCC unroll 4
        for (int b = 0; b < together; ++b)
          if (c + b < width) sums[c + b] = acc[b];
      }
      alignas(64) T scores[width];
      store(scores, sums_of(sums) + broadcast(total));
      for (int c = 0; c < count; ++c) out[j + c] = scores[c];
    }
  }
};

/// The scorer of a spec.
template <class T, class Spec>
using ScorerOf = std::conditional_t<
    std::is_same_v<decltype(std::declval<const Spec&>().template find<score_tag>()), std::nullptr_t>,
    DotScorer<T>, AdditiveScorer<T>>;
