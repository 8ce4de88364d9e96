// SPDX-License-Identifier: MIT
// Sinusoidal and rotary positions and T5's buckets: worked numbers, other layouts, and what rotations
// promise.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <heed/position/alibi.hpp>
#include <heed/position/rotary.hpp>
#include <heed/position/sinusoidal.hpp>
#include <heed/position/t5_buckets.hpp>
#include <heed/select/local.hpp>
#include <unsupported/Eigen/AutoDiff>

#include "guarded.hpp"

namespace {

using namespace heed_test;
using heed::Rotary;
using heed::ColumnPairs;

/// Numbers without a pattern.
template <class T>
Matrix<T> numbers(Index rows, Index columns, double phase) {
  Matrix<T> m(rows, columns);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j)
      m(i, j) =
          static_cast<T>(std::sin(phase + 1.7 * static_cast<double>(i * i) + 0.9 * static_cast<double>(j)) +
                         0.25 * static_cast<double>((i + 2 * j) % 3));
  return m;
}

template <class M>
M turned(M x, const Rotary& options) {
  heed::rotary(x, options);
  return x;
}

TEST(Sinusoidal, PaperAndFloatAccuracyFarOut) {
  const Eigen::MatrixXf table = heed::sinusoidal<Eigen::MatrixXf>(3, 6);
  for (Index p = 0; p < 3; ++p)
    for (Index i = 0; i < 3; ++i) {
      const double angle = static_cast<double>(p) / std::pow(10000.0, 2.0 * static_cast<double>(i) / 6);
      EXPECT_FLOAT_EQ(table(p, 2 * i), static_cast<float>(std::sin(angle)));
      EXPECT_FLOAT_EQ(table(p, 2 * i + 1), static_cast<float>(std::cos(angle)));
    }
  const auto far = heed::sinusoidal<Eigen::MatrixXf>(2, 8, {.first = 100000000});
  for (Index i = 0; i < 4; ++i) {
    const long double angle = 100000001 * std::pow(10000.0L, -2.0L * static_cast<long double>(i) / 8);
    EXPECT_NEAR(far(1, 2 * i), static_cast<double>(std::sin(angle)), 1e-7);
    EXPECT_NEAR(far(1, 2 * i + 1), static_cast<double>(std::cos(angle)), 1e-7);
  }
}

TEST(Sinusoidal, OrdersOddWidthsRangesAndBatches) {
  const auto whole = heed::sinusoidal<RowMatrix<double>>(9, 5);
  EXPECT_DOUBLE_EQ(whole(3, 4), std::sin(3 * std::pow(10000.0, -4.0 / 6)));
  EXPECT_EQ((heed::sinusoidal<Matrix<double>>(9, 5)), whole);
  EXPECT_EQ((heed::sinusoidal<Matrix<double>>(4, 5, {.first = 5})), whole.bottomRows(4));
  EXPECT_NE((heed::sinusoidal<Matrix<double>>(9, 5, {.base = 100})), whole);

  Matrix<double> x = numbers<double>(9, 7, 1), before = x;
  heed::add_sinusoidal(x.middleCols(1, 5), {.first = 2}, std::vector<int>{0, 3, 3, 9});
  const auto late = heed::sinusoidal<Matrix<double>>(6, 5, {.first = 2});
  EXPECT_TRUE((x.block(0, 1, 3, 5) - before.block(0, 1, 3, 5)).isApprox(late.topRows(3), 1e-14));
  EXPECT_TRUE((x.block(3, 1, 6, 5) - before.block(3, 1, 6, 5)).isApprox(late, 1e-14));
  EXPECT_EQ(x.col(0), before.col(0));
  EXPECT_EQ(x.col(6), before.col(6));
  EXPECT_EQ((heed::sinusoidal<Eigen::MatrixXf>(0, 5).size()), 0);
  EXPECT_THROW((void)heed::sinusoidal<Eigen::MatrixXf>(1, 5, {.base = -1}), std::invalid_argument);
  EXPECT_THROW((void)heed::sinusoidal<Eigen::MatrixXf>(-1, 5), std::invalid_argument);
  EXPECT_THROW(heed::add_sinusoidal(x, {}, std::vector<int>{0, 8}), std::invalid_argument);
}

