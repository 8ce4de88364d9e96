// SPDX-License-Identifier: MIT
// Learnable parameters of score_with(), and their gradient.
#include "gradient_oracle.hpp"

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <heed/execute/on.hpp>
#include <heed/execute/pool.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>

namespace {

using namespace heed_test;

/// A decay with distance, a bend and a factor: each parameter enters in a way of its own, and what is not
/// visible must not be asked about.
struct Decay {
  template <class S, class P>
  S operator()(S s, const P& p, heed::Position i, heed::Position j) const {
    if (i < j) asked_wrongly = true;
    return S(p[1] * heed::tanh(s * p[2]) - heed::exp(p[0]) * S(static_cast<float>(i - j)) / 10);
  }
  static inline bool asked_wrongly = false;
};

template <class T>
struct Problem {
  Index n, m, heads, key_heads;
  Matrix<T> q, k, v, dout;
  std::vector<Index> offsets;

  Problem(Index rows, Index h, Index hk, Index d, Index d_v)
      : n(rows), m(rows), heads(h), key_heads(hk), offsets{0, rows / 3, rows} {
    Dice dice(17);
    q = dice.matrix<T>(n, heads * d);
    k = dice.matrix<T>(m, key_heads * d);
    v = dice.matrix<T>(m, key_heads * d_v);
    dout = dice.matrix<T>(n, heads * d_v);
  }
  /// Σ out ∘ dout, in double.
  template <class Theta>
  double loss(const Theta& theta) const {
    const Matrix<T> out = heed::attention(q, k, v, heed::heads(heads, key_heads), heed::causal(),
                                          heed::sequences(offsets, offsets), heed::score_with(Decay(), theta),
                                          heed::softcap(20.0));
    return out.template cast<double>().cwiseProduct(dout.template cast<double>()).sum();
  }
  template <class Theta, class Gradient, class... More>
  auto gradients(const Theta& theta, Gradient& dtheta, const More&... more) const {
    const auto spec =
        heed::spec(heed::heads(heads, key_heads), heed::causal(), heed::sequences(offsets, offsets),
                   heed::score_with(Decay(), theta), heed::softcap(20.0));
    heed::Saved<T> saved;
    const Matrix<T> out = heed::attention(q, k, v, spec, heed::save(saved));
    return heed::attention_backward(dout, q, k, v, out, saved, spec, heed::parameter_gradient(dtheta),
                                    more...);
  }
};

TEST(AttentionParameters, CentralDifferences) {
  for (const Index n : {1, 5, 40, 150}) {
    const Problem<double> x(n, 4, 2, 5, 3);
    Eigen::Vector3d theta(-0.5, 1.5, 0.7), dtheta;
    (void)x.gradients(theta, dtheta);
    for (int k = 0; k < 3; ++k) {
      Eigen::Vector3d above = theta, below = theta;
      above(k) += 1e-5;
      below(k) -= 1e-5;
      EXPECT_NEAR(dtheta(k), (x.loss(above) - x.loss(below)) / 2e-5, 1e-8 * static_cast<double>(4 * n + 10));
    }
  }
  EXPECT_FALSE(Decay::asked_wrongly);
}

/// A row of parameters for each head; the vector's gradient is the sum of the rows'.
TEST(AttentionParameters, OfEachHead) {
  const Problem<double> x(33, 4, 1, 5, 3);
  Eigen::Matrix<double, Eigen::Dynamic, 3> theta(4, 3), dtheta(4, 3);
  theta << -0.5, 1.5, 0.7, 0.1, 1, 1, -1, 2, 0.5, 0.3, -1, 0.2;
  (void)x.gradients(theta, dtheta);
  for (Index h = 0; h < 4; ++h)
    for (int k = 0; k < 3; ++k) {
      auto above = theta, below = theta;
      above(h, k) += 1e-5;
      below(h, k) -= 1e-5;
      EXPECT_NEAR(dtheta(h, k), (x.loss(above) - x.loss(below)) / 2e-5, 1e-7);
    }
  Eigen::Vector3d sum;
  (void)x.gradients(theta, sum);
  EXPECT_TRUE(sum.isApprox(dtheta.colwise().sum().transpose(), 1e-12));
}

/// The engine in float against the plain loops in long double, and gradients of q, k and v beside it.
TEST(AttentionParameters, MatchTheReference) {
  const Problem<float> x(97, 2, 2, 16, 8);
  Problem<long double> exact(97, 2, 2, 16, 8);
  exact.q = x.q.cast<long double>();
  exact.k = x.k.cast<long double>();
  exact.v = x.v.cast<long double>();
  exact.dout = x.dout.cast<long double>();
  const std::array<float, 3> theta = {-0.5f, 1.5f, 0.75f};
  Eigen::Vector3f d;
  Eigen::Matrix<long double, 3, 1> d_exact;
  const auto got = x.gradients(theta, d);
  const auto want = exact.gradients(theta, d_exact);
  EXPECT_TRUE(d.cast<double>().isApprox(d_exact.cast<double>(), 1e-5)) << d << "\n" << d_exact.cast<double>();
  EXPECT_TRUE(got.dq.cast<double>().isApprox(want.dq.cast<double>(), 1e-5));
  EXPECT_TRUE(got.dk.cast<double>().isApprox(want.dk.cast<double>(), 1e-5));
}

TEST(AttentionParameters, AccumulateAndBitsForAnyNumberOfThreads) {
  const Problem<float> x(900, 4, 4, 8, 8);
  const Eigen::Vector3f theta(-0.5f, 1.5f, 0.7f);
  Eigen::Vector3f one, many, twice;
  Eigen::ThreadPool single(1), pool(3);
  (void)x.gradients(theta, one, heed::on(single));
  (void)x.gradients(theta, many, heed::on(pool));
  EXPECT_EQ(one, many);
  twice = one;
  Matrix<float> dq = Matrix<float>::Zero(x.q.rows(), x.q.cols()), dk = dq, dv = dq;
  x.gradients(theta, twice, heed::into(dq, dk, dv), heed::accumulating, heed::on(pool));
  EXPECT_TRUE(twice.isApprox(2 * one, 1e-6f));
}

/// An array is a vector; a number is a vector of one, and a functor of a Pair learns like any other.
TEST(AttentionParameters, OfArraysAndNumbers) {
  const Problem<double> x(21, 2, 1, 3, 3);
  const std::array<double, 3> theta{-0.5, 1.5, 0.7};
  std::array<double, 3> d{};
  Eigen::Vector3d want;
  (void)x.gradients(theta, d);
  (void)x.gradients(theta, want);
  EXPECT_EQ(Eigen::Vector3d(d[0], d[1], d[2]), want);

  const auto slow = [](auto s, const auto& p, heed::Pair pair) {
    return s - p[0] * static_cast<float>(pair.key_row + 2 * pair.query_row) / 30;
  };
  const auto pass = [&](double rate, double* gradient) {
    const auto spec = heed::spec(heed::heads(2, 1), heed::sequences(x.offsets), heed::score_with(slow, rate));
    heed::Saved<double> saved;
    const Matrix<double> out = heed::attention(x.q, x.k, x.v, spec, heed::save(saved));
    if (gradient != nullptr)
      (void)heed::attention_backward(x.dout, x.q, x.k, x.v, out, saved, spec,
                                     heed::parameter_gradient(*gradient));
    return out.cwiseProduct(x.dout).sum();
  };
  double rate = 0.3, drate = 7;
  (void)pass(rate, &drate);
  EXPECT_NEAR(drate, (pass(rate + 1e-5, nullptr) - pass(rate - 1e-5, nullptr)) / 2e-5, 1e-7);
  EXPECT_GT(std::abs(drate), 1e-3);
}

TEST(AttentionParameters, RefusesOtherSizes) {
  const Problem<double> x(5, 2, 1, 3, 3);
  Eigen::VectorXd wrong(3);
  wrong.resize(4);
  EXPECT_THROW((void)x.gradients(Eigen::Vector3d(1, 1, 1), wrong), std::invalid_argument);
  const Eigen::Matrix<double, Eigen::Dynamic, 3> three_heads = Eigen::Matrix<double, 3, 3>::Ones();
  Eigen::Vector3d d;
  EXPECT_THROW((void)x.gradients(three_heads, d), std::invalid_argument);
}

}  // namespace
