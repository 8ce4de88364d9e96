// SPDX-License-Identifier: MIT
// What must hold of attention_jvp() and attention_double_backward() whatever the numbers are, and what they
// refuse.
#include "oracle.hpp"

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <heed/heed.hpp>

namespace {

using namespace heed_test;

struct Ragged {
  std::vector<Index> q = {0, 3, 3, 80, 81}, k = {0, 5, 9, 70, 80};
  Matrix<double> x, y, z, u_x, u_y, u_z, dout;
  Ragged() {
    Dice dice(3);
    x = dice.matrix<double>(81, 4 * 6);
    y = dice.matrix<double>(80, 2 * 6);
    z = dice.matrix<double>(80, 2 * 4);
    u_x = dice.matrix<double>(81, 4 * 6);
    u_y = dice.matrix<double>(80, 2 * 6);
    u_z = dice.matrix<double>(80, 2 * 4);
    dout = dice.matrix<double>(81, 4 * 4);
  }
};

using Offsets = std::vector<Index>;

/// A variant with everything, the same for all tests: each costs a minute of compiling.
auto variant(Index heads, Index key_heads, const Offsets& q, const Offsets& k, bool masked = true) {
  return heed::spec(heed::heads(heads, key_heads), heed::sequences(q, k), heed::when(masked, heed::causal()),
                    heed::alibi(), heed::softcap(3.0), heed::dropout(0.2, 9));
}

/// Central differences of the engine's own passes, over a ragged batch.
TEST(AttentionSecondOrder, CentralDifferences) {
  const Ragged r;
  const auto spec = variant(4, 2, r.q, r.k);
  const double h = 1e-5;
  const auto at = [&](double t) {
    heed::Saved<double> saved;
    const Matrix<double> q = r.x + t * r.u_x, k = r.y + t * r.u_y, v = r.z + t * r.u_z;
    const Matrix<double> out = heed::attention(q, k, v, spec, heed::save(saved));
    auto g = heed::attention_backward(r.dout, q, k, v, out, saved, spec);
    return std::make_tuple(out, saved, g);
  };
  const auto [above, saved_above, g_above] = at(h);
  const auto [below, saved_below, g_below] = at(-h);
  const auto [out, saved, g] = at(0);
  const auto moved = heed::attention_jvp(r.x, r.y, r.z, r.u_x, r.u_y, r.u_z, spec);
  const auto twice =
      heed::attention_double_backward(r.dout, r.x, r.y, r.z, out, saved, r.u_x, r.u_y, r.u_z, spec);
  const auto distance = [](const auto& a, const auto& b) {
    return Matrix<double>(a - b).cwiseAbs().maxCoeff();
  };
  EXPECT_LT(distance(moved.out_tangent, (above - below) / (2 * h)), 1e-8);
  EXPECT_EQ(distance(twice.dout, moved.out_tangent), 0);
  EXPECT_LT(distance(twice.q, (g_above.dq - g_below.dq) / (2 * h)), 1e-8);
  EXPECT_LT(distance(twice.k, (g_above.dk - g_below.dk) / (2 * h)), 1e-8);
  EXPECT_LT(distance(twice.v, (g_above.dv - g_below.dv) / (2 * h)), 1e-8);
}

/// <dout, J u> = <Jᵀ dout, u>: forward and reverse mode are each other's transpose.
TEST(AttentionSecondOrder, ForwardModeIsTheTransposeOfReverseMode) {
  const Ragged r;
  const auto spec = variant(4, 2, r.q, r.k, false);
  heed::Saved<double> saved;
  const Matrix<double> out = heed::attention(r.x, r.y, r.z, spec, heed::save(saved));
  const auto g = heed::attention_backward(r.dout, r.x, r.y, r.z, out, saved, spec);
  const auto t = heed::attention_jvp(r.x, r.y, r.z, r.u_x, r.u_y, r.u_z, spec);
  const double forward = t.out_tangent.cwiseProduct(r.dout).sum();
  const double reverse =
      g.dq.cwiseProduct(r.u_x).sum() + g.dk.cwiseProduct(r.u_y).sum() + g.dv.cwiseProduct(r.u_z).sum();
  EXPECT_NEAR(forward, reverse, 1e-11 * (std::abs(forward) + 100));
}

/// The Hessian is symmetric: <u, H w> = <w, H u>.
TEST(AttentionSecondOrder, TheHessianIsSymmetric) {
  const Ragged r;
  const auto spec = variant(4, 2, r.q, r.k);
  heed::Saved<double> saved;
  const Matrix<double> out = heed::attention(r.x, r.y, r.z, spec, heed::save(saved));
  Dice dice(8);
  const Matrix<double> w_x = dice.matrix<double>(81, 24), w_y = dice.matrix<double>(80, 12),
                       w_z = dice.matrix<double>(80, 8);
  const auto a =
      heed::attention_double_backward(r.dout, r.x, r.y, r.z, out, saved, r.u_x, r.u_y, r.u_z, spec);
  const auto b = heed::attention_double_backward(r.dout, r.x, r.y, r.z, out, saved, w_x, w_y, w_z, spec);
  const double ab = a.q.cwiseProduct(w_x).sum() + a.k.cwiseProduct(w_y).sum() + a.v.cwiseProduct(w_z).sum();
  const double ba =
      b.q.cwiseProduct(r.u_x).sum() + b.k.cwiseProduct(r.u_y).sum() + b.v.cwiseProduct(r.u_z).sum();
  EXPECT_NEAR(ab, ba, 1e-11 * (std::abs(ab) + 100));
}

/// NaN where nobody sees reaches nothing; rows that see nothing have exact zeros.
TEST(AttentionSecondOrder, NothingComesFromWhereNobodySees) {
  const double nan = std::nan("");
  const Index n = 90, m = 120, d = 8;
  Dice dice(6);
  Matrix<double> x[7];
  for (Matrix<double>& a : x) a = dice.matrix<double>(&a == &x[0] || &a == &x[3] || &a == &x[6] ? n : m, d);
  const auto hide = heed::mask_where([](auto i, auto j) { return j % 7 != 3 && i % 9 != 4 && j < i + 20; });
  const auto run = [&](auto&& y) {
    heed::Saved<double> saved;
    const Matrix<double> out = heed::attention(y[0], y[1], y[2], hide, heed::save(saved));
    return std::make_pair(
        heed::attention_jvp(y[0], y[1], y[2], y[3], y[4], y[5], hide),
        heed::attention_double_backward(y[6], y[0], y[1], y[2], out, saved, y[3], y[4], y[5], hide));
  };
  const auto clean = run(x);
  for (Index j = 3; j < m; j += 7)
    for (const int which : {1, 2, 4, 5}) x[which].row(j).setConstant(nan);
  for (Index i = 4; i < n; i += 9)
    for (const int which : {0, 3, 6}) x[which].row(i).setConstant(nan);
  const auto poisoned = run(x);
  const auto near = [](const Matrix<double>& a, const Matrix<double>& b) {
    return a.allFinite() && (a - b).cwiseAbs().maxCoeff() < 1e-12;
  };
  EXPECT_TRUE(near(poisoned.first.out_tangent, clean.first.out_tangent));
  EXPECT_TRUE(near(poisoned.first.lse_tangent, clean.first.lse_tangent));
  EXPECT_TRUE(near(poisoned.second.dout, clean.second.dout));
  EXPECT_TRUE(near(poisoned.second.q, clean.second.q));
  EXPECT_TRUE(near(poisoned.second.k, clean.second.k));
  EXPECT_TRUE(near(poisoned.second.v, clean.second.v));
  for (Index i = 4; i < n; i += 9) EXPECT_TRUE(poisoned.second.q.row(i).isZero(0));
  for (Index j = 3; j < m; j += 7) EXPECT_TRUE(poisoned.second.k.row(j).isZero(0));
}

TEST(AttentionSecondOrder, BitsAreEqualForAnyNumberOfThreads) {
  Dice dice(12);
  Matrix<double> x[7];
  for (Matrix<double>& a : x) a = dice.matrix<double>(500, 64);
  const Offsets one_sequence = {0, 500};
  const auto spec = variant(4, 4, one_sequence, one_sequence);
  heed::Saved<double> saved;
  const Matrix<double> out = heed::attention(x[0], x[1], x[2], spec, heed::save(saved));
  const auto run = [&](const auto& on) {
    return std::make_pair(
        heed::attention_jvp(x[0], x[1], x[2], x[3], x[4], x[5], spec, on),
        heed::attention_double_backward(x[6], x[0], x[1], x[2], out, saved, x[3], x[4], x[5], spec, on));
  };
  Eigen::ThreadPool single(1), pool(3);
  const auto one = run(heed::on(single)), many = run(heed::on(pool));
  EXPECT_EQ(one.first.out_tangent, many.first.out_tangent);
  EXPECT_EQ(one.first.lse_tangent, many.first.lse_tangent);
  EXPECT_EQ(one.second.q, many.second.q);
  EXPECT_EQ(one.second.k, many.second.k);
  EXPECT_EQ(one.second.v, many.second.v);
}

TEST(AttentionSecondOrder, RefusesWrongSizes) {
  const Matrix<double> q = Matrix<double>::Zero(3, 4), k = Matrix<double>::Zero(5, 4),
                       wrong = Matrix<double>::Zero(4, 4);
  const Offsets of_q = {0, 3}, of_k = {0, 5};
  const auto spec = variant(1, 1, of_q, of_k);
  EXPECT_THROW((void)heed::attention_jvp(q, k, k, wrong, k, k, spec), std::invalid_argument);
  EXPECT_THROW((void)heed::attention_jvp(q, k, k, q, wrong, k, spec), std::invalid_argument);
  EXPECT_THROW((void)heed::attention_jvp(q, k, k, q, k, wrong, spec), std::invalid_argument);
  heed::Saved<double> saved;
  const Matrix<double> out = heed::attention(q, k, k, spec, heed::save(saved));
  EXPECT_THROW((void)heed::attention_double_backward(wrong, q, k, k, out, saved, q, k, k, spec),
               std::invalid_argument);
  EXPECT_THROW((void)heed::attention_double_backward(out, q, k, k, out, saved, q, wrong, k, spec),
               std::invalid_argument);
  EXPECT_THROW((void)heed::attention_double_backward(out, q, k, k, out, heed::Saved<double>(), q, k, k, spec),
               std::invalid_argument);
}

/// Any scalar runs in the plain loops.
TEST(AttentionSecondOrder, LongDouble) {
  const Ragged r;
  using Wide = long double;
  const auto wide = [](const Matrix<double>& m) { return Matrix<Wide>(m.cast<Wide>()); };
  const auto spec = variant(4, 2, r.q, r.k);
  heed::Saved<double> saved;
  heed::Saved<Wide> wide_saved;
  const Matrix<double> out = heed::attention(r.x, r.y, r.z, spec, heed::save(saved));
  const Matrix<Wide> wide_out =
      heed::attention(wide(r.x), wide(r.y), wide(r.z), spec, heed::save(wide_saved));
  const auto a =
      heed::attention_double_backward(r.dout, r.x, r.y, r.z, out, saved, r.u_x, r.u_y, r.u_z, spec);
  const auto b = heed::attention_double_backward(wide(r.dout), wide(r.x), wide(r.y), wide(r.z), wide_out,
                                                 wide_saved, wide(r.u_x), wide(r.u_y), wide(r.u_z), spec);
  EXPECT_TRUE(wide(a.q).isApprox(b.q, 1e-12L));
  EXPECT_TRUE(wide(a.k).isApprox(b.k, 1e-12L));
  EXPECT_TRUE(wide(a.v).isApprox(b.v, 1e-12L));
  EXPECT_TRUE(wide(a.dout).isApprox(b.dout, 1e-12L));
}

}  // namespace
