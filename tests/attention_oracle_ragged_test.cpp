// SPDX-License-Identifier: MIT
// attention() against plain loops: ragged batches.
#include "batches.hpp"

#include <heed/mask/causal.hpp>

namespace {

using namespace heed_test;

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
    oracle.check(
        b.c, heed::spec(heed::heads(b.c.heads, b.c.key_heads), heed::causal(), heed::sequences(b.q, b.k)));
  }
}

TEST(AttentionOracleRagged, FloatSequences) { ragged<float>(); }
TEST(AttentionOracleRagged, DoubleSequences) { ragged<double>(); }
TEST(AttentionOracleRagged, FloatCausal) { ragged_causal<float>(); }
TEST(AttentionOracleRagged, DoubleCausal) { ragged_causal<double>(); }

}  // namespace
