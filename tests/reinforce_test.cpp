// SPDX-License-Identifier: MIT
// What trains hard attention: central differences for every gradient, Monte Carlo against enumeration for
// every estimator.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include <heed/train/doubly_stochastic.hpp>
#include <heed/train/entropy.hpp>
#include <heed/train/expected_or_sampled.hpp>
#include <heed/train/gumbel_softmax.hpp>
#include <heed/train/moving_baseline.hpp>
#include <heed/train/noise.hpp>
#include <heed/train/reinforce.hpp>
#include <heed/train/softmax_rows.hpp>
#include <heed/train/straight_through.hpp>

#include "oracle.hpp"

namespace {

using namespace heed_test;

const double minus_infinity = -std::numeric_limits<double>::infinity();

/// The largest difference of a gradient and central differences of a loss.
template <class M, class Loss>
double worst_difference(M x, const M& gradient, const Loss& loss) {
  const double h = 1e-5;
  double worst = 0;
  for (Index i = 0; i < x.rows(); ++i)
    for (Index j = 0; j < x.cols(); ++j) {
      const double old = x(i, j);
      x(i, j) = old + h;
      const double above = loss(x);
      x(i, j) = old - h;
      const double below = loss(x);
      x(i, j) = old;
      worst = std::max(worst, std::abs(gradient(i, j) - (above - below) / (2 * h)));
    }
  return worst;
}

/// Mean and squared deviations of draws of a matrix.
struct Statistics {
  Matrix<double> sum, squares;
  double count = 0;

