// SPDX-License-Identifier: MIT
// Monotonic attention: worked numbers, plain loops, enumeration of all ways to stop, central differences.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include <Eigen/Core>
#include <unsupported/Eigen/AutoDiff>

#include <heed/layout/heads.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>
#include <heed/monotonic_attention.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/monotonic.hpp>

#include "oracle.hpp"

namespace {

using namespace heed_test;

template <class M>
M probabilities(Index rows, Index columns, std::uint64_t seed) {
  Dice dice(seed);
  M p(rows, columns);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j) p(i, j) = static_cast<typename M::Scalar>(dice.uniform());
  return p;
}

TEST(Monotonic, WorkedNumbers) {
  Eigen::Matrix<double, 2, 4> p;
  p << .3, .5, .9, .2, .3, .5, .9, .2;
  Eigen::Matrix<double, 2, 4> expected;
  expected << .3, .35, .315, .007, .09, .28, .5355, .0133;
  EXPECT_TRUE(heed::monotonic_weights(p).isApprox(expected, 1e-14)) << heed::monotonic_weights(p);
  Eigen::RowVectorXd hard(8);
  hard << 0, 0, 0, 1, 1, 0, 1, 1;
  EXPECT_EQ(heed::hard_monotonic(hard), std::vector<Index>{3});
}

/// α_ij is the sum, over all ways to stop, of their probabilities.
TEST(Monotonic, EnumerationOfAllWaysToStop) {
  const Index n = 4, m = 5;
  const Matrix<double> p = probabilities<Matrix<double>>(n, m, 1);
  Matrix<double> expected = Matrix<double>::Zero(n, m);
  const auto walk = [&](const auto& self, Index i, Index from, double chance) -> void {
    if (i == n) return;
    for (Index j = from; j < m; ++j) {
      expected(i, j) += chance * p(i, j);
      self(self, i + 1, j, chance * p(i, j));
      chance *= 1 - p(i, j);
    }
  };
  walk(walk, 0, 0, 1);
  EXPECT_TRUE(heed::monotonic_weights(p).isApprox(expected, 1e-14));
}

TEST(Monotonic, EverySizeAndOrderStaysWithinTheBound) {
  double worst = 0;
  for (const Index n : {0, 1, 2, 7, 65, 200})
    for (const Index m : {0, 1, 3, 8, 65, 513}) {
      const auto p = probabilities<RowMatrix<float>>(n, m, 5);
      const RowMatrix<float> alpha = heed::monotonic_weights(p);
      const Matrix<float> columns = heed::monotonic_weights(Matrix<float>(p));
      ASSERT_EQ(alpha.rows(), n);
      ASSERT_EQ(alpha.cols(), m);
      EXPECT_TRUE(n == 0 || m == 0 || alpha == columns);
      EXPECT_TRUE(n == 0 || m == 0 || heed::monotonic_weights(p * 1.0f) == alpha);
      std::vector<long double> previous(static_cast<std::size_t>(m), 0.0L);
      if (m > 0) previous[0] = 1;
      for (Index i = 0; i < n; ++i) {
        long double q = 0, sum = 0;
        for (Index j = 0; j < m; ++j) {
          auto& a = previous[static_cast<std::size_t>(j)];
          q += a;
          a = static_cast<long double>(p(i, j)) * q;
          q *= 1 - static_cast<long double>(p(i, j));
          sum += static_cast<long double>(alpha(i, j));
          if (a > 1e-36L)
            worst =
                std::max(worst, double(std::abs(static_cast<long double>(alpha(i, j)) - a) / a) / 0x1p-24);
        }
        EXPECT_LE(sum, 1.000001L);
      }
    }
  std::printf("worst relative error: %.2f u\n", worst);
  EXPECT_LE(worst, 1.01);
}

/// Probabilities of 0 and 1 leave nothing to chance; closed forms with cumulative products break here.
TEST(Monotonic, CertainProbabilitiesAreHard) {
  for (int turn = 0; turn < 200; ++turn) {
    Dice dice(static_cast<std::uint64_t>(turn));
    const Index n = 1 + dice.below(6), m = 1 + dice.below(12);
    Matrix<double> p(n, m);
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < m; ++j) p(i, j) = dice.below(3) == 0;
    const auto chosen = heed::hard_monotonic(p);
    Matrix<double> expected = Matrix<double>::Zero(n, m);
    for (Index i = 0; i < n; ++i)
      if (const Index j = chosen[static_cast<std::size_t>(i)]; j >= 0) expected(i, j) = 1;
    EXPECT_EQ(heed::monotonic_weights(p), expected);
    Index from = 0;
    for (Index i = 0; i < n; ++i)
      EXPECT_EQ(heed::hard_monotonic_step(p.row(i), from), chosen[static_cast<std::size_t>(i)]);
  }
}

