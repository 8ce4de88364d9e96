// SPDX-License-Identifier: MIT
// Masks with gaps run class by class: attention() and its gradients against plain loops, alone and within
// other masks and terms; and what is not read.
#include "gradient_oracle.hpp"

#include <heed/mask/causal.hpp>
#include <heed/mask/dilated.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/position/alibi.hpp>
#include <heed/position/t5_buckets.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/sink.hpp>

namespace {

using namespace heed_test;

template <class T>
void alone() {
  Oracle<T> oracle("dilated");
  GradientOracle<T> gradients("gradients, dilated");
  Dice dice(301);
  for (Index t = 0; t < sweep(120); ++t) {
    const Case c = draw_case<T>(301, t);
    const Index step = t % 5 == 0 ? 1 + dice.below(200) : 1 + dice.below(9);
    const heed::Dilated mask = t % 4 == 0 ? heed::dilated(heed::unbounded, dice.below(3), step)
                               : t % 4 == 1
                                   ? heed::dilated(dice.below(40), dice.below(9), step, heed::top_left)
                               : t % 4 == 2 ? heed::dilated(dice.below(40) - 5, 6, step, dice.below(31) - 15)
                                            : heed::dilated(dice.below(12), step);
    oracle.check(c, heed::spec(mask, heed::heads(c.heads, c.key_heads)));
    gradients.check(c, heed::spec(mask, heed::heads(c.heads, c.key_heads)), t % 3 == 0);
  }
}

template <class T>
void within() {
  Oracle<T> oracle("dilated, causal, lambda, softcap, alibi, sink");
  GradientOracle<T> gradients("gradients, dilated, causal, lambda, softcap, alibi, sink");
  Dice dice(302);
  for (Index t = 0; t < sweep(60); ++t) {
    const Case c = draw_case<T>(302, t);
    const auto variant =
        heed::spec(heed::causal() & heed::dilated(dice.below(60), 4, 1 + dice.below(6)), heed::alibi(),
                   heed::softcap(3), heed::sink(T(0.25)), heed::heads(c.heads, c.key_heads),
                   heed::mask_where([](auto i, auto j, auto h) { return (i + 2 * j + h) % 7 != 0; }));
    oracle.check(c, variant);
    gradients.check(c, variant);
  }
}

/// Biases lie in memory by the numbers in the sequence, not by those in a class; also where a whole tile sees
/// every key of a block.
template <class T>
void with_bias() {
  Oracle<T> oracle("dilated, bias");
  GradientOracle<T> gradients("gradients, dilated, bias");
  Dice dice(303);
  for (const Index n : {1, 7, 40, 150})
    for (const Index step : {1, 2, 3}) {
      const Case c{.n = n, .m = 90, .d = 4, .d_v = 3, .heads = 2, .key_heads = 1};
      const Matrix<T> b = dice.matrix<T>(n, 90);
      const auto variant = heed::spec(heed::dilated(heed::unbounded, heed::unbounded, step), heed::bias(b),
                                      heed::heads(2, 1));
      oracle.check(c, variant);
      gradients.check(c, variant);
    }
}
TEST(AttentionGaps, FloatBias) { with_bias<float>(); }

/// Distances are those in the sequence, too, where they are all that is added.
template <class T>
void with_distances() {
  Oracle<T> oracle("dilated, alibi or t5_bias");
  GradientOracle<T> gradients("gradients, dilated, alibi or t5_bias");
  Dice dice(304);
  const Matrix<T> table = dice.matrix<T>(2, 32);
  for (const Index n : {1, 7, 40, 150})
    for (const Index step : {1, 2, 3}) {
      const Case c{.n = n, .m = 90, .d = 4, .d_v = 3, .heads = 2, .key_heads = 1};
      const auto mask = heed::spec(heed::dilated(heed::unbounded, heed::unbounded, step), heed::heads(2, 1));
      const auto slopes = heed::spec(mask, heed::alibi(std::vector<T>{T(0.05), T(0.3)}));
      oracle.check(c, slopes);
      gradients.check(c, slopes);
      oracle.check(c, heed::spec(mask, heed::t5_bias(table)));
    }
}
TEST(AttentionGaps, FloatDistances) { with_distances<float>(); }

TEST(AttentionGaps, FloatAlone) { alone<float>(); }
TEST(AttentionGaps, DoubleAlone) { alone<double>(); }
TEST(AttentionGaps, FloatWithin) { within<float>(); }

/// Keys and values that no query sees may hold anything, and get exact zeros; also among few queries.
TEST(AttentionGaps, UnseenKeysAreNotRead) {
  for (const Index n : {1, 3, 200}) {
    const Index m = 200, step = 8;
    Dice dice(7);
    Matrix<float> q = dice.matrix<float>(n, 8), k = dice.matrix<float>(m, 8), v = dice.matrix<float>(m, 8);
    const Matrix<float> dout = dice.matrix<float>(n, 8);
    const auto mask = heed::dilated(3, 0, step);
    const auto rules = heed::spec(mask).bind<float>(heed::Place{.queries = n, .keys = m});
    std::vector<bool> seen(static_cast<std::size_t>(m));
    for (Index j = 0; j < m; ++j)
      for (Index i = 0; i < n; ++i)
        if (rules.visible(static_cast<heed::Position>(i), static_cast<heed::Position>(j)))
          seen[static_cast<std::size_t>(j)] = true;
    const auto spoil = [&](float value) {
      for (Index j = 0; j < m; ++j)
        if (!seen[static_cast<std::size_t>(j)]) k.row(j).setConstant(value), v.row(j).setConstant(value);
    };
    heed::Saved<float> saved;
    spoil(0);
    const Matrix<float> clean = heed::attention(q, k, v, mask, heed::save(saved));
    spoil(std::numeric_limits<float>::quiet_NaN());
    const Matrix<float> out = heed::attention(q, k, v, mask, heed::save(saved));
    EXPECT_TRUE(out.isApprox(clean, 1e-6f));  // beside poison a block is mixed pair by pair
    const auto g = heed::attention_backward(dout, q, k, v, out, saved, mask);
    EXPECT_TRUE(g.dq.allFinite());
    for (Index j = 0; j < m; ++j)
      if (!seen[static_cast<std::size_t>(j)]) {
        EXPECT_TRUE(g.dk.row(j).isZero(0));
        EXPECT_TRUE(g.dv.row(j).isZero(0));
      }
  }
}

}  // namespace
