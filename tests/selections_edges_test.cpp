// SPDX-License-Identifier: MIT
// Selections: rows with few keys or none, NaN, threads, random choices, refusals.
#include "any_rank.hpp"
#include "oracle.hpp"

#include <Eigen/Core>

#include <heed/attention_backward.hpp>
#include <heed/attention_weights.hpp>
#include <heed/execute/on.hpp>
#include <heed/execute/pool.hpp>
#include <heed/execute/serial.hpp>
#include <heed/score/scale.hpp>
#include <heed/select/entmax.hpp>
#include <heed/select/gumbel.hpp>
#include <heed/select/sample.hpp>
#include <heed/select/sink.hpp>
#include <heed/select/softmax.hpp>
#include <heed/select/sparsemax.hpp>
#include <heed/select/top_k.hpp>

#include <unsupported/Eigen/CXX11/ThreadPool>

namespace {

using namespace heed_test;

template <class P>
AnyRank rank(const P& policy) {
  return AnyRank(policy);
}

/// A row that sees fewer than k keys keeps all it sees; one that sees none is 0, and so are its gradients.
TEST(SelectionsAtTheEdges, FewKeysAndNone) {
  const Matrix<double> q = Matrix<double>::Ones(2, 3), k = Matrix<double>::Ones(2, 3);
  const auto check = [&](const auto& selection) {
    heed::Saved<double> saved;
    const Matrix<double> none(0, 3);
    const Matrix<double> zero = heed::attention(q, none, none, selection, heed::save(saved));
    EXPECT_TRUE(zero.isZero(0));
    EXPECT_EQ(saved.lse(1, 0), -std::numeric_limits<double>::infinity());
    const auto [dq, dk, dv] = heed::attention_backward(q, q, none, none, zero, saved, selection);
    EXPECT_TRUE(dq.isZero(0));
    const Matrix<double> v = Matrix<double>::Constant(2, 3, 7.0);
    EXPECT_TRUE(heed::attention(q, k, v, selection).isApprox(Matrix<double>::Constant(2, 3, 7.0)));
  };
  check(heed::sparsemax());
  check(heed::entmax(1.4));
  check(rank(heed::top_k(5)));
  check(rank(heed::top_p(0.3)));
  check(rank(heed::argmax()));
  check(heed::sample(2, 3));
}

/// NaN where nobody looks reaches nothing, and in a score the row that sees it and no other.
TEST(SelectionsAtTheEdges, NaNStaysWhereItIsSeen) {
  Dice dice(8);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Matrix<float> q = dice.matrix<float>(70, 8), k = dice.matrix<float>(90, 8), v = dice.matrix<float>(90, 5);
  const auto check = [&](const auto& selection, bool gradient = true) {
    const Matrix<float> clean = heed::attention(q, k, v, selection);
    Matrix<float> bad = q;
    bad(33, 2) = nan;
    const Matrix<float> out = heed::attention(bad, k, v, selection);
    for (Index i = 0; i < 70; ++i) {
      if (i == 33)
        EXPECT_TRUE(out.row(i).array().isNaN().all());
      else
        EXPECT_TRUE(out.row(i).isApprox(clean.row(i), 1e-5f)) << i;
    }
    heed::Saved<float> saved;
    const Matrix<float> o = heed::attention(q, k, v, selection, heed::save(saved));
    Matrix<float> dout = Matrix<float>::Ones(70, 5);
    dout(33, 1) = nan;
    const auto [dq, dk, dv] = heed::attention_backward(dout, q, k, v, o, saved, selection);
    for (Index i = 0; i < 70; ++i) EXPECT_EQ(dq.row(i).allFinite(), i != 33 || !gradient) << i;
  };
  check(heed::sparsemax());
  check(heed::entmax15());
  check(rank(heed::top_k(5)));
  check(rank(heed::top_k(90)));
  check(rank(heed::argmax()), false);
  check(heed::sample(1), false);
  // A value that gets no weight is not read.
  const Matrix<float> w =
      heed::attention(q, k, Matrix<float>(Matrix<float>::Identity(90, 90)), rank(heed::argmax()));
  Index unused = 0;
  while (w.col(unused).sum() != 0) ++unused;
  Matrix<float> poisoned = v;
  poisoned.row(unused).setConstant(nan);
  EXPECT_EQ(heed::attention(q, k, poisoned, rank(heed::argmax())),
            heed::attention(q, k, v, rank(heed::argmax())));
}

TEST(SelectionsAtTheEdges, BitsDoNotDependOnThreads) {
  Dice dice(9);
  const Matrix<float> q = dice.matrix<float>(500, 64), k = dice.matrix<float>(400, 64),
                      dout = dice.matrix<float>(500, 64);
  Eigen::ThreadPool pool(3);
  const auto check = [&](const auto& selection) {
    heed::Saved<float> saved;
    const auto spec = heed::spec(heed::heads(4), selection);
    const Matrix<float> one = heed::attention(q, k, k, spec, heed::on(heed::serial()), heed::save(saved));
    EXPECT_EQ(one, heed::attention(q, k, k, spec, heed::on(pool)));
    const auto a = heed::attention_backward(dout, q, k, k, one, saved, spec, heed::on(heed::serial()));
    const auto b = heed::attention_backward(dout, q, k, k, one, saved, spec, heed::on(pool));
    EXPECT_EQ(a.dq, b.dq);
    EXPECT_EQ(a.dk, b.dk);
    EXPECT_EQ(a.dv, b.dv);
  };
  check(heed::entmax15());
  check(heed::sample(5, 2, heed::straight_through));
}

/// The share of draws of each key is its softmax weight.
TEST(SelectionsAtTheEdges, SamplesWithTheWeightsOfSoftmax) {
  const Index rows = 20000, m = 5;
  const Matrix<double> q = Matrix<double>::Ones(rows, 1), v = Matrix<double>::Identity(m, m);
  Matrix<double> k(m, 1);
  k << 0.3, -1, 1.2, 0, -4;
  const Matrix<double> drawn = heed::attention(q, k, v, heed::scale(1), heed::sample(11));
  const Matrix<double> p = heed::attention(q.topRows(1), k, v, heed::scale(1));
  for (Index j = 0; j < m; ++j) {
    const double sigma = std::sqrt(p(0, j) * (1 - p(0, j)) / static_cast<double>(rows));
    EXPECT_NEAR(drawn.col(j).mean(), p(0, j), 4.5 * sigma) << j;
  }
  EXPECT_NE(drawn, heed::attention(q, k, v, heed::scale(1), heed::sample(12)));
}

TEST(SelectionsAtTheEdges, WeightsAreShown) {
  Dice dice(10);
  const Matrix<float> q = dice.matrix<float>(4, 3), k = dice.matrix<float>(6, 3);
  const Matrix<float> v = Matrix<float>::Identity(6, 6);
  for (const auto& w : {heed::attention_weights(q, k, heed::sparsemax())})
    EXPECT_TRUE(w.isApprox(heed::attention(q, k, v, heed::sparsemax()), 1e-5f));
  EXPECT_TRUE(heed::attention_weights(q, k, rank(heed::top_k(2)))
                  .isApprox(heed::attention(q, k, v, rank(heed::top_k(2))), 1e-5f));
}

/// The greatest of scores with Gumbel noise is drawn with softmax's weights; the soft form nearly is that
/// choice at low temperature; its gradient is softmax's for the noise drawn.
TEST(SelectionsAtTheEdges, GumbelNoise) {
  const Index rows = 20000, m = 5;
  const Matrix<double> q = Matrix<double>::Ones(rows, 1), v = Matrix<double>::Identity(m, m);
  Matrix<double> k(m, 1);
  k << 0.3, -1, 1.2, 0, -4;
  const Matrix<double> p = heed::attention(q.topRows(1), k, v, heed::scale(1));
  const auto hard = heed::gumbel_softmax(0.7, 3, heed::straight_through);
  const Matrix<double> drawn = heed::attention(q, k, v, heed::scale(1), hard);
  for (Index j = 0; j < m; ++j) {
    const double sigma = std::sqrt(p(0, j) * (1 - p(0, j)) / static_cast<double>(rows));
    EXPECT_NEAR(drawn.col(j).mean(), p(0, j), 4.5 * sigma) << j;
  }
  const Matrix<double> soft = heed::attention(q, k, v, heed::scale(1), heed::gumbel_softmax(1e-3, 3));
  EXPECT_LT((soft - drawn).cwiseAbs().mean(), 1e-3);

  Dice dice(21);
  const Matrix<double> x = dice.matrix<double>(6, 3), y = dice.matrix<double>(9, 3),
                       z = dice.matrix<double>(9, 2), dout = dice.matrix<double>(6, 2);
  heed::Saved<double> saved;
  const auto gumbel = heed::gumbel_softmax(0.6, 5);
  const Matrix<double> out = heed::attention(x, y, z, gumbel, heed::save(saved));
  const auto g = heed::attention_backward(dout, x, y, z, out, saved, gumbel);
  const auto loss = [&](const Matrix<double>& at) {
    return heed::attention(at, y, z, gumbel).cwiseProduct(dout).sum();
  };
  for (Index i = 0; i < x.size(); ++i) {
    Matrix<double> above = x, below = x;
    above.data()[i] += 1e-6;
    below.data()[i] -= 1e-6;
    EXPECT_NEAR(g.dq.data()[i], (loss(above) - loss(below)) / 2e-6, 1e-8);
  }
  const auto through = heed::spec(heed::gumbel_softmax(0.6, 5, heed::straight_through));
  heed::Saved<double> saved_hard;
  const Matrix<double> chosen = heed::attention(x, y, z, through, heed::save(saved_hard));
  EXPECT_FALSE(chosen.isApprox(out, 1e-2));
  const auto h = heed::attention_backward(dout, x, y, z, chosen, saved_hard, through);
  EXPECT_TRUE(h.dq.isApprox(g.dq, 1e-12));
  EXPECT_FALSE(h.dv.isApprox(g.dv, 1e-2));
}

TEST(SelectionsAtTheEdges, ATemperatureDividesScores) {
  Dice dice(22);
  const Matrix<double> q = dice.matrix<double>(6, 4), k = dice.matrix<double>(9, 4);
  EXPECT_TRUE(heed::attention(q, k, k, heed::softmax(2.0))
                  .isApprox(heed::attention(q, k, k, heed::scale(0.25)), 1e-14));
  for (const double t : {0.0, -1.0, std::nan("")})
    EXPECT_THROW((void)heed::attention(q, k, k, heed::softmax(t)), std::invalid_argument);
}

TEST(SelectionsAtTheEdges, RefuseNonsense) {
  const Matrix<float> q = Matrix<float>::Ones(2, 4);
  const auto refused = [&](const auto& selection) {
    EXPECT_THROW((void)heed::attention(q, q, q, heed::heads(2), selection), std::invalid_argument);
  };
  refused(heed::top_k(0));
  refused(heed::top_p(0));
  refused(heed::top_p(1.5));
  refused(heed::top_p(std::nan("")));
  refused(heed::entmax(1.0));
  refused(heed::entmax(std::nan("")));
  refused(heed::entmax({1.5, 1.2, 1.3}));
  refused(heed::sample(1, 0));
  refused(heed::sample(1, 65));
}

}  // namespace
