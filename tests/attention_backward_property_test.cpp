// SPDX-License-Identifier: MIT
// What must hold of gradients whatever the numbers are, and what attention_backward refuses.
#include "allocation_counter.hpp"
#include "backward_pass.hpp"
#include "gradient_oracle.hpp"

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <heed/heed.hpp>

namespace {

using namespace heed_test;

template <class A, class B>
double distance(const A& a, const B& b) {
  if (a.size() == 0) return 0;
  return static_cast<double>((a - b).cwiseAbs().maxCoeff());
}

TEST(AttentionBackward, BiasGradientOfEveryShape) {
  const Index n = 37, m = 70, heads = 4;
  Dice dice(3);
  const auto f = heed::score_with([](auto s, auto, auto) { return s * s / 4 + s; });
  for (const auto& sizes :
       std::vector<std::pair<Index, Index>>{{n, m}, {n, heads * m}, {1, m}, {1, heads * m}, {n, 1}, {1, 1}}) {
    const Index rows = sizes.first, columns = sizes.second;
    const Matrix<double> bias = dice.matrix<double>(rows, columns);
    const auto spec =
        heed::spec(heed::heads(heads, 2), heed::bias(bias), heed::causal(), f, heed::softcap(3.0));
    const Pass<double> x(n, m, 8, 5, heads, 2, heed::bias(bias), heed::causal(), f, heed::softcap(3.0));
    Matrix<double> dq(n, x.q.cols()), dk(m, x.k.cols()), dv(m, x.v.cols());
    RowMatrix<double> db = RowMatrix<double>::Constant(rows, columns, 7);
    x.gradients(spec, heed::into(dq, dk, dv), heed::bias_gradient(db));
    // In plain loops, a full matrix, summed.
    const heed::Shape shape = heed::detail::make_shape(spec, n, x.q.cols(), m, x.k.cols(), m, x.v.cols());
    Matrix<double> want = Matrix<double>::Zero(rows, columns), eq = dq, ek = dk, ev = dv;
    const Matrix<double>* none = nullptr;
    heed::detail::reference_backward<false, double>(
        spec, shape, x.dout, x.q, x.k, x.v, none, eq, ek, ev,
        [&](const heed::Place& place, Index i, Index j, double ds) {
          want(rows == 1 ? 0 : i, columns == 1 ? 0 : columns == m ? j : place.head * m + j) += ds;
        });
    EXPECT_LT(distance(db, want), 1e-12) << rows << " x " << columns;
    EXPECT_LT(distance(dq, eq), 1e-12) << rows << " x " << columns;
    x.gradients(spec, heed::into(dq, dk, dv), heed::bias_gradient(db), heed::accumulating);
    EXPECT_LT(distance(db, 2 * want), 1e-11) << rows << " x " << columns;
  }
}

TEST(AttentionBackward, SinkGradient) {
  const std::vector<Index> q_offsets = {0, 30, 30, 77}, k_offsets = {0, 10, 20, 90};
  const auto sequences = heed::sequences(q_offsets, k_offsets);
  const std::vector<double> sinks = {0.5, -1.0, 2.0, 0.0};
  const auto spec = heed::spec(heed::heads(4, 2), sequences, heed::causal(), heed::sink(sinks));
  const Pass<double> x(77, 90, 8, 5, 4, 2, sequences, heed::causal(), heed::sink(sinks));
  const Matrix<double> dlse = Dice(8).matrix<double>(77, 4);
  Matrix<double> dq(77, 32), dk(90, 16), dv(90, 10);
  Eigen::VectorXd ds = Eigen::VectorXd::Constant(4, 9), more = Eigen::VectorXd::Zero(1);
  x.gradients(spec, heed::into(dq, dk, dv), heed::sink_gradient(ds), heed::lse_gradient(dlse));
  x.gradients(spec, heed::into(dq, dk, dv), heed::sink_gradient(more), heed::lse_gradient(dlse));
  EXPECT_NEAR(more(0), ds.sum(), 1e-12);
  const auto loss = [&](const std::vector<double>& s) {
    heed::Saved<double> saved;
    const Matrix<double> out = heed::attention(x.q, x.k, x.v, heed::heads(4, 2), sequences, heed::causal(),
                                               heed::sink(s), heed::save(saved));
    return out.cwiseProduct(x.dout).sum() + saved.lse.cwiseProduct(dlse).sum();
  };
  for (std::size_t h = 0; h < 4; ++h) {
    std::vector<double> above = sinks, below = sinks;
    above[h] += 1e-5;
    below[h] -= 1e-5;
    EXPECT_NEAR(ds(static_cast<Index>(h)), (loss(above) - loss(below)) / 2e-5, 1e-7) << "head " << h;
  }
  // The same on the plain loops of other scalars.
  using Wide = Matrix<long double>;
  const Wide q = x.q.cast<long double>(), k = x.k.cast<long double>(), v = x.v.cast<long double>(),
             dout = x.dout.cast<long double>(), wide_dlse = dlse.cast<long double>();
  heed::Saved<long double> saved;
  const Wide out = heed::attention(q, k, v, spec, heed::save(saved));
  Wide wq(77, 32), wk(90, 16), wv(90, 10);
  Eigen::Matrix<long double, Eigen::Dynamic, 1> ws(4);
  heed::attention_backward(dout, q, k, v, out, saved, spec, heed::into(wq, wk, wv), heed::sink_gradient(ws),
                           heed::lse_gradient(wide_dlse));
  EXPECT_LT(distance(ds, ws.cast<double>()), 1e-12);
  EXPECT_LT(distance(dq, wq.cast<double>()), 1e-12);
}

/// Sequences that share the gradient of a bias.
TEST(AttentionBackward, BiasGradientOfSeveralSequences) {
  const std::vector<Index> q_offsets = {0, 20, 33}, k_offsets = {0, 25, 65};
  const Index longest = 40;
  const Matrix<double> bias = Dice(4).matrix<double>(1, 2 * longest);
  const auto spec = heed::spec(heed::heads(2), heed::sequences(q_offsets, k_offsets), heed::bias(bias));
  const Pass<double> x(33, 65, 8, 5, 2, 2, heed::sequences(q_offsets, k_offsets), heed::bias(bias));
  Matrix<double> dq(33, 16), dk(65, 16), dv(65, 10), db(1, 2 * longest),
      want = Matrix<double>::Zero(1, 2 * longest);
  x.gradients(spec, heed::into(dq, dk, dv), heed::bias_gradient(db));
  const heed::Shape shape = heed::detail::make_shape(spec, 33, 16, 65, 16, 65, 10);
  const Matrix<double>* none = nullptr;
  heed::detail::reference_backward<false, double>(
      spec, shape, x.dout, x.q, x.k, x.v, none, dq, dk, dv,
      [&](const heed::Place& place, Index, Index j, double ds) { want(0, place.head * longest + j) += ds; });
  EXPECT_LT(distance(db, want), 1e-12);
}

TEST(AttentionBackward, BlocksOfOneMatrixAndAccumulate) {
  for (const Index d : {16, 20, 64}) {
    const Index n = 150;
    Dice dice(static_cast<std::uint64_t>(d));
    const RowMatrix<float> x = dice.matrix<float>(n, 3 * d), dout = dice.matrix<float>(n, d);
    const auto q = x.leftCols(d), k = x.middleCols(d, d), v = x.rightCols(d);
    heed::Saved<float> saved;
    const Eigen::MatrixXf out = heed::attention(q, k, v, heed::causal(), heed::save(saved));
    const auto [dq, dk, dv] = heed::attention_backward(dout, q, k, v, out, saved, heed::causal());
    RowMatrix<float> dx = RowMatrix<float>::Constant(n, 3 * d, 5);
    heed::attention_backward(dout, q, k, v, out, saved, heed::causal(),
                             heed::into(dx.leftCols(d), dx.middleCols(d, d), dx.rightCols(d)));
    RowMatrix<float> want(n, 3 * d);
    want << dq, dk, dv;
    EXPECT_LT(distance(dx, want), 1e-6);
    heed::attention_backward(dout, q, k, v, out, saved, heed::causal(), heed::accumulating,
                             heed::into(dx.leftCols(d), dx.middleCols(d, d), dx.rightCols(d)));
    EXPECT_LT(distance(dx, 2 * want), 4e-6);
  }
}

TEST(AttentionBackward, GroupedHeadsSumTheirQueryHeads) {
  const Index n = 70, m = 90, d = 24, d_v = 20;
  const Pass<float> x(n, m, d, d_v, 6, 2, heed::causal());
  const auto [dq, dk, dv] = x.gradients(heed::heads(6, 2), heed::causal());
  Eigen::MatrixXf keys(m, 6 * d), values(m, 6 * d_v);
  for (Index h = 0; h < 6; ++h) {
    keys.middleCols(h * d, d) = x.k.middleCols(h / 3 * d, d);
    values.middleCols(h * d_v, d_v) = x.v.middleCols(h / 3 * d_v, d_v);
  }
  heed::Saved<float> sums;  // not those of another number of key heads
  sums.lse = x.saved.lse;
  const auto apart =
      heed::attention_backward(x.dout, x.q, keys, values, x.out, sums, heed::heads(6), heed::causal());
  EXPECT_LT(distance(dq, apart.dq), 1e-5);
  Eigen::MatrixXf dk_sum = Eigen::MatrixXf::Zero(m, 2 * d), dv_sum = Eigen::MatrixXf::Zero(m, 2 * d_v);
  for (Index h = 0; h < 6; ++h) {
    dk_sum.middleCols(h / 3 * d, d) += apart.dk.middleCols(h * d, d);
    dv_sum.middleCols(h / 3 * d_v, d_v) += apart.dv.middleCols(h * d_v, d_v);
  }
  EXPECT_LT(distance(dk, dk_sum), 2e-5);
  EXPECT_LT(distance(dv, dv_sum), 2e-5);
}

/// NaN in keys, values, queries and gradients that no visible pair touches.
TEST(AttentionBackward, NothingComesFromWhereNobodySees) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const Index n = 100, m = 130, d = 16;
  Dice dice(21);
  RowMatrix<float> q = dice.matrix<float>(n, d), k = dice.matrix<float>(m, d), v = dice.matrix<float>(m, d),
                   dout = dice.matrix<float>(n, d);
  const auto mask = heed::mask_where([](auto i, auto j) { return i != 40 && j != 70 && i >= j - 60; });
  const auto run = [&] {
    heed::Saved<float> saved;
    const RowMatrix<float> out = heed::attention(q, k, v, mask, heed::save(saved));
    return heed::attention_backward(dout, q, k, v, out, saved, mask);
  };
  const auto clean = run();
  EXPECT_TRUE(clean.dq.row(40).isZero(0.0f));
  EXPECT_TRUE(clean.dk.row(70).isZero(0.0f));
  EXPECT_TRUE(clean.dv.row(70).isZero(0.0f));
  q.row(40).setConstant(nan);
  dout.row(40).setConstant(inf);
  k.row(70).setConstant(inf);
  v.row(70).setConstant(nan);
  const auto poisoned = run();
  EXPECT_LT(distance(clean.dq, poisoned.dq), 1e-5);
  EXPECT_LT(distance(clean.dk, poisoned.dk), 1e-5);
  EXPECT_LT(distance(clean.dv, poisoned.dv), 1e-5);
  EXPECT_TRUE(poisoned.dq.row(40).isZero(0.0f));
  EXPECT_TRUE(poisoned.dk.row(70).isZero(0.0f));

