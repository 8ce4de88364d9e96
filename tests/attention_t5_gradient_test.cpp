// SPDX-License-Identifier: MIT
// The gradient of the table of T5's relative positions.
#include "oracle.hpp"

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <heed/attention_backward.hpp>
#include <heed/execute/on.hpp>
#include <heed/execute/pool.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/position/t5_buckets.hpp>
#include <heed/score/softcap.hpp>

namespace {

using namespace heed_test;

/// A ragged batch, the second of whose sequences has more keys than queries, with a softcap before the bias.
template <class T>
struct Problem {
  Index heads, key_heads;
  std::vector<Index> q_offsets, k_offsets;
  Matrix<T> q, k, v, dout;
  heed::T5Buckets options{.buckets = 12, .distance = 30};

  Problem(Index n, Index h, Index hk)
      : heads(h), key_heads(hk), q_offsets{0, n / 3, n / 3, n}, k_offsets{0, n / 3, n / 3 + 2, n + 9} {
    Dice dice(23);
    q = dice.matrix<T>(n, h * 6);
    k = dice.matrix<T>(n + 9, hk * 6);
    v = dice.matrix<T>(n + 9, hk * 5);
    dout = dice.matrix<T>(n, h * 5);
  }
  template <class Table>
  auto spec(const Table& table) const {
    return heed::spec(heed::heads(heads, key_heads), heed::sequences(q_offsets, k_offsets), heed::causal(3),
                      heed::t5_bias(table, options), heed::softcap(5.0));
  }
  template <class Table>
  double loss(const Table& table) const {
    const Matrix<T> out = heed::attention(q, k, v, spec(table));
    return out.template cast<double>().cwiseProduct(dout.template cast<double>()).sum();
  }
  template <class Table, class DTable, class... More>
  auto gradients(const Table& table, DTable& dtable, const More&... more) const {
    heed::Saved<T> saved;
    const Matrix<T> out = heed::attention(q, k, v, spec(table), heed::save(saved));
    return heed::attention_backward(dout, q, k, v, out, saved, spec(table), heed::t5_bias_gradient(dtable),
                                    more...);
  }
};

TEST(AttentionT5Gradient, CentralDifferences) {
  for (const Index n : {1, 7, 40, 110})
    for (const Index rows : {4, 1}) {
      const Problem<double> x(n, 4, 2);
      const Matrix<double> table = Dice(static_cast<std::uint64_t>(n)).matrix<double>(rows, 12);
      Matrix<double> dtable = Matrix<double>::Constant(rows, 12, 1e9);
      (void)x.gradients(table, dtable);
      EXPECT_GT(dtable.norm(), 1e-3);
      for (Index h = 0; h < rows; ++h)
        for (Index b = 0; b < 12; ++b) {
          Matrix<double> above = table, below = table;
          above(h, b) += 1e-5;
          below(h, b) -= 1e-5;
          EXPECT_NEAR(dtable(h, b), (x.loss(above) - x.loss(below)) / 2e-5, 1e-8 * static_cast<double>(n + 5))
              << n << ": " << h << ", " << b;
        }
    }
}

/// Float on the engine against the plain loops in long double, which are held against differences by the
/// engine's agreement with them.
TEST(AttentionT5Gradient, MatchesTheReference) {
  const Problem<float> x(97, 4, 2);
  Problem<long double> exact(97, 4, 2);
  exact.q = x.q.cast<long double>();
  exact.k = x.k.cast<long double>();
  exact.v = x.v.cast<long double>();
  exact.dout = x.dout.cast<long double>();
  const Matrix<float> table = Dice(5).matrix<float>(4, 12);
  Matrix<float> d(4, 12);
  Matrix<long double> d_exact(4, 12);
  (void)x.gradients(table, d);
  (void)exact.gradients(table, d_exact);
  EXPECT_LT((d.cast<double>() - d_exact.cast<double>()).norm(), 1e-6 * d_exact.cast<double>().norm());
}

TEST(AttentionT5Gradient, AccumulatesSumsHeadsAndKeepsBits) {
  const Problem<float> x(900, 4, 4);
  const Matrix<float> table = Dice(6).matrix<float>(4, 12);
  Eigen::ThreadPool single(1), pool(3);
  Matrix<float> one(4, 12), many(4, 12), sum(1, 12);
  (void)x.gradients(table, one, heed::on(single));
  (void)x.gradients(table, many, heed::on(pool));
  EXPECT_EQ(one, many);
  (void)x.gradients(table, sum, heed::on(pool));
  EXPECT_TRUE(sum.isApprox(one.colwise().sum(), 1e-5f));

  Matrix<float> dq = Matrix<float>::Zero(x.q.rows(), x.q.cols()), dk(x.k), dv(x.v);
  Guarded<float> twice(one, Layout::spread);
  auto view = twice.view();
  x.gradients(table, view, heed::into(dq, dk, dv), heed::accumulating, heed::on(pool));
  EXPECT_TRUE(twice.intact());
  EXPECT_TRUE(Matrix<float>(twice.view()).isApprox(2 * one, 1e-6f));
}

TEST(AttentionT5Gradient, Refuses) {
  const Problem<double> x(5, 2, 1);
  const Matrix<double> table = Dice(7).matrix<double>(2, 12);
  Matrix<double> d(2, 12), other_heads(3, 12), other_buckets(2, 11);
  const auto gradients = [&x](const Matrix<double>& t, Matrix<double>& to) { (void)x.gradients(t, to); };
  gradients(table, d);
  EXPECT_THROW(gradients(table, other_heads), std::invalid_argument);
  EXPECT_THROW(gradients(table, other_buckets), std::invalid_argument);
  EXPECT_THROW(gradients(other_heads.setZero(), d), std::invalid_argument);
  EXPECT_THROW(gradients(other_buckets.setZero(), d), std::invalid_argument);
  Matrix<double> broken = table;
  broken(1, 3) = std::numeric_limits<double>::infinity();
  EXPECT_THROW(gradients(broken, d), std::invalid_argument);
  const auto far = [&](Index offset) {
    return heed::attention(x.q, x.k, x.v, heed::heads(2, 1), heed::sequences(x.q_offsets, x.k_offsets),
                           heed::causal(3), heed::t5_bias(table, x.options, offset), heed::softcap(5.0));
  };
  EXPECT_THROW((void)far(Index(1) << 40), std::invalid_argument);
}

}  // namespace
