// SPDX-License-Identifier: MIT
// The reference path: worked numbers, corner cases, and scalars that no engine knows.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

// AutoDiff does not include what it needs.
#include <Eigen/Core>
#include <unsupported/Eigen/AutoDiff>

#include <heed/core/spec.hpp>
#include <heed/core/when.hpp>
#include <heed/layout/heads.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>
#include <heed/position/alibi.hpp>
#include <heed/reference/attention.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/softmax.hpp>

namespace {

using heed::Index;
using heed::Position;
constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

template <class T>
struct Result {
  Matrix<T> out, lse;
};

template <class Wide, class T, class... P>
Result<T> attend(const Matrix<T>& q, const Matrix<T>& k, const Matrix<T>& v, const P&... policies) {
  const auto spec = heed::spec(policies...);
  const auto shape =
      heed::detail::make_shape(spec, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  Result<T> r{Matrix<T>(shape.queries, shape.heads * shape.d_v), Matrix<T>(shape.queries, shape.heads)};
  heed::detail::reference_forward<Wide>(spec, shape, q, k, v, r.out, &r.lse);
  return r;
}

Matrix<double> draw(Index rows, Index cols, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<double> normal;
  return Matrix<double>::NullaryExpr(rows, cols, [&](Index, Index) { return normal(engine); });
}

/// Q = I, K = [[0,1],[1,0]], V = [[1,2],[3,4]], unscaled.
TEST(Reference, WorkedNumbersOfDotScores) {
  Matrix<double> q(2, 2), k(2, 2), v(2, 2);
  q << 1, 0, 0, 1;
  k << 0, 1, 1, 0;
  v << 1, 2, 3, 4;
  const auto r = attend<double>(q, k, v, heed::scale(1));
  EXPECT_NEAR(r.out(0, 0), 2.462, 5e-4);
  EXPECT_NEAR(r.out(0, 1), 3.462, 5e-4);
  EXPECT_NEAR(r.out(1, 0), 1.538, 5e-4);
  EXPECT_NEAR(r.out(1, 1), 2.538, 5e-4);
  EXPECT_NEAR(r.lse(0, 0), std::log(1 + std::exp(1.0)), 1e-15);
}

TEST(Reference, DefaultScaleIsOneOverRootD) {
  const auto q = draw(3, 16, 1), k = draw(5, 16, 2), v = draw(5, 2, 3);
  EXPECT_EQ(attend<double>(q, k, v).out, attend<double>(q, k, v, heed::scale(0.25)).out);
  EXPECT_EQ(attend<double>(q, k, v, heed::scale(0)).out.row(0),
            attend<double>(q, k, v, heed::scale(0)).out.row(2));
  EXPECT_EQ(attend<double>(q, k, v, heed::scale(-0.25)).out, attend<double>(Matrix<double>(-q), k, v).out);
}

/// The slopes of 2108.12409 for 8 heads, and what 12 heads append.
TEST(Reference, AlibiSlopes) {
  for (Index h = 0; h < 8; ++h) EXPECT_EQ(heed::alibi_slope(h, 8), std::exp2(-static_cast<double>(h + 1)));
  const double appended[] = {.7071, .3536, .1768, .0884};
  for (Index h = 0; h < 8; ++h) EXPECT_EQ(heed::alibi_slope(h, 12), heed::alibi_slope(h, 8));
  for (Index h = 0; h < 4; ++h) EXPECT_NEAR(heed::alibi_slope(8 + h, 12), appended[h], 5e-5);
  EXPECT_EQ(heed::alibi_slope(0, 1), std::exp2(-8.0));
  EXPECT_EQ(heed::alibi_slope(1, 2), std::exp2(-8.0));
  EXPECT_EQ(heed::alibi_slope(2, 3), std::exp2(-2.0));
}

/// Every term against the same thing written as one functor.
TEST(Reference, TermsActInTheirCanonicalOrder) {
  const Index n = 4, m = 6;
  const auto q = draw(n, 6, 1), k = draw(m, 6, 2), v = draw(m, 4, 3), b = draw(n, 2 * m, 4);
  const auto by_hand = heed::score_with([&](auto s, Position i, Position j, Position h) {
    const double capped = 2 * std::tanh(s / 2);
    const double biased = capped - heed::alibi_slope(h, 2) * std::abs(i + 2 - j) + b(i, h * m + j);
    return (biased + 1) * 0.5;
  });
  const auto plus = heed::score_with([](auto s, auto, auto) { return s + 1; });
  const auto half = heed::score_with([](auto s, auto, auto) { return s * 0.5; });
  const auto want = attend<double>(q, k, v, heed::heads(2), by_hand);
  const auto expect = [&](const Result<double>& got) {
    EXPECT_LT((got.out - want.out).cwiseAbs().maxCoeff(), 1e-14);
    EXPECT_LT((got.lse - want.lse).cwiseAbs().maxCoeff(), 1e-14);
  };
  const auto first =
      attend<double>(q, k, v, heed::heads(2), heed::softcap(2), heed::alibi(), heed::bias(b), plus, half);
  const auto second =
      attend<double>(q, k, v, plus, heed::bias(b), half, heed::alibi(), heed::softcap(2), heed::heads(2));
  expect(first);
  EXPECT_EQ(first.out, second.out);
  EXPECT_EQ(first.lse, second.lse);
  EXPECT_NE(first.out, attend<double>(q, k, v, half, plus, heed::bias(b), heed::alibi(), heed::softcap(2),
                                      heed::heads(2))
                           .out);
}

TEST(Reference, AlibiOffsetsAndSlopes) {
  const Index n = 3, m = 5;
  const auto q = draw(n, 4, 1), k = draw(m, 4, 2), v = draw(m, 2, 3);
  const auto by_hand = [&](double m0, double m1, Index off) {
    return attend<double>(q, k, v, heed::heads(2), heed::score_with([=](auto s, auto i, auto j, auto h) {
                            return s - (h == 0 ? m0 : m1) *
                                           static_cast<double>(std::abs(i + static_cast<int>(off) - j));
                          }))
        .lse;
  };
  const Eigen::Vector2f slopes(0.5f, 0.125f);
  EXPECT_EQ(attend<double>(q, k, v, heed::heads(2), heed::alibi(slopes)).lse, by_hand(0.5, 0.125, m - n));
  EXPECT_EQ(attend<double>(q, k, v, heed::heads(2), heed::alibi({1.0, 2.0})).lse, by_hand(1, 2, m - n));
  EXPECT_EQ(attend<double>(q, k, v, heed::heads(2), heed::alibi(heed::top_left)).lse,
            by_hand(1.0 / 16, 1.0 / 256, 0));
  EXPECT_EQ(attend<double>(q, k, v, heed::heads(2), heed::alibi(7)).lse, by_hand(1.0 / 16, 1.0 / 256, 7));
}

TEST(Reference, BiasBroadcasts) {
  const Index n = 3, m = 4;
  const auto q = draw(n, 4, 1), k = draw(m, 4, 2), v = draw(m, 2, 3);
  const auto full = draw(n, 2 * m, 4);
  const auto lse = [&](const Matrix<double>& b) {
    return attend<double>(q, k, v, heed::heads(2), heed::bias(b)).lse;
  };
  const Matrix<double> left = full.leftCols(m);
  EXPECT_EQ(lse(left), lse(Matrix<double>(left.replicate(1, 2))));
  EXPECT_EQ(lse(left.row(1)), lse(Matrix<double>(left.row(1).replicate(n, 1))));
  EXPECT_EQ(lse(full.row(1)), lse(Matrix<double>(full.row(1).replicate(n, 1))));
  EXPECT_EQ(lse(left.col(1)), lse(Matrix<double>(left.col(1).replicate(1, m))));
  const Matrix<double> transposed = full.transpose();
  const Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> single = full.cast<float>();
  EXPECT_EQ(attend<double>(q, k, v, heed::heads(2), heed::bias(transposed.transpose())).lse, lse(full));
  EXPECT_EQ(attend<double>(q, k, v, heed::heads(2), heed::bias(single)).lse, lse(single.cast<double>()));
  EXPECT_EQ(attend<double>(q, k, v, heed::heads(2), heed::bias(full.array() + 0.0)).lse, lse(full));
}

TEST(Reference, BiasOfSeveralSequences) {
  const auto q = draw(5, 4, 1), k = draw(6, 4, 2), v = draw(6, 2, 3), b = draw(5, 8, 4);
  const auto whole =
      attend<double>(q, k, v, heed::heads(2), heed::sequences({0, 3, 5}, {0, 2, 6}), heed::bias(b));
  Matrix<double> first(3, 4), second(2, 8);
  first << b.block(0, 0, 3, 2), b.block(0, 4, 3, 2);
  second = b.bottomRows(2);
  const auto one = attend<double>(Matrix<double>(q.topRows(3)), Matrix<double>(k.topRows(2)),
                                  Matrix<double>(v.topRows(2)), heed::heads(2), heed::bias(first));
  const auto two = attend<double>(Matrix<double>(q.bottomRows(2)), Matrix<double>(k.bottomRows(4)),
                                  Matrix<double>(v.bottomRows(4)), heed::heads(2), heed::bias(second));
  EXPECT_EQ(whole.out.topRows(3), one.out);
  EXPECT_EQ(whole.out.bottomRows(2), two.out);
  EXPECT_EQ(whole.lse.bottomRows(2), two.lse);
}

TEST(Reference, GroupedHeadsEqualRepeatedKeys) {
  const auto q = draw(4, 12, 1), k = draw(5, 6, 2), v = draw(5, 4, 3);
  Matrix<double> keys(5, 12), values(5, 8);
  keys << k.leftCols(3), k.leftCols(3), k.rightCols(3), k.rightCols(3);
  values << v.leftCols(2), v.leftCols(2), v.rightCols(2), v.rightCols(2);
  EXPECT_EQ(attend<double>(q, k, v, heed::heads(4, 2)).out,
            attend<double>(q, keys, values, heed::heads(4)).out);
}

TEST(Reference, QueryThatSeesNothing) {
  const auto q = draw(4, 3, 1), k = draw(2, 3, 2), v = draw(2, 3, 3);
  const auto r = attend<double>(q, k, v, heed::causal());
  EXPECT_EQ(r.out.topRows(2), Matrix<double>::Zero(2, 3));
  EXPECT_EQ(r.lse(0, 0), -infinity);
  EXPECT_EQ(r.lse(1, 0), -infinity);
  EXPECT_EQ(r.out.row(2), v.row(0));
  const auto none = attend<double>(q, Matrix<double>(0, 3), Matrix<double>(0, 3));
  EXPECT_EQ(none.out, Matrix<double>::Zero(4, 3));
  EXPECT_EQ(none.lse, Matrix<double>::Constant(4, 1, -infinity));
}

TEST(Reference, NothingInvisibleIsTouched) {
  const auto q = draw(6, 3, 1);
  auto k = draw(6, 3, 2), v = draw(6, 3, 3);
  const auto want = attend<double>(q, k, v, heed::lengths({4}));
  k.bottomRows(2).setConstant(nan);
  v.bottomRows(2).setConstant(infinity);
  const auto never = heed::score_with([](auto s, auto, auto j) {
    if (j >= 4) ADD_FAILURE() << "a functor was asked about an invisible pair";
    return s;
  });
  const auto r = attend<double>(q, k, v, heed::lengths({4}), never);
  EXPECT_EQ(r.out, want.out);
  EXPECT_EQ(r.lse, want.lse);
}

TEST(Reference, MinusInfinityScoreHidesThePair) {
  const auto q = draw(3, 3, 1), k = draw(4, 3, 2);
  auto v = draw(4, 2, 3);
  const auto want = attend<double>(q, k, v, heed::lengths({3}));
  v.row(3).setConstant(nan);
  Matrix<double> b = Matrix<double>::Zero(1, 4);
  b(0, 3) = -infinity;
  EXPECT_EQ(attend<double>(q, k, v, heed::bias(b)).out, want.out);
  const auto hide = heed::score_with([](auto s, auto, auto j) { return j == 3 ? -infinity : s; });
  EXPECT_EQ(attend<double>(q, k, v, hide).lse, want.lse);
  b.setConstant(-infinity);
  EXPECT_EQ(attend<double>(q, k, v, heed::bias(b)).out, Matrix<double>::Zero(3, 2));
  b.setConstant(-1e9);  // a finite number is an ordinary one
  EXPECT_LT((attend<double>(q, k, draw(4, 2, 3), heed::bias(b)).out - attend<double>(q, k, draw(4, 2, 3)).out)
                .cwiseAbs()
                .maxCoeff(),
            1e-6);
}

TEST(Reference, VisibleNaNReachesItsRowsOnly) {
  const auto q = draw(5, 3, 1), v = draw(5, 2, 3);
  auto k = draw(5, 3, 2);
  const auto want = attend<double>(q, k, v, heed::causal());
  k(3, 1) = nan;
  const auto r = attend<double>(q, k, v, heed::causal());
  EXPECT_EQ(r.out.topRows(3), want.out.topRows(3));
  EXPECT_TRUE(r.out.bottomRows(2).array().isNaN().all());
  EXPECT_TRUE(r.lse.bottomRows(2).array().isNaN().all());
}

/// The same variant in every scalar: long double and AutoDiffScalar go through every policy.
template <class T, class Wide>
Result<T> everything(const Matrix<double>& q, const Matrix<double>& k, const Matrix<double>& v,
                     const Matrix<double>& b) {
  const std::vector<int> ids{0, 0, 1, 1, 1, 0};
  const Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic> seen = (b.array() > -1.0).matrix();
  const auto cast = [](const Matrix<double>& m) -> Matrix<T> { return m.template cast<T>(); };
  return attend<Wide>(
      cast(q), cast(k), cast(v), heed::heads(2, 1), heed::scale(0.7), heed::when(true, heed::causal()),
      heed::window(4, heed::unbounded) | heed::documents(ids), heed::dense_mask(seen), !heed::window(-3, 3),
      heed::lengths({5}), heed::mask_where([](auto i, auto j) { return i * j != 6; }), heed::softcap(3.0),
      heed::bias(b), heed::alibi(), heed::score_with([](auto s, auto, auto) { return decltype(s)(s * 2); }),
      heed::softmax());
}

TEST(Reference, EveryScalarTakesEveryPolicy) {
  const auto q = draw(6, 6, 1), k = draw(6, 3, 2), v = draw(6, 2, 3), b = draw(6, 6, 4);
  const auto want = everything<double, long double>(q, k, v, b);
  const auto close = [&](const auto& r, double tolerance) {
    for (Index i = 0; i < 6; ++i) {
      for (Index c = 0; c < 4; ++c) EXPECT_NEAR(static_cast<double>(r(i, c)), want.out(i, c), tolerance);
    }
  };
  close(everything<double, double>(q, k, v, b).out, 1e-14);
  close(everything<float, double>(q, k, v, b).out, 1e-6);
  close(everything<float, float>(q, k, v, b).out, 1e-5);
  close(everything<long double, long double>(q, k, v, b).out, 1e-15);
  close(everything<Eigen::half, float>(q, k, v, b).out, 1e-2);
  using Dual = Eigen::AutoDiffScalar<Eigen::Vector2d>;
  using DynamicDual = Eigen::AutoDiffScalar<Eigen::VectorXd>;
  const auto dual = everything<Dual, Dual>(q, k, v, b).out;
  close(dual.unaryExpr([](const Dual& x) { return x.value(); }).eval(), 1e-14);
  const auto dynamic = everything<DynamicDual, DynamicDual>(q, k, v, b).out;
  close(dynamic.unaryExpr([](const DynamicDual& x) { return x.value(); }).eval(), 1e-14);
}

TEST(Reference, AutomaticDerivativeMeetsCentralDifferences) {
  using Dual = Eigen::AutoDiffScalar<Eigen::VectorXd>;
  const Index n = 3, d = 2;
  const auto q = draw(n, d, 1), k = draw(n, d, 2), v = draw(n, d, 3);
  const auto functor = heed::score_with([](auto s, auto, auto) {
    using heed::tanh;
    return decltype(s)(s * tanh(s));
  });
  const auto value = [&](const Matrix<double>& keys) {
    const auto r = attend<double>(q, keys, v, heed::causal(), heed::softcap(1.5), heed::alibi(), functor);
    return r.out(2, 1) + 0.5 * r.lse(1, 0);
  };
  Matrix<Dual> dual_k(n, d);
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < d; ++j) dual_k(i, j) = Dual(k(i, j), n * d, static_cast<int>(i * d + j));
  }
  // Some entries are constants without derivatives, as a user's may be.
  dual_k(0, 1) = Dual(k(0, 1));
  const auto lift = [](const Matrix<double>& m) -> Matrix<Dual> { return m.cast<Dual>(); };
  const auto r =
      attend<Dual>(lift(q), dual_k, lift(v), heed::causal(), heed::softcap(1.5), heed::alibi(), functor);
  const Eigen::VectorXd got = r.out(2, 1).derivatives() + 0.5 * r.lse(1, 0).derivatives();
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < d; ++j) {
      if (i == 0 && j == 1) continue;
      Matrix<double> up = k, down = k;
      up(i, j) += 1e-5;
      down(i, j) -= 1e-5;
      EXPECT_NEAR(got(i * d + j), (value(up) - value(down)) / 2e-5, 1e-8);
    }
  }
}

}  // namespace
