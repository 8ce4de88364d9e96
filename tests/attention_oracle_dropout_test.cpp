// SPDX-License-Identifier: MIT
// attention() and its gradients against plain loops: dropout, and the random numbers it is made of.
#include "batches.hpp"
#include "gradient_oracle.hpp"

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <heed/core/when.hpp>
#include <heed/execute/on.hpp>
#include <heed/execute/pool.hpp>
#include <heed/execute/serial.hpp>
#include <heed/mask/causal.hpp>
#include <heed/select/dropout.hpp>
#include <heed/select/sink.hpp>

namespace {

using namespace heed_test;

template <class T>
void dropped() {
  Oracle<T> oracle("dropout");
  GradientOracle<T> gradients("gradients, dropout");
  const double shares[] = {0, 0.1, 0.5, 0.9};
  for (Index t = 0; t < sweep(100); ++t) {
    const Case c = draw_case<T>(95, t);
    const auto plain = heed::spec(heed::heads(c.heads, c.key_heads), heed::dropout(shares[t % 4], c.seed));
    oracle.check(c, plain);
    gradients.check(c, plain, t % 3 == 0);
  }
  for (Index t = 0; t < sweep(60); ++t) {
    const Batch b = draw_batch<T>(96, t);
    const auto ragged =
        heed::spec(heed::heads(b.c.heads, b.c.key_heads), heed::sequences(b.q, b.k),
                   heed::dropout(shares[t % 4], b.c.seed), heed::causal(), heed::sink(T(0.5)));
    oracle.check(b.c, ragged);
    gradients.check(b.c, ragged);
  }
}

TEST(AttentionOracleDropout, Float) { dropped<float>(); }
TEST(AttentionOracleDropout, Double) { dropped<double>(); }

/// The known answers that come with the generator's definition.
TEST(Threefry, KnownAnswers) {
  EXPECT_EQ(heed::threefry({0, 0}, {0, 0}), (heed::Words{0x6b200159u, 0x99ba4efeu}));
  EXPECT_EQ(heed::threefry({~0u, ~0u}, {~0u, ~0u}), (heed::Words{0x1cb996fcu, 0xbb002be7u}));
  EXPECT_EQ(heed::threefry({0x243f6a88u, 0x85a308d3u}, {0x13198a2eu, 0x03707344u}),
            (heed::Words{0xc4923a9cu, 0x483df7a0u}));
}

/// Which weights of which rows are kept: with values that single out one key each.
Matrix<float> kept(Index n, Index m, const heed::Dropout& dropout, Index heads = 1) {
  const Matrix<float> q = Matrix<float>::Zero(n, heads), k = Matrix<float>::Zero(m, 1);
  const Matrix<float> v = Matrix<float>::Identity(m, m);
  return heed::attention(q, k, v, dropout, heed::heads(heads, 1)) * static_cast<float>(m);
}

TEST(Dropout, KeepsTheShareAndTheMean) {
  for (const double p : {0.1, 0.5, 0.9}) {
    const Matrix<float> weights = kept(300, 400, heed::dropout(p, 7));
    const double count = static_cast<double>(weights.size());
    double zeros = 0;
    for (Index i = 0; i < weights.size(); ++i) {
      const float w = weights.data()[i];
      if (w == 0)
        ++zeros;
      else
        EXPECT_NEAR(w, 1 / (1 - p), 1e-5 / (1 - p));
    }
    const double sigma = std::sqrt(p * (1 - p) / count);
    EXPECT_NEAR(zeros / count, p, 5 * sigma);
  }
}

/// Neighbours, heads and seeds know nothing of each other.
TEST(Dropout, IsIndependent) {
  const Index n = 300, m = 400;
  const auto mask = [&](std::uint64_t seed, Index head) {
    const Matrix<float> all = kept(n, m, heed::dropout(0.5, seed), 2);
    const Matrix<float> mine = all.middleCols(head * m, m);
    return Matrix<double>((mine.array() > 0).select(Matrix<double>::Ones(n, m), -Matrix<double>::Ones(n, m)));
  };
  const Matrix<double> a = mask(1, 0), other_head = mask(1, 1), other_seed = mask(2, 0);
  const double bar = 5 / std::sqrt(static_cast<double>(n * m));
  const auto correlation = [](const auto& x, const auto& y) { return x.cwiseProduct(y).mean(); };
  EXPECT_LT(std::abs(correlation(a, other_head)), bar);
  EXPECT_LT(std::abs(correlation(a, other_seed)), bar);
  EXPECT_LT(std::abs(correlation(a.leftCols(m - 1), a.rightCols(m - 1))), bar);
  EXPECT_LT(std::abs(correlation(a.topRows(n - 1), a.bottomRows(n - 1))), bar);
  EXPECT_EQ(a, mask(1, 0));
}

/// The pattern belongs to the pairs, not to tiles, paths or threads: some rows alone drop what they drop in
/// the whole, and bits are equal for any number of threads.
TEST(Dropout, DependsOnNothingElse) {
  const auto dropout = heed::dropout(0.4, 11);
  const Matrix<float> whole = kept(200, 300, dropout);
  for (const Index n : {1, 5, 70}) {
    const Matrix<float> part = kept(n, 300, dropout);
    EXPECT_EQ((part.array() > 0).cast<int>().matrix(), (whole.topRows(n).array() > 0).cast<int>().matrix());
  }
  Dice dice(3);
  const Matrix<float> q = dice.matrix<float>(700, 64), k = dice.matrix<float>(700, 64);
  const Matrix<float> one = heed::attention(q, k, k, heed::heads(4), dropout, heed::on(heed::serial()));
  Eigen::ThreadPool pool(3);
  const Matrix<float> many = heed::attention(q, k, k, heed::heads(4), dropout, heed::on(pool));
  EXPECT_EQ(one, many);
}

TEST(Dropout, IsChosenAtRunTime) {
  Dice dice(4);
  const Matrix<double> q = dice.matrix<double>(90, 8), k = dice.matrix<double>(70, 8);
  const Matrix<double> plain = heed::attention(q, k, k);
  const Matrix<double> off = heed::attention(q, k, k, heed::when(false, heed::dropout(0.5, 1)));
  const Matrix<double> on = heed::attention(q, k, k, heed::when(true, heed::dropout(0.5, 1)));
  EXPECT_TRUE(off.isApprox(plain, 1e-13));
  EXPECT_EQ(on, heed::attention(q, k, k, heed::dropout(0.5, 1)));
  EXPECT_FALSE(on.isApprox(plain, 1e-2));
}

TEST(Dropout, RefusesWhatIsNoProbability) {
  const Matrix<float> q = Matrix<float>::Zero(2, 2);
  for (const double p : {-0.1, 1.0, 1.5, std::nan("")})
    EXPECT_THROW((void)heed::attention(q, q, q, heed::dropout(p, 0)), std::invalid_argument) << p;
}

}  // namespace