TEST(Monotonic, StepsWhileKeysArrive) {
  Eigen::RowVectorXf p(2);
  p << .1f, .4f;
  Index from = 0;
  EXPECT_EQ(heed::hard_monotonic_step(p, from), -1);
  EXPECT_EQ(from, 2);
  Eigen::VectorXf more(4);
  more << .9f, .9f, .2f, .5f;  // the first two have been passed
  EXPECT_EQ(heed::hard_monotonic_step(more, from), 3);
  EXPECT_EQ(heed::hard_monotonic_step(more, from), 3);
  EXPECT_EQ(heed::hard_monotonic_step(more, from, 0.6), -1);
  from = -1;
  EXPECT_THROW(heed::hard_monotonic_step(more, from), std::invalid_argument);
}

TEST(Monotonic, GradientByCentralDifferences) {
  for (const Index n : {1, 2, 5})
    for (const Index m : {1, 3, 7}) {
      const RowMatrix<double> p = probabilities<RowMatrix<double>>(n, m, 3);
      const Matrix<double> dalpha = Dice(4).matrix<double>(n, m);
      const RowMatrix<double> dp = heed::monotonic_weights_gradient(dalpha, p, heed::monotonic_weights(p));
      const double h = 1e-6;
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < m; ++j) {
          RowMatrix<double> above = p, below = p;
          above(i, j) += h;
          below(i, j) -= h;
          const double difference =
              (heed::monotonic_weights(above) - heed::monotonic_weights(below)).cwiseProduct(dalpha).sum() /
              (2 * h);
          EXPECT_NEAR(dp(i, j), difference, 1e-9) << n << " x " << m << " at " << i << ", " << j;
        }
    }
}

TEST(Monotonic, GradientAtCertainProbabilitiesIsFinite) {
  Matrix<double> p(2, 4);
  p << 0, 1, 1, 0, 1, 0, 1, 1;
  const Matrix<double> dalpha = Dice(4).matrix<double>(2, 4);
  const Matrix<double> dp = heed::monotonic_weights_gradient(dalpha, p, heed::monotonic_weights(p));
  EXPECT_TRUE(dp.allFinite());
  EXPECT_NE(dp(0, 0), 0);
}

TEST(Monotonic, EnergiesShiftAndNoise) {
  Matrix<double> e(1, 3);
  e << 0, 800, -800;
  const Matrix<double> p = heed::monotonic_probabilities(e, {.shift = 1});
  EXPECT_NEAR(p(0, 0), 1 / (1 + std::exp(-1.0)), 1e-16);
  EXPECT_EQ(p(0, 1), 1);
  EXPECT_EQ(p(0, 2), 0);
  // Mean and variance of the noise; the same numbers in either storage order; another seed, another head,
  // other numbers.
  const Index n = 100, m = 101;
  const Matrix<double> zero = Matrix<double>::Zero(n, m);
  const auto noisy = heed::monotonic_probabilities(zero, {.noise = 2, .seed = 9});
  EXPECT_EQ(noisy, heed::monotonic_probabilities(RowMatrix<double>(zero), {.noise = 2, .seed = 9}));
  EXPECT_NE(noisy, heed::monotonic_probabilities(zero, {.noise = 2, .seed = 10}));
  EXPECT_NE(noisy, heed::monotonic_probabilities(zero, {.noise = 2, .seed = 9}, heed::Place{.head = 1}));
  double sum = 0, squares = 0;
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < m; ++j) {
      const double x = std::log(noisy(i, j) / (1 - noisy(i, j))) / 2;
      sum += x;
      squares += x * x;
    }
  EXPECT_NEAR(sum / double(n * m), 0, 4 / std::sqrt(double(n * m)));
  EXPECT_NEAR(squares / double(n * m), 1, 4 * std::sqrt(2.0 / double(n * m)));
  EXPECT_THROW(heed::monotonic_probabilities(zero, {.noise = -1}), std::invalid_argument);
  EXPECT_THROW(heed::monotonic_probabilities(zero, {.shift = std::nan("")}), std::invalid_argument);
}