  // Nor does the gradient of a bias take anything from there.
  heed::Saved<float> saved;
  const RowMatrix<float> out = heed::attention(q, k, v, mask, heed::save(saved));
  RowMatrix<float> dq(n, d), dk(m, d), dv(m, d), db(n, m);
  heed::attention_backward(dout, q, k, v, out, saved, mask, heed::into(dq, dk, dv), heed::bias_gradient(db));
  EXPECT_TRUE(db.row(40).isZero(0.0f));
  EXPECT_TRUE(db.col(70).isZero(0.0f));
  EXPECT_FALSE(db.array().isNaN().any());

  // A value that queries 30 and later see (j = 90) reaches their dq, every key they see, and nothing before
  // them.
  v(90, 3) = nan;
  const auto seen = run();
  for (Index i = 0; i < n; ++i)
    EXPECT_EQ(seen.dq.row(i).array().isNaN().any(), i >= 30 && i != 40) << "query " << i;
  EXPECT_LT(distance(seen.dq.topRows(30), clean.dq.topRows(30)), 1e-5);
  EXPECT_FALSE(seen.dv.array().isNaN().any());
}

/// A score of -inf counts as an invisible pair, however steep the function is there.
TEST(AttentionBackward, AScoreOfMinusInfinityHasNoSlope) {
  const Index n = 20, m = 30, d = 4;
  Dice dice(19);
  const Matrix<double> q = dice.matrix<double>(n, d).cwiseAbs(), v = dice.matrix<double>(m, d);
  Matrix<double> k = dice.matrix<double>(m, d).cwiseAbs();
  for (Index j = 0; j < m; j += 3) k.row(j).setZero();  // log 0 = -inf, and its slope inf
  const auto spec = heed::spec(heed::score_with([](auto s, auto, auto) { return heed::log(s); }));
  heed::Saved<double> saved;
  const Matrix<double> out = heed::attention(q, k, v, spec, heed::save(saved));
  const auto g = heed::attention_backward(v.topRows(n), q, k, v, out, saved, spec);
  EXPECT_TRUE(g.dq.allFinite() && g.dk.allFinite() && g.dv.allFinite());
  for (Index j = 0; j < m; j += 3) EXPECT_TRUE(g.dk.row(j).isZero(0) && g.dv.row(j).isZero(0));
  EXPECT_GT(g.dk.norm(), 0.1);
}

