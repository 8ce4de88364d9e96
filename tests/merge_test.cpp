// SPDX-License-Identifier: MIT
// merge(): worked numbers, the identity, and split plus merge against the whole.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include <heed/core/spec.hpp>
#include <heed/layout/heads.hpp>
#include <heed/merge.hpp>
#include <heed/reference/attention.hpp>

namespace {

using heed::Index;
constexpr double infinity = std::numeric_limits<double>::infinity();

/// The scores {1, 2 | 0, 3} with the values {10, 20 | 30, 40}, of two halves.
TEST(Merge, WorkedNumbers) {
  const auto part = [](double z0, double z1, double v0, double v1) {
    heed::Partial<double> p;
    p.lse.setConstant(1, 1, std::log(std::exp(z0) + std::exp(z1)));
    p.out.setConstant(1, 1, (std::exp(z0) * v0 + std::exp(z1) * v1) / (std::exp(z0) + std::exp(z1)));
    return p;
  };
  const auto a = part(1, 2, 10, 20), b = part(0, 3, 30, 40);
  const auto [out, lse] = heed::merge(a.out, a.lse, b.out, b.lse);
  EXPECT_NEAR(lse(0, 0), 3.440190, 5e-7);
  EXPECT_NEAR(out(0, 0), 32.3274280, 5e-8);
}

TEST(Merge, MinusInfinityIsTheIdentityBitForBit) {
  Eigen::MatrixXf out(2, 4), lse(2, 2), nothing(2, 4), none(2, 2);
  out << 0.1f, 0.2f, 0.3f, 0.4f, 0.5f, 0.6f, 0.7f, 0.8f;
  lse << 1.5f, -3.25f, 100.0f, -1e30f;
  nothing.setConstant(std::numeric_limits<float>::quiet_NaN());
  none.setConstant(-std::numeric_limits<float>::infinity());
  const auto right = heed::merge(out, lse, nothing, none);
  EXPECT_EQ(right.out, out);
  EXPECT_EQ(right.lse, lse);
  const auto left = heed::merge(nothing, none, out, lse);
  EXPECT_EQ(left.out, out);
  EXPECT_EQ(left.lse, lse);
  const Eigen::MatrixXf zero = Eigen::MatrixXf::Zero(2, 4);
  const auto both = heed::merge(zero, none, zero, none);
  EXPECT_EQ(both.out, zero);
  EXPECT_EQ(both.lse, none);
}

TEST(Merge, LargeDifferencesNeitherOverflowNorGiveNaN) {
  Eigen::MatrixXf a(1, 1), la(1, 1), b(1, 1), lb(1, 1);
  a << 1, b << 2, la << 3e38f, lb << -3e38f;
  const auto merged = heed::merge(a, la, b, lb);
  EXPECT_EQ(merged.out(0, 0), 1.0f);
  EXPECT_EQ(merged.lse(0, 0), 3e38f);
}

TEST(Merge, SplitAndMergeEqualsWholeInPlaceOnBlocks) {
  std::mt19937 engine(3);
  std::normal_distribution<double> normal;
  const Index n = 7, m = 20, d = 5, d_v = 3, h = 2;
  const auto draw = [&](Index rows, Index cols) -> Eigen::MatrixXd {
    return Eigen::MatrixXd::NullaryExpr(rows, cols, [&](Index, Index) { return normal(engine); });
  };
  const Eigen::MatrixXd q = draw(n, h * d), k = draw(m, h * d), v = draw(m, h * d_v);
  const auto spec = heed::spec(heed::heads(h));
  const auto attend = [&](Index begin, Index end) {
    heed::Partial<double> p{Eigen::MatrixXd(n, h * d_v), Eigen::MatrixXd(n, h)};
    const Eigen::MatrixXd keys = k.middleRows(begin, end - begin), values = v.middleRows(begin, end - begin);
    const auto shape = heed::detail::make_shape(spec, n, h * d, end - begin, h * d, end - begin, h * d_v);
    heed::detail::reference_forward<double>(spec, shape, q, keys, values, p.out, &p.lse);
    return p;
  };
  const auto whole = attend(0, m);
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> out =
      Eigen::MatrixXd::Constant(n + 2, h * d_v + 3, 77);
  Eigen::MatrixXd lse = Eigen::MatrixXd::Constant(n, h, -infinity);
  const Index cuts[] = {0, 1, 1, 13, 20};
  for (int c = 0; c < 4; ++c) {
    const auto part = attend(cuts[c], cuts[c + 1]);
    heed::merge_into(out.block(1, 2, n, h * d_v), lse, part.out, part.lse);
  }
  EXPECT_LT((out.block(1, 2, n, h * d_v) - whole.out).cwiseAbs().maxCoeff(), 1e-14);
  EXPECT_LT((lse - whole.lse).cwiseAbs().maxCoeff(), 1e-14);
  EXPECT_EQ(out.row(0).minCoeff(), 77);
  EXPECT_EQ(out.col(1).minCoeff(), 77);
  EXPECT_EQ(out.rightCols(1).maxCoeff(), 77);
}

TEST(Merge, WrongSizesNameWhatIsWrong) {
  const Eigen::MatrixXf out = Eigen::MatrixXf::Zero(3, 4), lse = Eigen::MatrixXf::Zero(3, 2);
  const auto message = [&](Index rows, Index cols, Index lse_rows, Index lse_cols) -> std::string {
    try {
      heed::merge(out, lse, Eigen::MatrixXf::Zero(rows, cols).eval(),
                  Eigen::MatrixXf::Zero(lse_rows, lse_cols).eval());
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(message(3, 4, 3, 2), "");
  EXPECT_EQ(message(2, 4, 2, 2), "heed: merge: the second output has 2 rows, the first has 3");
  EXPECT_EQ(message(3, 6, 3, 2), "heed: merge: the second output has 6 columns, the first has 4");
  EXPECT_EQ(message(3, 4, 4, 2), "heed: merge: the second log-sum-exp has 4 rows, its output has 3");
  EXPECT_EQ(message(3, 4, 3, 1), "heed: merge: the second log-sum-exp has 1 columns, the first has 2");
}

}  // namespace
