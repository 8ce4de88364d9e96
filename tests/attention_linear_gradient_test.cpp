// SPDX-License-Identifier: MIT
// Gradients of linear attention: central differences in double, and the plain loops in long double at sizes
// of several chunks.
#include "linear_oracle.hpp"

namespace {

using namespace heed_test;

/// dx against central differences of loss().
template <class Loss>
void check_differences(const std::string& name, Matrix<double>& x, const Matrix<double>& dx, const Loss& loss,
                       double tolerance = 3e-8) {
  ASSERT_EQ(x.rows(), dx.rows());
  ASSERT_EQ(x.cols(), dx.cols());
  for (Index i = 0; i < x.rows(); ++i)
    for (Index j = 0; j < x.cols(); ++j) {
      const double was = x(i, j), h = 1e-5;
      x(i, j) = was + h;
      const double above = loss();
      x(i, j) = was - h;
      const double below = loss();
      x(i, j) = was;
      EXPECT_NEAR(dx(i, j), (above - below) / (2 * h), tolerance) << name << " " << i << ", " << j;
    }
}

template <class... P>
void differences(const char* name, Index n, Index m, Index heads, Index key_heads, const P&... policies) {
  const Index d = 3, d_v = 2;
  const auto spec = heed::spec(heed::heads(heads, key_heads), policies...);
  Dice dice(21);
  Matrix<double> q = dice.matrix<double>(n, heads * d), k = dice.matrix<double>(m, key_heads * d),
                 v = dice.matrix<double>(m, key_heads * d_v);
  const Matrix<double> dout = dice.matrix<double>(n, heads * d_v);
  const auto loss = [&] { return heed::linear_attention(q, k, v, spec).cwiseProduct(dout).sum(); };
  const Matrix<double> out = heed::linear_attention(q, k, v, spec);
  const auto [dq, dk, dv] = heed::linear_attention_backward(dout, q, k, v, out, spec);
  check_differences(std::string(name) + " dq", q, dq, loss);
  check_differences(std::string(name) + " dk", k, dk, loss);
  check_differences(std::string(name) + " dv", v, dv, loss);
}

const auto bump = heed::feature_map([](auto x) {
  using X = decltype(x);
  return X(heed::exp(X(x / 2)) + x * x / 4 + 0.1);
});

TEST(LinearGradient, CentralDifferences) {
  differences("plain", 7, 9, 1, 1);
  differences("grouped heads", 7, 9, 4, 2);
  differences("causal", 9, 9, 2, 1, heed::causal());
  differences("causal, fewer keys", 9, 6, 2, 2, heed::causal());
  differences("causal, more keys", 6, 9, 2, 2, heed::causal());
  differences("top left", 6, 9, 1, 1, heed::causal(heed::top_left));
  differences("top left, fewer keys", 9, 6, 1, 1, heed::causal(heed::top_left));
  differences("lengths", 6, 9, 2, 1, heed::lengths({5}));
  differences("sequences", 9, 12, 2, 1, heed::causal(), heed::sequences({0, 4, 4, 9}, {0, 5, 7, 12}));
  differences("feature map", 8, 8, 2, 1, heed::causal(), bump);
  differences("performer", 7, 9, 2, 1, heed::performer(5, 1));
  differences("performer, causal, scale", 8, 8, 2, 2, heed::performer(7, 2), heed::causal(),
              heed::scale(0.9));
}

/// The same across chunks.
TEST(LinearGradient, CentralDifferencesAcrossChunks) {
  const Index n = small ? 70 : 150;
  Dice dice(22);
  const auto run = [&](const char* name, const auto& spec) {
    Matrix<double> q = dice.matrix<double>(n, 2), k = dice.matrix<double>(n, 2),
                   v = dice.matrix<double>(n, 1);
    const Matrix<double> dout = dice.matrix<double>(n, 1);
    const auto loss = [&] { return heed::linear_attention(q, k, v, spec).cwiseProduct(dout).sum(); };
    const Matrix<double> out = heed::linear_attention(q, k, v, spec);
    const auto [dq, dk, dv] = heed::linear_attention_backward(dout, q, k, v, out, spec);
    check_differences(name, q, dq, loss, 2e-7);
    check_differences(name, k, dk, loss, 2e-7);
    check_differences(name, v, dv, loss, 2e-7);
  };
  run("causal", heed::spec(heed::causal()));
  run("performer", heed::spec(heed::performer(4, 1), heed::causal()));
}

double worst = 0;

/// Against the plain loops in long double, in units of u times the greatest gradient of that matrix.
template <class T, class... P>
void against_loops(const char* name, double allowed, Index n, Index m, Index d, Index d_v, Index heads,
                   Index key_heads, const P&... policies) {
  const auto spec = heed::spec(heed::heads(heads, key_heads), policies...);
  Dice dice(static_cast<std::uint64_t>(n + 1000 * m));
  const auto q = dice.matrix<T>(n, heads * d), k = dice.matrix<T>(m, key_heads * d),
             v = dice.matrix<T>(m, key_heads * d_v), dout = dice.matrix<T>(n, heads * d_v);
  const Matrix<Wide> qw = q.template cast<Wide>(), kw = k.template cast<Wide>(), vw = v.template cast<Wide>(),
                     dw = dout.template cast<Wide>();
  const Matrix<Wide> exact_out = heed::linear_attention(qw, kw, vw, spec);
  const auto exact = heed::linear_attention_backward(dw, qw, kw, vw, exact_out, spec);
  const Matrix<T> out = exact_out.template cast<T>();
  const double u = std::numeric_limits<T>::epsilon() / 2;
  for (int turn = 0; turn < layouts; turn += small ? 4 : 1) {
    const auto layout = [&](int shift) { return static_cast<Layout>((turn + shift) % layouts); };
    Guarded<T> dq(n, heads * d, layout(1)), dk(m, key_heads * d, layout(2)),
        dv(m, key_heads * d_v, layout(3));
    const Guarded<T> gq(q, layout(0)), gk(k, layout(2)), gv(v, layout(4)), gd(dout, layout(5)),
        go(out, layout(6));
    heed::linear_attention_backward(gd.view(), gq.view(), gk.view(), gv.view(), go.view(), spec,
                                    heed::into(dq.view(), dk.view(), dv.view()));
    EXPECT_TRUE(dq.intact() && dk.intact() && dv.intact());
    const auto compare = [&](const char* which, const auto& x, const Matrix<Wide>& want) {
      if (want.size() == 0) return;
      const Matrix<T> got = x;
      // Gradients may cancel, those of a query that sees one key entirely.
      const double size = std::max(0.3, static_cast<double>(want.cwiseAbs().maxCoeff()));
      const double error = static_cast<double>((got.template cast<Wide>() - want).cwiseAbs().maxCoeff());
      EXPECT_LE(error, allowed * u * size) << name << " " << which << " n " << n << " m " << m;
      if (size > 0) worst = std::max(worst, error / (allowed * u * size));
    };
    compare("dq", dq.view(), exact.dq);
    compare("dk", dk.view(), exact.dk);
    compare("dv", dv.view(), exact.dv);
    // Added to what is there.
    const Matrix<T> q_before = dq.view(), k_before = dk.view(), v_before = dv.view();
    heed::linear_attention_backward(gd.view(), gq.view(), gk.view(), gv.view(), go.view(), spec,
                                    heed::into(dq.view(), dk.view(), dv.view()), heed::accumulating);
    EXPECT_TRUE(Matrix<T>(dq.view()).isApprox(2 * q_before, T(1e-6)));
    EXPECT_TRUE(Matrix<T>(dk.view()).isApprox(2 * k_before, T(1e-6)));
    EXPECT_TRUE(Matrix<T>(dv.view()).isApprox(2 * v_before, T(1e-6)));
  }
}

template <class T>
void sizes() {
  worst = 0;
  int turn = 0;
  for (const auto& [n, m] : std::vector<std::pair<Index, Index>>{
           {0, 3}, {3, 0}, {1, 1}, {7, 65}, {65, 7}, {63, 64}, {129, 129}, {100, 197}, {197, 100}}) {
    if (small && turn++ % 3 != 0) continue;
    against_loops<T>("full", 100, n, m, 17, 9, 2, 1);
    against_loops<T>("causal", 100, n, m, 16, 16, 2, 2, heed::causal());
    against_loops<T>("causal, grouped", 100, n, m, 5, 33, 4, 2, heed::causal());
    against_loops<T>("top left", 100, n, m, 5, 3, 1, 1, heed::causal(heed::top_left));
    against_loops<T>("offset", 100, n, m, 5, 3, 1, 1, heed::causal(20));
    against_loops<T>("feature map", 100, n, m, 20, 16, 1, 1, heed::causal(), bump);
    against_loops<T>("performer", 800, n, m, 16, 8, 2, 1, heed::performer(37, 3));
    against_loops<T>("performer, causal", 800, n, m, 16, 8, 2, 1, heed::performer(37, 3), heed::causal());
  }
  std::printf("worst error %.3f of what is allowed, %s\n", worst, heed::name(heed::instruction_set()));
}

TEST(LinearGradient, FloatAgainstPlainLoops) { sizes<float>(); }
TEST(LinearGradient, DoubleAgainstPlainLoops) { sizes<double>(); }

/// Exponents that rise by hundreds: chunks end early, and references change.
TEST(LinearGradient, PerformerWithRisingExponents) {
  const Index n = 130;
  Dice dice(9);
  const auto q = dice.matrix<double>(n, 8), v = dice.matrix<double>(n, 5), dout = dice.matrix<double>(n, 5);
  auto k = dice.matrix<double>(n, 8);
  for (Index j = 0; j < n; ++j) k.row(j) *= j < 100 ? 0.25 * static_cast<double>(100 - j) : 0.1;
  const auto spec = heed::spec(heed::performer(32, 4), heed::causal());
  const Matrix<double> out = heed::linear_attention(q, k, v, spec);
  const auto got = heed::linear_attention_backward(dout, q, k, v, out, spec);
  const Matrix<Wide> qw = q.cast<Wide>(), kw = k.cast<Wide>(), vw = v.cast<Wide>(), dw = dout.cast<Wide>();
  const auto want = heed::linear_attention_backward(dw, qw, kw, vw, out.cast<Wide>(), spec);
  const auto close = [](const Matrix<double>& a, const Matrix<Wide>& b) {
    return static_cast<double>((a.cast<Wide>() - b).cwiseAbs().maxCoeff() / b.cwiseAbs().maxCoeff());
  };
  EXPECT_LE(close(got.dq, want.dq), 1e-9);
  EXPECT_LE(close(got.dk, want.dk), 1e-9);
  EXPECT_LE(close(got.dv, want.dv), 1e-9);
}

/// NaN reaches the gradients of what it is seen by, and of what it sees, and no other.
TEST(LinearGradient, NaNStaysWhereItIsSeen) {
  const Index n = 150;
  Dice dice(31);
  const auto q = dice.matrix<float>(n, 6), k = dice.matrix<float>(n, 6), v = dice.matrix<float>(n, 5),
             dout = dice.matrix<float>(n, 5);
  const Matrix<float> out = heed::linear_attention(q, k, v, heed::causal());
  const auto clean = heed::linear_attention_backward(dout, q, k, v, out, heed::causal());
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const Index at : {Index(0), Index(30), Index(63), Index(64), Index(100), Index(149)}) {
    // A query, with its output and gradient: keys after it know nothing of it.
    auto bad_q = q;
    auto bad_dout = dout;
    bad_q(at, 1) = bad_dout(at, 2) = nan;
    const auto by_query = heed::linear_attention_backward(bad_dout, bad_q, k, v, out, heed::causal());
    for (Index i = 0; i < n; ++i) {
      if (i != at) {
        EXPECT_TRUE(by_query.dq.row(i).isApprox(clean.dq.row(i), 1e-4f)) << at << " " << i;
      }
      if (i > at) {
        EXPECT_TRUE(by_query.dk.row(i).isApprox(clean.dk.row(i), 1e-4f)) << at << " " << i;
        EXPECT_TRUE(by_query.dv.row(i).isApprox(clean.dv.row(i), 1e-4f)) << at << " " << i;
      } else {
        EXPECT_TRUE(by_query.dk.row(i).hasNaN());
        EXPECT_TRUE(by_query.dv.row(i).hasNaN());
      }
    }
    // A key and its value: queries before it know nothing of them.
    auto bad_k = k, bad_v = v;
    bad_k(at, 1) = bad_v(at, 2) = nan;
    const Matrix<float> bad_out = heed::linear_attention(q, bad_k, bad_v, heed::causal());
    const auto by_key = heed::linear_attention_backward(dout, q, bad_k, bad_v, bad_out, heed::causal());
    for (Index i = 0; i < at; ++i)
      EXPECT_TRUE(by_key.dq.row(i).isApprox(clean.dq.row(i), 1e-4f)) << at << " " << i;
  }
}

}  // namespace
