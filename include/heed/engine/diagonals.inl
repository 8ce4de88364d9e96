// SPDX-License-Identifier: MIT
// Terms that add a function of i - j (ALiBi, T5's bias): constant along diagonals, so that a block of keys
// and a tile of queries need as many values as they have diagonals, and a pack of queries finds its own side
// by side. Sums of products start from them.

/// What a block's sums start from where no term adds anything.
struct NoDiagonals {
  template <class T>
  HEED_INLINE Pack<T> onto(Pack<T> start, Index, int) const {
    return start;
  }
  HEED_INLINE NoDiagonals from(Index) const { return {}; }
  HEED_INLINE bool rise(Index, int) const { return false; }
};

/// Where it adds what stands at values[keys - 1 - t + l] for key t and lane l of the block.
template <class T>
struct BlockDiagonals {
  const T* values;  // of the first key

  HEED_INLINE Pack<T> onto(Pack<T> start, Index t, int v) const {
    return start + load(values - t + v * Pack<T>::width);
  }
  HEED_INLINE BlockDiagonals from(Index t) const { return {values - t}; }

  /// Do they rise so much towards the last of so many keys that scores will exceed what came before?
  HEED_INLINE bool rise(Index keys, int lanes) const {
    return values[lanes / 2 - (keys - 1)] - values[lanes / 2] > T(4);
  }
};

/// scores[t][lanes] += what the diagonals say, keys [0, keys).
template <int packs, class T>
HEED_INLINE void add_diagonals(const NoDiagonals&, T*, Index) {}
template <int packs, class T>
HEED_NOINLINE void add_diagonals(const BlockDiagonals<T>& diagonals, T* scores, Index keys) {
  for (Index t = 0; t < keys; ++t)
    for (int v = 0; v < packs; ++v) {
      T* at = scores + t * tile_lanes<T> + v * Pack<T>::width;
      store(at, diagonals.onto(load(at), t, v));
    }
}

/// The values of a block's diagonals, in base 2, from the rules of its head.
template <class T, class Rules>
struct Diagonals {
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

/// Rules of which the terms have become diagonals, or as they are.
template <class Rules>
HEED_INLINE auto rules_of_blocks(const Rules& rules) {
  if constexpr (Rules::adds_by_distance)
    return rules.without_terms();
  else
    return rules;
}
