// SPDX-License-Identifier: MIT
// attention() and its gradients against plain loops: sinks.
#include "gradient_oracle.hpp"

#include <heed/attention_weights.hpp>
#include <heed/core/when.hpp>
#include <heed/mask/causal.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/sink.hpp>

namespace {

using namespace heed_test;

template <class T>
void sinks() {
  Oracle<T> oracle("sink");
  GradientOracle<T> gradients("gradients, sink");
  Dice dice(91);
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(91, t);
    std::vector<double> logits;
    for (Index h = 0; h < c.heads; ++h) logits.push_back(4 * dice.normal());
    const auto heads = heed::heads(c.heads, c.key_heads);
    if (t % 3 == 0) {
      oracle.check(c, heed::spec(heads, heed::sink(logits)));
      gradients.check(c, heed::spec(heads, heed::sink(logits)));
    } else if (t % 3 == 1) {
      oracle.check(c, heed::spec(heads, heed::sink(logits), heed::causal()));
      gradients.check(c, heed::spec(heads, heed::sink(logits), heed::causal()), true);
    } else {
      oracle.check(c, heed::spec(heads, heed::when(t % 2 == 0, heed::sink(T(-1.5))), heed::softcap(2)));
    }
  }
}

TEST(AttentionOracleSink, Float) { sinks<float>(); }
TEST(AttentionOracleSink, Double) { sinks<double>(); }

/// Worked numbers: scores 1 and 2, sink 0.
TEST(AttentionOracleSink, WorkedNumbers) {
  const Eigen::MatrixXd q = Eigen::MatrixXd::Constant(1, 1, 1),
                        k = (Eigen::MatrixXd(2, 1) << 1, 2).finished(), v = Eigen::MatrixXd::Identity(2, 2);
  heed::Saved<double> saved;
  const Eigen::MatrixXd out = heed::attention(q, k, v, heed::sink(0), heed::save(saved));
  EXPECT_NEAR(out(0, 0), 0.244728, 5e-7);
  EXPECT_NEAR(out(0, 1), 0.665241, 5e-7);
  EXPECT_NEAR(saved.lse(0, 0), 2.407606, 5e-7);
  const Eigen::MatrixXd weights = heed::attention_weights(q, k, heed::sink(0));
  EXPECT_NEAR(weights(0, 0), 0.244728, 5e-7);
  EXPECT_NEAR(weights(0, 1), 0.665241, 5e-7);
}

/// Many keys for few queries: the sink counts once, not once a piece.
TEST(AttentionOracleSink, PiecesOfAStream) {
  const Index m = 9000;
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 8), k = Eigen::MatrixXf::Ones(m, 8),
                        v = Eigen::MatrixXf::Ones(m, 8);
  heed::Saved<float> saved;
  const Eigen::MatrixXf out = heed::attention(q, k, v, heed::sink(std::log(1000.0)), heed::save(saved));
  EXPECT_NEAR(out(1, 3), 0.9f, 1e-6f);
  EXPECT_NEAR(saved.lse(0, 0), std::log(10000.0f), 2e-6f);
}

}  // namespace
