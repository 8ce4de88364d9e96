// SPDX-License-Identifier: MIT
// Gradients against central differences in double, and against a scalar that differentiates itself.
#include "backward_pass.hpp"

#include <unsupported/Eigen/AutoDiff>

#include <heed/heed.hpp>

namespace {

using namespace heed_test;

/// Every gradient by central differences of loss = Σ out ∘ dout + Σ lse ∘ dlse, in double on the engine.
template <class... P>
void check_differences(const char* name, Index n, Index m, Index heads, Index key_heads,
                       const P&... policies) {
  const Index d = 3, d_v = 2;
  const auto spec = heed::spec(heed::heads(heads, key_heads), policies...);
  Dice dice(11);
  Matrix<double> q = dice.matrix<double>(n, heads * d), k = dice.matrix<double>(m, key_heads * d),
                 v = dice.matrix<double>(m, key_heads * d_v);
  const Matrix<double> dout = dice.matrix<double>(n, heads * d_v), dlse = dice.matrix<double>(n, heads);
  const auto loss = [&] {
    heed::Saved<double> saved;
    const Matrix<double> out = heed::attention(q, k, v, spec, heed::save(saved));
    double sum = out.cwiseProduct(dout).sum();
    for (Index i = 0; i < n; ++i)
      for (Index h = 0; h < heads; ++h)
        if (std::isfinite(saved.lse(i, h))) sum += saved.lse(i, h) * dlse(i, h);
    return sum;
  };
  heed::Saved<double> saved;
  const Matrix<double> out = heed::attention(q, k, v, spec, heed::save(saved));
  const auto [dq, dk, dv] =
      heed::attention_backward(dout, q, k, v, out, saved, spec, heed::lse_gradient(dlse));
  const auto compare = [&](const char* which, Matrix<double>& x, const Matrix<double>& dx) {
    for (Index i = 0; i < x.rows(); ++i)
      for (Index j = 0; j < x.cols(); ++j) {
        const double was = x(i, j), h = 1e-5;
        x(i, j) = was + h;
        const double above = loss();
        x(i, j) = was - h;
        const double below = loss();
        x(i, j) = was;
        EXPECT_NEAR(dx(i, j), (above - below) / (2 * h), 2e-8)
            << name << ": " << which << " " << i << ", " << j;
      }
  };
  compare("dq", q, dq);
  compare("dk", k, dk);
  compare("dv", v, dv);
}

TEST(AttentionBackward, CentralDifferences) {
  const Matrix<float> b = Dice(5).matrix<float>(7, 4 * 9), one_row = Dice(6).matrix<float>(1, 9);
  check_differences("plain", 7, 9, 1, 1);
  check_differences("grouped heads", 7, 9, 4, 2);
  check_differences("causal", 9, 7, 2, 2, heed::causal());
  check_differences("window, scale", 8, 8, 1, 1, heed::window(2, 1), heed::scale(0.4));
  check_differences("softcap, alibi", 7, 9, 2, 1, heed::softcap(1.5), heed::alibi());
  check_differences("bias", 7, 9, 4, 2, heed::bias(b),
                    heed::mask_where([](auto i, auto j) { return (i + j) % 3 != 0; }));
  check_differences(
      "bias row, functor", 7, 9, 2, 2, heed::bias(one_row), heed::score_with([](auto s, auto i, auto j) {
        using S = decltype(s);
        return S(heed::tanh(s) + s * s / 10 - 0.1 * heed::log(heed::exp(s) + 2) + S(heed::abs(i - j)) / 20);
      }),
      heed::causal());
  check_differences("sequences", 9, 12, 2, 1,
                    heed::sequences(std::vector<Index>{0, 4, 4, 9}, std::vector<Index>{0, 5, 7, 12}),
                    heed::causal());
  check_differences("sink", 7, 9, 2, 1, heed::sink({0.3, -2.0}), heed::causal());
  check_differences("dropout", 8, 9, 2, 1, heed::dropout(0.3, 5), heed::causal());
  check_differences("when", 5, 5, 1, 1, heed::when(true, heed::causal()),
                    heed::when(false, heed::softcap(2.0)), heed::when(true, heed::softcap(3.0)));
}

/// The reference path, run on a scalar that differentiates itself, against the engine's gradients.
TEST(AttentionBackward, AutomaticDifferentiation) {
  using Scalar = Eigen::AutoDiffScalar<Eigen::VectorXd>;
  const Index n = 4, m = 5, d = 3, d_v = 2, variables = n * d + m * d + m * d_v;
  const Pass<double> x(n, m, d, d_v, 1, 1, heed::causal(), heed::softcap(2.0));
  Index next = 0;
  const auto seed = [&](const Matrix<double>& a) {
    Matrix<Scalar> b(a.rows(), a.cols());
    for (Index i = 0; i < a.rows(); ++i)
      for (Index j = 0; j < a.cols(); ++j)
        b(i, j) = Scalar(a(i, j), static_cast<int>(variables), static_cast<int>(next++));
    return b;
  };
  const Matrix<Scalar> q = seed(x.q), k = seed(x.k), v = seed(x.v);
  const Matrix<Scalar> out = heed::attention(q, k, v, heed::causal(), heed::softcap(2.0));
  Eigen::VectorXd want = Eigen::VectorXd::Zero(variables);
  for (Index i = 0; i < n; ++i)
    for (Index c = 0; c < d_v; ++c) want += x.dout(i, c) * out(i, c).derivatives();
  const auto [dq, dk, dv] = x.gradients(heed::causal(), heed::softcap(2.0));
  next = 0;
  for (const Matrix<double>* g : {&dq, &dk, &dv})
    for (Index i = 0; i < g->rows(); ++i)
      for (Index j = 0; j < g->cols(); ++j) EXPECT_NEAR((*g)(i, j), want(next++), 1e-13);

  // And its own backward pass differentiates itself once more: the second derivative, against differences of
  // the first.
  heed::Saved<Scalar> saved;
  const Matrix<Scalar> dout = x.dout.cast<Scalar>();
  const auto second = heed::attention_backward(
      dout, q, k, v, out,
      saved =
          [&] {
            heed::Saved<Scalar> s;
            heed::attention(q, k, v, heed::causal(), heed::softcap(2.0), heed::save(s));
            return s;
          }(),
      heed::causal(), heed::softcap(2.0));
  Matrix<double> moved = x.q;
  const double h = 1e-6;
  moved(1, 0) += h;
  heed::Saved<double> lse;
  const Matrix<double> moved_out =
      heed::attention(moved, x.k, x.v, heed::causal(), heed::softcap(2.0), heed::save(lse));
  const auto after =
      heed::attention_backward(x.dout, moved, x.k, x.v, moved_out, lse, heed::causal(), heed::softcap(2.0));
  EXPECT_NEAR(second.dk(0, 1).derivatives()(d), (after.dk(0, 1) - dk(0, 1)) / h, 1e-5);
  EXPECT_NEAR(second.dq(1, 2).derivatives()(d), (after.dq(1, 2) - dq(1, 2)) / h, 1e-5);
}

}  // namespace
