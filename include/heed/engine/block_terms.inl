// SPDX-License-Identifier: MIT
// Score terms that a block of keys takes while its scores are in registers, between the product and the
// exponential. Others are functors of a pair, and edit stored scores one by one.
//
// A function of i - j (ALiBi, T5's bias) is constant along diagonals, so that a block of keys and a tile of
// queries need as many values as they have diagonals, and a pack of queries finds its own side by side: sums
// of products start from them. A function of the score alone (softcap) bends the sums in lanes.

/// Nothing to do. What all three have: `start` is minus the maximum of pack v's lanes, t counts the block's
/// keys.
struct NoBlockTerms {
  /// What the sum of products of key t starts from,
  template <class T>
  HEED_INLINE Pack<T> begin(Pack<T> start, Index, int) const {
    return start;
  }
  /// and whether the sums of a key must then be bent into scores minus the maximum, in base 2.
  static constexpr bool bends = false;
  /// The same seen from key t on.
  HEED_INLINE NoBlockTerms from(Index) const { return {}; }
  /// Will scores rise towards the last of so many keys, and exceed all that came before?
  HEED_INLINE bool rise(Index, int) const { return false; }
};

/// Adds what stands at values[l - t] for lane l and key t.
template <class T>
struct BlockDiagonals {
  const T* values;  // of the first key

  HEED_INLINE Pack<T> begin(Pack<T> start, Index t, int v) const {
    return start + load(values - t + v * Pack<T>::width);
  }
  static constexpr bool bends = false;
  HEED_INLINE BlockDiagonals from(Index t) const { return {values - t}; }
  HEED_INLINE bool rise(Index keys, int lanes) const {
    return values[lanes / 2 - (keys - 1)] - values[lanes / 2] > T(4);
  }
};

/// c tanh(s / c).
template <class T>
struct BlockCap {
  T cap, inverse;  // of scores in base 2; of c

  HEED_INLINE Pack<T> begin(Pack<T>, Index, int) const { return zero<T>(); }
  static constexpr bool bends = true;
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
  T values[block_keys + tile_lanes<T>];

  /// Lanes from query i on, keys from j on.
  HEED_NOINLINE HEED_FLATTEN BlockDiagonals<T> of(const Rules& rules_in_memory, Index i, Index j, Index keys,
                                                  int lanes) {
    const Rules rules = rules_in_memory;
    const auto last = static_cast<Position>(j + keys - 1), first = static_cast<Position>(i);
    const auto count = static_cast<Position>(keys - 1 + lanes);
    T* to = values;
    for (Position n = 0; n < count; ++n) to[n] = rules.score(T(0), first + n, last) * log2_e<T>;
    return {values + keys - 1};
  }
};
template <class T, class Rules>
  requires(Rules::caps)
struct BlockTerms<T, Rules> {
  HEED_INLINE BlockCap<T> of(const Rules& rules, Index, Index, Index, int) {
    const T c = static_cast<T>(get<0>(rules.terms).cap);
    return {c * log2_e<T>, T(1) / c};
  }
};

/// Does a block take all terms, and are its sums in natural units?
template <class Rules>
inline constexpr bool block_takes_terms = Rules::adds_by_distance || Rules::caps;
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

/// Stored sums of keys [0, keys) become scores.
template <int packs, class T>
HEED_INLINE void finish_scores(const NoBlockTerms&, T*, Index) {}
template <int packs, class T, class Terms>
HEED_NOINLINE void finish_scores(const Terms& terms, T* scores, Index keys) {
  for (Index t = 0; t < keys; ++t) {
    T* at = scores + t * tile_lanes<T>;
    Pack<T> sums[packs], starts[packs];
    for (int v = 0; v < packs; ++v) {
      starts[v] = zero<T>();
      sums[v] = terms.begin(load(at + v * Pack<T>::width), t, v);
    }
    if constexpr (Terms::bends) {
      for (int v = 0; v < packs; ++v) sums[v] = load(at + v * Pack<T>::width);
      terms.bend(sums, starts);
    }
    for (int v = 0; v < packs; ++v) store(at + v * Pack<T>::width, sums[v]);
  }
}
