// SPDX-License-Identifier: MIT
// Additive attention on the engine: what is invisible or not finite, threads, memory, central differences.
#include <cstdlib>

#include "allocation_counter.hpp"

#define EIGEN_RUNTIME_NO_MALLOC
#include "oracle.hpp"

#include <array>
#include <unsupported/Eigen/CXX11/ThreadPool>

#include <heed/attention_backward.hpp>
#include <heed/execute/on.hpp>
#include <heed/execute/pool.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/score/additive.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/sink.hpp>

namespace {

using namespace heed_test;

/// What nobody sees is not read, forward or backward, in streams, tiles and tiles with great queries.
TEST(AttentionAdditive, NothingComesFromInvisiblePairs) {
  for (const float size : {1.0f, 40.0f})
    for (const auto& [n, m] : std::vector<std::pair<Index, Index>>{{1, 40}, {5, 33}, {40, 70}, {130, 140}}) {
      Dice dice(4);
      const Index d = 21, d_v = 9;
      const Eigen::MatrixXf q = dice.matrix<float>(n, 2 * d, size), dout = dice.matrix<float>(n, 2 * d_v);
      Eigen::MatrixXf k = dice.matrix<float>(m, d), v = dice.matrix<float>(m, d_v);
      Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic> seen(n, m);
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < m; ++j) seen(i, j) = j % 5 != 2 && (i % 7 != 3) && dice.coin();
      const std::vector<double> w(static_cast<std::size_t>(d), 0.3);
      const auto spec = heed::spec(heed::heads(2, 1), heed::dense_mask(seen), heed::additive(w));
      const auto run = [&] {
        heed::Saved<float> saved;
        const Eigen::MatrixXf y = heed::attention(q, k, v, spec, heed::save(saved));
        Eigen::MatrixXf dw(2, d);
        auto g = heed::attention_backward(dout, q, k, v, y, saved, spec, heed::score_gradient(dw));
        return std::vector<Eigen::MatrixXf>{y, g.dq, g.dk, g.dv, dw};
      };
      const auto want = run();
      for (Index j = 2; j < m; j += 5) {
        k.row(j).setConstant(std::numeric_limits<float>::quiet_NaN());
        v.row(j).setConstant(std::numeric_limits<float>::infinity());
      }
      const auto got = run();
      for (std::size_t x = 0; x < want.size(); ++x) {
        ASSERT_TRUE(want[x].allFinite());
        EXPECT_TRUE(got[x].isApprox(want[x], 1e-5f)) << x << ", " << n << " x " << m;
      }
      for (Index i = 3; i < n; i += 7) {
        EXPECT_TRUE((got[0].row(i).array() == 0).all());
        EXPECT_TRUE((got[1].row(i).array() == 0).all());
      }
      for (Index j = 2; j < m; j += 5) {
        EXPECT_TRUE((got[2].row(j).array() == 0).all());
      }
    }
}

/// A NaN in a query spoils its row; infinities are where tanh is ±1.
TEST(AttentionAdditive, NonFiniteOperands) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const Index n : {3, 50}) {
    Dice dice(5);
    Eigen::MatrixXf q = dice.matrix<float>(n, 6), k = dice.matrix<float>(20, 6);
    const Eigen::MatrixXf v = dice.matrix<float>(20, 3);
    const Eigen::VectorXf w = dice.matrix<float>(6, 1);
    const Eigen::MatrixXf want = heed::attention(q, k, v, heed::additive(w));
    q(1, 4) = std::numeric_limits<float>::quiet_NaN();
    const Eigen::MatrixXf spoiled = heed::attention(q, k, v, heed::additive(w));
    EXPECT_TRUE(spoiled.row(1).array().isNaN().all());
    q.row(1).setZero();
    Eigen::MatrixXf others = want, same = spoiled;
    others.row(1).setZero();
    same.row(1).setZero();
    EXPECT_TRUE(same.isApprox(others, 1e-6f));
    q(2, 0) = infinity;
    k(7, 1) = -infinity;
    const Eigen::MatrixXf infinite = heed::attention(q, k, v, heed::additive(w));
    q(2, 0) = 300;
    k(7, 1) = -300;
    EXPECT_TRUE(infinite.isApprox(heed::attention(q, k, v, heed::additive(w)), 1e-6f));
  }
}

