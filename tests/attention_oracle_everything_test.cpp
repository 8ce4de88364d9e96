// SPDX-License-Identifier: MIT
// attention() against plain loops: every policy at once, on ragged batches.
#include "batches.hpp"

#include <heed/core/when.hpp>
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
    oracle.check(
        b.c, heed::spec(heed::score_with([](auto s, auto i, auto, auto, auto sequence) {
                          using S = decltype(s);
                          return S(s * S(0.75) - S(static_cast<float>((i + sequence) % 2)));
                        }),
                        heed::sequences(b.q, b.k), heed::when(t % 2 == 0, heed::causal()),
                        heed::when(t % 3 != 0, heed::lengths(lengths)),
                        heed::window(30, heed::unbounded) | heed::documents(q_ids, k_ids),
                        heed::when(t % 5 != 0, heed::bias(bias)), heed::alibi(),
                        heed::when(t % 4 == 0, heed::softcap(4)), heed::when(t % 3 == 0, heed::scale(0.3)),
                        heed::heads(b.c.heads, b.c.key_heads)));
  }
}

TEST(AttentionOracleEverything, Float) { everything<float>(); }
TEST(AttentionOracleEverything, Double) { everything<double>(); }

}  // namespace
