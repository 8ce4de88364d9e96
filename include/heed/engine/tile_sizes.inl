// SPDX-License-Identifier: MIT
// How many queries and keys are worked on together.

/// log2 e: scores are exponentiated in base 2.
template <class T>
inline constexpr T log2_e = T(1.4426950408889634074);

/// Queries in a full tile, and the distance between rows of every array of a tile.
template <class T>
inline constexpr int tile_lanes = tile_packs* Pack<T>::width;

/// Keys in a block: its weights stay in the first-level cache's neighbourhood, and sums start afresh at each
/// block, so that rounding grows with the number of blocks and not of keys.
inline constexpr Index block_keys = 96;
