// SPDX-License-Identifier: MIT
// attention_backward() against plain loops: no mask, and masks; ragged batches.
#include "batches.hpp"
#include "gradient_oracle.hpp"

#include <heed/mask/causal.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>
#include <heed/score/scale.hpp>

namespace {

using namespace heed_test;

template <class T>
void plain() {
  GradientOracle<T> oracle("gradients");
  for (Index t = 0; t < sweep(150); ++t) {
    const Case c = draw_case<T>(71, t);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads)), t % 4 == 0);
  }
}

template <class T>
void scaled() {
  GradientOracle<T> oracle("gradients, scale");
  for (Index t = 0; t < sweep(40); ++t) {
    const Case c = draw_case<T>(72, t);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), heed::scale(t % 2 == 0 ? 0.31 : -0.07)));
  }
}

template <class T>
void masks() {
  GradientOracle<T> oracle("gradients, causal, window, lambda");
  Dice dice(73);
  for (Index t = 0; t < sweep(150); ++t) {
    const Case c = draw_case<T>(73, t);
    const auto heads = heed::heads(c.heads, c.key_heads);
    if (t % 3 == 0)
      oracle.check(c, heed::spec(heads, heed::causal()), t % 2 == 0);
    else if (t % 3 == 1)
      oracle.check(c, heed::spec(heads, heed::window(dice.below(90), dice.below(30))));
    else
      oracle.check(
          c, heed::spec(heads, heed::causal(heed::top_left) | heed::mask_where([](auto i, auto j, auto h) {
                                 return (3 * i + 5 * j + h) % 4 == 0;
                               })));
  }
}

template <class T>
void ragged() {
  GradientOracle<T> oracle("gradients, sequences");
  Dice dice(74);
  for (Index t = 0; t < sweep(60); ++t) {
    const Batch b = draw_batch<T>(74, t);
    std::vector<Index> lengths;
    for (std::size_t s = 0; s + 1 < b.k.size(); ++s) lengths.push_back(dice.below(b.k[s + 1] - b.k[s] + 1));
    oracle.check(b.c, heed::spec(heed::sequences(b.q, b.k), heed::lengths(lengths), heed::causal(),
                                 heed::heads(b.c.heads, b.c.key_heads)));
  }
}

TEST(AttentionBackwardOracleMasks, FloatPlain) { plain<float>(); }
TEST(AttentionBackwardOracleMasks, DoublePlain) { plain<double>(); }
TEST(AttentionBackwardOracleMasks, FloatScaled) { scaled<float>(); }
TEST(AttentionBackwardOracleMasks, DoubleScaled) { scaled<double>(); }
TEST(AttentionBackwardOracleMasks, FloatMasks) { masks<float>(); }
TEST(AttentionBackwardOracleMasks, DoubleMasks) { masks<double>(); }
TEST(AttentionBackwardOracleMasks, FloatRagged) { ragged<float>(); }
TEST(AttentionBackwardOracleMasks, DoubleRagged) { ragged<double>(); }

}  // namespace