/// Head by head from the functions on matrices.
template <class M, class Score>
M expected_attention(const M& q, const M& k, const M& v, const heed::Monotonic& options, Index heads,
                     Index key_heads, bool hard, const Score& score) {
  const Index d = q.cols() / heads, d_v = v.cols() / key_heads;
  M out = M::Zero(q.rows(), heads * d_v);
  for (Index h = 0; h < heads; ++h) {
    const Index g = h / (heads / key_heads);
    Matrix<double> e(q.rows(), k.rows());
    for (Index i = 0; i < e.rows(); ++i)
      for (Index j = 0; j < e.cols(); ++j)
        e(i, j) = score(q.row(i).segment(h * d, d).template cast<double>().dot(
                            k.row(j).segment(g * d, d).template cast<double>()) /
                            std::sqrt(double(d)),
                        i, j);
    const Matrix<double> values = v.middleCols(g * d_v, d_v).template cast<double>();
    Matrix<double> mixed = Matrix<double>::Zero(q.rows(), d_v);
    if (hard) {
      const auto chosen = heed::hard_monotonic(e, -options.shift);
      for (Index i = 0; i < q.rows(); ++i)
        if (const Index j = chosen[static_cast<std::size_t>(i)]; j >= 0) mixed.row(i) = values.row(j);
    } else {
      const Matrix<double> alpha =
          heed::monotonic_weights(heed::monotonic_probabilities(e, options, heed::Place{.head = h}));
      mixed = alpha * values;
    }
    out.middleCols(h * d_v, d_v) = mixed.template cast<typename M::Scalar>();
  }
  return out;
}

TEST(Monotonic, AttentionHeadByHead) {
  const auto plain = [](double s, Index, Index) { return s; };
  for (const Index n : {0, 1, 7, 17, 65})
    for (const Index m : {0, 1, 9, 65, 300}) {
      Dice dice(static_cast<std::uint64_t>(n * 1000 + m));
      const Matrix<float> q = dice.matrix<float>(n, 4 * 5), k = dice.matrix<float>(m, 2 * 5),
                          v = dice.matrix<float>(m, 2 * 3);
      const heed::Monotonic options{.shift = -1, .noise = 0.5, .seed = 3};
      const Matrix<float> out = heed::monotonic_attention(q, k, v, options, heed::heads(4, 2));
      const Matrix<float> expected = expected_attention(q, k, v, options, 4, 2, false, plain);
      ASSERT_EQ(out.rows(), n);
      ASSERT_EQ(out.cols(), 12);
      if (n > 0) {
        EXPECT_LE((out - expected).cwiseAbs().maxCoeff(), 1e-6);
      }
      const RowMatrix<float> q_rows = q, k_rows = k, v_rows = v;
      if (n > 0) {
        EXPECT_EQ(
            Matrix<float>(heed::monotonic_attention(q_rows, k_rows, v_rows, options, heed::heads(4, 2))),
            out);
      }
      const Matrix<float> hard = heed::hard_monotonic_attention(q, k, v, options, heed::heads(4, 2));
      EXPECT_EQ(hard, expected_attention(q, k, v, options, 4, 2, true, plain));
    }
}

