// SPDX-License-Identifier: MIT
// Queries that name their keys, which the engine goes through one by one: attention() and its gradients
// against plain loops, together with everything else; and what is not read.
#include "allocation_counter.hpp"
#include "gradient_oracle.hpp"

#include <tuple>

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <heed/mask/causal.hpp>
#include <heed/mask/key_lists.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/dropout.hpp>
#include <heed/select/sink.hpp>

namespace {

using namespace heed_test;

/// Lists of up to `most` keys, none in every seventh row.
heed::KeyLists draw_lists(Dice& dice, Index rows, Index keys, Index most, Index patterns) {
  std::vector<Index> offsets = {0}, listed;
  for (Index r = 0; r < rows * patterns; ++r) {
    const Index wanted = dice.below(7) == 0 || keys == 0 ? 0 : 1 + dice.below(std::min(most, keys));
    for (Index j = 0, left = wanted; j < keys && left > 0; ++j)
      if (dice.below(keys - j) < left) {
        listed.push_back(j);
        --left;
      }
    offsets.push_back(static_cast<Index>(listed.size()));
  }
  return heed::key_lists(offsets, listed, patterns);
}

template <class T>
void alone() {
  Oracle<T> oracle("key_lists");
  GradientOracle<T> gradients("gradients, key_lists");
  Dice dice(401);
  for (Index t = 0; t < sweep(150); ++t) {
    const Case c = draw_case<T>(401, t);
    const auto variant =
        heed::spec(draw_lists(dice, c.n, c.m, t % 3 == 0 ? 200 : 20, t % 2 == 0 ? 1 : c.heads),
                   heed::heads(c.heads, c.key_heads));
    oracle.check(c, variant);
    gradients.check(c, variant, t % 3 == 0);
  }
}

template <class T>
void within() {
  Oracle<T> oracle("key_lists, causal, lambda, hiding, softcap, sink, dropout");
  GradientOracle<T> gradients("gradients, key_lists, causal, lambda, hiding, softcap, sink, dropout");
  Dice dice(402);
  for (Index t = 0; t < sweep(100); ++t) {
    const Case c = draw_case<T>(402, t);
    const auto variant = heed::spec(
        heed::causal() & draw_lists(dice, c.n, c.m, 90, 1), heed::heads(c.heads, c.key_heads),
        heed::softcap(3), heed::sink(T(0.25)), heed::dropout(0.2, 5),
        heed::mask_where([](auto i, auto j, auto h) { return (i + 2 * j + h) % 5 != 0; }),
        heed::score_with([](auto s, auto i, auto j, auto) {
          return (i + j) % 6 == 0 ? decltype(s)(-std::numeric_limits<double>::infinity())
                                  : s * s * decltype(s)(0.25) + decltype(s)(j - i) * decltype(s)(0.01);
        }));
    oracle.check(c, variant);
    gradients.check(c, variant);
  }
}

TEST(AttentionListed, FloatAlone) { alone<float>(); }
TEST(AttentionListed, DoubleAlone) { alone<double>(); }
TEST(AttentionListed, FloatWithin) { within<float>(); }

/// What nobody names may hold anything and gets exact zeros; so may the values of what a mask hides.
TEST(AttentionListed, UnseenKeysAreNotRead) {
  const Index n = 40, m = 90;
  Dice dice(7);
  Matrix<float> q = dice.matrix<float>(n, 8), k = dice.matrix<float>(m, 8), v = dice.matrix<float>(m, 8);
  const Matrix<float> dout = dice.matrix<float>(n, 8);
  std::vector<Index> offsets = {0}, listed;
  for (Index i = 0; i < n; ++i) {
    for (Index j = i % 4; j < m; j += 4 + i % 3)
      if (j % 5 != 3) listed.push_back(j);
    offsets.push_back(static_cast<Index>(listed.size()));
  }
  const auto mask =
      heed::key_lists(offsets, listed) & heed::mask_where([](auto, auto j, auto) { return j % 5 != 1; });
  const auto unseen = [](Index j) { return j % 5 == 3 || j % 5 == 1; };
  heed::Saved<float> saved;
  const Matrix<float> clean = heed::attention(q, k, v, mask, heed::save(saved));
  for (Index j = 0; j < m; ++j)
    if (unseen(j)) {
      k.row(j).setConstant(std::numeric_limits<float>::quiet_NaN());
      v.row(j).setConstant(std::numeric_limits<float>::infinity());
    }
  const Matrix<float> out = heed::attention(q, k, v, mask, heed::save(saved));
  EXPECT_EQ(out, clean);
  const auto g = heed::attention_backward(dout, q, k, v, out, saved, mask);
  EXPECT_TRUE(g.dq.allFinite());
  for (Index j = 0; j < m; ++j)
    if (unseen(j)) {
      EXPECT_TRUE(g.dk.row(j).isZero(0));
      EXPECT_TRUE(g.dv.row(j).isZero(0));
    } else {
      EXPECT_TRUE(g.dk.row(j).allFinite());
    }
  Matrix<float> dq = Matrix<float>::Ones(n, 8), dk = Matrix<float>::Ones(m, 8), dv = dk;
  heed::attention_backward(dout, q, k, v, out, saved, mask, heed::into(dq, dk, dv), heed::accumulating);
  EXPECT_TRUE((dq.array() - 1).isApprox(g.dq.array(), 1e-5f));
  EXPECT_TRUE((dk.array() - 1).isApprox(g.dk.array(), 1e-5f));
  EXPECT_TRUE((dv.array() - 1).isApprox(g.dv.array(), 1e-5f));
}

/// A pair that a term hides: its value may hold anything.
TEST(AttentionListed, ValuesOfHiddenPairsAreNotRead) {
  Dice dice(8);
  const Matrix<float> q = dice.matrix<float>(20, 8), k = dice.matrix<float>(50, 8),
                      dout = dice.matrix<float>(20, 8);
  Matrix<float> v = dice.matrix<float>(50, 8);
  const auto variant =
      heed::spec(draw_lists(dice, 20, 50, 45, 1), heed::score_with([](auto s, auto, auto j, auto) {
                   return j % 3 == 1 ? decltype(s)(-std::numeric_limits<double>::infinity()) : s;
                 }));
  heed::Saved<float> saved;
  const Matrix<float> clean = heed::attention(q, k, v, variant, heed::save(saved));
  for (Index j = 1; j < 50; j += 3) v.row(j).setConstant(std::numeric_limits<float>::quiet_NaN());
  const Matrix<float> out = heed::attention(q, k, v, variant, heed::save(saved));
  EXPECT_EQ(out, clean);
  const auto g = heed::attention_backward(dout, q, k, v, out, saved, variant);
  EXPECT_TRUE(g.dq.allFinite() && g.dk.allFinite() && g.dv.allFinite());
  for (Index j = 1; j < 50; j += 3) EXPECT_TRUE(g.dk.row(j).isZero(0) && g.dv.row(j).isZero(0));
}

TEST(AttentionListed, SameBitsFromAnyNumberOfThreads) {
  const Case c{.n = 600, .m = 600, .d = 24, .d_v = 24, .heads = 4, .key_heads = 2};
  const Inputs<float> in(c);
  const Matrix<float> dout = Dice(5).matrix<float>(600, 96);
  Dice dice(9);
  const auto mask = draw_lists(dice, 600, 600, 90, 1);
  Eigen::ThreadPool pool(3);
  const auto run = [&](const auto& variant) {
    heed::Saved<float> saved;
    const Matrix<float> out = heed::attention(in.q, in.k, in.v, variant, heed::save(saved));
    auto g = heed::attention_backward(dout, in.q, in.k, in.v, out, saved, variant);
    return std::tuple(out, Matrix<float>(saved.lse), g.dq, g.dk, g.dv);
  };
  EXPECT_TRUE(run(heed::spec(mask, heed::heads(4, 2), heed::on(heed::serial()))) ==
              run(heed::spec(mask, heed::heads(4, 2), heed::on(pool))));
}

TEST(AttentionListed, AllocatesNothingWithAWarmWorkspace) {
  const Case c{.n = 300, .m = 300, .d = 32, .d_v = 32};
  const Inputs<float> in(c);
  Dice dice(3);
  Matrix<float> out(300, 32), dq(300, 32), dk(300, 32), dv(300, 32);
  const Matrix<float> dout = Dice(5).matrix<float>(300, 32);
  heed::Workspace workspace;
  heed::Saved<float> saved;
  const auto mask = draw_lists(dice, 300, 300, 50, 1);
  const auto calls = [&] {
    heed::attention_into(out, in.q, in.k, in.v, workspace, mask, heed::save(saved), heed::on(heed::serial()));
    heed::attention_backward(dout, in.q, in.k, in.v, out, saved, mask, heed::into(dq, dk, dv),
                             heed::use(workspace), heed::on(heed::serial()));
  };
  calls();
  const AllocationCounter counter;
  calls();
  EXPECT_EQ(counter.count(), 0);
}

}  // namespace
