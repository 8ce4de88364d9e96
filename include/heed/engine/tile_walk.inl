// SPDX-License-Identifier: MIT
// How the queries of a sequence fall into tiles, and what stretches of keys a tile meets under a mask.

/// Query rows [begin, end) of a sequence, in `packs` packs of lanes.
struct TileRows {
  Index begin = 0, end = 0;
  int packs = 0;
};

/// The rows of tile `index` of a sequence: packs are dealt out evenly, so that 13 packs make tiles of 4 3 3
/// 3, not 4 4 4 1.
template <class T>
TileRows tile_of_sequence(Index queries, Index index, Index most_packs = tile_packs) {
  constexpr Index width = Pack<T>::width;
  const Index packs = (queries + width - 1) / width;
  const Index tiles = (packs + most_packs - 1) / most_packs;
  if (index >= tiles) return {};
  const Index first = packs * index / tiles, last = packs * (index + 1) / tiles;
  return {first * width, last * width < queries ? last * width : queries, static_cast<int>(last - first)};
}

/// Keys of the next block of `left`: balanced, in whole register tiles.
template <int packs>
Index balanced_block(Index left) {
  constexpr Index rows = tile_rows<packs>;
  const Index blocks = (left + block_keys - 1) / block_keys;
  const Index even = ((left + blocks - 1) / blocks + rows - 1) / rows * rows;
  return even < left ? even : left;
}

/// Stretches shorter than this are not worth a segment of their own: the pairs in them are tested instead.
inline constexpr Index shortest_segment = 8;

/// One tile against the keys of one head: the mask's ranges cut the keys into stretches in which each pack
/// sees all, some or nothing, and only the packs between the first and the last that see something are
/// computed. Work says what to do with a stretch: full() where every pair is visible, edited() elsewhere.
template <class T, class Rules, class Work>
struct TileWalk {
  const TileRows& rows;
  const Rules& rules;
  const Work& work;

  HEED_NOINLINE void run(Index begin, Index end) const {
    if constexpr (!Rules::has_mask) {
      if (begin < end) attend_stretch(0, rows.packs, begin, end, ~0u);
      return;
    } else {
      walk(begin, end);
    }
  }

 private:
  void walk(Index begin, Index end) const {
    for (Index from = begin; from < end;) {
      KeyRange some = rules.key_ranges(rows.begin, rows.end, from);
      if (some.empty() || some.begin >= end) return;
      if (some.end > end) some.end = end;
      const KeyRange full = rules.full_ranges(rows.begin, rows.end, some.begin);
      if (!full.empty() && full.begin <= some.begin) {
        from = full.end < some.end ? full.end : some.end;
        attend_stretch(0, rows.packs, some.begin, from, ~0u);
      } else {
        from = !full.empty() && full.begin < some.end ? full.begin : some.end;
        border(some.begin, from);
      }
    }
  }

  /// Keys [begin, end) that some queries see and others do not.
  void border(Index begin, Index end) const {
    for (Index j = begin; j < end;) {
      Index next = end, skip = end;
      int first = rows.packs, last = 0;
      unsigned full = 0;
      for (int v = 0; v < rows.packs; ++v) {
        const Index i0 = rows.begin + v * Pack<T>::width;
        const Index i1 = i0 + Pack<T>::width < rows.end ? i0 + Pack<T>::width : rows.end;
        const KeyRange some = rules.key_ranges(i0, i1, j);
        if (some.empty() || some.begin >= end) continue;
        if (some.begin < skip) skip = some.begin;
        if (some.begin >= j + shortest_segment) {
          if (some.begin < next) next = some.begin;
          continue;
        }
        first = v < first ? v : first;
        last = v;
        const KeyRange all = rules.full_ranges(i0, i1, some.begin);
        Index change = some.end;
        if (!all.empty() && all.begin < change) {
          if (all.begin <= j) {
            full |= 1u << v;
            change = all.end < change ? all.end : change;
          } else {
            change = all.begin;
          }
        }
        if (change >= j + shortest_segment && change < next) next = change;
        // A pack that stops being full inside the shortest segment is tested pair by pair in it.
        if (change < j + shortest_segment && change < end) {
          full &= ~(1u << v);
          if (j + shortest_segment < next) next = j + shortest_segment;
        }
      }
      if (skip > j) {
        j = skip;  // nobody sees anything before; start again there
        continue;
      }
      if (first <= last && first < rows.packs)
        attend_stretch(first, last + 1 - first, j, next, full >> first);
      j = next;
    }
  }

  HEED_NOINLINE void attend_stretch(int first, int packs, Index begin, Index end, unsigned full) const {
    const int lane = first * Pack<T>::width;
    switch (packs) {
      case 1:
        return stretch<1>(lane, begin, end, full);
      case 2:
        return stretch<2>(lane, begin, end, full);
      case 3:
        if constexpr (tile_packs >= 3) return stretch<3>(lane, begin, end, full);
        return;
      default:
        if constexpr (tile_packs >= 4) return stretch<4>(lane, begin, end, full);
        return;
    }
  }

  template <int packs>
  void stretch(int lane, Index begin, Index end, unsigned full) const {
    constexpr unsigned all = (1u << packs) - 1u;
    if constexpr (Work::edits_all) {
      work.template edited<packs>(lane, begin, end, full);
    } else {
      if ((full & all) == all) return work.template full<packs>(lane, begin, end);
      if constexpr (Rules::has_mask) work.template edited<packs>(lane, begin, end, full);
    }
  }
};

/// Keys of the next block that tiles share, of `left`. With a mask its length is a multiple of 16, so that
/// the borders of tiles, which lie a pack's width apart, do not fall just beside the borders of blocks.
template <class Rules>
Index shared_block(Index left) {
  if constexpr (!Rules::has_mask) {
    return balanced_block<tile_packs>(left);
  } else {
    return left <= block_keys ? left : left < block_keys + 32 ? 64 : block_keys;
  }
}
