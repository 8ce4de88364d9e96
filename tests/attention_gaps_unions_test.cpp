// SPDX-License-Identifier: MIT
// A union of masks of which one has gaps takes two runs: attention() and its gradients against plain loops,
// in one sequence and in ragged batches; accumulation, threads, memory.
#include "allocation_counter.hpp"
#include "batches.hpp"
#include "gradient_oracle.hpp"

#include <tuple>

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dilated.hpp>
#include <heed/mask/global_tokens.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/strided.hpp>
#include <heed/select/sink.hpp>

namespace {

using namespace heed_test;

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

TEST(AttentionGapsUnions, Double) { unions<double>(); }
TEST(AttentionGapsUnions, Float) { unions<float>(); }
TEST(AttentionGapsUnions, DoubleRagged) { ragged<double>(); }

TEST(AttentionGapsUnions, AddsToWhatIsThere) {
  const Case c{.n = 70, .m = 70, .d = 16, .d_v = 16};
  const Inputs<double> in(c);
  const Matrix<double> dout = Dice(5).matrix<double>(70, 16);
  const auto check = [&](const auto& mask) {
    heed::Saved<double> saved;
    const Matrix<double> out = heed::attention(in.q, in.k, in.v, mask, heed::save(saved));
    const auto g = heed::attention_backward(dout, in.q, in.k, in.v, out, saved, mask);
    Matrix<double> dq = Matrix<double>::Ones(70, 16), dk = dq, dv = dq;
    heed::attention_backward(dout, in.q, in.k, in.v, out, saved, mask, heed::into(dq, dk, dv),
                             heed::accumulating);
    EXPECT_TRUE((dq.array() - 1).isApprox(g.dq.array(), 1e-13));
    EXPECT_TRUE((dk.array() - 1).isApprox(g.dk.array(), 1e-13));
    EXPECT_TRUE((dv.array() - 1).isApprox(g.dv.array(), 1e-13));
  };
  check(heed::dilated(4, 3));
  check(heed::strided(7));
}

TEST(AttentionGapsUnions, SameBitsFromAnyNumberOfThreads) {
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

TEST(AttentionGapsUnions, AllocatesNothingWithAWarmWorkspace) {
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