TEST(Monotonic, MasksAndTerms) {
  const Index n = 9, m = 11;
  Dice dice(2);
  const Matrix<double> q = dice.matrix<double>(n, 3), v = dice.matrix<double>(m, 2);
  Matrix<double> k = dice.matrix<double>(m, 3);
  const double none = -std::numeric_limits<double>::infinity();
  const auto masked = [&](double s, Index i, Index j) {
    return j <= i + m - n ? 3 * std::tanh(s / 3) : none;
  };
  const heed::Monotonic options{.shift = 0.25};
  const auto spec = heed::spec(heed::causal(), heed::softcap(3.0));
  EXPECT_TRUE(heed::monotonic_attention(q, k, v, options, spec)
                  .isApprox(expected_attention(q, k, v, options, 1, 1, false, masked), 1e-13));
  EXPECT_TRUE(heed::hard_monotonic_attention(q, k, v, options, spec)
                  .isApprox(expected_attention(q, k, v, options, 1, 1, true, masked), 1e-13));
  // NaN where nobody sees reaches nothing: the last two keys under a window that ends two before the query.
  const auto before = heed::window(heed::unbounded, -2);
  const Matrix<double> clean = heed::monotonic_attention(q, k, v, options, before);
  const auto clean_gradients = heed::monotonic_attention_backward(clean, q, k, v, options, before);
  Matrix<double> v_nan = v, k_nan = k;
  v_nan.bottomRows(2).setConstant(std::nan(""));
  k_nan.bottomRows(2).setConstant(std::nan(""));
  EXPECT_EQ(heed::monotonic_attention(q, k_nan, v_nan, options, before), clean);
  const auto gradients = heed::monotonic_attention_backward(clean, q, k_nan, v_nan, options, before);
  EXPECT_EQ(gradients.dq, clean_gradients.dq);
  EXPECT_EQ(gradients.dk, clean_gradients.dk);
  EXPECT_EQ(gradients.dv, clean_gradients.dv);
  EXPECT_TRUE(gradients.dk.bottomRows(2).isZero(0));
  // A row that sees nothing, and the rows after it.
  const Matrix<double> blind =
      heed::monotonic_attention(q, k, v, options, heed::mask_where([](auto i, auto) { return i != 4; }));
  EXPECT_FALSE(blind.topRows(4).isZero(0));
  EXPECT_TRUE(blind.bottomRows(n - 4).isZero(0));
}

TEST(Monotonic, SequencesAreApart) {
  Dice dice(2);
  const Matrix<double> q = dice.matrix<double>(12, 4), k = dice.matrix<double>(15, 4),
                       v = dice.matrix<double>(15, 4), dout = dice.matrix<double>(12, 4);
  const std::vector<Index> q_offsets{0, 5, 5, 12}, k_offsets{0, 4, 6, 15};
  const heed::Monotonic options{.shift = 1};
  const auto spec = heed::spec(heed::heads(2), heed::sequences(q_offsets, k_offsets));
  const Matrix<double> out = heed::monotonic_attention(q, k, v, options, spec);
  const auto whole = heed::monotonic_attention_backward(dout, q, k, v, options, spec);
  EXPECT_TRUE(whole.dk.middleRows(4, 2).isZero(0));
  for (const std::size_t s : {0u, 2u}) {
    const Index a = q_offsets[s], n = q_offsets[s + 1] - a, b = k_offsets[s], m = k_offsets[s + 1] - b;
    EXPECT_EQ(out.middleRows(a, n), heed::monotonic_attention(q.middleRows(a, n), k.middleRows(b, m),
                                                              v.middleRows(b, m), options, heed::heads(2)));
    const auto part =
        heed::monotonic_attention_backward(dout.middleRows(a, n), q.middleRows(a, n), k.middleRows(b, m),
                                           v.middleRows(b, m), options, heed::heads(2));
    EXPECT_EQ(whole.dq.middleRows(a, n), part.dq);
    EXPECT_EQ(whole.dk.middleRows(b, m), part.dk);
    EXPECT_EQ(whole.dv.middleRows(b, m), part.dv);
  }
}

template <class M, class Spec>
void check_attention_gradient(Index n, Index m, const Spec& spec) {
  Dice dice(static_cast<std::uint64_t>(100 * n + m));
  M q = dice.matrix<double>(n, 4 * 3), k = dice.matrix<double>(m, 2 * 3), v = dice.matrix<double>(m, 2 * 2);
  const M dout = dice.matrix<double>(n, 4 * 2);
  const heed::Monotonic options{.shift = -0.5, .noise = 0.3, .seed = 1};
  const auto gradients = heed::monotonic_attention_backward(dout, q, k, v, options, spec);
  const auto loss = [&] {
    return heed::monotonic_attention(q, k, v, options, spec).cwiseProduct(dout).sum();
  };
  double worst = 0;
  const auto compare = [&](M& x, const M& dx) {
    ASSERT_EQ(x.size(), dx.size());
    const double h = 1e-5;
    for (Index i = 0; i < x.rows(); ++i)
      for (Index j = 0; j < x.cols(); ++j) {
        const double old = x(i, j);
        x(i, j) = old + h;
        const double above = loss();
        x(i, j) = old - h;
        const double below = loss();
        x(i, j) = old;
        worst = std::max(worst, std::abs(dx(i, j) - (above - below) / (2 * h)));
      }
  };
  compare(q, gradients.dq);
  compare(k, gradients.dk);
  compare(v, gradients.dv);
  EXPECT_LE(worst, 1e-8) << n << " x " << m;
}