/// The timing signal of the paper's first implementation: sin(t f_i), then cos(t f_i), with
/// f_i = 10000^(-i / 127).
TEST(Sinusoidal, HalvesAndFrequenciesThatReachTheBase) {
  const auto timing =
      heed::sinusoidal<Eigen::MatrixXd>(6, 256, {.pairs = heed::ColumnPairs::halves, .reaches_base = true});
  for (const Index i : {0, 1, 64, 127}) {
    const double f = std::pow(10000.0, -static_cast<double>(i) / 127);
    EXPECT_NEAR(timing(5, i), std::sin(5 * f), 1e-14);
    EXPECT_NEAR(timing(5, 128 + i), std::cos(5 * f), 1e-14);
  }
  EXPECT_NEAR(timing(5, 127), 5e-4, 1e-10);
  // Each choice alone: the same numbers in another place, other numbers in the same.
  const auto plain = heed::sinusoidal<Eigen::MatrixXd>(4, 7);
  const auto halves = heed::sinusoidal<RowMatrix<double>>(4, 7, {.pairs = heed::ColumnPairs::halves});
  for (Index i = 0; i < 4; ++i) EXPECT_TRUE(halves.col(i) == plain.col(2 * i));
  for (Index i = 0; i < 3; ++i) EXPECT_TRUE(halves.col(4 + i) == plain.col(2 * i + 1));
  const auto reaching = heed::sinusoidal<Eigen::MatrixXd>(3, 6, {.base = 100, .reaches_base = true});
  EXPECT_NEAR(reaching(2, 2), std::sin(0.2), 1e-15);
  EXPECT_NEAR(reaching(2, 5), std::cos(0.02), 1e-15);
  // One pair, no pair.
  EXPECT_DOUBLE_EQ(heed::sinusoidal<>(3, 1, {.reaches_base = true})(2, 0), std::sin(2.0));
  EXPECT_EQ(heed::sinusoidal<>(3, 0, {.reaches_base = true}).size(), 0);
  // Batches take them too.
  Eigen::MatrixXd ragged = Eigen::MatrixXd::Zero(5, 256);
  heed::add_sinusoidal(ragged, {.pairs = heed::ColumnPairs::halves, .reaches_base = true},
                       std::vector<int>{0, 2, 5});
  EXPECT_TRUE(ragged.bottomRows(3) == timing.topRows(3));
}

TEST(Rotary, WorkedNumbers) {
  Eigen::RowVector4d x(1, 2, 3, 4);
  const Eigen::RowVector4d interleaved = turned(x, {.first = 1});
  EXPECT_TRUE(interleaved.isApprox(Eigen::RowVector4d(-1.142640, 1.922076, 2.959851, 4.029800), 1e-6));
  const Eigen::RowVector4d halves = turned(x, {.pairs = ColumnPairs::halves, .first = 1});
  EXPECT_TRUE(halves.isApprox(Eigen::RowVector4d(-1.984111, 1.959901, 2.462378, 4.019800), 1e-6));
  EXPECT_EQ(turned(x, {}), x);  // position 0
}

/// Rows of many pairs, alone and inside a wider matrix, against angles of more digits.
template <class T>
void rows_of_many_pairs(double most) {
  for (const auto pairs : {ColumnPairs::interleaved, ColumnPairs::halves})
    for (const Index d : {Index(10), Index(16), Index(22), Index(64)}) {
      const Index n = 37, heads = 2, first = 9;
      const Matrix<T> x = numbers<T>(n, heads * d, 2);
      Matrix<long double> want = x.template cast<long double>();
      for (Index i = 0; i < n; ++i)
        for (Index h = 0; h < heads; ++h)
          for (Index p = 0; p < d / 2; ++p) {
            const Index a = h * d + (pairs == ColumnPairs::halves ? p : 2 * p);
            const Index b = pairs == ColumnPairs::halves ? a + d / 2 : a + 1;
            const long double t =
                static_cast<long double>(i + first) *
                std::pow(10000.0L, static_cast<long double>(-2 * p) / static_cast<long double>(d));
            const long double u = want(i, a), v = want(i, b);
            want(i, a) = std::cos(t) * u - std::sin(t) * v;
            want(i, b) = std::sin(t) * u + std::cos(t) * v;
          }
      const Rotary options{.heads = heads, .pairs = pairs, .first = first};
      RowMatrix<T> wide = RowMatrix<T>::Constant(n, heads * d + 3, T(7));
      wide.middleCols(2, heads * d) = x;
      heed::rotary(wide.middleCols(2, heads * d), options);
      EXPECT_TRUE((wide.leftCols(2).array() == T(7)).all() && (wide.rightCols(1).array() == T(7)).all());
      for (const Matrix<T>& got : {turned(x, options), Matrix<T>(turned(RowMatrix<T>(x), options)),
                                   Matrix<T>(wide.middleCols(2, heads * d))})
        EXPECT_LT((got.template cast<long double>() - want).cwiseAbs().maxCoeff(), most) << d;
    }
}
TEST(Rotary, RowsOfManyPairs) {
  rows_of_many_pairs<float>(5e-7);
  rows_of_many_pairs<double>(2e-14);
}

