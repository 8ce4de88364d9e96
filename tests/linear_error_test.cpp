// SPDX-License-Identifier: MIT
// How far the cheap forms are from exact attention, and that the error falls as it is said to.
#include "oracle.hpp"

#include <heed/heed.hpp>

namespace {

using namespace heed_test;

/// Root of the mean square of the difference, relative to the exact output's.
double error_of(const Matrix<double>& x, const Matrix<double>& exact) {
  return (x - exact).norm() / exact.norm();
}

/// E φ(q) φ(k) = exp(q·k/√d): the mean over many draws comes to the weights themselves.
TEST(Performer, FeaturesEstimateWeightsWithoutBias) {
  const Index d = 8, m = 16;
  Dice dice(90);
  const auto q = dice.matrix<double>(4, d, 0.7), k = dice.matrix<double>(4, d, 0.7);
  Matrix<double> sum = Matrix<double>::Zero(4, 4), squares = sum;
  const int draws = 2000;
  const double root = std::pow(static_cast<double>(d), -0.25);
  const auto features = [&](const Matrix<double>& x, const Matrix<double>& omega) {
    Matrix<double> logits = root * x * omega.transpose();
    logits.colwise() -= 0.5 * root * root * x.rowwise().squaredNorm();
    return Matrix<double>(logits.array().exp());
  };
  for (int t = 0; t < draws; ++t) {
    const auto omega = heed::performer_projection(m, d, static_cast<std::uint64_t>(t));
    const Matrix<double> w = features(q, omega) * features(k, omega).transpose() / static_cast<double>(m);
    sum += w;
    squares += w.cwiseProduct(w);
  }
  for (Index i = 0; i < 4; ++i)
    for (Index j = 0; j < 4; ++j) {
      const double mean = sum(i, j) / draws;
      const double deviation = std::sqrt((squares(i, j) / draws - mean * mean) / draws);
      EXPECT_NEAR(mean, std::exp(q.row(i).dot(k.row(j)) / std::sqrt(static_cast<double>(d))), 5 * deviation);
    }
}

TEST(Performer, DirectionsAreOrthogonalInBlocksAndReproducible) {
  const Index d = 12, m = 30;
  const auto omega = heed::performer_projection(m, d, 5);
  EXPECT_TRUE(omega == heed::performer_projection(m, d, 5));
  EXPECT_FALSE(omega == heed::performer_projection(m, d, 6));
  EXPECT_TRUE(omega.topRows(7) == heed::performer_projection(7, d, 5));
  for (Index r = 0; r < m; ++r)
    for (Index s = 0; s < r; ++s)
      if (r / d == s / d) {
        EXPECT_NEAR(omega.row(r).dot(omega.row(s)), 0, 1e-12 * omega.row(r).norm() * omega.row(s).norm());
      }
  // Lengths are those of normal vectors: their squares have mean d and variance 2 d.
  const auto many = heed::performer_projection(4800, d, 7);
  const Eigen::VectorXd squares = many.rowwise().squaredNorm();
  EXPECT_NEAR(squares.mean(), 12, 5 * std::sqrt(24.0 / 4800));
  EXPECT_NEAR((squares.array() - 12).square().mean(), 24, 2.5);
  EXPECT_NEAR(many.mean(), 0, 0.02);
  // The same numbers on every machine, up to rounding.
  EXPECT_NEAR(omega(0, 0), -0.863982563977993, 1e-12);
  EXPECT_NEAR(omega(0, 1), 0.518839371909316, 1e-12);
  EXPECT_NEAR(omega(29, 11), 1.132869221594215, 1e-12);
}

/// Directions of the caller's, and one policy in several calls.
TEST(Performer, GivenDirections) {
  Dice dice(95);
  const auto x = dice.matrix<double>(20, 6);
  const auto drawn = heed::performer(9, 3);
  const Matrix<double> a = heed::linear_attention(x, x, x, drawn),
                       b = heed::linear_attention(x, x, x,
                                                  heed::performer(heed::performer_projection(9, 6, 3)));
  EXPECT_TRUE(a == b);
  EXPECT_TRUE(a == heed::linear_attention(x, x, x, drawn));
  EXPECT_THROW(heed::linear_attention(x, x, x, heed::performer(heed::performer_projection(9, 5, 3))),
               std::invalid_argument);
  EXPECT_THROW(heed::linear_attention(x, x, x, heed::performer(0, 3)), std::invalid_argument);
  EXPECT_THROW(heed::linear_attention(x, x, x, drawn, heed::scale(-1.0)), std::invalid_argument);
}

TEST(Performer, ErrorFallsWithTheNumberOfFeatures) {
  const Index n = 256, d = 64;
  Dice dice(91);
  for (const double length : {1.0, 0.5, 0.3}) {
    const Matrix<double> q = dice.matrix<double>(n, d, length), k = dice.matrix<double>(n, d, length),
                         v = dice.matrix<double>(n, d);
    const Matrix<double> exact = heed::attention(q, k, v);
    double before = 0;
    for (const Index features : {Index(32), Index(128), Index(512), Index(2048)}) {
      double squares = 0;
      for (std::uint64_t seed = 0; seed < 8; ++seed)
        squares +=
            std::pow(error_of(heed::linear_attention(q, k, v, heed::performer(features, seed)), exact), 2);
      const double error = std::sqrt(squares / 8);
      std::printf("performer, numbers of size %.1f: %4d features, error %.4f\n", length, int(features),
                  error);
      // Four times the features, half the error: the estimate is a mean of draws. (With numbers of size 1 a
      // few rare draws decide, which the features at hand do not meet.)
      if (before > 0) {
        EXPECT_LT(error, (length < 1 ? 0.75 : 1) * before);
      }
      before = error;
    }
    if (length < 1) {
      EXPECT_LT(before, length == 0.5 ? 0.25 : 0.05);
    }
  }
}

/// Columns that vary slowly along the sequence: a few waves of random strength, plus noise.
Matrix<double> smooth(Dice& dice, Index rows, Index columns, double noise) {
  const Index waves = 6;
  const auto strength = dice.matrix<double>(waves, columns);
  Matrix<double> x = dice.matrix<double>(rows, columns, noise);
  for (Index w = 0; w < waves; ++w)
    for (Index i = 0; i < rows; ++i)
      x.row(i) += std::cos(3.14159265358979 * static_cast<double>(w) * (static_cast<double>(i) + 0.5) /
                           static_cast<double>(rows)) *
                  strength.row(w) / std::sqrt(static_cast<double>(waves));
  return x;
}

TEST(Linformer, ErrorFallsWithTheRank) {
  const Index m = 512, d = 16;
  Dice dice(92);
  const Matrix<double> q = dice.matrix<double>(64, d), k = smooth(dice, m, d, 0.05),
                       v = smooth(dice, m, d, 0.05);
  const Matrix<double> exact = heed::attention(q, k, v);
  double before = 1;
  for (const Index rank : {Index(4), Index(8), Index(16), Index(32), Index(64), Index(512)}) {
    Matrix<double> e = Matrix<double>::Zero(rank, m);
    for (Index j = 0; j < m; ++j) e(j * rank / m, j) = static_cast<double>(rank) / static_cast<double>(m);
    const double error = error_of(heed::linformer_attention(q, k, v, e, e), exact);
    std::printf("linformer: rank %3d of %d, error %.5f\n", int(rank), int(m), error);
    EXPECT_LT(error, 0.8 * before);
    before = error;
  }
  EXPECT_LT(before, 1e-13);
}

TEST(PooledAttention, ErrorGrowsWithTheStride) {
  const Index m = 512, d = 16;
  Dice dice(93);
  const Matrix<double> q = dice.matrix<double>(64, d), k = smooth(dice, m, d, 0.05),
                       v = smooth(dice, m, d, 0.05);
  const Matrix<double> exact = heed::attention(q, k, v);
  double before = 0;
  for (const Index stride : {Index(1), Index(4), Index(16), Index(64), Index(128)}) {
    const double error = error_of(heed::pooled_attention(q, k, v, heed::strides({stride})), exact);
    std::printf("pooled: stride %3d, error %.5f\n", int(stride), error);
    if (stride == 1) {
      EXPECT_LT(error, 1e-13);
    } else {
      EXPECT_GT(error, 1.2 * before);
    }
    before = error;
  }
  EXPECT_LT(before, 1);
  // Groups of equal keys and values lose nothing.
  Matrix<double> steps(m, d), step_values(m, d);
  for (Index j = 0; j < m; ++j) {
    steps.row(j) = k.row(j / 8 * 8);
    step_values.row(j) = v.row(j / 8 * 8);
  }
  EXPECT_LT(error_of(heed::pooled_attention(q, steps, step_values, heed::strides({8})),
                     heed::attention(q, steps, step_values)),
            1e-13);
}

/// What is refused is refused before anything is written.
TEST(CheapForms, RefusedCallsWriteNothing) {
  const Eigen::MatrixXf x = Eigen::MatrixXf::Ones(6, 4), gates = Eigen::MatrixXf::Ones(6, 3);
  Eigen::MatrixXf out = Eigen::MatrixXf::Constant(6, 4, 42), dq = out, dk = out, dv = out;
  const auto still = [](const auto&... m) { return ((m.array() == 42).all() && ...); };
  const auto features = heed::performer(8, 1);
  for (const double factor : {0.0, -1.0, 1e300}) {
    EXPECT_THROW(heed::linear_attention_into(out, x, x, x, features, heed::scale(factor)),
                 std::invalid_argument);
    EXPECT_THROW(heed::linear_attention_backward(x, x, x, x, x, features, heed::scale(factor),
                                                 heed::into(dq, dk, dv)),
                 std::invalid_argument);
    EXPECT_TRUE(still(out, dq, dk, dv));
  }
  // In plain loops, too.
  using Wide = Matrix<long double>;
  const Wide y = Wide::Ones(6, 4);
  Wide wide = Wide::Constant(6, 4, 42), wide_dk = wide, wide_dv = wide;
  EXPECT_THROW(heed::linear_attention_backward(y, y, y, y, y, features, heed::scale(0.0),
                                               heed::into(wide, wide_dk, wide_dv)),
               std::invalid_argument);
  EXPECT_TRUE(still(wide, wide_dk, wide_dv));

  heed::NativeSparseSaved<float> saved;
  EXPECT_THROW(heed::native_sparse_attention(x, x, x, gates, {}, saved, heed::scale(1e300)),
               std::invalid_argument);
  EXPECT_EQ(saved.blocks.row_offsets.size(), 0u);
  EXPECT_EQ(saved.branch[0].lse.size(), 0);
  heed::Saved<float> lse;
  EXPECT_THROW(heed::pooled_attention(x, x, x, heed::strides({2}), heed::scale(1e300), heed::save(lse)),
               std::invalid_argument);
  EXPECT_EQ(lse.lse.size(), 0);
}

}  // namespace
