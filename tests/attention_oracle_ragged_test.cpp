// SPDX-License-Identifier: MIT
// attention() against plain loops: ragged batches, and everything at once.
#include "oracle.hpp"

#include <heed/core/when.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/window.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>

namespace {

using namespace heed_test;

struct Batch {
  Case c;
  std::vector<Index> q = {0}, k = {0};
  Index longest = 0;
};

/// Empty sequences, single queries with long caches, and long ones, in one batch: streamed and tiled tasks side by side.
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

template <class T>
void ragged() {
  Oracle<T> oracle("sequences");
  for (Index t = 0; t < sweep(200); ++t) {
    const Batch b = draw_batch<T>(61, t);
    oracle.check(b.c, heed::spec(heed::heads(b.c.heads, b.c.key_heads), heed::sequences(b.q, b.k)));
  }
}

template <class T>
void ragged_causal() {
  Oracle<T> oracle("sequences, causal");
  for (Index t = 0; t < sweep(200); ++t) {
    const Batch b = draw_batch<T>(62, t);
    oracle.check(b.c, heed::spec(heed::heads(b.c.heads, b.c.key_heads), heed::causal(), heed::sequences(b.q, b.k)));
  }
}

template <class T>
void everything() {
  Oracle<T> oracle("everything");
  Dice dice(63);
  for (Index t = 0; t < sweep(150); ++t) {
    const Batch b = draw_batch<T>(63, t);
    std::vector<Index> lengths;
    for (std::size_t s = 0; s + 1 < b.k.size(); ++s) lengths.push_back(dice.below(b.k[s + 1] - b.k[s] + 1));
    std::vector<int> q_ids, k_ids;
    for (Index i = 0; i < b.c.n; ++i) q_ids.push_back(static_cast<int>(i / 9 % 3));
    for (Index i = 0; i < b.c.m; ++i) k_ids.push_back(static_cast<int>(i / 14 % 3));
    const Matrix<float> bias = dice.matrix<float>(b.c.n, b.c.heads * b.longest);
    oracle.check(b.c, heed::spec(heed::score_with([](auto s, auto i, auto, auto, auto sequence) {
                                   using S = decltype(s);
                                   return S(s * S(0.75) - S(static_cast<float>((i + sequence) % 2)));
                                 }),
                                 heed::sequences(b.q, b.k), heed::when(t % 2 == 0, heed::causal()), heed::when(t % 3 != 0, heed::lengths(lengths)),
                                 heed::window(30, heed::unbounded) | heed::documents(q_ids, k_ids), heed::when(t % 5 != 0, heed::bias(bias)),
                                 heed::alibi(), heed::when(t % 4 == 0, heed::softcap(4)), heed::when(t % 3 == 0, heed::scale(0.3)),
                                 heed::heads(b.c.heads, b.c.key_heads)));
  }
}

TEST(AttentionOracleRagged, FloatSequences) { ragged<float>(); }
TEST(AttentionOracleRagged, DoubleSequences) { ragged<double>(); }
TEST(AttentionOracleRagged, FloatCausal) { ragged_causal<float>(); }
TEST(AttentionOracleRagged, DoubleCausal) { ragged_causal<double>(); }
TEST(AttentionOracleRagged, FloatEverything) { everything<float>(); }
TEST(AttentionOracleRagged, DoubleEverything) { everything<double>(); }

}  // namespace