TEST(AttentionAdditive, BitsDoNotDependOnThreads) {
  Dice dice(6);
  const std::vector<Index> offsets = {0, 90, 91, 260};
  const Eigen::MatrixXf q = dice.matrix<float>(260, 4 * 40), k = dice.matrix<float>(260, 2 * 40),
                        v = dice.matrix<float>(260, 2 * 16), dout = dice.matrix<float>(260, 4 * 16);
  const Eigen::VectorXf w = dice.matrix<float>(4 * 40, 1);
  const auto run = [&](auto&& executor) {
    const auto spec = heed::spec(heed::additive(w), heed::heads(4, 2), heed::sequences(offsets, offsets),
                                 heed::causal(), heed::on(executor));
    heed::Saved<float> saved;
    const Eigen::MatrixXf y = heed::attention(q, k, v, spec, heed::save(saved));
    Eigen::VectorXf dw(40);
    const auto g = heed::attention_backward(dout, q, k, v, y, saved, spec, heed::score_gradient(dw));
    return std::vector<Eigen::MatrixXf>{y, saved.lse, g.dq, g.dk, g.dv, dw};
  };
  const auto want = run(heed::serial());
  for (const int threads : {1, 2, 3}) {
    Eigen::ThreadPool pool(threads);
    const auto got = run(pool);
    for (std::size_t x = 0; x < want.size(); ++x) EXPECT_TRUE(got[x] == want[x]) << x << ", " << threads;
  }
}

TEST(AttentionAdditive, NothingIsAllocatedWithAWarmWorkspace) {
  heed::Workspace workspace;
  const auto alone = heed::on(heed::serial());
  for (const auto& [n, m] : std::vector<std::pair<Index, Index>>{{1, 30}, {5, 5000}, {40, 60}}) {
    Dice dice(7);
    const RowMatrix<float> q = dice.matrix<float>(n, 64), k = dice.matrix<float>(m, 64),
                           v = dice.matrix<float>(m, 24), dout = dice.matrix<float>(n, 24);
    const Eigen::VectorXf w = dice.matrix<float>(64, 1);
    RowMatrix<float> y(n, 24), dq(n, 64), dk(m, 64), dv(m, 24);
    Eigen::VectorXf dw(64);
    heed::Saved<float> saved;
    const auto additive = heed::additive(w);  // copies w
    const auto all = [&] {
      heed::attention_into(y, q, k, v, workspace, additive, alone, heed::save(saved));
      heed::attention_backward(dout, q, k, v, y, saved, additive, alone, heed::into(dq, dk, dv),
                               heed::score_gradient(dw), heed::use(workspace));
    };
    all();
    const AllocationCounter counter;
    Eigen::internal::set_is_malloc_allowed(false);
    all();
    Eigen::internal::set_is_malloc_allowed(true);
    EXPECT_EQ(counter.count(), 0) << n << " x " << m;
  }
}

/// Keys in several pieces, in streams and in the backward pass; with score_gradient() they are in one.
TEST(AttentionAdditive, ManyKeys) {
  const auto alone = heed::on(heed::serial());
  for (const Index n : {3, 20}) {
    Dice dice(10);
    const Index m = small ? 4200 : 9000;
    const RowMatrix<float> q = dice.matrix<float>(n, 2 * 5), k = dice.matrix<float>(m, 5),
                           v = dice.matrix<float>(m, 3), dout = dice.matrix<float>(n, 2 * 3);
    const Eigen::VectorXf w = dice.matrix<float>(64, 1).topRows(5);
    const auto spec = heed::spec(heed::additive(w), heed::heads(2, 1), alone);
    heed::Saved<float> saved;
    const RowMatrix<float> y = heed::attention(q, k, v, spec, heed::save(saved));
    const auto exact = heed::attention(q.cast<long double>(), k.cast<long double>(), v.cast<long double>(),
                                       heed::additive(w), heed::heads(2, 1));
    EXPECT_TRUE(y.isApprox(exact.cast<float>(), 1e-5f));
    Eigen::VectorXf dw(5);
    const auto pieces = heed::attention_backward(dout, q, k, v, y, saved, spec);
    const auto whole = heed::attention_backward(dout, q, k, v, y, saved, spec, heed::score_gradient(dw));
    EXPECT_TRUE(pieces.dq.isApprox(whole.dq, 1e-5f));
    EXPECT_TRUE(pieces.dk.isApprox(whole.dk, 1e-5f));
    EXPECT_TRUE(pieces.dv.isApprox(whole.dv, 1e-5f));
  }
}

