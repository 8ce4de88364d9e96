// SPDX-License-Identifier: MIT
// Selections: worked numbers and properties.
#include "any_rank.hpp"
#include "oracle.hpp"

#include <Eigen/Core>
#include <unsupported/Eigen/AutoDiff>

#include <heed/attention_backward.hpp>
#include <heed/score/scale.hpp>
#include <heed/select/entmax.hpp>
#include <heed/select/sample.hpp>
#include <heed/select/sink.hpp>
#include <heed/select/softmax.hpp>
#include <heed/select/sparsemax.hpp>
#include <heed/select/top_k.hpp>

namespace {

using namespace heed_test;

template <class P>
AnyRank rank(const P& policy) {
  return AnyRank(policy);
}

/// The weights that a selection makes of one row of scores, by the engine: values that single out each key.
template <class T, class S>
std::vector<double> weights_of(const std::vector<double>& scores, const S& selection) {
  const Index m = static_cast<Index>(scores.size());
  Matrix<T> k(m, 1);
  for (Index j = 0; j < m; ++j) k(j, 0) = static_cast<T>(scores[static_cast<std::size_t>(j)]);
  const Matrix<T> q = Matrix<T>::Ones(1, 1), v = Matrix<T>::Identity(m, m);
  const Matrix<T> out = heed::attention(q, k, v, heed::scale(1), selection);
  std::vector<double> w;
  for (Index j = 0; j < m; ++j) w.push_back(static_cast<double>(out(0, j)));
  return w;
}

template <class S>
void expect_weights(const std::vector<double>& scores, const S& selection, const std::vector<double>& want,
                    double tolerance = 5e-5) {
  for (const auto& got : {weights_of<float>(scores, selection), weights_of<long double>(scores, selection)})
    for (std::size_t j = 0; j < want.size(); ++j) EXPECT_NEAR(got[j], want[j], tolerance) << "key " << j;
}

TEST(Selections, WorkedNumbers) {
  const std::vector<double> scores = {-2, 0, 0.5};
  expect_weights(scores, heed::softmax(), {0.0486, 0.3592, 0.5922});
  expect_weights(scores, heed::sparsemax(), {0, 0.25, 0.75}, 1e-7);
  expect_weights(scores, heed::entmax15(), {0, 0.3260, 0.6740});
  expect_weights(scores, heed::entmax(1.5), {0, 0.3260, 0.6740});
  expect_weights(scores, heed::entmax(2.0), {0, 0.25, 0.75}, 1e-6);
  expect_weights({-1, 0, 0.5}, heed::entmax(1.33), {0.0460, 0.3276, 0.6264});
  expect_weights(scores, rank(heed::argmax()), {0, 0, 1}, 0);
  const double e = std::exp(0.5);
  expect_weights(scores, rank(heed::top_k(2)), {0, 1 / (1 + e), e / (1 + e)}, 1e-7);
  expect_weights(scores, rank(heed::top_p(0.6)), {0, 1 / (1 + e), e / (1 + e)}, 1e-7);
  expect_weights(scores, rank(heed::top_p(0.59)), {0, 0, 1}, 0);
}

/// ∂p₀/∂α of α = 1.33 on [-1, 0, .5].
TEST(Selections, WorkedDerivativeByAlpha) {
  Matrix<double> q(1, 1), k(3, 1), v(3, 1), dout(1, 1), da(1, 1);
  q << 1;
  k << -1, 0, 0.5;
  v << 1, 0, 0;
  dout << 1;
  heed::Saved<double> saved;
  const auto spec = heed::spec(heed::scale(1), heed::entmax(1.33));
  const Matrix<double> out = heed::attention(q, k, v, spec, heed::save(saved));
  (void)heed::attention_backward(dout, q, k, v, out, saved, spec, heed::alpha_gradient(da));
  EXPECT_NEAR(da(0, 0), -0.256167, 1e-6);
}

/// Adding a constant to a row changes nothing; hidden keys get exact zeros; weights sum to 1.
TEST(Selections, DoNotSeeAConstant) {
  Dice dice(5);
  std::vector<double> scores, more;
  for (int j = 0; j < 40; ++j) {
    scores.push_back(std::floor(dice.normal() * 64) / 64);
    more.push_back(scores.back() + 32);
  }
  const auto check = [&](const auto& selection) {
    const std::vector<double> a = weights_of<double>(scores, selection),
                              b = weights_of<double>(more, selection);
    double sum = 0;
    for (std::size_t j = 0; j < a.size(); ++j) {
      EXPECT_NEAR(a[j], b[j], 1e-14);
      sum += a[j];
    }
    EXPECT_NEAR(sum, 1, 1e-14);
  };
  check(heed::sparsemax());
  check(heed::entmax15());
  check(heed::entmax(1.2));
  check(heed::entmax(3.0));
  check(rank(heed::top_k(7)));
  check(rank(heed::top_p(0.8)));
  check(rank(heed::argmax()));
  check(heed::sample(3, 5));
}

TEST(Selections, EntmaxLiesBetweenSoftmaxAndSparsemax) {
  Dice dice(6);
  std::vector<double> scores;
  for (int j = 0; j < 50; ++j) scores.push_back(dice.normal());
  const auto far = [&](const auto& a, const auto& b) {
    const std::vector<double> x = weights_of<double>(scores, a), y = weights_of<double>(scores, b);
    double most = 0;
    for (std::size_t j = 0; j < x.size(); ++j) most = std::max(most, std::abs(x[j] - y[j]));
    return most;
  };
  EXPECT_LT(far(heed::entmax(1 + 1e-5), heed::softmax()), 1e-4);
  EXPECT_LT(far(heed::entmax(1.001), heed::softmax()), far(heed::entmax(1.01), heed::softmax()));
  EXPECT_LT(far(heed::entmax(2.0), heed::sparsemax()), 1e-12);
  EXPECT_LT(far(heed::entmax(1.5), heed::entmax15()), 1e-12);
  // Near 1 in single precision: no NaN, and still near softmax.
  const std::vector<double> x = weights_of<float>(scores, heed::entmax(1 + 0x1p-20)),
                            y = weights_of<float>(scores, heed::softmax());
  for (std::size_t j = 0; j < x.size(); ++j) EXPECT_NEAR(x[j], y[j], 1e-4 * y[j] + 1e-6);
}

TEST(Selections, HardOnesAreOneHotOrKHot) {
  Dice dice(7);
  const Index n = 90, m = 130;
  const Matrix<float> q = dice.matrix<float>(n, 16), k = dice.matrix<float>(m, 16);
  const Matrix<float> v = Matrix<float>::Identity(m, m);
  const auto kept = [&](const auto& selection) {
    const Matrix<float> w = heed::attention(q, k, v, selection);
    return Eigen::VectorXi((w.array() > 0).cast<int>().rowwise().sum().matrix());
  };
  EXPECT_TRUE((kept(rank(heed::argmax())).array() == 1).all());
  EXPECT_TRUE((kept(heed::sample(1)).array() == 1).all());
  EXPECT_TRUE((kept(rank(heed::top_k(9))).array() == 9).all());
  EXPECT_TRUE((kept(heed::sample(1, 6)).array() <= 6).all());
  EXPECT_TRUE(heed::attention(q, k, v, rank(heed::top_k(m))).isApprox(heed::attention(q, k, v), 1e-5f));
  EXPECT_TRUE(heed::attention(q, k, v, rank(heed::top_p(1))).isApprox(heed::attention(q, k, v), 1e-5f));
}

TEST(Selections, TheFirstOfEqualScoresWins) {
  const std::vector<double> scores = {1, 3, 2, 3, 3, 2};
  expect_weights(scores, rank(heed::argmax()), {0, 1, 0, 0, 0, 0}, 0);
  expect_weights(scores, rank(heed::top_k(2)), {0, 0.5, 0, 0.5, 0, 0}, 1e-7);
  const double a = 1 / (3 + std::exp(-1.0)), b = std::exp(-1.0) * a;
  expect_weights(scores, rank(heed::top_k(4)), {0, a, b, a, a, 0}, 1e-7);
}

/// A sink is one more key, with a value of zeros.
TEST(Selections, ASinkCompetes) {
  const std::vector<double> scores = {-2, 0};
  const auto sink = heed::sink(0.5);
  expect_weights(scores, heed::spec(heed::sparsemax(), sink), {0, 0.25}, 1e-7);
  expect_weights(scores, heed::spec(rank(heed::argmax()), sink), {0, 0}, 0);
  expect_weights({-2, 0.75}, heed::spec(rank(heed::argmax()), sink), {0, 1}, 0);
}

/// A scalar that carries derivatives goes through the plain loops.
TEST(Selections, AutomaticDifferentiation) {
  using Number = Eigen::AutoDiffScalar<Eigen::VectorXd>;
  Dice dice(12);
  const Index n = 3, m = 5, d = 2;
  const Matrix<double> q = dice.matrix<double>(n, d), k = dice.matrix<double>(m, d),
                       v = dice.matrix<double>(m, d);
  const auto check = [&](const auto& selection) {
    Matrix<Number> qn(n, d), kn(m, d), vn(m, d);
    for (Index i = 0; i < m * d; ++i) {
      kn.data()[i] = Number(k.data()[i], Eigen::VectorXd::Zero(n * d));
      vn.data()[i] = Number(v.data()[i], Eigen::VectorXd::Zero(n * d));
    }
    for (Index i = 0; i < n * d; ++i) qn.data()[i] = Number(q.data()[i], Eigen::VectorXd::Unit(n * d, i));
    const Matrix<Number> out = heed::attention(qn, kn, vn, selection);
    heed::Saved<double> saved;
    const Matrix<double> plain = heed::attention(q, k, v, selection, heed::save(saved));
    for (Index e = 0; e < n * d; ++e) {
      Matrix<double> dout = Matrix<double>::Zero(n, d);
      dout.data()[e] = 1;
      const auto gradients = heed::attention_backward(dout, q, k, v, plain, saved, selection);
      for (Index i = 0; i < n * d; ++i)
        EXPECT_NEAR(out.data()[e].derivatives()(i), gradients.dq.data()[i], 1e-9);
    }
  };
  check(heed::sparsemax());
  check(heed::entmax15());
  check(rank(heed::top_k(3)));
}

}  // namespace
