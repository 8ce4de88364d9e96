// SPDX-License-Identifier: MIT
// attention_weights(): the weights that the output is made of.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <heed/attention_weights.hpp>
#include <heed/core/spec.hpp>
#include <heed/layout/heads.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/scale.hpp>

namespace {

using heed::Index;

Eigen::MatrixXf draw(Index rows, Index cols, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  return Eigen::MatrixXf::NullaryExpr(rows, cols, [&](Index, Index) { return normal(engine); });
}

template <class... P>
Eigen::MatrixXd output(const Eigen::MatrixXf& q, const Eigen::MatrixXf& k, const Eigen::MatrixXf& v,
                       const P&... policies) {
  const auto spec = heed::spec(policies...);
  const auto shape =
      heed::detail::make_shape(spec, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  Eigen::MatrixXd out(shape.queries, shape.heads * shape.d_v);
  heed::detail::reference_forward<double>(spec, shape, q, k, v, out, static_cast<Eigen::MatrixXd*>(nullptr));
  return out;
}

TEST(Weights, TimesValuesIsTheOutput) {
  const auto q = draw(7, 12, 1), k = draw(9, 6, 2), v = draw(9, 10, 3);
  const auto spec = heed::spec(heed::heads(4, 2), heed::causal(), heed::alibi());
  const Eigen::MatrixXf w = heed::attention_weights(q, k, spec);
  ASSERT_EQ(w.rows(), 7);
  ASSERT_EQ(w.cols(), 4 * 9);
  const Eigen::MatrixXd want = output(q, k, v, spec);
  for (Index h = 0; h < 4; ++h) {
    const Eigen::MatrixXf got = w.middleCols(h * 9, 9) * v.middleCols(h / 2 * 5, 5);
    EXPECT_LT((got.cast<double>() - want.middleCols(h * 5, 5)).cwiseAbs().maxCoeff(), 2e-6);
    for (Index i = 0; i < 7; ++i) EXPECT_NEAR(w.row(i).segment(h * 9, 9).sum(), 1, 1e-6);
  }
}

TEST(Weights, ChosenRowsAndHeads) {
  const auto q = draw(7, 12, 1), k = draw(9, 12, 2);
  const auto spec = heed::spec(heed::heads(4), heed::causal());
  const Eigen::MatrixXf all = heed::attention_weights(q, k, spec);
  const auto some = heed::attention_weights(q, k, heed::rows({5, 0, 5}), spec, heed::head(2));
  ASSERT_EQ(some.rows(), 3);
  ASSERT_EQ(some.cols(), 9);
  EXPECT_EQ(some.row(0), all.row(5).segment(18, 9));
  EXPECT_EQ(some.row(1), all.row(0).segment(18, 9));
  EXPECT_EQ(some.row(2), some.row(0));
  const auto two = heed::attention_weights(q, k, spec, heed::head({3, 1}), heed::rows(2, 6));
  ASSERT_EQ(two.rows(), 4);
  EXPECT_EQ(two.leftCols(9), all.block(2, 27, 4, 9));
  EXPECT_EQ(two.rightCols(9), all.block(2, 9, 4, 9));
  const std::vector<int> list{6};
  EXPECT_EQ(heed::attention_weights(q, k, spec, heed::rows(list)).row(0), all.row(6));
  EXPECT_EQ(heed::attention_weights(q, k, spec, heed::rows(3, 3)).rows(), 0);
  EXPECT_EQ(heed::attention_weights(q, k, spec, heed::rows(3)).row(0), all.row(3));
  EXPECT_EQ(heed::attention_weights(q, k, spec, heed::rows({3})).rows(), 1);
}

TEST(Weights, SequencesCountTheirOwnKeys) {
  const auto q = draw(5, 4, 1), k = draw(6, 4, 2);
  const auto w =
      heed::attention_weights(q, k, heed::sequences({0, 3, 3, 5}, {0, 2, 2, 6}), heed::rows({1, 4}));
  ASSERT_EQ(w.cols(), 4);
  EXPECT_EQ(w.row(0).leftCols(2), heed::attention_weights(q.topRows(3), k.topRows(2), heed::rows({1})));
  EXPECT_EQ(w(0, 2), 0);
  EXPECT_EQ(w(0, 3), 0);
  EXPECT_EQ(w.row(1), heed::attention_weights(q.bottomRows(2), k.bottomRows(4), heed::rows({1})));
}

/// Rows of one sequence have its width, whatever is beside it in the batch; one list of offsets is for q and
/// k.
TEST(Weights, AsWideAsTheirSequence) {
  const auto q = draw(6, 4, 1), k = draw(6, 4, 2);
  const std::vector<Index> offsets = {0, 2, 2, 6};
  const auto batch = heed::sequences(offsets);
  EXPECT_EQ(heed::attention_weights(q, k, batch, heed::heads(2)).cols(), 2 * 4);
  const auto first = heed::attention_weights(q, k, batch, heed::rows({0, 1}), heed::heads(2));
  EXPECT_EQ(first, heed::attention_weights(q.topRows(2), k.topRows(2), heed::heads(2)));
  EXPECT_EQ(heed::attention_weights(q, k, batch, heed::rows(4)),
            heed::attention_weights(q.bottomRows(4), k.bottomRows(4), heed::rows(2)));
}

/// Scores are what softmax makes the weights of.
TEST(Weights, ScoresBeforeTheSelection) {
  const auto q = draw(7, 12, 1), k = draw(9, 6, 2);
  const auto spec = heed::spec(heed::heads(4, 2), heed::causal(), heed::alibi(), heed::scale(0.5));
  const Eigen::MatrixXf s = heed::attention_scores(q, k, spec), w = heed::attention_weights(q, k, spec);
  ASSERT_EQ(s.cols(), 4 * 9);
  for (Index h = 0; h < 4; ++h)
    for (Index i = 0; i < 7; ++i) {
      const Eigen::RowVectorXd row = s.row(i).segment(h * 9, 9).cast<double>().array().exp();
      for (Index j = 0; j < 9; ++j) {
        EXPECT_NEAR(row(j) / row.sum(), static_cast<double>(w(i, h * 9 + j)), 1e-6);
        const float dot = q.row(i).segment(h * 3, 3).dot(k.row(j).segment(h / 2 * 3, 3));
        const double want = 0.5 * static_cast<double>(dot) -
                            heed::alibi_slope(h, 4) * static_cast<double>(std::abs(i + 2 - j));
        if (j > i + 2) {
          EXPECT_EQ(s(i, h * 9 + j), -std::numeric_limits<float>::infinity());
        } else {
          EXPECT_NEAR(static_cast<double>(s(i, h * 9 + j)), want, 1e-5);
        }
      }
    }
  EXPECT_EQ(heed::attention_scores(q, k, spec, heed::rows(3), heed::head(1)), s.row(3).segment(9, 9));
  // Sequences of their own widths; -inf past their ends.
  const auto ragged = heed::attention_scores(q, draw(9, 12, 3), heed::sequences({0, 3, 7}, {0, 2, 9}));
  EXPECT_EQ(ragged.cols(), 7);
  EXPECT_EQ(ragged(0, 2), -std::numeric_limits<float>::infinity());
  // A finite score stays finite.
  const Eigen::MatrixXf great = Eigen::MatrixXf::Constant(1, 1, 1e30f);
  EXPECT_NEAR(heed::attention_scores(great, great)(0, 0), 2.3587e38f, 1e34f);
  EXPECT_NEAR(heed::attention_scores(great, -great)(0, 0), -2.3587e38f, 1e34f);
  const Eigen::Matrix<Eigen::half, 1, 1> four(Eigen::half(4e4f));
  EXPECT_EQ(heed::attention_scores(four, four)(0, 0), std::numeric_limits<Eigen::half>::max());
}

TEST(Weights, RowThatSeesNothingIsZero) {
  const auto q = draw(4, 4, 1), k = draw(2, 4, 2);
  const auto w = heed::attention_weights(q, k, heed::causal());
  EXPECT_EQ(w.topRows(2), Eigen::MatrixXf::Zero(2, 2));
  EXPECT_EQ(w(2, 0), 1);
  EXPECT_EQ(w(2, 1), 0);
}

TEST(Weights, AnyExpression) {
  const auto q = draw(4, 4, 1), k = draw(6, 4, 2);
  const Eigen::MatrixXf want = heed::attention_weights((2 * q).eval(), k);
  EXPECT_EQ(heed::attention_weights(2 * q, k), want);
  EXPECT_EQ(heed::attention_weights(2 * q, k.transpose().eval().transpose()), want);
  const Eigen::MatrixXf product = q * k.transpose() * k;
  EXPECT_TRUE(
      heed::attention_weights(q * k.transpose() * k, k).isApprox(heed::attention_weights(product, k), 1e-5f));
  const Eigen::Matrix<float, 4, 4, Eigen::RowMajor> fixed = 2 * q;
  EXPECT_EQ(heed::attention_weights(fixed, k), want);
}

TEST(Weights, MissingRowsAndHeadsAreNamed) {
  const auto q = draw(4, 4, 1), k = draw(6, 4, 2);
  const auto message = [&](const auto& view) -> std::string {
    try {
      heed::attention_weights(q, k, view, heed::heads(2));
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message(heed::rows({4})), "heed: row 4 was chosen, there are 4");
  EXPECT_EQ(message(heed::rows({-1})), "heed: row -1 was chosen, there are 4");
  EXPECT_EQ(message(heed::head(2)), "heed: head 2 was chosen, there are 2");
}

}  // namespace