  void add(const Matrix<double>& x) {
    if (count == 0) sum = squares = Matrix<double>::Zero(x.rows(), x.cols());
    sum += x;
    squares += x.cwiseProduct(x);
    count += 1;
  }
  Matrix<double> mean() const { return sum / count; }
  Matrix<double> variance() const { return squares / count - mean().cwiseProduct(mean()); }
  /// The largest distance of the mean from what it should be, in standard errors.
  double standard_errors(const Matrix<double>& exact) const {
    const Matrix<double> error = (mean() - exact).cwiseAbs(), deviation = (variance() / count).cwiseSqrt();
    double worst = 0;
    for (Index i = 0; i < error.rows(); ++i)
      for (Index j = 0; j < error.cols(); ++j)
        worst = std::max(worst, error(i, j) <= 1e-12 ? 0 : error(i, j) / deviation(i, j));
    return worst;
  }
};

TEST(Training, MovingBaseline) {
  heed::MovingBaseline b;
  b.update(1);
  EXPECT_NEAR(b.value(), 0.1, 1e-16);
  b.update(Eigen::Vector2f(1, 3));
  EXPECT_NEAR(b.value(), 0.29, 1e-15);
  b.update(Eigen::VectorXd(0));
  EXPECT_NEAR(b.value(), 0.29, 1e-15);
  heed::MovingBaseline half(0.5, 4);
  half.update(2);
  EXPECT_EQ(half.value(), 3);
  EXPECT_THROW(half.update(std::nan("")), std::invalid_argument);
  EXPECT_EQ(half.value(), 3);
  EXPECT_THROW(heed::MovingBaseline(1.0), std::invalid_argument);
  EXPECT_THROW(heed::MovingBaseline(-0.1), std::invalid_argument);
}

TEST(Training, SoftmaxRows) {
  for (const Index n : {0, 1, 3, 7})
    for (const Index m : {0, 1, 8, 65}) {
      const RowMatrix<double> s = Dice(1).matrix<double>(n, m, 3), dp = Dice(2).matrix<double>(n, m);
      const RowMatrix<double> p = heed::softmax_rows(s);
      if (n > 0 && m > 0) {
        EXPECT_TRUE(p.rowwise().sum().isOnes(1e-14));
      }
      EXPECT_LE(worst_difference(s, RowMatrix<double>(heed::softmax_rows_gradient(dp, p)),
                                 [&](const auto& x) { return heed::softmax_rows(x).cwiseProduct(dp).sum(); }),
                1e-9);
    }
  Matrix<double> s(2, 2);
  s << minus_infinity, minus_infinity, 1, minus_infinity;
  Matrix<double> expected(2, 2), dp(2, 2);
  expected << 0, 0, 1, 0;
  EXPECT_EQ(heed::softmax_rows(s), expected);
  dp << std::nan(""), 1, 1, std::nan("");
  EXPECT_TRUE(heed::softmax_rows_gradient(dp, expected).isZero(0));
  EXPECT_THROW(heed::softmax_rows_gradient(dp.topRows(1), s), std::invalid_argument);
}

TEST(Training, Entropy) {
  Matrix<double> p(4, 4);
  p << .25, .25, .25, .25, 0, 1, 0, 0, 0, 0, 0, 0, .5, 0, .5, 0;
  const Eigen::VectorXd h = heed::entropy(p);
  EXPECT_NEAR(h(0), std::log(4.0), 1e-15);
  EXPECT_EQ(h(1), 0);
  EXPECT_EQ(h(2), 0);
  EXPECT_NEAR(h(3), std::log(2.0), 1e-15);
  EXPECT_TRUE(heed::entropy_gradient(p).isZero(1e-15));
  for (const Index n : {0, 1, 5})
    for (const Index m : {1, 2, 33}) {
      Matrix<double> s = Dice(7).matrix<double>(n, m, 2);
      const Matrix<double> weights = heed::softmax_rows(s);
      EXPECT_LE(worst_difference(s, Matrix<double>(heed::entropy_gradient(weights)),
                                 [](const auto& x) { return heed::entropy(heed::softmax_rows(x)).sum(); }),
                1e-9);
      EXPECT_EQ(RowMatrix<double>(heed::entropy_gradient(RowMatrix<double>(weights))),
                heed::entropy_gradient(weights));
      const Eigen::VectorXd lse = s.array().exp().rowwise().sum().log();
      if (n > 0) {
        EXPECT_LE((heed::entropy_from_lse(lse, weights, s) - heed::entropy(weights)).cwiseAbs().maxCoeff(),
                  1e-13);
        EXPECT_LE((heed::entropy_from_lse(lse.transpose(), weights, s) - heed::entropy(weights))
                      .cwiseAbs()
                      .maxCoeff(),
                  1e-13);
      }
    }
  // A row without keys.
  Matrix<double> none = Matrix<double>::Constant(1, 2, minus_infinity);
  EXPECT_EQ(heed::entropy_from_lse(none.leftCols(1), Matrix<double>::Zero(1, 2), none)(0), 0);
  EXPECT_THROW(heed::entropy_from_lse(h.head(3), p, p), std::invalid_argument);
  EXPECT_THROW(heed::entropy_from_lse(h, p, p.leftCols(2)), std::invalid_argument);
}

TEST(Training, ReinforceFormula) {
  const Matrix<double> p = heed::softmax_rows(Dice(1).matrix<double>(3, 4));
  const std::vector<int> chosen{2, -1, 0};
  const Eigen::Vector3d reward(1.5, 2, -1);
  const Matrix<double> ds = heed::reinforce_gradient(p, chosen, reward, 0.5, {.reward = 2, .entropy = 0.1});
  const Matrix<double> dh = heed::entropy_gradient(p);
  for (Index i = 0; i < 3; ++i)
    for (Index j = 0; j < 4; ++j) {
      const int a = chosen[static_cast<std::size_t>(i)];
      const double expected = (a < 0 ? 0 : 2 * (reward(i) - 0.5) * ((j == a) - p(i, j))) + 0.1 * dh(i, j);
      EXPECT_NEAR(ds(i, j), expected, 1e-15);
    }
  // Several draws a row: their mean. One reward for all of a row's draws.
  Eigen::MatrixXi several(3, 2);
  several << 2, 1, 0, 3, 3, 3;
  const Matrix<double> rewards = Dice(3).matrix<double>(3, 2);
  const RowMatrix<double> two = heed::reinforce_gradient(RowMatrix<double>(p), several, rewards, 0.25);
  const Matrix<double> mean = (heed::reinforce_gradient(p, several.col(0), rewards.col(0), 0.25) +
                               heed::reinforce_gradient(p, several.col(1), rewards.col(1), 0.25)) /
                              2;
  EXPECT_TRUE(two.isApprox(mean, 1e-14));
  EXPECT_TRUE(heed::reinforce_gradient(p, several, reward)
                  .isApprox(heed::reinforce_gradient(p, several, reward.replicate(1, 2).eval()), 1e-14));
  // Rows that see nothing.
  Matrix<double> blind = p;
  blind.row(1).setZero();
  EXPECT_TRUE(heed::reinforce_gradient(blind, std::array<long, 3>{1, 1, 1}, reward, 0, {.entropy = 1})
                  .row(1)
                  .isZero(0));
  EXPECT_THROW(heed::reinforce_gradient(p, std::vector<int>{0, 1}, reward), std::invalid_argument);
  EXPECT_THROW(heed::reinforce_gradient(p, std::vector<int>{0, 1, 4}, reward), std::invalid_argument);
  EXPECT_THROW(heed::reinforce_gradient(p, std::vector<int>{0, -2, 3}, reward), std::invalid_argument);
  EXPECT_THROW(heed::reinforce_gradient(p, chosen, reward.head(2)), std::invalid_argument);
  EXPECT_THROW(heed::reinforce_gradient(p, several, Matrix<double>(3, 3)), std::invalid_argument);
}

/// The keys that Gumbel's trick draws, a row of a hard gumbel_softmax_rows() each.
std::vector<Index> draw(const Matrix<double>& s, std::uint64_t seed) {
  const Matrix<double> y = heed::gumbel_softmax_rows(s, {.seed = seed, .hard = true});
  std::vector<Index> chosen;
  for (Index i = 0; i < y.rows(); ++i) {
    Index a = -1;
    y.row(i).maxCoeff(&a);
    chosen.push_back(a);
  }
  return chosen;
}

/// The mean over draws is the exact gradient of Σ_i Σ_j p_ij r_ij + λ_e H, found by summing over all keys,
/// and a baseline lowers the variance where rewards lie far from 0.
TEST(Training, ReinforceIsUnbiasedAndBaselinesLowerItsVariance) {
  const Index n = 3, m = 4;
  const Matrix<double> s = Dice(5).matrix<double>(n, m);
  const Matrix<double> r = (Dice(6).matrix<double>(n, m).array() + 10).matrix();
  const Matrix<double> p = heed::softmax_rows(s);
  const heed::Reinforce options{.reward = 0.7, .entropy = 0.3};
  Matrix<double> exact(n, m);
  for (Index i = 0; i < n; ++i) {
    double h = 0;
    for (Index j = 0; j < m; ++j) h -= p(i, j) * std::log(p(i, j));
    for (Index j = 0; j < m; ++j)
      exact(i, j) =
          0.7 * p(i, j) * (r(i, j) - p.row(i).dot(r.row(i))) - 0.3 * p(i, j) * (std::log(p(i, j)) + h);
  }
  Statistics plain, with_baseline;
  heed::MovingBaseline baseline(0.9, 10);
  for (std::uint64_t seed = 0; seed < 20000; ++seed) {
    const auto chosen = draw(s, seed);
    Eigen::VectorXd reward(n);
    for (Index i = 0; i < n; ++i) reward(i) = r(i, chosen[static_cast<std::size_t>(i)]);
    plain.add(heed::reinforce_gradient(p, chosen, reward, 0, options));
    with_baseline.add(heed::reinforce_gradient(p, chosen, reward, baseline.value(), options));
    baseline.update(reward);
  }
  std::printf(
      "reinforce: %.2f standard errors from exact, with a baseline %.2f; variance %.4f, with it %.4f\n",
      plain.standard_errors(exact), with_baseline.standard_errors(exact), plain.variance().sum(),
      with_baseline.variance().sum());
  EXPECT_LE(plain.standard_errors(exact), 4);
  EXPECT_LE(with_baseline.standard_errors(exact), 4);
  EXPECT_LE(with_baseline.variance().sum(), 0.1 * plain.variance().sum());
}

TEST(Training, GumbelDrawsFromTheSoftmax) {
  const Matrix<double> s = Dice(9).matrix<double>(2, 5);
  Statistics draws;
  for (std::uint64_t seed = 0; seed < 20000; ++seed)
    draws.add(heed::gumbel_softmax_rows(s, {.temperature = 0.7, .seed = seed, .hard = true}));
  std::printf("gumbel: %.2f standard errors from the softmax\n",
              draws.standard_errors(heed::softmax_rows(s)));
  EXPECT_LE(draws.standard_errors(heed::softmax_rows(s)), 4);
}

TEST(Training, GumbelSoftmaxGradient) {
  const heed::Place place{.head = 2, .sequence = 1};
  for (const Index n : {0, 1, 4})
    for (const Index m : {1, 2, 9}) {
      const heed::GumbelSoftmax options{.temperature = 0.6, .seed = 4};
      const RowMatrix<double> s = Dice(3).matrix<double>(n, m), dy = Dice(4).matrix<double>(n, m);
      EXPECT_LE(
          worst_difference(s, RowMatrix<double>(heed::gumbel_softmax_rows_gradient(dy, s, options, place)),
                           [&](const auto& x) {
                             return heed::gumbel_softmax_rows(x, options, place).cwiseProduct(dy).sum();
                           }),
          1e-8);
      EXPECT_EQ(Matrix<double>(heed::gumbel_softmax_rows(s, options, place)),
                heed::gumbel_softmax_rows(Matrix<double>(s), options, place));
      heed::GumbelSoftmax hard = options;
      hard.hard = true;
      EXPECT_EQ(heed::gumbel_softmax_rows_gradient(dy, s, hard, place),
                heed::gumbel_softmax_rows_gradient(dy, s, options, place));
    }
  // The formula, pair by pair.
  const Matrix<double> s = Dice(3).matrix<double>(2, 3);
  const heed::PairDraws draws(~std::uint64_t{8}, place);  // the draws that dropout with this seed does not use
  const Matrix<double> y = heed::gumbel_softmax_rows(s, {.temperature = 2, .seed = 8}, place);
  for (Index i = 0; i < 2; ++i) {
    Eigen::RowVector3d e;
    for (Index j = 0; j < 3; ++j) {
      const double u = (double(draws.bits(heed::Position(i), heed::Position(j))) + 0.5) / 4294967296.0;
      e(j) = std::exp((s(i, j) - std::log(-std::log(u))) / 2);
    }
    EXPECT_TRUE(y.row(i).isApprox(e / e.sum(), 1e-14));
  }
  EXPECT_NE(y, heed::gumbel_softmax_rows(s, {.temperature = 2, .seed = 9}, place));
  EXPECT_NE(y, heed::gumbel_softmax_rows(s, {.temperature = 2, .seed = 8}));
  // Pairs that do not exist.
  Matrix<double> hidden(2, 3);
  hidden << minus_infinity, minus_infinity, minus_infinity, minus_infinity, 0, minus_infinity;
  for (const bool hard : {false, true}) {
    const Matrix<double> z = heed::gumbel_softmax_rows(hidden, {.hard = hard});
    EXPECT_TRUE(z.row(0).isZero(0));
    EXPECT_EQ(z.row(1), Eigen::RowVector3d(0, 1, 0));
  }
  EXPECT_TRUE(heed::gumbel_softmax_rows_gradient(s, hidden).isZero(0));
  EXPECT_THROW(heed::gumbel_softmax_rows(s, {.temperature = 0}), std::invalid_argument);
  EXPECT_THROW(heed::gumbel_softmax_rows_gradient(s, s, {.temperature = -1}), std::invalid_argument);
  EXPECT_THROW(heed::gumbel_softmax_rows_gradient(s.leftCols(1), s), std::invalid_argument);
}

TEST(Training, StraightThrough) {
  Matrix<float> s(4, 3);
  const float none = -std::numeric_limits<float>::infinity();
  s << 1, 3, 3, none, none, none, none, -5, none, 0, -1, -2;
  Matrix<float> expected(4, 3);
  expected << 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0, 0;
  EXPECT_EQ(heed::argmax_rows(s), expected);
  EXPECT_EQ(heed::argmax_rows(RowMatrix<float>(s)), RowMatrix<float>(expected));
  const Matrix<double> x = Dice(1).matrix<double>(3, 5), dy = Dice(2).matrix<double>(3, 5);
  EXPECT_LE(worst_difference(x, Matrix<double>(heed::straight_through_gradient(dy, x)),
                             [&](const auto& z) { return heed::softmax_rows(z).cwiseProduct(dy).sum(); }),
            1e-9);
  EXPECT_TRUE(heed::straight_through_gradient(s, s).row(1).isZero(0));
  EXPECT_EQ(heed::argmax_rows(Matrix<float>(2, 0)).cols(), 0);
}

/// One-hot or expected, the mean of the mix is Σ_j p_j v_j, and taking the expected one half of the time
/// halves the variance.
TEST(Training, ExpectedOrSampled) {
  const Matrix<double> s = Dice(11).matrix<double>(2, 4), v = Dice(12).matrix<double>(4, 3);
  const Matrix<double> expected = heed::softmax_rows(s) * v;
  Statistics mixed, sampled;
  double taken = 0;
  for (std::uint64_t seed = 0; seed < 20000; ++seed) {
    const Matrix<double> hard = heed::gumbel_softmax_rows(s, {.seed = seed, .hard = true}) * v;
    sampled.add(hard);
    mixed.add(heed::expected_or_sampled(expected, hard, {.seed = seed + 1000000}));
    taken += heed::ExpectedOrSampled{.seed = seed + 1000000}.expected(1);
  }
  std::printf("expected or sampled: %.2f standard errors; variance %.4f, of samples alone %.4f\n",
              mixed.standard_errors(expected), mixed.variance().sum(), sampled.variance().sum());
  EXPECT_LE(mixed.standard_errors(expected), 4);
  EXPECT_LE(mixed.variance().sum(), 0.6 * sampled.variance().sum());
  EXPECT_NEAR(taken / 20000, 0.5, 4 * 0.5 / std::sqrt(20000.0));

  const Matrix<double> zeros = Matrix<double>::Zero(50, 2), ones = Matrix<double>::Ones(50, 2);
  const heed::ExpectedOrSampled options{.probability = 0.3, .seed = 2};
  const heed::Place place{.head = 3};
  const Matrix<double> mix = heed::expected_or_sampled(ones, RowMatrix<double>(zeros), options, place);
  const auto [dexpected, dsampled] = heed::expected_or_sampled_gradient(ones, options, place);
  EXPECT_EQ(dexpected, mix);
  EXPECT_EQ(dsampled, ones - mix);
  EXPECT_GT(mix.sum(), 0);
  EXPECT_LT(mix.sum(), 60);
  const auto whole =
      heed::expected_or_sampled(ones, zeros, {.probability = 0.5, .seed = 2, .whole_sequence = true});
  EXPECT_TRUE(whole.isZero(0) || whole.isOnes(0));
  EXPECT_THROW(heed::expected_or_sampled(ones, zeros, {.probability = 1.5}), std::invalid_argument);
  EXPECT_THROW(heed::expected_or_sampled(ones, zeros.topRows(3)), std::invalid_argument);
}

TEST(Training, DoublyStochastic) {
  Matrix<double> balanced(2, 2);
  balanced << .25, .75, .75, .25;
  EXPECT_EQ(heed::doubly_stochastic_penalty(balanced, 3), 0);
  EXPECT_TRUE(heed::doubly_stochastic_gradient(balanced, 3).isZero(0));
  for (const Index n : {0, 1, 4})
    for (const Index m : {0, 1, 7}) {
      const RowMatrix<double> alpha = Dice(1).matrix<double>(n, m);
      double expected = 0;
      for (Index j = 0; j < m; ++j) {
        const double rest = 1 - (n > 0 ? alpha.col(j).sum() : 0.0);
        expected += 0.8 * rest * rest;
      }
      EXPECT_NEAR(heed::doubly_stochastic_penalty(alpha, 0.8), expected, 1e-13);
      EXPECT_LE(worst_difference(alpha, RowMatrix<double>(heed::doubly_stochastic_gradient(alpha, 0.8)),
                                 [](const auto& x) { return heed::doubly_stochastic_penalty(x, 0.8); }),
                1e-8);
    }
}

TEST(Training, FloatKeepsItsPrecision) {
  const Matrix<double> s = Dice(1).matrix<double>(7, 300, 4);
  const Matrix<float> s_float = s.cast<float>();
  const Matrix<double> p = heed::softmax_rows(Matrix<double>(s_float.cast<double>()));
  const Matrix<float> p_float = heed::softmax_rows(s_float);
  EXPECT_LE(((p_float.cast<double>() - p).array().abs() / p.array()).maxCoeff(), 0x1p-24 * 1.001);
  const Matrix<double> p_rounded = p_float.cast<double>();
  EXPECT_LE((heed::entropy(p_float).cast<double>() - heed::entropy(p_rounded)).cwiseAbs().maxCoeff(), 1e-6);
}

}  // namespace
