// SPDX-License-Identifier: MIT
// Linear attention beside the kernels: what it refuses, other scalars, fixed sizes, expressions.
#include "linear_oracle.hpp"

#include <unsupported/Eigen/AutoDiff>

namespace {

using namespace heed_test;

/// What a call refuses with.
template <class F>
std::string message_of(const F& f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

TEST(LinearErrors, NameTheArgumentAndBothSizes) {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(4, 6), k = Eigen::MatrixXf::Zero(5, 6), narrow(5, 4),
                        short_v(3, 6);
  Eigen::MatrixXf out = Eigen::MatrixXf::Constant(4, 5, 7);
  EXPECT_EQ(message_of([&] { heed::linear_attention(q, narrow, k); }), "heed: k has 4 columns, q has 6");
  EXPECT_EQ(message_of([&] { heed::linear_attention(q, k, short_v); }), "heed: v has 3 rows, k has 5");
  EXPECT_EQ(message_of([&] { heed::linear_attention(q, k, k, heed::heads(4)); }),
            "heed: q has 6 columns, not a multiple of 4 query heads");
  EXPECT_EQ(message_of([&] { heed::linear_attention_into(out, q, k, k); }),
            "heed: out is 4 x 5, it must be 4 x 6");
  EXPECT_EQ(message_of([&] { heed::linear_attention(q, k, k, heed::lengths({6})); }),
            "heed: lengths: length 0 is 6, its sequence has 5 keys");
  EXPECT_EQ(message_of([&] { heed::linear_attention(q, k, k, heed::performer(0, 1)); }),
            "heed: performer: 0 features, at least 1 is needed");
  EXPECT_EQ(message_of([&] { heed::linear_attention(q, k, k, heed::performer(2, 1), heed::scale(0.0)); }),
            "heed: scale is 0, with performer() it must be greater than 0");
  EXPECT_TRUE((out.array() == 7).all());
  Eigen::MatrixXf square = Eigen::MatrixXf::Zero(5, 6);
  EXPECT_EQ(message_of([&] { heed::linear_attention_into(square, square, k, k); }),
            "heed: out shares elements with q");

  const Eigen::MatrixXf y = heed::linear_attention(q, k, k);
  EXPECT_EQ(message_of([&] { heed::linear_attention_backward(k, q, k, k, y); }),
            "heed: dout is 5 x 6, it must be 4 x 6");
  EXPECT_EQ(message_of([&] { heed::linear_attention_backward(q, q, k, k, k); }),
            "heed: out is 5 x 6, it must be 4 x 6");
  Eigen::MatrixXf dq(4, 6), dk(5, 6), dv(5, 5);
  EXPECT_EQ(message_of([&] { heed::linear_attention_backward(q, q, k, k, y, heed::into(dq, dk, dv)); }),
            "heed: dv is 5 x 5, v is 5 x 6");
  EXPECT_EQ(message_of([&] { heed::linear_attention_backward(q, q, k, k, y, heed::into(dq, dk, dk)); }),
            "heed: dv shares elements with dk");
}

TEST(LinearScalars, PlainLoopsAgreeWithTheDefinition) {
  const LinearCase c{9, 12, 5, 3, 4, 2};
  Dice dice(61);
  const Matrix<Wide> q = dice.matrix<Wide>(9, 20), k = dice.matrix<Wide>(12, 10),
                     v = dice.matrix<Wide>(12, 6);
  const auto visible = [](Index i, Index j, Index) { return j <= i + 3; };
  const auto heads = heed::heads(4, 2);
  const Matrix<Wide> elu = heed::linear_attention(q, k, v, heads, heed::causal());
  EXPECT_LE((elu - linear_oracle(c, EluFeatures{}, visible, q, k, v).first).cwiseAbs().maxCoeff(), 1e-17L);
  const PositiveFeatures phi{heed::performer_projection(11, 5, 2), 1 / std::sqrt(Wide(5))};
  const Matrix<Wide> estimate =
      heed::linear_attention(q, k, v, heads, heed::causal(), heed::performer(11, 2));
  EXPECT_LE((estimate - linear_oracle(c, phi, visible, q, k, v).first).cwiseAbs().maxCoeff(), 1e-16L);

  // 16-bit storage accumulates in float.
  using Half = Eigen::half;
  const Matrix<Half> hq = q.cast<Half>(), hk = k.cast<Half>(), hv = v.cast<Half>();
  const Matrix<Half> half = heed::linear_attention(hq, hk, hv, heads, heed::causal());
  EXPECT_LE(
      (half.cast<Wide>() -
       linear_oracle(c, EluFeatures{}, visible, hq.cast<Wide>(), hk.cast<Wide>(), hv.cast<Wide>()).first)
          .cwiseAbs()
          .maxCoeff(),
      2e-3L);
}

/// A scalar that differentiates itself, against the engine's gradient.
TEST(LinearScalars, AutomaticDifferentiation) {
  using Scalar = Eigen::AutoDiffScalar<Eigen::VectorXd>;
  Dice dice(62);
  const Index n = 4, m = 5, d = 3, d_v = 2, variables = n * d + m * (d + d_v);
  const auto q = dice.matrix<double>(n, d), k = dice.matrix<double>(m, d), v = dice.matrix<double>(m, d_v),
             dout = dice.matrix<double>(n, d_v);
  Index next = 0;
  const auto seed = [&](const Matrix<double>& a) {
    Matrix<Scalar> b(a.rows(), a.cols());
    for (Index i = 0; i < a.rows(); ++i)
      for (Index j = 0; j < a.cols(); ++j)
        b(i, j) = Scalar(a(i, j), static_cast<int>(variables), static_cast<int>(next++));
    return b;
  };
  const Matrix<Scalar> sq = seed(q), sk = seed(k), sv = seed(v);
  const auto run = [&](const auto&... policies) {
    const Matrix<Scalar> out = heed::linear_attention(sq, sk, sv, policies...);
    Eigen::VectorXd want = Eigen::VectorXd::Zero(variables);
    for (Index i = 0; i < n; ++i)
      for (Index c = 0; c < d_v; ++c) want += dout(i, c) * out(i, c).derivatives();
    const Matrix<double> y = heed::linear_attention(q, k, v, policies...);
    const auto g = heed::linear_attention_backward(dout, q, k, v, y, policies...);
    Index at = 0;
    for (const Matrix<double>* x : {&g.dq, &g.dk, &g.dv})
      for (Index i = 0; i < x->rows(); ++i)
        for (Index j = 0; j < x->cols(); ++j) EXPECT_NEAR((*x)(i, j), want(at++), 1e-12);
  };
  run(heed::causal());
  run(heed::performer(6, 1), heed::causal());
}

TEST(LinearScalars, ExpressionsAndFixedSizes) {
  Dice dice(63);
  const Eigen::Matrix<float, 6, 4, Eigen::RowMajor> q = dice.matrix<float>(6, 4);
  const Eigen::Matrix<float, Eigen::Dynamic, 4> k = dice.matrix<float>(9, 4);
  const Eigen::Matrix<float, 9, 3> v = dice.matrix<float>(9, 3);
  const auto y = heed::linear_attention(q, k, v, heed::on(heed::serial()));
  static_assert(decltype(y)::RowsAtCompileTime == 6 && decltype(y)::ColsAtCompileTime == 3 &&
                decltype(y)::IsRowMajor);
  const Eigen::MatrixXf plain =
      heed::linear_attention(Eigen::MatrixXf(q), Eigen::MatrixXf(k), Eigen::MatrixXf(v));
  EXPECT_TRUE(y.isApprox(plain, 1e-6f));
  EXPECT_TRUE(heed::linear_attention(2 * q, k.reverse().eval(), 3 * v).allFinite());
}

}  // namespace
