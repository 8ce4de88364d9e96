// SPDX-License-Identifier: MIT
// Score terms that a block of keys takes between the product and the exponential, a pack of queries at a
// time. Others are functors of a pair, and edit stored scores one by one.
//
// A function of i - j (ALiBi, T5's bias) is constant along diagonals, so that a block of keys and a tile of
// queries need as many values as they have diagonals, and a pack of queries finds its own side by side: sums
// of products start from them. A function of the score alone (softcap) bends the sums.

/// Nothing to do. What the others have, too; t counts the block's keys, v the packs.
struct NoBlockTerms {
  static constexpr bool bends = false;

  /// What the sum of products of key t starts from, in place of `start`, where nothing bends.
  template <class T>
  HEED_INLINE Pack<T> onto(Pack<T> start, Index, int) const {
    return start;
  }
  /// The same seen from key t on.
  HEED_INLINE NoBlockTerms from(Index) const { return {}; }
  /// Do scores seem to rise towards the last of so many keys by a factor of 16 in their weights? Two samples
  /// are compared; to be wrong costs only time.
  HEED_INLINE bool rise(Index, int) const { return false; }
};

/// Adds what stands at values[l - t] for lane l and key t.
template <class T>
struct BlockDiagonals {
  static constexpr bool bends = false;
  const T* values;  // of the first key

  HEED_INLINE Pack<T> onto(Pack<T> start, Index t, int v) const {
    return start + load(values - t + v * Pack<T>::width);
  }
  HEED_INLINE BlockDiagonals from(Index t) const { return {values - t}; }
  HEED_INLINE bool rise(Index keys, int lanes) const {
    return values[lanes / 2 - (keys - 1)] - values[lanes / 2] > T(4);
  }
};

/// c tanh(s / c).
template <class T>
struct BlockCap {
  static constexpr bool bends = true;
  T cap;      // c log2 e
  T inverse;  // 1 / c

  /// Sums in natural units become scores in base 2, added to `starts`.
  template <int packs>
  HEED_INLINE void bend(Pack<T> (&sums)[packs], const Pack<T> (&starts)[packs]) const {
#pragma GCC unroll 4
    for (int v = 0; v < packs; ++v) sums[v] = sums[v] * broadcast(inverse);
    tanh_together(sums);
#pragma GCC unroll 4
    for (int v = 0; v < packs; ++v) sums[v] = multiply_add(broadcast(cap), sums[v], starts[v]);
  }
  HEED_INLINE BlockCap from(Index) const { return *this; }
  HEED_INLINE bool rise(Index, int) const { return false; }
};

/// The terms of a head, block by block. Rules that it does not know have none of this kind.
template <class T, class Rules>
struct BlockTerms {
  HEED_INLINE NoBlockTerms of(const Rules&, Index, Index, Index, int) { return {}; }
};
template <class T, class Rules>
  requires(Rules::adds_by_distance)
struct BlockTerms<T, Rules> {
  T values[block_keys + tile_lanes<T>];  // room for whole packs

  /// Lanes from query i on, keys from j on.
  HEED_NOINLINE HEED_FLATTEN BlockDiagonals<T> of(const Rules& rules_in_memory, Index i, Index j, Index keys,
                                                  int lanes) {
    const Rules rules = rules_in_memory;
    const auto last = static_cast<Position>(j + keys - 1), first = static_cast<Position>(i);
    const auto count = static_cast<Position>(keys - 1 + lanes);
    const Pack<T> most = broadcast(score_limit<T> * log2_e<T>), unit = broadcast(log2_e<T>);
    for (Position n = 0; n < count; n += Pack<T>::width) {
      T added[Pack<T>::width];
      for (Position l = 0; l < Pack<T>::width; ++l)
        added[l] = rules.template added<T>(first + (n + l < count ? n + l : count - 1), last);
      // All that is added is finite, if it did not overflow.
      const Pack<T> sum = load(added) * unit;
      store(values + n, min_or_second(most, max_or_second(zero<T>() - most, sum)));
    }
    return {values + keys - 1};
  }
};
template <class T, class Rules>
  requires(Rules::caps)
struct BlockTerms<T, Rules> {
  HEED_INLINE BlockCap<T> of(const Rules& rules, Index, Index, Index, int) {
    // In base 2 the greatest numbers would be infinite; half of them cap as little.
    constexpr T most = std::numeric_limits<T>::max() / 2;
    const T given = static_cast<T>(get<0>(rules.terms).cap), c = given < most ? given : most;
    return {c * log2_e<T>, T(1) / c};
  }
};

/// Does a block take all terms?
template <class Rules>
inline constexpr bool block_takes_terms = Rules::adds_by_distance || Rules::caps;
/// Are sums of products in natural units, because something will bend them or functors be asked?
template <class Rules>
inline constexpr bool natural_sums = Rules::has_terms && !Rules::adds_by_distance;

/// Rules without the terms that blocks take.
template <class Rules>
HEED_INLINE auto rules_of_blocks(const Rules& rules) {
  if constexpr (block_takes_terms<Rules>)
    return rules.without_terms();
  else
    return rules;
}

/// Rules without the terms that add the same whatever the score.
template <class Rules>
HEED_INLINE auto rules_with_slopes(const Rules& rules) {
  if constexpr (Rules::adds_by_distance)
    return rules.without_terms();
  else
    return rules;
}

/// Stored sums of keys [0, keys) become scores.
template <int packs, class T>
HEED_INLINE void finish_scores(const NoBlockTerms&, T*, Index) {}
template <int packs, class T, class Terms>
HEED_NOINLINE void finish_scores(const Terms& terms, T* scores, Index keys) {
  for (Index t = 0; t < keys; ++t) {
    T* const at = scores + t * tile_lanes<T>;
    Pack<T> sums[packs], nothing[packs];
    for (int v = 0; v < packs; ++v) {
      sums[v] = load(at + v * Pack<T>::width);
      nothing[v] = zero<T>();
      if constexpr (!Terms::bends) {
        // What diagonals add is finite: the sum overflows only where the product is infinite.
        const Pack<T> most = broadcast(score_limit<T> * log2_e<T>), sum = terms.onto(sums[v], t, v);
        const Pack<T> inside = min_or_second(most, max_or_second(zero<T>() - most, sum));
        sums[v] = where_equal(sums[v] * zero<T>(), zero<T>(), inside, sum);
      }
    }
    if constexpr (Terms::bends) terms.bend(sums, nothing);
    for (int v = 0; v < packs; ++v) store(at + v * Pack<T>::width, sums[v]);
  }
}