/// Float against plain loops, in every layout of memory; more rows than are turned at once.
TEST(Rotary, LayoutsOfMemory) {
  const Index n = 37, heads = 3, d = 10;
  const Matrix<float> x = numbers<float>(n, heads * d, 2);
  for (const auto pairs : {ColumnPairs::interleaved, ColumnPairs::halves})
    for (const Index width : {Index{-1}, Index{0}, Index{6}}) {
      const Index w = width == -1 ? d : width;
      Matrix<double> want = x.cast<double>();
      for (Index i = 0; i < n; ++i)
        for (Index h = 0; h < heads; ++h)
          for (Index p = 0; p < w / 2; ++p) {
            const Index a = h * d + (pairs == ColumnPairs::halves ? p : 2 * p);
            const Index b = pairs == ColumnPairs::halves ? a + w / 2 : a + 1;
            const double t = static_cast<double>(i + 4) *
                             std::pow(500.0, -2 * static_cast<double>(p) / static_cast<double>(w));
            want(i, a) = std::cos(t) * x(i, a) - std::sin(t) * x(i, b);
            want(i, b) = std::sin(t) * x(i, a) + std::cos(t) * x(i, b);
          }
      for (int layout = 0; layout < layouts; ++layout) {
        Guarded<float> memory(x, static_cast<Layout>(layout));
        heed::rotary(memory.view(),
                     {.heads = heads, .pairs = pairs, .first = 4, .width = width, .base = 500});
        EXPECT_TRUE(memory.intact());
        const Matrix<float> got = memory.view();
        EXPECT_LT((got.cast<double>() - want).cwiseAbs().maxCoeff(), 1e-6) << layout << " " << width;
      }
      RowMatrix<float> rows = x;
      heed::rotary(rows, {.heads = heads, .pairs = pairs, .first = 4, .width = width, .base = 500});
      EXPECT_LT((rows.cast<double>() - want).cwiseAbs().maxCoeff(), 1e-6);
    }
}

/// What is left of a turn at 10^8 positions has float's accuracy.
TEST(Rotary, FarOut) {
  Eigen::RowVector2f x(1, 0);
  heed::rotary(x, {.first = 100000001});
  EXPECT_NEAR(x(0), static_cast<double>(std::cos(100000001.0L)), 1e-7);
  EXPECT_NEAR(x(1), static_cast<double>(std::sin(100000001.0L)), 1e-7);
}

TEST(Rotary, KeepsNormsAndKnowsDistances) {
  for (const auto pairs : {ColumnPairs::interleaved, ColumnPairs::halves}) {
    const Matrix<double> q = numbers<double>(1, 12, 1), k = numbers<double>(1, 12, 5);
    const auto at = [&](const Matrix<double>& x, Index position) {
      return turned(x, {.pairs = pairs, .first = position, .width = 8});
    };
    EXPECT_NEAR(at(q, 77).norm(), q.norm(), 1e-13);
    const double near = at(q, 3).row(0).dot(at(k, 1).row(0));
    EXPECT_NEAR(near, at(q, 1003).row(0).dot(at(k, 1001).row(0)), 1e-10);
    EXPECT_NEAR(near, at(q, 1).row(0).dot(at(k, -1).row(0)), 1e-12);
    EXPECT_GT(std::abs(near - at(q, 4).row(0).dot(at(k, 1).row(0))), 1e-3);
  }
}

