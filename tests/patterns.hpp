// SPDX-License-Identifier: MIT
// Random sparse patterns for sweeps. Each pattern that a spec of its own names would be compiled into the
// kernels of every instruction set again, so one spec holds all of them, most of them switched off.
#ifndef HEED_TESTS_PATTERNS_HPP
#define HEED_TESTS_PATTERNS_HPP

#include "batches.hpp"

#include <heed/core/when.hpp>
#include <heed/mask/bigbird.hpp>
#include <heed/mask/block_sparse.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/in_heads.hpp>
#include <heed/mask/key_lists.hpp>
#include <heed/mask/longformer.hpp>
#include <heed/mask/prefix.hpp>
#include <heed/mask/strided.hpp>
#include <heed/mask/windows.hpp>

namespace heed_test {

/// Sorted lists of numbers below `limit` in compressed rows: few, in runs, or nearly all of them.
struct Lists {
  std::vector<Index> offsets = {0}, items;

  Lists(Dice& dice, Index lists, Index limit) {
    const Index kind = dice.below(3);
    const Index empty = dice.below(3);  // so many lists at the beginning
    for (Index r = 0; r < lists; ++r) {
      bool inside = dice.coin();
      for (Index x = 0; x < limit && r >= empty; ++x) {
        if (kind == 0) inside = dice.below(9) == 0;
        if (kind == 1) inside = dice.below(20) == 0 ? !inside : inside;
        if (kind == 2) inside = dice.below(30) != 0;
        if (inside) items.push_back(x);
      }
      offsets.push_back(static_cast<Index>(items.size()));
    }
  }
};

inline const std::vector<const char*> pattern_names = {
    "strided, in_heads", "fixed, in_heads", "windows",  "longformer with gaps", "prefix",
    "block_sparse",      "bigbird",         "key_lists"};

/// Pattern `kind` of pattern_names for the batch, and now and then a second one.
inline auto draw_pattern(Dice& dice, const Batch& b, std::size_t kind) {
  const Case& c = b.c;
  const std::size_t other = dice.below(5) == 0 ? static_cast<std::size_t>(dice.below(8)) : kind;
  const auto chosen = [&](std::size_t k) { return kind == k || other == k; };
  Index longest_queries = 0;
  for (std::size_t s = 1; s < b.q.size(); ++s)
    longest_queries = std::max(longest_queries, b.q[s] - b.q[s - 1]);

  const Index l = 1 + dice.below(dice.coin() ? 150 : 20), first = dice.below(c.heads),
              last = first + 1 + dice.below(c.heads - first);
  std::vector<Index> lefts, rights, globals;
  for (Index h = 0; h < c.heads; ++h) {
    lefts.push_back(dice.below(4) == 0 ? heed::unbounded : dice.below(150));
    rights.push_back(dice.below(4) == 0 ? 0 : dice.below(50));
  }
  for (Index g = dice.below(4); g > 0; --g) globals.push_back(dice.below(b.longest + 1));
  const Index size = dice.of(std::vector<Index>{1, 3, 8, 16, 32, 64, 100, 128});
  const Index patterns = dice.coin() ? 1 : c.heads;
  Lists blocks(dice, patterns * ((longest_queries + size - 1) / size), (b.longest + size - 1) / size);
  Lists keys(dice, chosen(7) ? patterns * c.n : 0, b.longest);
  return heed::spec(
      heed::sequences(b.q, b.k), heed::heads(c.heads, c.key_heads),
      heed::when(chosen(0), heed::in_heads(first, last, heed::strided(l))),
      heed::when(chosen(1), heed::in_heads(first, last, heed::fixed(l, dice.below(l + 1)))),
      heed::when(chosen(2), heed::windows(std::move(lefts), std::move(rights))),
      heed::when(chosen(3), heed::longformer(dice.below(60), globals, 1 + dice.below(5))),
      heed::when(chosen(4), heed::prefix(dice.below(90)) | heed::causal()),
      heed::when(chosen(5),
                 heed::block_sparse(size, std::move(blocks.offsets), std::move(blocks.items), patterns)),
      heed::when(chosen(6),
                 heed::bigbird(size, 1 + 2 * dice.below(2), dice.below(2), dice.below(4), dice.bits())),
      heed::when(chosen(7), heed::key_lists(std::move(keys.offsets), std::move(keys.items), patterns)));
}

/// One sequence of an awkward size, or several.
template <class T>
Batch draw_pattern_case(std::uint64_t family, Index turn) {
  if (turn % 4 == 3) return draw_batch<T>(family, turn);
  Batch b;
  b.c = draw_case<T>(family, turn);
  b.q.push_back(b.c.n);
  b.k.push_back(b.c.m);
  b.longest = b.c.m;
  return b;
}

}  // namespace heed_test

#endif
