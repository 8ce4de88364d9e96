// SPDX-License-Identifier: MIT
// Ragged batches for sweeps.
#ifndef HEED_TESTS_BATCHES_HPP
#define HEED_TESTS_BATCHES_HPP

#include "oracle.hpp"

#include <heed/layout/sequences.hpp>

namespace heed_test {

struct Batch {
  Case c;
  std::vector<Index> q = {0}, k = {0};
  Index longest = 0;
};

/// Empty sequences, single queries with long caches, and long ones, in one batch: streamed and tiled tasks
/// side by side.
template <class T>
Batch draw_batch(std::uint64_t family, Index turn) {
  Dice dice(family * 7919u + static_cast<std::uint64_t>(turn));
  Batch b;
  b.c = draw_case<T>(family, turn);
  b.c.d = 1 + dice.below(turn % 4 == 0 ? 80 : 20);
  b.c.d_v = 1 + dice.below(24);
  const std::vector<Index> few = {0, 1, 1, 2, 3, 5}, some = {0, 1, 7, 17, 40, 65, 100};
  const Index count = 1 + dice.below(small ? 4 : 8);
  for (Index s = 0; s < count; ++s) {
    const Index n = dice.coin() ? dice.of(few) : dice.of(some);
    const Index m = dice.below(5) == 0 ? n : dice.below(7) == 0 ? 0 : dice.of(some);
    b.q.push_back(b.q.back() + n);
    b.k.push_back(b.k.back() + m);
    b.longest = std::max(b.longest, m);
  }
  b.c.n = b.q.back();
  b.c.m = b.k.back();
  return b;
}

}  // namespace heed_test

#endif
