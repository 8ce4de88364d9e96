// SPDX-License-Identifier: MIT
// Maps of queries and keys that make other scores of dot products: worked numbers, plain loops, and gradients
// through attention() by central differences.
#include "oracle.hpp"

#include <heed/attention_backward.hpp>
#include <heed/attention_weights.hpp>
#include <heed/layout/heads.hpp>
#include <heed/score/cosine.hpp>
#include <heed/score/general.hpp>
#include <heed/score/location.hpp>
#include <heed/score/normalize.hpp>
#include <heed/score/scale.hpp>

namespace {

using namespace heed_test;

template <class M, class Loss>
double worst_difference(M x, const M& gradient, const Loss& loss) {
  EXPECT_EQ(x.rows(), gradient.rows());
  EXPECT_EQ(x.cols(), gradient.cols());
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

/// One type of spec for all: each costs seconds to compile.
auto make_spec(Index heads, Index key_heads, double scale) {
  return heed::spec(heed::heads(heads, key_heads), heed::scale(scale));
}

TEST(AttentionScoreMaps, WorkedNumbersOfDotProducts) {
  Eigen::Matrix2d q = Eigen::Matrix2d::Identity(), k, v, expected;
  k << 0, 1, 1, 0;
  v << 1, 2, 3, 4;
  expected << 2.462, 3.462, 1.538, 2.538;
  const auto one = make_spec(1, 1, 1);
  EXPECT_LE((heed::attention(q, k, v, one) - expected).cwiseAbs().maxCoeff(), 5e-4);
  // The same scores by way of W, by way of positions, and as cosines: all rows have length 1.
  EXPECT_LE((heed::attention(heed::general(Eigen::Matrix2d::Identity().eval(), k), q, v, one) - expected)
                .cwiseAbs()
                .maxCoeff(),
            5e-4);
  EXPECT_LE((heed::attention(q, heed::location(k, 2), v, one) - expected).cwiseAbs().maxCoeff(), 5e-4);
  EXPECT_LE(
      (heed::attention(heed::unit_heads(3 * q), heed::unit_heads(k), v, heed::heads(1, 1), heed::cosine(1)) -
       expected)
          .cwiseAbs()
          .maxCoeff(),
      5e-4);
}

/// Scores x_iᵀ W k_j by plain loops.
TEST(AttentionScoreMaps, GeneralByPlainLoops) {
  for (const Index heads : {1, 3})
    for (const bool shared : {true, false})
      for (const Index n : {0, 1, 7, 65}) {
        Dice dice(static_cast<std::uint64_t>(n));
        const Index d = 5, d_k = 4, m = 9;
        const RowMatrix<float> x = dice.matrix<float>(n, heads * d);
        const Matrix<float> w = dice.matrix<float>(shared ? d : heads * d, d_k),
                            k = dice.matrix<float>(m, heads * d_k);
        const RowMatrix<float> y = heed::general(x, w, heads);
        const Matrix<float> columns = heed::general(Matrix<float>(x), RowMatrix<float>(w), heads);
        EXPECT_TRUE(n == 0 || y.isApprox(columns, 1e-6f));
        for (Index h = 0; h < heads; ++h)
          for (Index i = 0; i < n; ++i)
            for (Index j = 0; j < m; ++j) {
              double score = 0, size = 0;
              for (Index a = 0; a < d; ++a)
                for (Index b = 0; b < d_k; ++b) {
                  const double t = double(x(i, h * d + a)) * double(w(shared ? a : h * d + a, b)) *
                                   double(k(j, h * d_k + b));
                  score += t;
                  size += std::abs(t);
                }
              EXPECT_LE(std::abs(double(y.row(i).segment(h * d_k, d_k).dot(k.row(j).segment(h * d_k, d_k))) -
                                 score),
                        1e-6 * size);
            }
      }
}

struct Model {
  Matrix<double> q, k, v, dout;
  explicit Model(Index n = 5, Index m = 7, Index heads = 2, Index key_heads = 2, Index d = 3, Index d_k = 3) {
    Dice dice(42);
    q = dice.matrix<double>(n, heads * d);
    k = dice.matrix<double>(m, key_heads * d_k);
    v = dice.matrix<double>(m, key_heads * 2);
    dout = dice.matrix<double>(n, heads * 2);
  }
  template <class Q, class K, class... P>
  double loss(const Q& queries, const K& keys, const P&... policies) const {
    return heed::attention(queries, keys, v, policies...).cwiseProduct(dout).sum();
  }
  template <class Q, class K, class... P>
  auto gradients(const Q& queries, const K& keys, const P&... policies) const {
    heed::Saved<double> saved;
    const Matrix<double> out = heed::attention(queries, keys, v, policies..., heed::save(saved));
    return heed::attention_backward(dout, queries, keys, v, out, saved, policies...);
  }
};

TEST(AttentionScoreMaps, GeneralGradient) {
  for (const bool shared : {true, false}) {
    const Model x(5, 7, 2, 2, 3, 4);
    const RowMatrix<double> w = Dice(3).matrix<double>(shared ? 3 : 6, 4);
    const auto spec = make_spec(2, 2, 1);
    const auto back = x.gradients(heed::general(x.q, w, 2), x.k, spec);
    const auto [dq, dw] = heed::general_gradient(back.dq, x.q, w, 2);
    EXPECT_LE(
        worst_difference(x.q, dq, [&](const auto& q) { return x.loss(heed::general(q, w, 2), x.k, spec); }),
        1e-9);
    EXPECT_LE(
        worst_difference(w, dw, [&](const auto& z) { return x.loss(heed::general(x.q, z, 2), x.k, spec); }),
        1e-9);
  }
}

TEST(AttentionScoreMaps, LocationGradient) {
  const Model x(5, 7, 1, 1);
  const Matrix<double> w = Dice(3).matrix<double>(10, 3);  // longer than the sequence
  const auto back = x.gradients(x.q, heed::location(w, 7), make_spec(1, 1, 1));
  const Matrix<double> dw = heed::location_gradient(back.dk, 10);
  EXPECT_LE(worst_difference(
                w, dw, [&](const auto& z) { return x.loss(x.q, heed::location(z, 7), make_spec(1, 1, 1)); }),
            1e-9);
  EXPECT_TRUE(dw.bottomRows(3).isZero(0));
  EXPECT_TRUE(heed::attention_weights(x.q, heed::location(w, 7), make_spec(1, 1, 1))
                  .isApprox(((x.q * w.topRows(7).transpose()).array().exp().colwise() /
                             (x.q * w.topRows(7).transpose()).array().exp().rowwise().sum())
                                .matrix(),
                            1e-13));
}

TEST(AttentionScoreMaps, NormalizeByPlainLoops) {
  for (const heed::Norm norm : {heed::Norm::rms, heed::Norm::l2})
    for (const Index heads : {1, 3})
      for (const Index n : {0, 1, 65})
        for (const Index gains : {0, 1, 3}) {
          const Index d = 7;
          const RowMatrix<float> x = Dice(5).matrix<float>(n, heads * d);
          const Eigen::VectorXf gain = Dice(6).matrix<float>(gains == 0 ? 0 : gains == 1 ? d : heads * d, 1);
          const heed::NormalizeHeads options{.heads = heads, .norm = norm, .epsilon = 0.01};
          const RowMatrix<float> y = gains == 0 ? heed::normalize_heads(x, options)
                                                : heed::normalize_heads(x, options, gain.transpose());
          EXPECT_TRUE(n == 0 || gains > 0 ||
                      Matrix<float>(y) == heed::normalize_heads(Matrix<float>(x), options));
          for (Index i = 0; i < n; ++i)
            for (Index c = 0; c < heads * d; ++c) {
              double sum = 0;
              for (Index t = 0; t < d; ++t) sum += std::pow(double(x(i, c / d * d + t)), 2);
              double expected =
                  double(x(i, c)) / std::sqrt((norm == heed::Norm::rms ? sum / double(d) : sum) + 0.01);
              if (gains > 0) expected *= double(gain(gain.size() == d ? c % d : c));
              EXPECT_LE(std::abs(double(y(i, c)) - expected), 0x1p-24 * 1.001 * std::abs(expected));
            }
        }
}

TEST(AttentionScoreMaps, NormalizeGradient) {
  for (const heed::Norm norm : {heed::Norm::rms, heed::Norm::l2})
    for (const bool per_head : {false, true}) {
      const Model x(5, 7, 4, 2);
      const auto heads = make_spec(4, 2, 0.6);
      const heed::NormalizeHeads of_q{.heads = 4, .norm = norm, .epsilon = 0.1},
          of_k{.heads = 2, .norm = norm};
      const Eigen::VectorXd gain = Dice(7).matrix<double>(per_head ? 12 : 3, 1);
      const auto queries = [&](const auto& q, const auto& g) { return heed::normalize_heads(q, of_q, g); };
      const auto keys = [&](const auto& k) { return heed::normalize_heads(k, of_k); };
      const auto back = x.gradients(queries(x.q, gain), keys(x.k), heads);
      const auto [dq, dgain] = heed::normalize_heads_gradient(back.dq, x.q, of_q, gain);
      const Matrix<double> dk = heed::normalize_heads_gradient(back.dk, x.k, of_k);
      EXPECT_LE(worst_difference(x.q, dq,
                                 [&](const auto& q) { return x.loss(queries(q, gain), keys(x.k), heads); }),
                1e-8);
      EXPECT_LE(worst_difference(x.k, dk,
                                 [&](const auto& k) { return x.loss(queries(x.q, gain), keys(k), heads); }),
                1e-8);
      EXPECT_LE(worst_difference(gain, dgain,
                                 [&](const auto& g) { return x.loss(queries(x.q, g), keys(x.k), heads); }),
                1e-8);
    }
}

TEST(AttentionScoreMaps, CosineAndItsTemperature) {
  const Model x(5, 7, 4, 2);
  const auto loss = [&](const auto& q, const auto& k, double tau) {
    return x.loss(heed::unit_heads(q, 4), heed::unit_heads(k, 2), heed::heads(4, 2), heed::cosine(tau));
  };
  const double tau = 0.3;
  const Matrix<double> q_unit = heed::unit_heads(x.q, 4);
  const auto back = x.gradients(q_unit, heed::unit_heads(x.k, 2), heed::heads(4, 2), heed::cosine(tau));
  EXPECT_LE(worst_difference(x.q, Matrix<double>(heed::unit_heads_gradient(back.dq, x.q, 4)),
                             [&](const auto& q) { return loss(q, x.k, tau); }),
            1e-8);
  EXPECT_LE(worst_difference(x.k, Matrix<double>(heed::unit_heads_gradient(back.dk, x.k, 2)),
                             [&](const auto& k) { return loss(x.q, k, tau); }),
            1e-8);
  const double du = heed::scale_gradient(back.dq, q_unit, 1 / tau), h = 1e-6;
  EXPECT_NEAR(-du / (tau * tau), (loss(x.q, x.k, tau + h) - loss(x.q, x.k, tau - h)) / (2 * h), 1e-7);
  // Lengths do not matter, whatever they are; a row of zeros stays one, and so does its gradient.
  Matrix<double> zero = x.q * 1e-150;
  zero.row(2).setZero();
  const Matrix<double> unit = heed::unit_heads(zero, 4);
  EXPECT_TRUE(unit.topRows(2).isApprox(q_unit.topRows(2), 1e-8));
  EXPECT_TRUE(unit.row(2).isZero(0));
  EXPECT_TRUE(heed::unit_heads_gradient(back.dq, zero, 4).row(2).isZero(0));
  EXPECT_THROW(heed::cosine(0), std::invalid_argument);
  EXPECT_THROW(heed::cosine(std::numeric_limits<double>::infinity()), std::invalid_argument);
}

TEST(AttentionScoreMaps, ScaleGradient) {
  for (const double scale : {0.5, -1.7}) {
    const Model x(9, 7, 4, 2);
    const auto spec = [&](double c) { return make_spec(4, 2, c); };
    const auto back = x.gradients(x.q, x.k, spec(scale));
    const double h = 1e-6;
    const double difference =
        (x.loss(x.q, x.k, spec(scale + h)) - x.loss(x.q, x.k, spec(scale - h))) / (2 * h);
    EXPECT_NEAR(heed::scale_gradient(back.dq, x.q, scale), difference, 1e-8);
    // Keys tell the same.
    EXPECT_NEAR(heed::scale_gradient(back.dk, x.k, scale), difference, 1e-8);
  }
}

TEST(AttentionScoreMaps, Errors) {
  const Matrix<double> x = Matrix<double>::Ones(3, 6), w = Matrix<double>::Ones(3, 2);
  const Eigen::VectorXd gain = Eigen::VectorXd::Ones(4);
  EXPECT_THROW(heed::general(x, w), std::invalid_argument);
  EXPECT_THROW(heed::general(x, w, 4), std::invalid_argument);
  EXPECT_THROW(heed::general(x, w, 0), std::invalid_argument);
  EXPECT_THROW(heed::general(x, Matrix<double>(3, 0), 2), std::invalid_argument);
  EXPECT_THROW(heed::general_gradient(x, x, w, 2), std::invalid_argument);
  EXPECT_THROW(heed::location(w, 4), std::invalid_argument);
  EXPECT_THROW(heed::location_gradient(w, 2), std::invalid_argument);
  EXPECT_THROW(heed::normalize_heads(x, {.heads = 4}), std::invalid_argument);
  EXPECT_THROW(heed::normalize_heads(x, {.heads = 0}), std::invalid_argument);
  EXPECT_THROW(heed::normalize_heads(x, {.epsilon = -1}), std::invalid_argument);
  EXPECT_THROW(heed::normalize_heads(x, {.heads = 2}, gain), std::invalid_argument);
  EXPECT_THROW(heed::normalize_heads(x, {.heads = 2}, gain.head(0)), std::invalid_argument);
  EXPECT_THROW(heed::normalize_heads_gradient(w, x), std::invalid_argument);
  EXPECT_THROW(heed::scale_gradient(x, w, 1), std::invalid_argument);
  EXPECT_THROW(heed::scale_gradient(x, x, 0), std::invalid_argument);
}

}  // namespace