TEST(Monotonic, AttentionGradientByCentralDifferences) {
  for (const Index n : {1, 2, 5, 10})
    for (const Index m : {1, 4, 12}) {
      check_attention_gradient<Matrix<double>>(n, m, heed::heads(4, 2));
      check_attention_gradient<RowMatrix<double>>(
          n, m, heed::spec(heed::heads(4, 2), heed::scale(0.7), heed::window(6, 3), heed::softcap(2.0)));
    }
}

/// Derivatives by an automatic differentiation scalar, which goes pair by pair.
TEST(Monotonic, AutoDiff) {
  using Dual = Eigen::AutoDiffScalar<Eigen::Vector2d>;
  Dice dice(8);
  const Matrix<double> q = dice.matrix<double>(6, 2), k = dice.matrix<double>(7, 2),
                       v = dice.matrix<double>(7, 2), dout = dice.matrix<double>(6, 2);
  Matrix<Dual> q_dual(6, 2), k_dual(7, 2), v_dual(7, 2);
  for (Index i = 0; i < 7; ++i)
    for (Index c = 0; c < 2; ++c) {
      if (i < 6) q_dual(i, c) = Dual(q(i, c));
      k_dual(i, c) = Dual(k(i, c));
      v_dual(i, c) = Dual(v(i, c));
    }
  q_dual(2, 1).derivatives() = Eigen::Vector2d(1, 0);
  k_dual(3, 0).derivatives() = Eigen::Vector2d(0, 1);
  const auto gradients = heed::monotonic_attention_backward(dout, q, k, v, heed::monotonic());
  const Matrix<Dual> out = heed::monotonic_attention(q_dual, k_dual, v_dual, heed::monotonic());
  Eigen::Vector2d sum = Eigen::Vector2d::Zero();
  for (Index i = 0; i < 6; ++i)
    for (Index c = 0; c < 2; ++c)
      if (out(i, c).derivatives().size() == 2) sum += dout(i, c) * out(i, c).derivatives();
  EXPECT_NEAR(sum(0), gradients.dq(2, 1), 1e-12);
  EXPECT_NEAR(sum(1), gradients.dk(3, 0), 1e-12);
}

/// Three workers, the last task first.
struct Backwards {
  int threads() const { return 3; }
  template <class Task>
  void run(Index tasks, Task&& task) const {
    for (Index t = tasks; t-- > 0;) task(t, static_cast<int>(t % 3));
  }
};

TEST(Monotonic, ThreadsChangeNothing) {
  Dice dice(8);
  const Matrix<float> q = dice.matrix<float>(130, 32), k = dice.matrix<float>(150, 32),
                      v = dice.matrix<float>(150, 32);
  const auto one = heed::spec(heed::heads(4), heed::on(heed::serial()));
  const auto other = heed::spec(heed::heads(4), heed::on(Backwards{}));
  EXPECT_EQ(heed::monotonic_attention(q, k, v, heed::monotonic(), one),
            heed::monotonic_attention(q, k, v, heed::monotonic(), other));
  const auto a = heed::monotonic_attention_backward(q, q, k, v, heed::monotonic(), one);
  const auto b = heed::monotonic_attention_backward(q, q, k, v, heed::monotonic(), other);
  EXPECT_EQ(a.dq, b.dq);
  EXPECT_EQ(a.dk, b.dk);
  EXPECT_EQ(a.dv, b.dv);
}

TEST(Monotonic, Errors) {
  const Matrix<double> a = Matrix<double>::Zero(3, 4), b = Matrix<double>::Zero(3, 5);
  EXPECT_THROW(heed::monotonic_weights_gradient(a, b, b), std::invalid_argument);
  EXPECT_THROW(heed::monotonic_weights_gradient(b, b, a), std::invalid_argument);
  EXPECT_THROW(heed::monotonic_attention(a, b, b, heed::monotonic()), std::invalid_argument);
  EXPECT_THROW(heed::monotonic_attention(a, a, a, {.noise = -1}), std::invalid_argument);
  EXPECT_THROW(heed::hard_monotonic_attention(a, a, a, heed::monotonic(), heed::heads(3)),
               std::invalid_argument);
  EXPECT_THROW(heed::monotonic_attention_backward(b, a, a, a, heed::monotonic()), std::invalid_argument);
}

}  // namespace