TEST(Rotary, OffsetsAndBatches) {
  const Matrix<double> x = numbers<double>(40, 8, 3);
  const Matrix<double> whole = turned(x, {.heads = 2});
  EXPECT_EQ(turned(Matrix<double>(x.bottomRows(23)), {.heads = 2, .first = 17}), whole.bottomRows(23));

  const std::vector<Index> offsets = {0, 17, 17, 40};
  Matrix<double> batch = x;
  heed::rotary(batch, {.heads = 2, .first = 5}, offsets);
  EXPECT_EQ(batch.topRows(17), turned(Matrix<double>(x.topRows(17)), {.heads = 2, .first = 5}));
  EXPECT_EQ(batch.bottomRows(23), turned(Matrix<double>(x.bottomRows(23)), {.heads = 2, .first = 5}));
  heed::rotary_gradient(batch, {.heads = 2, .first = 5}, offsets);
  EXPECT_TRUE(batch.isApprox(x, 1e-14));

  heed::rotary(batch.block(0, 4, 40, 4), {}, offsets, std::vector<int>{100, 7, 30});
  EXPECT_TRUE(batch.leftCols(4).isApprox(x.leftCols(4), 1e-14));
  EXPECT_TRUE(batch.block(17, 4, 23, 4)
                  .isApprox(turned(Matrix<double>(x.block(17, 4, 23, 4)), {.first = 30}), 1e-13));
  EXPECT_TRUE(
      batch.block(0, 4, 17, 4).isApprox(turned(Matrix<double>(x.block(0, 4, 17, 4)), {.first = 100}), 1e-13));
}

TEST(Rotary, GradientIsTheTranspose) {
  for (const auto pairs : {ColumnPairs::interleaved, ColumnPairs::halves}) {
    const Rotary options{.heads = 2, .pairs = pairs, .first = 9, .width = 4};
    const Matrix<double> x = numbers<double>(21, 12, 1), u = numbers<double>(21, 12, 8);
    Matrix<double> back = u;
    heed::rotary_gradient(back, options);
    EXPECT_NEAR(u.cwiseProduct(turned(x, options)).sum(), back.cwiseProduct(x).sum(), 1e-11);
    EXPECT_GT((back - turned(u, options)).norm(), 1);
  }
}

