// SPDX-License-Identifier: MIT
// NaN and infinity: where nobody sees them they reach nothing, where somebody does they reach the rows that
// see them and no other; and what is invisible is not even asked about.
#include "oracle.hpp"

#include <atomic>

#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/score_with.hpp>

namespace {

using namespace heed_test;

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

const std::vector<std::pair<Index, Index>> sizes =
    small ? std::vector<std::pair<Index, Index>>{{2, 3}, {5, 7}, {1, 40}, {5, 33}, {20, 50}, {70, 120}}
          : std::vector<std::pair<Index, Index>>{{2, 3},    {5, 7},     {6, 4},    {1, 40},  {2, 4200},
                                                 {5, 33},   {8, 100},   {9, 40},   {20, 50}, {64, 97},
                                                 {70, 120}, {129, 129}, {200, 140}};

/// Puts non-finite numbers into keys and values, one at a time, and looks which rows notice. `visible(i, j)`
/// is what the policies are meant to say.
template <class Visible, class... P>
void poison(const char* name, Index n, Index m, const Visible& visible, const P&... policies) {
  const Index d = 20, d_v = 19;
  Dice dice(static_cast<std::uint64_t>(n * 1000 + m));
  // Positive, so that infinite keys give scores of +inf and never of -inf, which would hide the pair.
  const RowMatrix<float> q = dice.matrix<float>(n, d).cwiseAbs().array() + 0.01f;
  const Eigen::MatrixXf k = dice.matrix<float>(m, d), v = dice.matrix<float>(m, d_v);
  const Eigen::MatrixXf want = heed::attention(q, k, v, policies...);
  ASSERT_TRUE(want.allFinite()) << name;
  for (const Layout layout : {Layout::rows, Layout::columns}) {
    // All that nobody sees, at once.
    Eigen::MatrixXf hidden_k = k, hidden_v = v;
    Index hidden = 0;
    for (Index j = 0; j < m; ++j) {
      bool seen = false;
      for (Index i = 0; i < n; ++i) seen = seen || visible(i, j);
      if (seen) continue;
      ++hidden;
      hidden_k.row(j).setConstant(j % 4 == 0 ? nan : j % 4 == 1 ? infinity : j % 4 == 2 ? -infinity : 3e38f);
      hidden_v.row(j).setConstant(j % 3 == 0 ? nan : j % 3 == 1 ? infinity : 3e38f);
    }
    if (hidden > 0) {
      const Guarded<float> gk(hidden_k, layout), gv(hidden_v, layout);
      const Eigen::MatrixXf out = heed::attention(q, gk.view(), gv.view(), policies...);
      EXPECT_TRUE(out.allFinite()) << name << ": something invisible was read, " << n << " x " << m;
      EXPECT_LT((out - want).cwiseAbs().maxCoeff(), 1e-5) << name;
    }
    // One key or value.
    for (int turn = 0; turn < (small ? 6 : 12); ++turn) {
      const Index j = turn == 0 ? 0 : turn == 1 ? m - 1 : dice.below(m), c = dice.below(d_v);
      Eigen::MatrixXf bad_k = k, bad_v = v;
      const bool in_keys = turn % 2 == 0;
      if (in_keys) {
        bad_k.row(j).setConstant(turn % 4 == 0 ? nan : infinity);
      } else {
        bad_v(j, c) = turn % 4 == 1 ? nan : infinity;
      }
      const Guarded<float> gk(bad_k, layout), gv(bad_v, layout);
      const Eigen::MatrixXf out = heed::attention(q, gk.view(), gv.view(), policies...);
      for (Index i = 0; i < n; ++i) {
        if (!visible(i, j)) {
          EXPECT_TRUE(out.row(i).allFinite())
              << name << ": row " << i << " does not see key " << j << ", " << n << " x " << m;
          EXPECT_LT((out.row(i) - want.row(i)).cwiseAbs().maxCoeff(), 1e-5) << name;
        } else if (in_keys) {
          EXPECT_TRUE(out.row(i).array().isNaN().all())
              << name << ": row " << i << " sees key " << j << ", " << n << " x " << m;
        } else {
          EXPECT_FALSE(std::isfinite(out(i, c)))
              << name << ": row " << i << " sees value " << j << ", " << n << " x " << m;
        }
      }
      if (::testing::Test::HasFailure()) return;
    }
    // One query.
    const Index i = dice.below(n);
    RowMatrix<float> bad_q = q;
    bad_q(i, 3) = nan;
    const Guarded<float> gq(bad_q, layout), gk(k, layout), gv(v, layout);
    const Eigen::MatrixXf out =
        layout == Layout::rows
            ? Eigen::MatrixXf(heed::attention(bad_q, gk.view(), gv.view(), policies...))
            : Eigen::MatrixXf(heed::attention(gq.view(), gk.view(), gv.view(), policies...));
    for (Index r = 0; r < n; ++r) {
      bool sees = false;
      for (Index j = 0; j < m; ++j) sees = sees || visible(r, j);
      if (r == i && sees)
        EXPECT_TRUE(out.row(r).array().isNaN().all()) << name;
      else
        EXPECT_LT((out.row(r) - want.row(r)).cwiseAbs().maxCoeff(), 1e-5)
            << name << ": row " << r << ", the NaN is in query " << i;
    }
  }
}

TEST(AttentionNonfinite, NoMask) {
  for (const auto& [n, m] : sizes) poison("no mask", n, m, [](Index, Index) { return true; });
}

TEST(AttentionNonfinite, Causal) {
  for (const auto& [n, m] : sizes) {
    const Index off = m - n;
    poison(
        "causal", n, m, [off](Index i, Index j) { return j <= i + off; }, heed::causal());
    poison(
        "causal(top_left)", n, m, [](Index i, Index j) { return j <= i; }, heed::causal(heed::top_left));
  }
}

TEST(AttentionNonfinite, Window) {
  for (const auto& [n, m] : sizes) {
    const Index off = m - n;
    poison(
        "window", n, m, [off](Index i, Index j) { return j >= i + off - 9 && j <= i + off + 3; },
        heed::window(9, 3));
  }
}

TEST(AttentionNonfinite, Lengths) {
  for (const auto& [n, m] : sizes) {
    const Index length = m * 2 / 3;
    poison(
        "lengths", n, m, [length](Index, Index j) { return j < length; }, heed::lengths({length}));
  }
}

TEST(AttentionNonfinite, Documents) {
  for (const auto& [n, m] : sizes) {
    std::vector<int> q, k;
    for (Index i = 0; i < n; ++i) q.push_back(static_cast<int>(i / 11 % 3));
    for (Index j = 0; j < m; ++j) k.push_back(static_cast<int>(j / 13 % 4));  // nobody looks for number 3
    poison(
        "documents", n, m,
        [&](Index i, Index j) { return q[static_cast<std::size_t>(i)] == k[static_cast<std::size_t>(j)]; },
        heed::documents(q, k));
  }
}

TEST(AttentionNonfinite, DenseMask) {
  for (const auto& [n, m] : sizes) {
    Dice dice(5);
    Matrix<bool> b(n, m);
    for (Index j = 0; j < m; ++j)
      for (Index i = 0; i < n; ++i) b(i, j) = j % 7 != 4 && dice.coin();
    poison(
        "dense_mask", n, m, [&](Index i, Index j) { return b(i, j); }, heed::dense_mask(b));
  }
}

TEST(AttentionNonfinite, MaskWhere) {
  for (const auto& [n, m] : sizes)
    poison(
        "mask_where", n, m, [](Index i, Index j) { return (i + j) % 3 != 0 && j % 5 != 2; },
        heed::mask_where([](auto i, auto j) { return (i + j) % 3 != 0 && j % 5 != 2; }));
}

TEST(AttentionNonfinite, MinusInfinityInABias) {
  for (const auto& [n, m] : sizes) {
    Dice dice(6);
    Eigen::MatrixXf b(n, m);
    for (Index j = 0; j < m; ++j)
      for (Index i = 0; i < n; ++i)
        b(i, j) = j % 7 == 4 || dice.below(3) == 0 ? -infinity : static_cast<float>(dice.normal());
    poison(
        "bias", n, m, [&](Index i, Index j) { return b(i, j) != -infinity; }, heed::bias(b));
  }
}

TEST(AttentionNonfinite, NaNInABias) {
  Dice dice(9);
  for (const auto& [n, m] : sizes) {
    const Eigen::MatrixXf q = dice.matrix<float>(n, 8), k = dice.matrix<float>(m, 8),
                          v = dice.matrix<float>(m, 3);
    Eigen::MatrixXf b = dice.matrix<float>(n, m);
    const Eigen::MatrixXf want = heed::attention(q, k, v, heed::bias(b));
    const Index i = dice.below(n);
    for (const float bad : {nan, infinity}) {
      b(i, dice.below(m)) = bad;
      const Eigen::MatrixXf out = heed::attention(q, k, v, heed::bias(b));
      for (Index r = 0; r < n; ++r) EXPECT_EQ(out.row(r).allFinite(), r != i);
      EXPECT_LT((out - want).topRows(i).norm() + (out - want).bottomRows(n - 1 - i).norm(), 1e-4f);
    }
  }
}

/// Finite, if huge, numbers are ordinary ones (attention_extremes_test.cpp has more of them).
TEST(AttentionNonfinite, HugeFiniteBias) {
  Dice dice(7);
  for (const auto& [n, m] : sizes) {
    const Eigen::MatrixXf q = dice.matrix<float>(n, 8), k = dice.matrix<float>(m, 8),
                          v = dice.matrix<float>(m, 3);
    const Eigen::MatrixXf equal = v.colwise().mean().replicate(n, 1);
    heed::Saved<float> saved;
    for (const float huge : {-1e9f, -2e38f}) {  // either swallows the scores
      Eigen::MatrixXf b = Eigen::MatrixXf::Constant(1, m, huge);
      EXPECT_LT((heed::attention(q, k, v, heed::bias(b), heed::save(saved)) - equal).cwiseAbs().maxCoeff(),
                1e-5);
      EXPECT_TRUE(saved.lse.isApproxToConstant(huge, 1e-6f));
      for (const Index seen : {Index(0), m / 2, m - 1}) {
        b.setConstant(huge);
        b(0, seen) = 0;
        EXPECT_LT((heed::attention(q, k, v, heed::bias(b), heed::save(saved)) - v.row(seen).replicate(n, 1))
                      .cwiseAbs()
                      .maxCoeff(),
                  1e-6);
      }
    }
    const Eigen::MatrixXf beyond = Eigen::MatrixXf::Constant(1, m, -infinity);
    EXPECT_TRUE(heed::attention(q, k, v, heed::bias(beyond), heed::save(saved)).isZero(0));
    EXPECT_TRUE((saved.lse.array() == -infinity).all());
  }
}

/// Asks no pair that the masks hide, and no position outside; counts the rest.
template <class Visible, class... P>
void never_asked(const char* name, Index n, Index m, const Visible& visible, const P&... masks) {
  std::atomic<Index> wrong{0};
  Matrix<int> asked = Matrix<int>::Zero(n, m);
  Dice dice(8);
  const RowMatrix<float> q = dice.matrix<float>(n, 8), k = dice.matrix<float>(m, 8),
                         v = dice.matrix<float>(m, 3);
  const auto out = heed::attention(q, k, v, masks..., heed::score_with([&](auto s, auto i, auto j) {
                                     if (i < 0 || i >= n || j < 0 || j >= m || !visible(i, j))
                                       ++wrong;
                                     else
                                       asked(i, j) = 1;
                                     return s;
                                   }));
  EXPECT_EQ(wrong, 0) << name << ", " << n << " x " << m;
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < m; ++j)
      if (visible(i, j)) {
        EXPECT_EQ(asked(i, j), 1) << name << ": pair " << i << ", " << j << " of " << n << " x " << m;
      }
  EXPECT_TRUE(out.allFinite());
}

TEST(AttentionNonfinite, InvisiblePairsAreNotAskedAbout) {
  for (const auto& [n, m] : sizes) {
    const Index off = m - n;
    never_asked("no mask", n, m, [](Index, Index) { return true; });
    never_asked(
        "causal", n, m, [off](Index i, Index j) { return j <= i + off; }, heed::causal());
    never_asked(
        "window & lengths", n, m,
        [=, keys = m](Index i, Index j) { return j >= i + off - 9 && j <= i + off + 3 && j < keys / 2 + 1; },
        heed::window(9, 3), heed::lengths({m / 2 + 1}));
    never_asked(
        "mask_where", n, m, [](Index i, Index j) { return (i * j) % 3 != 1; },
        heed::mask_where([](auto i, auto j) { return (i * j) % 3 != 1; }));
  }
}

}  // namespace
