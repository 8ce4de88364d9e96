// SPDX-License-Identifier: MIT
// How a forward problem falls into tasks: query tiles of a head, and for few queries pieces of keys
// (streamed.inl).

/// Sequences of at most so many queries are streamed instead of tiled: a tile of one pack would leave half
/// its lanes empty, and would read the keys again for each query head.
inline constexpr Index most_streamed_queries = 8;

inline bool is_streamed(Index queries) { return queries <= most_streamed_queries; }

template <class T>
Index tiled_tasks(const ForwardProblem<T>& p) {
  if (p.shape.query_offsets == nullptr && is_streamed(p.shape.queries)) return 0;
  return slot_count(p.shape, group_tiles(p) * tile_lanes<T>) * p.shape.heads;
}

/// Task t: one group of tiles. Sequence by sequence, so that rows which hold many heads stay in the cache for
/// all of them; head by head inside; and the last tiles of a head first, since with a causal mask those have
/// most to do.
template <class T, class Spec>
HEED_NOINLINE void tiled_task(const ForwardProblem<T>& p, const Spec& spec, Index t, T* scratch) {
  const Index tiles = group_tiles(p), lanes = tiles * tile_lanes<T>, heads = p.shape.heads;
  const Index sequence = sequence_of_slot(p.shape, t / heads, lanes);
  const Index first = first_slot(p.shape, sequence, lanes);
  const Index end = sequence + 1 < p.shape.sequences ? first_slot(p.shape, sequence + 1, lanes)
                                                     : slot_count(p.shape, lanes);
  const Index slots = end - first, in_sequence = t - first * heads;
  const Index head = in_sequence / slots, group = slots - 1 - in_sequence % slots;
  if (is_streamed(p.shape.place(sequence, head).queries)) return;
  forward_group(p, spec, sequence, head, group * tiles, static_cast<int>(tiles), scratch);
}