/// Tables in place of angles: of the same angles, of the same numbers in every layout and scalar.
template <class T, class M>
void by_tables(ColumnPairs pairs) {
  const Index positions = 40, w = 6;
  Eigen::ArrayXXd angles(positions, w / 2);
  for (Index t = 0; t < positions; ++t)
    for (Index p = 0; p < w / 2; ++p)
      angles(t, p) = static_cast<double>(t) * std::pow(10000.0, -2.0 * static_cast<double>(p) / w);
  const M x = numbers<T>(19, 2 * 8, 0.3);
  const Rotary options{.heads = 2, .pairs = pairs, .first = 21, .width = w};
  M got = x;
  heed::rotary(got, angles.cos(), angles.sin(), options);
  EXPECT_TRUE(got.isApprox(turned(x, options), T(1e-6)));
  EXPECT_EQ(got(4, 6), x(4, 6));
  M ragged = x, want = x;
  const std::vector<Index> offsets{0, 0, 7, 19}, firsts{99, 3, 28};
  heed::rotary(ragged, angles.cos(), angles.sin(), options, offsets, firsts);
  heed::rotary(want, options, offsets, firsts);
  EXPECT_TRUE(ragged.isApprox(want, T(1e-6)));
  // The transpose, also of tables that scale.
  const M y = numbers<T>(19, 2 * 8, 1.3);
  M scaled = x, back = y;
  heed::rotary(scaled, 1.5 * angles.cos(), 1.25 * angles.sin(), options);
  heed::rotary_gradient(back, 1.5 * angles.cos(), 1.25 * angles.sin(), options);
  EXPECT_NEAR(static_cast<double>(scaled.cwiseProduct(y).sum()),
              static_cast<double>(x.cwiseProduct(back).sum()), 1e-4);
  heed::rotary_gradient(got, angles.cos(), angles.sin(), options);
  EXPECT_TRUE(got.isApprox(x, T(1e-6)));
}
TEST(Rotary, Tables) {
  Eigen::Matrix2f x{{1, 2}, {3, 4}};
  heed::rotary(x, Eigen::Vector2d(0.6, 0), Eigen::Vector2d(0.8, 1));
  EXPECT_TRUE(x.isApprox(Eigen::Matrix2f{{-1, 2}, {-4, 3}}));
  for (const auto pairs : {ColumnPairs::interleaved, ColumnPairs::halves}) {
    by_tables<float, Eigen::MatrixXf>(pairs);
    by_tables<float, RowMatrix<float>>(pairs);
    by_tables<double, RowMatrix<double>>(pairs);
  }
}
TEST(Rotary, RefusesTables) {
  Eigen::MatrixXd x = Eigen::MatrixXd::Ones(5, 8);
  const Eigen::MatrixXd before = x, table = Eigen::MatrixXd::Ones(9, 4);
  const auto says = [&](const Eigen::MatrixXd& c, const Eigen::MatrixXd& s,
                        const Rotary& options) -> std::string {
    try {
      heed::rotary(x, c, s, options);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(says(table, table.topRows(8), {}),
            "heed: rotary: the table of cosines is 9 x 4, that of sines 8 x 4");
  EXPECT_EQ(
      says(Eigen::MatrixXd::Ones(9, 8), Eigen::MatrixXd::Ones(9, 8), {}),
      "heed: rotary: the tables have 8 columns, there are 4 pairs in the 8 columns of a head that turn");
  EXPECT_EQ(says(table, table, {.first = 5}),
            "heed: rotary: positions 5 to 9 are needed, the tables have 9 rows");
  EXPECT_EQ(says(table, table, {.first = -1}),
            "heed: rotary: positions -1 to 3 are needed, the tables have 9 rows");
  EXPECT_TRUE(x == before);
  EXPECT_EQ(says(table, table, {.first = 4}), "");
}

TEST(Rotary, OtherScalars) {
  const Matrix<double> x = numbers<double>(5, 6, 4);
  const Matrix<double> want = turned(x, {.first = 2});
  EXPECT_TRUE(
      turned(Matrix<long double>(x.cast<long double>()), {.first = 2}).cast<double>().isApprox(want, 1e-15));
  // In float and rounded once: every element is good to half an ULP, cancelled or not.
  const Matrix<Eigen::half> half = numbers<double>(40, 8, 4).cast<Eigen::half>();
  const Matrix<double> half_want = turned(Matrix<double>(half.cast<double>()), {.first = 2});
  const Matrix<double> off = turned(half, {.first = 2}).cast<double>() - half_want;
  EXPECT_LE((off.cwiseAbs() - half_want.cwiseAbs() * 0x1.01p-11).maxCoeff(), 1e-6);

  using Differentiable = Eigen::AutoDiffScalar<Eigen::Vector2d>;
  Eigen::Matrix<Differentiable, 1, 2> y;
  y(0) = Differentiable(1.5, 2, 0);
  y(1) = Differentiable(-0.5, 2, 1);
  heed::rotary(y, {.first = 1});
  EXPECT_NEAR(y(0).value(), 1.5 * std::cos(1.0) + 0.5 * std::sin(1.0), 1e-14);
  EXPECT_NEAR(y(0).derivatives()(0), std::cos(1.0), 1e-14);
  EXPECT_NEAR(y(0).derivatives()(1), -std::sin(1.0), 1e-14);
  EXPECT_NEAR(y(1).derivatives()(0), std::sin(1.0), 1e-14);
}

TEST(Rotary, Refuses) {
  Matrix<double> x = numbers<double>(5, 6, 4), before = x;
  const std::vector<int> offsets = {0, 2, 5};
  EXPECT_THROW(heed::rotary(x, {.heads = 0}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {.heads = 4}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {.heads = 2}), std::invalid_argument);  // 3 columns
  EXPECT_THROW(heed::rotary(x, {.width = 3}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {.width = 8}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {.width = -2}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {.base = 0}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {.first = std::numeric_limits<Index>::min()}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {.first = std::numeric_limits<Index>::max()}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {}, std::vector<int>{0, 4}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {}, std::vector<int>{1, 5}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {}, std::vector<int>{0, 4, 3, 5}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {}, std::vector<int>{}), std::invalid_argument);
  EXPECT_THROW(heed::rotary(x, {}, offsets, std::vector<int>{1}), std::invalid_argument);
  EXPECT_EQ(x, before);
  Matrix<double> empty(0, 6);
  heed::rotary(empty, {.heads = 3});
}

TEST(T5Buckets, WorkedNumbers) {
  const std::vector<Index> relative = {-128, -64, -16, -9, -8, -7, -1, 0, 1, 7, 8, 9, 16, 64, 127, 128};
  const std::vector<Index> bucket = {15, 14, 10, 8, 8, 7, 1, 0, 17, 23, 24, 24, 26, 30, 31, 31};
  for (std::size_t n = 0; n < relative.size(); ++n)
    EXPECT_EQ(heed::t5_bucket(relative[n]), bucket[n]) << relative[n];
  const std::vector<Index> before = {-128, -127, -64, -32, -17, -16, -15, -1, 0, 5};
  const std::vector<Index> causal = {31, 31, 26, 21, 16, 16, 15, 1, 0, 0};
  for (std::size_t n = 0; n < before.size(); ++n)
    EXPECT_EQ(heed::t5_bucket(before[n], {.bidirectional = false}), causal[n]) << before[n];
  EXPECT_EQ(heed::t5_bucket(-1000000000000), 15);
  EXPECT_EQ(heed::t5_bucket(1000000000000), 31);
}

/// Where every edge is a power of two, all of them are exact; elsewhere the formula, in long double, says the
/// same wherever its logarithm is not about to step.
TEST(T5Buckets, Formula) {
  const heed::T5Buckets powers{.bidirectional = false, .buckets = 32, .distance = 1 << 20};
  const heed::detail::BucketTable exact(powers);
  for (int step = 0; step < 16; ++step) {
    EXPECT_EQ(exact.at(-(Index(16) << step)), 16 + step);
    EXPECT_EQ(exact.at(1 - (Index(16) << step)), 15 + step);
  }
  // Fifth roots: a power in double lands above most of these edges.
  for (Index k = 2, distance = 160; k <= 11; ++k, distance = 5 * k * k * k * k * k) {
    const heed::detail::BucketTable table({.bidirectional = false, .buckets = 10, .distance = distance});
    for (Index step = 0, edge = 5; step < 5; ++step, edge *= k) {
      EXPECT_EQ(table.at(-edge), 5 + step) << k;
      EXPECT_EQ(table.at(1 - edge), 4 + step) << k;
    }
  }
  for (const Index buckets : {4, 10, 32, 64, 320})
    for (const bool both : {true, false})
      for (const Index distance : {Index(200), Index(800), Index(5000)}) {
        const heed::detail::BucketTable table({both, buckets, distance});
        const Index side = both ? buckets / 2 : buckets, e = side / 2;
        int compared = 0;
        for (Index x = 1; x <= distance + 9; ++x) {
          const long double step =
              std::log(static_cast<long double>(x) / static_cast<long double>(e)) /
              std::log(static_cast<long double>(distance) / static_cast<long double>(e)) *
              static_cast<long double>(side - e);
          if (x > e && std::abs(step - std::round(step)) < 1e-9L) continue;
          const Index want = x < e ? x : std::min(e + static_cast<Index>(step), side - 1);
          ASSERT_EQ(table.at(-x), want) << x << " " << buckets << " " << distance;
          ASSERT_EQ(table.at(x), both ? side + want : 0) << x;
          ++compared;
        }
        EXPECT_GT(compared, distance - 30);
      }
}

/// What a pair of positions gets, for each way to say which key a query stands at.
TEST(T5Bias, LooksUpTheTable) {
  Matrix<float> wide = numbers<float>(7, 20, 1);
  const auto table = wide.block(1, 3, 3, 12);
  const heed::T5Buckets options{.buckets = 12, .distance = 20};
  const heed::Place place{.queries = 30, .keys = 47, .head = 2, .sequence = 1, .heads = 3};
  const auto check = [&](const auto& policy, Index row, Index offset) {
    const auto term = policy.bind(place);
    static_assert(std::is_trivially_copyable_v<std::remove_cvref_t<decltype(term)>>);
    for (heed::Position i = 0; i < 30; ++i)
      for (heed::Position j = 0; j < 47; ++j)
        ASSERT_EQ(term(0.5f, i, j), 0.5f + table(row, heed::t5_bucket(j - i - offset, options)))
            << i << " " << j;
  };
  check(heed::t5_bias(table, options), 2, 17);
  check(heed::t5_bias(table, options, heed::top_left), 2, 0);
  check(heed::t5_bias(table, options, -9), 2, -9);
  check(heed::t5_bias(table, options, 2000000000), 2, 2000000000);
  check(heed::t5_bias(table.row(1), options), 1, 17);
  check(heed::t5_bias(RowMatrix<float>(table), options), 2, 17);

  // Elements are found with 32 bits: columns further apart are refused before any is read.
  const Eigen::Map<const Matrix<float>, 0, Eigen::OuterStride<>> apart(wide.data(), 3, 12,
                                                                       Eigen::OuterStride<>(Index(1) << 30));
  const heed::Shape shape{.queries = 30, .keys = 47, .heads = 3};
  heed::t5_bias(table, options).check(shape);
  EXPECT_THROW(heed::t5_bias(apart, options).check(shape), std::invalid_argument);
}

TEST(T5Buckets, Refuses) {
  EXPECT_THROW((void)heed::t5_bucket(0, {.buckets = 31}), std::invalid_argument);
  EXPECT_THROW((void)heed::t5_bucket(0, {.buckets = 2}), std::invalid_argument);
  EXPECT_THROW((void)heed::t5_bucket(0, {.bidirectional = false, .buckets = 1}), std::invalid_argument);
  EXPECT_THROW((void)heed::t5_bucket(0, {.buckets = 2000}), std::invalid_argument);
  EXPECT_THROW((void)heed::t5_bucket(0, {.distance = 8}), std::invalid_argument);
  EXPECT_EQ(heed::t5_bucket(-9, {.distance = 9}), 15);
  EXPECT_EQ(heed::t5_bucket(-1, {.bidirectional = false, .buckets = 2}), 1);
}

/// Terms of the longest sequences, at both ends of queries and keys and in what a tile may reach past them:
/// nothing overflows, which a sanitizer would see, and distances are right.
TEST(Positions, OfTheLongestSequences) {
  constexpr Index longest = heed::detail::longest_sequence;
  const Eigen::VectorXd spans = Eigen::VectorXd::Constant(1, 4e9);
  const Matrix<float> table = numbers<float>(1, 12, 1);
  const heed::T5Buckets options{.buckets = 12, .distance = 20};
  for (const Index n : {Index(1), longest})
    for (const Index m : {Index(1), longest}) {
      const heed::Place place{.queries = n, .keys = m};
      const heed::Shape shape{.queries = n, .keys = m};
      const auto each = [&](const auto& policy, Index offset, const auto& want) {
        policy.check(shape);
        const auto term = policy.bind(place);
        for (const Index i : {Index(0), n - 1, n + 200})
          for (const Index j : {Index(0), m - 1, m + 200})
            EXPECT_EQ(term(0.0, static_cast<heed::Position>(i), static_cast<heed::Position>(j)),
                      want(i + offset - j))
                << n << " x " << m << ": " << i << " " << j;
      };
      const auto penalty = [](Index distance) { return -0x1p-8 * std::abs(static_cast<double>(distance)); };
      const auto bucket = [&](Index distance) {
        return static_cast<double>(table(0, heed::t5_bucket(-distance, options)));
      };
      const auto seen = [](Index) { return 0.0; };  // nothing is as far as the span
      each(heed::alibi(), m - n, penalty);
      each(heed::alibi(heed::top_left), 0, penalty);
      each(heed::alibi({0x1p-8}), m - n, penalty);
      each(heed::t5_bias(table, options), m - n, bucket);
      each(heed::t5_bias(table, options, heed::top_left), 0, bucket);
      each(heed::AdaptiveSpan<heed::detail::Referred<Eigen::VectorXd>>(
               heed::detail::Referred<Eigen::VectorXd>(spans), 3.0),
           m - n, seen);
    }
}

}  // namespace
