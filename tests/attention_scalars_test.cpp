// SPDX-License-Identifier: MIT
// Every scalar, every kind of Eigen expression.
#include "oracle.hpp"

#include <unsupported/Eigen/AutoDiff>

#include <heed/mask/causal.hpp>
#include <heed/position/alibi.hpp>

namespace {

using namespace heed_test;

struct Operands {
  Matrix<double> q, k, v;
  Operands(Index n, Index m, Index d, Index d_v) {
    Dice dice(17);
    q = dice.matrix<double>(n, d);
    k = dice.matrix<double>(m, d);
    v = dice.matrix<double>(m, d_v);
  }
};

/// Equal up to the order of sums, which depends on the storage order of keys and values.
template <class A, class B>
void expect_near(const A& a, const B& b) {
  using T = typename A::Scalar;
  ASSERT_TRUE(a.rows() == b.rows() && a.cols() == b.cols());
  EXPECT_LE((a - b).cwiseAbs().maxCoeff(), 32 * std::numeric_limits<T>::epsilon());
}

template <class T>
Matrix<double> attend(const Operands& x, heed::Saved<T>* saved = nullptr) {
  heed::Saved<T> own;
  const Matrix<T> q = x.q.cast<T>(), k = x.k.leftCols(x.q.cols() / 2).cast<T>(), v = x.v.cast<T>();
  const Matrix<T> out = heed::attention(q, k, v, heed::heads(2, 1), heed::causal(), heed::alibi(),
                                        heed::save(saved != nullptr ? *saved : own));
  return out.template cast<double>();
}

TEST(AttentionScalars, AllAgree) {
  const Operands x(11, 14, 16, 5);
  heed::Saved<long double> saved;
  heed::Saved<double> own;
  const Matrix<double> want = attend<long double>(x, &saved);
  const auto distance = [&](const Matrix<double>& got) { return (got - want).cwiseAbs().maxCoeff(); };
  EXPECT_LT(distance(attend<double>(x, &own)), 1e-14);
  EXPECT_LT((own.lse - saved.lse.cast<double>()).cwiseAbs().maxCoeff(), 1e-14);
  EXPECT_LT(distance(attend<float>(x)), 1e-5);
  EXPECT_LT(distance(attend<Eigen::half>(x)), 1e-2);
  EXPECT_LT(distance(attend<Eigen::bfloat16>(x)), 1e-1);
}

/// 16-bit numbers accumulate in float: the result is the float result of the same numbers, rounded once.
TEST(AttentionScalars, SixteenBitsAccumulateInFloat) {
  const Operands x(9, 300, 8, 5);
  const Matrix<Eigen::bfloat16> q = x.q.cast<Eigen::bfloat16>(), k = x.k.cast<Eigen::bfloat16>(),
                                v = x.v.cast<Eigen::bfloat16>();
  const Matrix<float> want = heed::attention(q.cast<float>(), k.cast<float>(), v.cast<float>());
  const Matrix<float> got = heed::attention(q, k, v).cast<float>();
  EXPECT_LT(((got - want).array() / want.array().abs()).abs().maxCoeff(), 0x1p-8 + 1e-4);
}

TEST(AttentionScalars, AutoDiffScalar) {
  using Dual = Eigen::AutoDiffScalar<Eigen::Vector2d>;
  const Operands x(4, 5, 3, 2);
  const auto lift = [](const Matrix<double>& m) -> Matrix<Dual> { return m.cast<Dual>(); };
  Matrix<Dual> q = lift(x.q), k = lift(x.k);
  q(3, 1).derivatives() = Eigen::Vector2d(1, 0);
  k(2, 0).derivatives() = Eigen::Vector2d(0, 1);
  const Matrix<Dual> out = heed::attention(q, k, lift(x.v), heed::causal(), heed::alibi());
  const auto value = [&](double dq, double dk) {
    Operands y = x;
    y.q(3, 1) += dq;
    y.k(2, 0) += dk;
    return Matrix<double>(heed::attention(y.q, y.k, y.v, heed::causal(), heed::alibi()));
  };
  const Matrix<double> by_q = (value(1e-5, 0) - value(-1e-5, 0)) / 2e-5,
                       by_k = (value(0, 1e-5) - value(0, -1e-5)) / 2e-5;
  const Matrix<double> plain = value(0, 0);
  for (Index i = 0; i < 4; ++i)
    for (Index c = 0; c < 2; ++c) {
      EXPECT_NEAR(out(i, c).value(), plain(i, c), 1e-14);
      EXPECT_NEAR(out(i, c).derivatives()(0), by_q(i, c), 1e-8);
      EXPECT_NEAR(out(i, c).derivatives()(1), by_k(i, c), 1e-8);
    }
  EXPECT_NE(out(3, 0).derivatives()(0), 0);
}

template <class T, int n, int m, int d, int d_v, int order>
void fixed() {
  const Operands x(n, m, d, d_v);
  const Matrix<T> q = x.q.cast<T>(), k = x.k.cast<T>(), v = x.v.cast<T>();
  const Matrix<T> want = heed::attention(q, k, v);
  const Eigen::Matrix<T, n, d, order> fq = q;
  const Eigen::Matrix<T, m, d, order> fk = k;
  const Eigen::Matrix<T, m, d_v, order> fv = v;
  const auto got = heed::attention(fq, fk, fv);
  static_assert(decltype(got)::RowsAtCompileTime == n && decltype(got)::ColsAtCompileTime == d_v);
  static_assert(bool(decltype(got)::IsRowMajor) == bool(order & Eigen::RowMajor));
  expect_near(got, want);
  Eigen::Matrix<T, n, d_v, order> out;
  heed::Workspace workspace;
  heed::attention_into(out, fq, k, fv, workspace);
  expect_near(out, want);
}

TEST(AttentionScalars, FixedSizes) {
  fixed<float, 8, 9, 4, 5, Eigen::RowMajor>();
  fixed<float, 17, 20, 16, 33, Eigen::ColMajor>();
  fixed<double, 3, 2, 4, 2, Eigen::RowMajor>();
  fixed<double, 16, 16, 16, 16, Eigen::ColMajor>();
}

/// Eigen wants vectors in one storage order only.
TEST(AttentionScalars, Vectors) {
  const Operands x(1, 12, 8, 6);
  const Matrix<double> want = heed::attention(x.q, x.k, x.v);
  const Eigen::RowVectorXd q = x.q.row(0);
  const Eigen::RowVectorXd out = heed::attention(q, x.k, x.v);
  expect_near(out, want);
  expect_near(heed::attention(x.q.row(0), x.k, x.v), want);
  expect_near(heed::attention(x.q.row(0).transpose().transpose(), x.k, x.v), want);
  // One column: d = 1, d_v = 1.
  const Eigen::VectorXd qc = x.k.col(0), kc = x.k.col(1), vc = x.k.col(2);
  const auto column = heed::attention(qc, kc, vc);
  static_assert(decltype(column)::ColsAtCompileTime == 1);
  expect_near(column, heed::attention(Matrix<double>(qc), Matrix<double>(kc), Matrix<double>(vc)));
  // One key and value.
  EXPECT_TRUE(heed::attention(x.k, q, x.v.row(3)).isApprox(x.v.row(3).replicate(12, 1), 1e-15));
}

TEST(AttentionScalars, Expressions) {
  const Operands x(20, 30, 8, 6);
  const Matrix<double> twice = 2 * x.q;
  const Matrix<double> want = heed::attention(twice, x.k, x.v);
  expect_near(heed::attention(2 * x.q, x.k, x.v), want);
  expect_near(heed::attention(x.q + x.q, x.k + Matrix<double>::Zero(30, 8), x.v), want);
  const Matrix<double> turned = x.k.transpose();
  expect_near(heed::attention(twice, turned.transpose(), x.v), want);
  expect_near(heed::attention(twice, x.k, RowMatrix<double>(x.v)), want);
  expect_near(heed::attention(twice.array().matrix(), x.k, x.v), want);
  const Matrix<double> product = x.q * x.q.transpose() * x.q;
  EXPECT_TRUE(heed::attention(x.q * x.q.transpose() * x.q, x.k, x.v)
                  .isApprox(heed::attention(product, x.k, x.v), 1e-13));
  const Eigen::Ref<const Matrix<double>> ref(x.k);
  const Eigen::Ref<const Matrix<double>, 0, Eigen::OuterStride<>> block(x.k.topRows(30));
  expect_near(heed::attention(twice, ref, x.v), want);
  expect_near(heed::attention(twice, block, x.v), want);
  // Copied by value into a Ref, written through a Ref.
  Matrix<double> out = Matrix<double>::Zero(25, 6);
  Eigen::Ref<Matrix<double>> target = out.topRows(20);
  heed::Workspace workspace;
  heed::attention_into(target, 2 * x.q, x.k, x.v, workspace);
  expect_near(out.topRows(20), want);
  expect_near(heed::attention(x.q.reshaped(20, 8) * 2, x.k.reverse().reverse(), x.v), want);
}

/// Results come in the order of q.
TEST(AttentionScalars, OrderOfTheResult) {
  const RowMatrix<float> rows = RowMatrix<float>::Ones(4, 4);
  const Eigen::MatrixXf columns = rows;
  static_assert(decltype(heed::attention(rows, columns, columns))::IsRowMajor);
  static_assert(!decltype(heed::attention(columns, rows, rows))::IsRowMajor);
  expect_near(heed::attention(rows, columns, columns), heed::attention(columns, rows, rows));
}

}  // namespace
