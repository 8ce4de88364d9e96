// SPDX-License-Identifier: MIT
// What must hold of attention whatever its numbers are.
#include "oracle.hpp"

#include <numeric>

#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/window.hpp>
#include <heed/merge.hpp>
#include <heed/score/bias.hpp>

namespace {

using namespace heed_test;

struct Operands {
  Eigen::MatrixXf q, k, v;
  Operands(Index n, Index m, Index d, Index d_v, std::uint64_t seed) {
    Dice dice(seed);
    q = dice.matrix<float>(n, d);
    k = dice.matrix<float>(m, d);
    v = dice.matrix<float>(m, d_v);
  }
};

/// Streamed and tiled, one pack and several, with and without a crumb of keys.
const std::vector<std::pair<Index, Index>> sizes = {{1, 1},    {2, 2},   {1, 40},    {3, 129},
                                                    {8, 33},   {9, 1},   {17, 65},   {64, 97},
                                                    {65, 200}, {113, 7}, {129, 129}, {200, 300}};

double distance(const Eigen::MatrixXf& a, const Eigen::MatrixXf& b) {
  EXPECT_EQ(a.rows(), b.rows());
  EXPECT_EQ(a.cols(), b.cols());
  EXPECT_TRUE(a.allFinite());
  return a.size() == 0 ? 0.0 : static_cast<double>((a - b).cwiseAbs().maxCoeff());
}

TEST(AttentionProperty, WeightsSumToOne) {
  for (const auto& [n, m] : sizes) {
    Operands x(n, m, 24, 1, 1);
    const Eigen::MatrixXf weights = heed::attention(x.q, x.k, Eigen::MatrixXf::Identity(m, m));
    ASSERT_EQ(weights.cols(), m);
    EXPECT_GE(weights.minCoeff(), 0);
    EXPECT_LT((weights.cast<double>().rowwise().sum().array() - 1).abs().maxCoeff(), 2e-6) << n << " x " << m;
    // They are exponentials of the scores: their logarithms differ as the scores do.
    const Eigen::MatrixXf s = product(x.q, x.k.transpose()) / std::sqrt(24.0f);
    for (Index j = 1; j < m; ++j)
      EXPECT_NEAR(std::log(weights(n - 1, j) / weights(n - 1, 0)), s(n - 1, j) - s(n - 1, 0), 2e-5);
  }
}

TEST(AttentionProperty, ConstantAddedToARowOfScores) {
  for (const auto& [n, m] : sizes) {
    Operands x(n, m, 24, 10, 2);
    Eigen::MatrixXf shift = Eigen::VectorXf::LinSpaced(n, -5, 30);
    heed::Saved<float> saved, moved;
    const Eigen::MatrixXf zero = Eigen::MatrixXf::Zero(n, 1);
    const Eigen::MatrixXf want = heed::attention(x.q, x.k, x.v, heed::bias(zero), heed::save(saved));
    EXPECT_LT(distance(heed::attention(x.q, x.k, x.v, heed::bias(shift), heed::save(moved)), want), 3e-5);
    EXPECT_LT(distance(moved.lse, saved.lse + shift), 1e-5);
  }
}

TEST(AttentionProperty, ConstantValues) {
  for (const auto& [n, m] : sizes) {
    Operands x(n, m, 24, 10, 3);
    x.v.rowwise() = Eigen::RowVectorXf::LinSpaced(10, -2, 7).eval();
    EXPECT_LT(distance(heed::attention(x.q, x.k, x.v), x.v.row(0).replicate(n, 1)), 1e-5);
  }
}

TEST(AttentionProperty, OrderOfKeys) {
  for (const auto& [n, m] : sizes) {
    Operands x(n, m, 24, 10, 4);
    Eigen::PermutationMatrix<Eigen::Dynamic> p(m);
    p.setIdentity();
    Dice dice(5);
    for (Index j = m - 1; j > 0; --j) std::swap(p.indices()[j], p.indices()[dice.below(j + 1)]);
    const Eigen::MatrixXf k = p * x.k, v = p * x.v;
    EXPECT_LT(distance(heed::attention(x.q, k, v), heed::attention(x.q, x.k, x.v)), 3e-6);
  }
}

TEST(AttentionProperty, CausalIsOneCallPerPrefix) {
  for (const auto& [n, m] : sizes) {
    Operands x(n, m, 24, 10, 6);
    const Eigen::MatrixXf got = heed::attention(x.q, x.k, x.v, heed::causal());
    for (Index i = 0; i < n; i += small ? 7 : 1) {
      const Index keys = std::max<Index>(0, i + m - n + 1);
      EXPECT_LT(distance(got.row(i), heed::attention(x.q.row(i), x.k.topRows(keys), x.v.topRows(keys))), 3e-6)
          << n << " x " << m << ", row " << i;
    }
  }
}

TEST(AttentionProperty, WideWindowIsCausal) {
  for (const auto& [n, m] : sizes) {
    Operands x(n, m, 24, 10, 7);
    const Eigen::MatrixXf want = heed::attention(x.q, x.k, x.v, heed::causal());
    for (Index left : {m, m + 100, heed::unbounded})
      EXPECT_LT(distance(heed::attention(x.q, x.k, x.v, heed::window(left, 0)), want), 2e-6);
    EXPECT_LT(distance(heed::attention(x.q, x.k, x.v, heed::sliding_window(m + n)), want), 2e-6);
    EXPECT_LT(distance(heed::attention(x.q, x.k, x.v, heed::window(heed::unbounded, heed::unbounded)),
                       heed::attention(x.q, x.k, x.v)),
              2e-6);
  }
}

TEST(AttentionProperty, SplitAndMergeIsTheWhole) {
  for (const auto& [n, m] : sizes) {
    Operands x(n, m, 24, 10, 8);
    heed::Saved<float> all;
    const Eigen::MatrixXf want = heed::attention(x.q, x.k, x.v, heed::save(all));
    const Index cuts[] = {0, m / 3, m / 3, m / 2, m};
    heed::Saved<float> lse;
    Eigen::MatrixXf out = heed::attention(x.q, x.k.topRows(0), x.v.topRows(0), heed::save(lse));
    for (int piece = 0; piece < 4; ++piece) {
      heed::Saved<float> more;
      const Index begin = cuts[piece], count = cuts[piece + 1] - begin;
      const Eigen::MatrixXf part =
          heed::attention(x.q, x.k.middleRows(begin, count), x.v.middleRows(begin, count), heed::save(more));
      heed::merge_into(out, lse.lse, part, more.lse);
    }
    EXPECT_LT(distance(out, want), 3e-6);
    EXPECT_LT(distance(lse.lse, all.lse), 3e-6);
  }
}

TEST(AttentionProperty, GroupedHeadsAreRepeatedKeys) {
  for (const auto& [n, m] : sizes) {
    for (Index group : {2, 4, 9}) {
      const Index d = 12, d_v = 5, key_heads = 2, heads = key_heads * group;
      Dice dice(9);
      const Eigen::MatrixXf q = dice.matrix<float>(n, heads * d), k = dice.matrix<float>(m, key_heads * d),
                            v = dice.matrix<float>(m, key_heads * d_v);
      Eigen::MatrixXf keys(m, heads * d), values(m, heads * d_v);
      for (Index h = 0; h < heads; ++h) {
        keys.middleCols(h * d, d) = k.middleCols(h / group * d, d);
        values.middleCols(h * d_v, d_v) = v.middleCols(h / group * d_v, d_v);
      }
      EXPECT_LT(distance(heed::attention(q, k, v, heed::heads(heads, key_heads)),
                         heed::attention(q, keys, values, heed::heads(heads))),
                3e-6);
    }
  }
}

/// Heads packed in wide rows, and columns of long matrices, are copied on the way (engine/copied_keys.inl):
/// whole heads, rings that are run through several times, several sequences.
TEST(AttentionProperty, CopiesAreWhatTheyCopy) {
  const Index heads = 8, d = 64, n = 310;
  for (Index m : {Index(333), Index(1030), small ? Index(1100) : Index(5301)}) {
    Dice dice(static_cast<std::uint64_t>(m));
    const RowMatrix<float> q = dice.matrix<float>(n, heads * d), k = dice.matrix<float>(m, heads * d),
                           v = dice.matrix<float>(m, heads * d);
    const Eigen::MatrixXf k_columns = k, v_columns = v;
    const Index third = n / 3, most = m / 2;
    const auto check = [&](const char* name, const auto&... policies) {
      const Eigen::MatrixXf together = heed::attention(q, k, v, heed::heads(heads), policies...),
                            columns =
                                heed::attention(q, k_columns, v_columns, heed::heads(heads), policies...);
      for (Index h = 0; h < heads; h += 7) {
        const RowMatrix<float> one_q = q.middleCols(h * d, d), one_k = k.middleCols(h * d, d),
                               one_v = v.middleCols(h * d, d);
        const Eigen::MatrixXf alone = heed::attention(one_q, one_k, one_v, policies...);
        EXPECT_LT(distance(together.middleCols(h * d, d), alone), 3e-6) << name << ", " << m << " keys";
        EXPECT_LT(distance(columns.middleCols(h * d, d), alone), 3e-6) << name << ", " << m << " keys";
      }
    };
    check("full");
    check("causal", heed::causal());
    check("window", heed::window(150, 20));
    check("sequences",
          heed::sequences(std::vector<Index>{0, 5, third, n}, std::vector<Index>{0, most, most + 70, m}),
          heed::causal());
  }
}

/// One chain of float additions would be off by percents here.
TEST(AttentionProperty, MillionEqualScores) {
  const Index m = small ? 100000 : 1000000;
  const float value = 0.7f;
  const Eigen::MatrixXf k = Eigen::MatrixXf::Zero(m, 2), v = Eigen::MatrixXf::Constant(m, 3, value);
  const double u = 0x1p-24, bound = (2 * 2 * u + (7 + 5 * std::sqrt(static_cast<double>(m))) * u);
  for (Index n : {1, 8, 9, 20}) {
    const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(n, 2);
    heed::Saved<float> saved;
    // Row i of `out` sees keys_of(i) keys.
    const auto compare = [&](const char* path, const Eigen::MatrixXf& out, auto keys_of) {
      double worst = 0, worst_lse = 0;
      for (Index i = 0; i < n; ++i) {
        const double lse = std::log(static_cast<double>(keys_of(i)));
        for (Index e = 0; e < v.cols(); ++e)
          worst = std::max(worst, std::abs(double(out(i, e)) / double(value) - 1) / bound);
        worst_lse = std::max(worst_lse, std::abs(double(saved.lse(i, 0)) - lse) / (bound + 3 * u * lse));
      }
      std::printf("equal scores, %d x %d, %s: worst ratio to the bound: %.4f (log-sum-exp %.4f)\n", int(n),
                  int(m), path, worst, worst_lse);
      EXPECT_LE(worst, 1);
      EXPECT_LE(worst_lse, 1);
    };
    compare("full", heed::attention(q, k, v, heed::save(saved)), [&](Index) { return m; });
    compare("window", heed::attention(q, k, v, heed::window(m - 100, 0, m - 1), heed::save(saved)),
            [&](Index i) { return m - 99 - i; });
  }
}

/// The workspace may stand before the policies, among them, or nowhere.
TEST(AttentionProperty, IntoTakesItsWorkspaceEitherWay) {
  Dice dice(77);
  const Matrix<float> q = dice.matrix<float>(90, 32), k = dice.matrix<float>(70, 32);
  heed::Workspace one, two;
  Matrix<float> a(90, 32), b(90, 32), c(90, 40);
  heed::attention_into(a, q, k, k, one, heed::causal());
  heed::attention_into(b, q, k, k, heed::causal(), heed::use(two));
  heed::attention_into(c.rightCols(32), q, k, k, heed::causal());
  EXPECT_EQ(a, b);
  EXPECT_EQ(a, c.rightCols(32));
  EXPECT_GT(one.bytes(), 0u);
  EXPECT_EQ(one.bytes(), two.bytes());
}

}  // namespace
