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

/// What a row of equal scores makes of values, and one in which key `best` is far above the rest.
enum class Equal { all, first, half, any };

/// Scores of any size: equal ones, and one so far above the others that it takes all.
template <class T, class Selection>
void any_size(const char* name, const Selection& selection, Equal equal) {
  constexpr T lowest = std::numeric_limits<T>::lowest();
  std::vector<T> scores{T(1e4),  T(-1e4),  T(1e6),    T(2e7),          T(-2e7),       T(1e8), T(-1e9),
                        T(1e30), T(-1e30), T(0.7) * lowest, T(-0.9) * lowest, lowest, -lowest};
  if (sizeof(T) > 4) scores.insert(scores.end(), {T(2e16), T(-2e16), T(1e18), T(-1e300)});
  for (const T score : scores)
    for (const Index n : {Index(1), Index(20)})
      for (const Index m : {Index(1), Index(2), Index(7), Index(40)}) {
        const Matrix<T> q = Matrix<T>::Ones(n, 1), dout = Matrix<T>::Ones(n, 2);
        Matrix<T> k = Matrix<T>::Constant(m, 1, score), v(m, 2);
        for (Index j = 0; j < m; ++j) v.row(j) << static_cast<T>(j % 5), T(1);
        heed::Saved<T> saved;
        const auto attend = [&] { return Matrix<T>(heed::attention(q, k, v, selection, heed::save(saved))); };
        const auto expect = [&](const Matrix<T>& out, const Matrix<T>& weights, const char* what) {
          const Matrix<T> want = (weights * v).replicate(n, 1);
          EXPECT_TRUE(out.isApprox(want, T(1e-5)))
              << name << ", " << what << " scores of " << score << ", " << n << " x " << m << ": "
              << out.row(0) << ", not " << want.row(0);
          const Matrix<T> shown = heed::attention_weights(q, k, selection, heed::rows({n - 1}));
          EXPECT_TRUE(shown.isApprox(weights, T(1e-5)))
              << name << ", " << what << " scores of " << score << ", weights shown";
          EXPECT_TRUE(saved.lse.allFinite() && std::abs(saved.lse(n - 1, 0) / k.maxCoeff() - 1) <= T(0.4))
              << name << ", " << score << ": " << saved.lse(0, 0);
          const auto g = heed::attention_backward(dout, q, k, v, out, saved, selection);
          EXPECT_TRUE(g.dv.isApprox(weights.transpose().replicate(1, 2) * static_cast<T>(n), T(1e-5)))
              << name << ", " << what << " scores of " << score << ", backward";
        };
        const Matrix<T> out = attend();
        if (equal == Equal::any) {  // drawn: some key each
          EXPECT_TRUE(out.col(1).isApproxToConstant(T(1), T(1e-6))) << name << ", " << score;
        } else {
          const Index count = equal == Equal::all ? m : equal == Equal::first ? 1 : (m + 1) / 2;
          Matrix<T> weights = Matrix<T>::Zero(1, m);
          weights.leftCols(count).setConstant(T(1) / static_cast<T>(count));
          expect(out, weights, "equal");
        }
        // Where scores saturate, others must not.
        const T near = std::abs(score) > T(0.69) * -lowest ? T(0.5) : T(1) - T(0x1p-6);
        for (const Index best : {Index(0), m / 2}) {
          k.setConstant(score > 0 ? score * near : score);
          k(best, 0) = score > 0 ? score : score * near;
          expect(attend(), Matrix<T>::Identity(m, m).row(best), "one best of");
        }
      }
}
template <class T>
void any_size() {
  any_size<T>("sparsemax", heed::sparsemax(), Equal::all);
  any_size<T>("entmax15", heed::entmax15(), Equal::all);
  for (const double alpha : {1.2, 64.0}) any_size<T>("entmax", heed::entmax(alpha), Equal::all);
  any_size<T>("argmax", rank(heed::argmax()), Equal::first);
  any_size<T>("top_k", rank(heed::top_k(1000)), Equal::all);
  any_size<T>("top_p", rank(heed::top_p(0.5 - 1e-4)), Equal::half);
  any_size<T>("sample", heed::sample(3), Equal::any);
}
TEST(SelectionsAtTheEdges, ScoresOfAnySizeFloat) { any_size<float>(); }
TEST(SelectionsAtTheEdges, ScoresOfAnySizeDouble) { any_size<double>(); }

/// The smallest case of it.
TEST(SelectionsAtTheEdges, OneGreatScore) {
  const Matrix<float> q = Matrix<float>::Constant(1, 1, 2e7f), v = Matrix<float>::Ones(2, 1);
  Matrix<float> k(2, 1);
  k << 1, 0.5f;
  EXPECT_EQ(heed::attention(q, k, v, heed::sparsemax())(0, 0), 1);
  EXPECT_EQ(heed::attention(q, k, v, heed::entmax15())(0, 0), 1);
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
