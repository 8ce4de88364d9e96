// SPDX-License-Identifier: MIT
// Masks with gaps run class by class: attention() and its gradients against plain loops, alone, within other
// masks and terms, as one side of a union, in ragged batches; and what is not read.
#include "allocation_counter.hpp"
#include "batches.hpp"
#include "gradient_oracle.hpp"

#include <tuple>

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dilated.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/global_tokens.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/strided.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/sink.hpp>

namespace {

using namespace heed_test;

template <class T>
void alone() {
  Oracle<T> oracle("dilated");
  GradientOracle<T> gradients("gradients, dilated");
  Dice dice(301);
  for (Index t = 0; t < sweep(120); ++t) {
    const Case c = draw_case<T>(301, t);
    const Index step = t % 5 == 0 ? 1 + dice.below(200) : 1 + dice.below(9);
    const heed::Dilated mask = t % 4 == 0 ? heed::dilated(heed::unbounded, dice.below(3), step)
                               : t % 4 == 1
                                   ? heed::dilated(dice.below(40), dice.below(9), step, heed::top_left)
                               : t % 4 == 2 ? heed::dilated(dice.below(40) - 5, 6, step, dice.below(31) - 15)
                                            : heed::dilated(dice.below(12), step);
    oracle.check(c, heed::spec(mask, heed::heads(c.heads, c.key_heads)));
    gradients.check(c, heed::spec(mask, heed::heads(c.heads, c.key_heads)), t % 3 == 0);
  }
}

template <class T>
void within() {
  Oracle<T> oracle("dilated, causal, lambda, softcap, alibi, sink");
  GradientOracle<T> gradients("gradients, dilated, causal, lambda, softcap, alibi, sink");
  Dice dice(302);
  for (Index t = 0; t < sweep(60); ++t) {
    const Case c = draw_case<T>(302, t);
    const auto variant =
        heed::spec(heed::causal() & heed::dilated(dice.below(60), 4, 1 + dice.below(6)), heed::alibi(),
                   heed::softcap(3), heed::sink(T(0.25)), heed::heads(c.heads, c.key_heads),
                   heed::mask_where([](auto i, auto j, auto h) { return (i + 2 * j + h) % 7 != 0; }));
    oracle.check(c, variant);
    gradients.check(c, variant);
  }
}

template <class T>
void unions() {
  Oracle<T> oracle("strided, sink");
  GradientOracle<T> gradients("gradients, strided, sink");
  Dice dice(303);
  for (Index t = 0; t < sweep(120); ++t) {
    const Case c = draw_case<T>(303, t);
    const auto variant = heed::spec(heed::strided(1 + dice.below(t % 3 == 0 ? 100 : 12)),
                                    heed::heads(c.heads, c.key_heads), heed::sink(T(-0.5)));
    oracle.check(c, variant);
    gradients.check(c, variant, t % 2 == 0);
  }
}

template <class T>
void ragged() {
  Oracle<T> oracle("global tokens and gaps, sequences, lengths");
  GradientOracle<T> gradients("gradients, global tokens and gaps, sequences, lengths");
  Dice dice(304);
  for (Index t = 0; t < sweep(60); ++t) {
    const Batch b = draw_batch<T>(304, t);
    std::vector<Index> lengths;
    for (std::size_t s = 0; s + 1 < b.k.size(); ++s) lengths.push_back(dice.below(b.k[s + 1] - b.k[s] + 1));
    const auto variant =
        heed::spec(heed::sequences(b.q, b.k), heed::heads(b.c.heads, b.c.key_heads), heed::lengths(lengths),
                   (heed::global_tokens(dice.below(3)) | heed::dilated(dice.below(9), 1 + dice.below(5))) &
                       heed::causal(heed::top_left));
    oracle.check(b.c, variant);
    gradients.check(b.c, variant);
  }
}

TEST(AttentionGaps, FloatAlone) { alone<float>(); }
TEST(AttentionGaps, DoubleAlone) { alone<double>(); }
TEST(AttentionGaps, FloatWithin) { within<float>(); }
TEST(AttentionGaps, DoubleUnions) { unions<double>(); }
TEST(AttentionGaps, FloatUnions) { unions<float>(); }
TEST(AttentionGaps, DoubleRagged) { ragged<double>(); }

/// Keys and values that no query sees may hold anything, and get exact zeros; also among few queries.
TEST(AttentionGaps, UnseenKeysAreNotRead) {
  for (const Index n : {1, 3, 200}) {
    const Index m = 200, step = 8;
    Dice dice(7);
    Matrix<float> q = dice.matrix<float>(n, 8), k = dice.matrix<float>(m, 8), v = dice.matrix<float>(m, 8);
    const Matrix<float> dout = dice.matrix<float>(n, 8);
    const auto mask = heed::dilated(3, 0, step);
    const auto rules = heed::spec(mask).bind<float>(heed::Place{.queries = n, .keys = m});
    std::vector<bool> seen(static_cast<std::size_t>(m));
    for (Index j = 0; j < m; ++j)
      for (Index i = 0; i < n; ++i)
        if (rules.visible(static_cast<heed::Position>(i), static_cast<heed::Position>(j)))
          seen[static_cast<std::size_t>(j)] = true;
    const auto spoil = [&](float value) {
      for (Index j = 0; j < m; ++j)
        if (!seen[static_cast<std::size_t>(j)]) k.row(j).setConstant(value), v.row(j).setConstant(value);
    };
    heed::Saved<float> saved;
    spoil(0);
    const Matrix<float> clean = heed::attention(q, k, v, mask, heed::save(saved));
    spoil(std::numeric_limits<float>::quiet_NaN());
    const Matrix<float> out = heed::attention(q, k, v, mask, heed::save(saved));
    EXPECT_TRUE(out.isApprox(clean, 1e-6f));  // beside poison a block is mixed pair by pair
    const auto g = heed::attention_backward(dout, q, k, v, out, saved, mask);
    EXPECT_TRUE(g.dq.allFinite());
    for (Index j = 0; j < m; ++j)
      if (!seen[static_cast<std::size_t>(j)]) {
        EXPECT_TRUE(g.dk.row(j).isZero(0));
        EXPECT_TRUE(g.dv.row(j).isZero(0));
      }
  }
}

TEST(AttentionGaps, AddsToWhatIsThere) {
  const Case c{.n = 70, .m = 70, .d = 16, .d_v = 16};
  const Inputs<double> in(c);
  const Matrix<double> dout = Dice(5).matrix<double>(70, 16);
  const auto check = [&](const auto& mask) {
    heed::Saved<double> saved;
    const Matrix<double> out = heed::attention(in.q, in.k, in.v, mask, heed::save(saved));
    const auto g = heed::attention_backward(dout, in.q, in.k, in.v, out, saved, mask);
    Matrix<double> dq = Matrix<double>::Ones(70, 16), dk = dq, dv = dq;
    heed::attention_backward(dout, in.q, in.k, in.v, out, saved, mask, heed::into(dq, dk, dv),
                             heed::accumulate);
    EXPECT_TRUE((dq.array() - 1).isApprox(g.dq.array(), 1e-13));
    EXPECT_TRUE((dk.array() - 1).isApprox(g.dk.array(), 1e-13));
    EXPECT_TRUE((dv.array() - 1).isApprox(g.dv.array(), 1e-13));
  };
  check(heed::dilated(4, 3));
  check(heed::strided(7));
}

TEST(AttentionGaps, SameBitsFromAnyNumberOfThreads) {
  const Case c{.n = 600, .m = 600, .d = 24, .d_v = 24, .heads = 4, .key_heads = 2};
  const Inputs<float> in(c);
  const Matrix<float> dout = Dice(5).matrix<float>(600, 96);
  const auto mask = heed::strided(17);
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

TEST(AttentionGaps, AllocatesNothingWithAWarmWorkspace) {
  const Case c{.n = 300, .m = 300, .d = 32, .d_v = 32};
  const Inputs<float> in(c);
  Matrix<float> out(300, 32), dq(300, 32), dk(300, 32), dv(300, 32);
  const Matrix<float> dout = Dice(5).matrix<float>(300, 32);
  heed::Workspace workspace;
  heed::Saved<float> saved;
  const auto mask = heed::strided(17);
  const auto calls = [&] {
    heed::attention_into(out, in.q, in.k, in.v, workspace, mask, heed::on(heed::serial()));
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
