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

/// How many keys the last group of queries sees of the longest sequence's first stretch: what tells a window
/// from the rest, before any work.
template <class T, class Spec>
Index last_span(const ForwardProblem<T>& p, const Spec& spec) {
  const Place place = p.shape.place(0, 0);
  const auto rules = spec.template bind<T>(place);
  const Index lanes = group_tiles(p) * tile_lanes<T>;
  const KeyRange some = rules.key_ranges(place.queries > lanes ? place.queries - lanes : 0, place.queries, 0);
  return some.empty() ? 0 : some.size();
}

/// Does a mask leave the last queries less than half of the keys? Then cutting keys in pieces would make
/// every query's tile load for pieces of which it sees nothing.
template <class T, class Spec>
HEED_NOINLINE bool is_narrow(const BackwardProblem<T>& p, const Spec& spec) {
  const Place place = p.shape.place(0, 0);
  if (place.queries == 0) return true;
  const Index lanes = tiles_per_group * tile_lanes<T>;
  const KeyRange some = spec.template bind<T>(place).key_ranges(
      place.queries > lanes ? place.queries - lanes : 0, place.queries, 0);
  return 2 * some.size() < p.shape.longest;
}

/// Task t: one group of tiles. Sequence by sequence, so that rows which hold many heads stay in the cache for
/// all of them; inside, head by head, or all heads of a group of queries where these need few keys; and the
/// last queries first, since with a causal mask those have most to do.
template <class T, class Spec>
HEED_NOINLINE void tiled_task(const ForwardProblem<T>& p, const Spec& spec, const ForwardPlan& plan, Index t,
                              T* scratch) {
  const Index tiles = group_tiles(p), lanes = tiles * tile_lanes<T>, heads = p.shape.heads;
  const Index sequence = sequence_of_slot(p.shape, t / heads, lanes);
  const Index first = first_slot(p.shape, sequence, lanes);
  const Index end = sequence + 1 < p.shape.sequences ? first_slot(p.shape, sequence + 1, lanes)
                                                     : slot_count(p.shape, lanes);
  const Index slots = end - first, in_sequence = t - first * heads;
  const Index head = plan.heads_inside ? in_sequence % heads : in_sequence / slots;
  const Index group = slots - 1 - (plan.heads_inside ? in_sequence / heads : in_sequence % slots);
  if (is_streamed(p.shape.place(sequence, head).queries)) return;
  forward_group(p, spec, plan, sequence, head, group * tiles, static_cast<int>(tiles), scratch);
}
