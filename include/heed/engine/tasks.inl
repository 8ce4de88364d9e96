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

/// How many keys the last `lanes` queries of a sequence see of its first stretch: what tells a window from
/// the rest, before any work.
template <class T, class Spec>
Index last_span(const Spec& spec, const Place& place, Index lanes) {
  using Rules = std::remove_cvref_t<decltype(spec.template bind<T>(place))>;
  if constexpr (!Rules::has_mask) {
    return place.keys;
  } else {
    if (place.queries == 0) return 0;
    const auto rules = spec.template bind<T>(place);
    const KeyRange some =
        rules.key_ranges(place.queries > lanes ? place.queries - lanes : 0, place.queries, 0);
    return some.empty() ? 0 : some.size();
  }
}

/// Do the last queries see less than half of the keys? Asked of the sequence with most pairs, where most of
/// the work is, and on the mean of its heads, which may have masks of their own.
template <class T, class Spec>
bool is_narrow(const ForwardProblem<T>& p, const Spec& spec) {
  Index longest = 0;
  double most = -1;
  for (Index s = 0; s < p.shape.sequences; ++s) {
    const Place place = p.shape.place(s, 0);
    const double pairs = static_cast<double>(place.queries) * static_cast<double>(place.keys);
    if (pairs > most) most = pairs, longest = s;
  }
  if (p.shape.sequences == 0) return false;
  Index seen = 0;
  for (Index h = 0; h < p.shape.heads; ++h)
    seen += last_span<T>(spec, p.shape.place(longest, h), group_tiles(p) * tile_lanes<T>);
  return 2 * seen < p.shape.place(longest, 0).keys * p.shape.heads;
}

/// Into how many pieces the keys of every key head are cut: as many as make up for too few tasks of equal
/// work. That depends on the shape and the masks alone, so that results do not depend on the number of
/// threads. Where masks leave the last queries less than half of the keys, in most of the work, there are no
/// pieces: every query's tile would load for pieces of which it sees nothing.
template <class T, class Spec>
HEED_NOINLINE Index pieces_for(const BackwardProblem<T>& p, const Spec& spec) {
  constexpr Index enough_tasks = 16, most_pieces = 8, worth_cutting = 4096;
  const Shape& shape = p.shape;
  const Index group = shape.heads / shape.key_heads;
  if (p.heads_together || p.all_together || shape.longest <= worth_cutting) return 1;
  double total = 0, greatest = 0, narrow = 0;
  for (Index s = 0; s < shape.sequences; ++s)
    for (Index key_head = 0; key_head < shape.key_heads; ++key_head) {
      double work = 0;
      for (Index h = key_head * group; h < (key_head + 1) * group; ++h) {
        const Place place = shape.place(s, h);
        // What is short is no more than this much work, whatever its mask.
        const Index span = place.keys <= worth_cutting
                               ? place.keys
                               : last_span<T>(spec, place, tiles_per_group * tile_lanes<T>);
        const double pairs = static_cast<double>(place.queries) * static_cast<double>(span);
        work += pairs;
        if (2 * span < place.keys) narrow += pairs;
      }
      total += work;
      greatest = work > greatest ? work : greatest;
    }
  if (2 * narrow >= total) return 1;
  const double even = total / greatest;
  if (even >= enough_tasks / 4 && shape.sequences * shape.key_heads >= enough_tasks) return 1;
  const Index wanted = static_cast<Index>(std::ceil(static_cast<double>(enough_tasks) / even));
  return wanted < most_pieces ? wanted : most_pieces;
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
