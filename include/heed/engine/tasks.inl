// SPDX-License-Identifier: MIT
// How a forward problem falls into tasks: query tiles of a head, and for few queries pieces of keys (streamed.inl).

/// Sequences of so few queries a key head are streamed instead of tiled: their keys are read once, for all heads together.
inline constexpr Index streamed_rows = 8;

template <class T>
bool is_streamed(const ForwardProblem<T>& p, Index queries) {
  return queries * (p.shape.heads / p.shape.key_heads) <= streamed_rows;
}

template <class T>
Index tiled_tasks(const ForwardProblem<T>& p) {
  if (p.shape.query_offsets == nullptr && is_streamed(p, p.shape.queries)) return 0;
  return slot_count(p.shape, group_tiles(p) * tile_lanes<T>) * p.shape.heads;
}

/// Task t: one group of tiles, the last of a sequence first, since with a causal mask those have most to do.
template <class T, class Spec>
HEED_NOINLINE void tiled_task(const ForwardProblem<T>& p, const Spec& spec, Index t, T* scratch) {
  const Index tiles = group_tiles(p), lanes = tiles * tile_lanes<T>;
  const Index slots = slot_count(p.shape, lanes);
  const Index head = t / slots, slot = slots - 1 - t % slots;
  const Index sequence = sequence_of_slot(p.shape, slot, lanes);
  if (is_streamed(p, p.shape.place(sequence, head).queries)) return;
  const Index group = slot - first_slot(p.shape, sequence, lanes);
  forward_group(p, spec, sequence, head, group * tiles, static_cast<int>(tiles), scratch);
}