/// All gradients at once, by central differences in double: tiles and streams, ragged, grouped heads.
TEST(AttentionAdditive, GradientsAreDifferences) {
  Dice dice(8);
  const std::vector<Index> q_offsets = {0, 3, 20}, k_offsets = {0, 7, 25};
  std::array<Eigen::MatrixXd, 6> x = {dice.matrix<double>(20, 4 * 5),  dice.matrix<double>(25, 2 * 5),
                                      dice.matrix<double>(25, 2 * 3),  dice.matrix<double>(4 * 5, 1),
                                      dice.matrix<double>(20, 4 * 18), dice.matrix<double>(4, 1)};
  std::array<double, 1> theta = {0.4};
  const Eigen::MatrixXd dout = dice.matrix<double>(20, 4 * 3);
  const auto with = [&](const auto& f) {
    const Eigen::VectorXd w = x[3], sinks = x[5];
    return f(heed::spec(
        heed::heads(4, 2), heed::sequences(q_offsets, k_offsets), heed::causal(), heed::additive(w),
        heed::softcap(2.0), heed::bias(x[4]), heed::scale(1.3), heed::sink(sinks),
        heed::score_with([](auto s, const auto& p, auto, auto) { return s + p[0] * s * s; }, theta)));
  };
  const auto loss = [&] {
    return with(
        [&](const auto& spec) { return heed::attention(x[0], x[1], x[2], spec).cwiseProduct(dout).sum(); });
  };
  Eigen::MatrixXd dw(4, 5), db(20, 4 * 18);
  Eigen::VectorXd dsink(4);
  Eigen::Matrix<double, 1, 1> dtheta;
  std::array<Eigen::MatrixXd, 6> g;
  with([&](const auto& spec) {
    heed::Saved<double> saved;
    const Eigen::MatrixXd y = heed::attention(x[0], x[1], x[2], spec, heed::save(saved));
    const auto got = heed::attention_backward(dout, x[0], x[1], x[2], y, saved, spec,
                                              heed::score_gradient(dw), heed::bias_gradient(db),
                                              heed::sink_gradient(dsink), heed::parameter_gradient(dtheta));
    g = {got.dq, got.dk, got.dv, Eigen::MatrixXd(dw.transpose().reshaped(20, 1)), db, dsink};
    // Accumulated, and summed over heads.
    Eigen::MatrixXd dq = got.dq, dk = got.dk, dv = got.dv;
    Eigen::VectorXd summed = dw.colwise().sum().transpose();
    heed::attention_backward(dout, x[0], x[1], x[2], y, saved, spec, heed::into(dq, dk, dv),
                             heed::accumulating,
                             heed::score_gradient(summed));
    EXPECT_TRUE(dq.isApprox(2 * got.dq, 1e-12) && dk.isApprox(2 * got.dk, 1e-12) &&
                dv.isApprox(2 * got.dv, 1e-12));
    EXPECT_TRUE(summed.isApprox(2 * dw.colwise().sum().transpose(), 1e-12));
    return 0;
  });
  const double step = 1e-5;
  const auto difference = [&](double& at) {
    const double was = at;
    at = was + step;
    const double up = loss();
    at = was - step;
    const double down = loss();
    at = was;
    return (up - down) / (2 * step);
  };
  double worst = 0;
  for (std::size_t m = 0; m < x.size(); ++m)
    for (Index t = 0; t < x[m].size(); t += m == 4 ? 7 : 1)
      worst = std::max(worst, std::abs(difference(x[m].data()[t]) - g[m].data()[t]));
  EXPECT_LT(worst, 3e-8);
  EXPECT_NEAR(dtheta(0), difference(theta[0]), 3e-8);
  std::printf("additive gradients: worst distance from central differences %.2g\n", worst);
}

}  // namespace