/// Long heads are cut in pieces of keys, by shape alone: the gradients are those of the uncut problem, bits
/// do not depend on threads, and accumulating adds to what is there.
TEST(AttentionBackward, LongHeadsAreCutInPieces) {
  const Index n = 70, m = 4500, d = 5, d_v = 3;
  const std::vector<Index> q_offsets = {0, 1, 40, n}, k_offsets = {0, 4200, 4202, m};
  Dice dice(23);
  const Matrix<double> q = dice.matrix<double>(n, 2 * d), k = dice.matrix<double>(m, d),
                       v = dice.matrix<double>(m, d_v), dout = dice.matrix<double>(n, 2 * d_v);
  for (const bool ragged : {false, true}) {
    const std::vector<Index> whole_q = {0, n}, whole_k = {0, m};
    const auto spec = heed::spec(heed::heads(2, 1), heed::causal(),
                                 heed::sequences(ragged ? q_offsets : whole_q, ragged ? k_offsets : whole_k));
    heed::Saved<double> saved;
    const Matrix<double> out = heed::attention(q, k, v, spec, heed::save(saved));
    Eigen::ThreadPool single(1), pool(3);
    const auto one = heed::attention_backward(dout, q, k, v, out, saved, spec, heed::on(single));
    const auto many = heed::attention_backward(dout, q, k, v, out, saved, spec, heed::on(pool));
    EXPECT_EQ(one.dq, many.dq);
    EXPECT_EQ(one.dk, many.dk);
    EXPECT_EQ(one.dv, many.dv);
    const heed::Shape shape =
        heed::detail::make_shape(spec, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
    Matrix<double> dq(n, 2 * d), dk(m, d), dv(m, d_v);
    const Matrix<double>* none = nullptr;
    heed::detail::reference_backward<false, double>(spec, shape, dout, q, k, v, none, dq, dk, dv,
                                                    heed::detail::Nothing());
    EXPECT_LT(distance(one.dq, dq), 1e-13);
    EXPECT_LT(distance(one.dk, dk), 1e-13);
    EXPECT_LT(distance(one.dv, dv), 1e-13);
    heed::Workspace workspace;
    Matrix<double> to_dq = dq, to_dk = dk, to_dv = dv;
    heed::attention_backward(dout, q, k, v, out, saved, spec, heed::on(pool), heed::accumulating,
                             heed::into(to_dq, to_dk, to_dv), heed::use(workspace));
    EXPECT_LT(distance(to_dq, 2 * dq), 1e-12);
    EXPECT_LT(distance(to_dk, 2 * dk), 1e-12);
    EXPECT_GT(workspace.bytes(), static_cast<std::size_t>(8 * n * 2 * d) * sizeof(double))
        << "it was not cut";
  }
}

TEST(AttentionBackward, BitsAreEqualForAnyNumberOfThreads) {
  const Pass<float> x(300, 257, 20, 24, 6, 3, heed::window(90, 10));
  const auto spec = heed::spec(heed::heads(6, 3), heed::window(90, 10));
  const auto alone = x.gradients(spec, heed::on(heed::serial()));
  for (int threads : {2, 3, 8}) {
    Eigen::ThreadPool pool(threads);
    const auto together = x.gradients(spec, heed::on(pool));
    EXPECT_EQ(distance(alone.dq, together.dq), 0) << threads;
    EXPECT_EQ(distance(alone.dk, together.dk), 0) << threads;
    EXPECT_EQ(distance(alone.dv, together.dv), 0) << threads;
  }
}

TEST(AttentionBackward, AllocatesNothingWithAWarmWorkspace) {
  heed::Workspace workspace;
  const Pass<float> x(150, 170, 40, 24, 4, 2, heed::causal());
  Matrix<float> dq(150, 160), dk(170, 80), dv(170, 48);
  const auto run = [&] {
    x.gradients(heed::heads(4, 2), heed::causal(), heed::into(dq, dk, dv), heed::use(workspace),
                heed::on(heed::serial()));
  };
  run();
  const AllocationCounter counter;
  run();
  EXPECT_EQ(counter.count(), 0);
}

TEST(AttentionBackward, RefusesWrongArguments) {
  const Pass<float> x(10, 12, 8, 6, 1, 1);
  const auto message = [](const auto& call) {
    try {
      call();
    } catch (const std::invalid_argument& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const auto says = [&](const std::string& text, const auto& call) {
    EXPECT_NE(message(call).find(text), std::string::npos) << message(call);
  };
  Matrix<float> dq(10, 8), dk(12, 8), dv(12, 6), wide(10, 9);
  heed::Saved<float> empty;
  says("dout is 10 x 9, it must be 10 x 6",
       [&] { heed::attention_backward(wide, x.q, x.k, x.v, x.out, x.saved); });
  says("out is 10 x 9", [&] { heed::attention_backward(x.dout, x.q, x.k, x.v, wide, x.saved); });
  says("saved.lse is 0 x 0", [&] { heed::attention_backward(x.dout, x.q, x.k, x.v, x.out, empty); });
  says("dq is 12 x 8, q is 10 x 8", [&] { x.gradients(heed::into(dk, dk, dv)); });
  says("dv is 12 x 8, v is 12 x 6", [&] { x.gradients(heed::into(dq, dk, dk)); });
  says("bias_gradient has 9 columns",
       [&] { x.gradients(heed::into(dq, dk, dv), heed::bias_gradient(wide)); });
  Eigen::VectorXf three(3);
  says("sink_gradient is 3 x 1",
       [&] { x.gradients(heed::sink(1.0f), heed::into(dq, dk, dv), heed::sink_gradient(three)); });
  says("sink: 2 logits for 1 heads", [&] { x.gradients(heed::sink({1.0, 2.0})); });
  says("lse_gradient is 10 x 9, it must be 10 x 1", [&] { x.gradients(heed::lse_gradient(wide)); });
  RowMatrix<float> both = RowMatrix<float>::Zero(12, 15);
  says("dv shares elements with dk",
       [&] { x.gradients(heed::into(dq, both.leftCols(8), both.middleCols(7, 6))); });
  Matrix<float> k = x.k;
  says("dk shares elements with k",
       [&] { heed::attention_backward(x.dout, x.q, k, x.v, x.out, x.saved, heed::into(dq, k, dv)); });
}

TEST(AttentionBackward, EmptySizes) {
  for (const auto& [n, m] : std::vector<std::pair<Index, Index>>{{0, 5}, {5, 0}, {0, 0}}) {
    const Pass<float> x(n, m, 4, 3, 1, 1);
    const auto [dq, dk, dv] = x.gradients();
    EXPECT_TRUE(dq.isZero(0.0f) && dk.isZero(0.0f) && dv.isZero(0.0f));
    EXPECT_EQ(dq.rows(), n);
    EXPECT_EQ(dk.rows(), m);
  }
}

}  // namespace
