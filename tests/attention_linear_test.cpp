// SPDX-License-Identifier: MIT
// Linear attention on the kernels, against its definition in long double.
#include "linear_oracle.hpp"

#include <thread>

#include "allocation_counter.hpp"

namespace {

using namespace heed_test;

double worst = 0;

/// Every element within (M / 64 + 2 √features + 64 + rounding of the features) u Σ w |v| / Σ w.
template <class T, class Phi, class Visible, class Out>
void compare(const LinearCase& c, Index features, double feature_ulps, const Phi& phi, const Visible& visible,
             const Matrix<T>& q, const Matrix<T>& k, const Matrix<T>& v, const Out& out,
             const std::string& name) {
  ASSERT_EQ(out.rows(), c.n) << name;
  ASSERT_EQ(out.cols(), c.heads * c.d_v) << name;
  const auto [exact, size] = linear_oracle(c, phi, visible, q, k, v);
  const double u = std::numeric_limits<T>::epsilon() / 2;
  const double bound =
      static_cast<double>(c.m) / 64 + 2 * std::sqrt(static_cast<double>(features)) + 64 + feature_ulps;
  for (Index i = 0; i < out.rows(); ++i)
    for (Index t = 0; t < out.cols(); ++t) {
      const double error = static_cast<double>(std::abs(static_cast<Wide>(out(i, t)) - exact(i, t)));
      const double allowed = bound * u * static_cast<double>(size(i, t));
      ASSERT_LE(error, allowed) << name << ": " << i << ", " << t << ", exact " << double(exact(i, t));
      if (allowed > 0) worst = std::max(worst, error / allowed);
    }
}

const auto sees_all = [](Index, Index, Index) { return true; };

template <class T>
void sweep(std::uint64_t family, Index count) {
  const std::vector<Index> lengths = {0,  1,  2,  7,  8,   15,  16,  17,  31, 33,
                                      63, 64, 65, 96, 113, 127, 128, 129, 197};
  const std::vector<Index> dimensions = {1, 3, 8, 16, 17, 40, 64, 65};
  for (Index turn = 0; turn < count; ++turn) {
    Dice dice(family * 7919 + static_cast<std::uint64_t>(turn));
    LinearCase c{};
    c.n = turn % 2 == 0 ? lengths[static_cast<std::size_t>(turn / 2) % lengths.size()] : dice.of(lengths);
    c.m = dice.below(3) == 0 ? c.n : dice.of(lengths);
    c.d = dice.of(dimensions);
    c.d_v = dice.below(3) == 0 ? dice.below(3) : dice.of(dimensions);
    c.key_heads = 1 + dice.below(3);
    c.heads = c.key_heads * (1 + dice.below(3));
    const auto q = dice.matrix<T>(c.n, c.heads * c.d), k = dice.matrix<T>(c.m, c.key_heads * c.d),
               v = dice.matrix<T>(c.m, c.key_heads * c.d_v);
    const auto layout = [&] { return static_cast<Layout>(dice.below(layouts)); };
    const Guarded<T> gq(q, layout()), gk(k, layout()), gv(v, layout());
    Guarded<T> out(c.n, c.heads * c.d_v, layout());
    const Index offset = dice.below(40) - 20;
    const auto name = "n " + std::to_string(c.n) + " m " + std::to_string(c.m) + " d " + std::to_string(c.d) +
                      " d_v " + std::to_string(c.d_v) + " heads " + std::to_string(c.heads) + "/" +
                      std::to_string(c.key_heads) + " turn " + std::to_string(turn);
    const auto heads = heed::heads(c.heads, c.key_heads);
    const auto check = [&](const auto& visible, const auto& mask) {
      heed::linear_attention_into(out.view(), gq.view(), gk.view(), gv.view(), heads, mask);
      EXPECT_TRUE(out.intact()) << name;
      compare<T>(c, c.d, 8, EluFeatures{}, visible, q, k, v, out.view(), name);
    };
    const Index kind = turn % 5;
    const auto bottom_right = [&](Index i, Index j, Index) { return j <= i + c.m - c.n; };
    if (kind == 0) check(sees_all, heed::spec());
    if (kind == 1) check(bottom_right, heed::causal());
    if (kind == 2) check([](Index i, Index j, Index) { return j <= i; }, heed::causal(heed::top_left));
    if (kind == 3) check([&](Index i, Index j, Index) { return j <= i + offset; }, heed::causal(offset));
    if (kind == 4) {
      const Index length = c.m == 0 ? 0 : dice.below(c.m + 1);
      check([&](Index i, Index j, Index) { return j < length && j <= i + c.m - c.n; },
            heed::spec(heed::lengths({length}), heed::causal()));
    }
    if (testing::Test::HasFatalFailure()) return;
    // Performer, with a number of features that is no multiple of anything.
    const Index features = 1 + dice.below(2 * c.d + 20);
    const auto performer = heed::performer(features, static_cast<std::uint64_t>(turn));
    const PositiveFeatures phi{heed::performer_projection(features, c.d, static_cast<std::uint64_t>(turn)),
                               1 / std::sqrt(static_cast<Wide>(c.d))};
    // Rounding of the exponents, at most about √d u |ω||x'|, is the features' relative error.
    const double rounding = 40 * std::pow(static_cast<double>(c.d), 0.75) + 60;
    const auto estimate = [&](const auto& visible, const auto& mask) {
      heed::linear_attention_into(out.view(), gq.view(), gk.view(), gv.view(), heads, performer, mask);
      EXPECT_TRUE(out.intact()) << name;
      compare<T>(c, features, rounding, phi, visible, q, k, v, out.view(),
                 name + " performer " + std::to_string(features));
    };
    if (turn % 2 == 0)
      estimate(bottom_right, heed::causal());
    else
      estimate(sees_all, heed::spec());
    if (testing::Test::HasFatalFailure()) return;
  }
  std::printf("worst error %.3f of the bound, %s\n", worst, heed::name(heed::instruction_set()));
}

TEST(LinearAttention, FloatAgainstTheDefinition) {
  worst = 0;
  sweep<float>(1, small ? 40 : 190);
}
TEST(LinearAttention, DoubleAgainstTheDefinition) {
  worst = 0;
  sweep<double>(2, small ? 20 : 95);
}

TEST(LinearAttention, CallersFeatureMap) {
  const LinearCase c{70, 90, 20, 9, 2, 1};
  Dice dice(3);
  const auto q = dice.matrix<float>(c.n, 40), k = dice.matrix<float>(c.m, 20), v = dice.matrix<float>(c.m, 9);
  const auto softplus = [](auto x) { return heed::log(heed::exp(x) + 1); };
  const auto phi = [](const std::vector<Wide>& x) {
    std::vector<Wide> y;
    for (Wide a : x) y.push_back(std::log1p(std::exp(a)));
    return y;
  };
  compare<float>(c, c.d, 8, phi, sees_all, q, k, v,
                 heed::linear_attention(q, k, v, heed::heads(2, 1), heed::feature_map(softplus)), "softplus");
  // Weights of exactly 0 leave a row of zeros.
  const Eigen::MatrixXf nothing = heed::linear_attention(
      q, k, v, heed::heads(2, 1), heed::feature_map([](auto x) { return decltype(x)(0) * x; }));
  EXPECT_TRUE((nothing.array() == 0).all());
}

TEST(LinearAttention, SequencesHaveTheirOwnKeys) {
  for (int turn = 0; turn < (small ? 3 : 12); ++turn) {
    Dice dice(static_cast<std::uint64_t>(turn) + 50);
    LinearCase c{0, 0, 1 + dice.below(30), 1 + dice.below(20), 4, 2, {0}, {0}};
    for (int s = 0; s < 5; ++s) {
      c.q_offsets.push_back(c.q_offsets.back() + dice.of(std::vector<Index>{0, 1, 7, 65, 100, 130}));
      c.k_offsets.push_back(c.k_offsets.back() + dice.of(std::vector<Index>{0, 1, 7, 65, 100, 130}));
    }
    c.n = c.q_offsets.back();
    c.m = c.k_offsets.back();
    const auto q = dice.matrix<float>(c.n, 4 * c.d), k = dice.matrix<float>(c.m, 2 * c.d),
               v = dice.matrix<float>(c.m, 2 * c.d_v);
    const auto visible = [&](Index i, Index j, Index s) {
      const auto at = static_cast<std::size_t>(s);
      return j <= i + (c.k_offsets[at + 1] - c.k_offsets[at]) - (c.q_offsets[at + 1] - c.q_offsets[at]);
    };
    compare<float>(c, c.d, 8, EluFeatures{}, visible, q, k, v,
                   heed::linear_attention(q, k, v, heed::heads(4, 2), heed::causal(),
                                          heed::sequences(c.q_offsets, c.k_offsets)),
                   "sequences");
  }
}

/// Keys that nobody sees, queries of others: NaN and infinity reach the rows that see them and no other.
TEST(LinearAttention, NaNStaysWhereItIsSeen) {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  Dice dice(8);
  const Index n = 150;
  const auto q = dice.matrix<float>(n, 12), k = dice.matrix<float>(n, 12), v = dice.matrix<float>(n, 7);
  const auto run = [&](const auto& policy) {
    const Eigen::MatrixXf clean = heed::linear_attention(q, k, v, heed::causal(), policy);
    for (float bad : {nan, inf, -inf})
      for (const Index at : {Index(0), Index(40), Index(63), Index(64), Index(100), Index(149)}) {
        auto bad_q = q, bad_k = k, bad_v = v;
        bad_q(at, 3) = bad_k(at, 3) = bad_v(at, 3) = bad;
        const Eigen::MatrixXf query = heed::linear_attention(bad_q, k, v, heed::causal(), policy),
                              key = heed::linear_attention(q, bad_k, v, heed::causal(), policy),
                              value = heed::linear_attention(q, k, bad_v, heed::causal(), policy);
        for (Index i = 0; i < n; ++i) {
          if (i != at) {
            EXPECT_TRUE(query.row(i).isApprox(clean.row(i), 1e-5f)) << at << " " << i;
          }
          if (i < at) {
            EXPECT_TRUE(key.row(i).isApprox(clean.row(i), 1e-5f)) << at << " " << i;
            EXPECT_TRUE(value.row(i).isApprox(clean.row(i), 1e-5f)) << at << " " << i;
          } else {
            EXPECT_FALSE(std::isfinite(value(i, 3)));
            EXPECT_TRUE(value.row(i).head(3).isApprox(clean.row(i).head(3), 1e-5f));
            if (std::isnan(bad)) {
              EXPECT_TRUE(std::isnan(key(i, 0)));
            }
          }
        }
      }
    // Beyond the lengths, and beyond the last query.
    auto bad_k = k, bad_v = v;
    bad_k.bottomRows(20).setConstant(nan);
    bad_v.bottomRows(20).setConstant(nan);
    EXPECT_TRUE(heed::linear_attention(q, bad_k, bad_v, heed::lengths({n - 20}), policy) ==
                heed::linear_attention(q, k, v, heed::lengths({n - 20}), policy));
    EXPECT_TRUE(heed::linear_attention(q.topRows(n - 20), bad_k, bad_v, heed::causal(heed::top_left), policy)
                    .isApprox(clean.topRows(n - 20), 1e-5f));
  };
  run(heed::spec());
  run(heed::performer(20, 1));
}

/// A key whose exponents dwarf those before it must not wipe out what earlier queries see.
TEST(LinearAttention, PerformerSurvivesLargeLateKeys) {
  const LinearCase c{130, 130, 8, 5};
  Dice dice(9);
  auto q = dice.matrix<float>(c.n, 8), k = dice.matrix<float>(c.n, 8);
  const auto v = dice.matrix<float>(c.n, 5);
  // Long keys have small features, short ones large: lengths fall, so that exponents rise by hundreds.
  for (Index j = 0; j < c.n; ++j) k.row(j) *= j < 100 ? 0.25f * static_cast<float>(100 - j) : 0.1f;
  const PositiveFeatures phi{heed::performer_projection(32, 8, 4), 1 / std::sqrt(Wide(8))};
  const Eigen::MatrixXf y = heed::linear_attention(q, k, v, heed::performer(32, 4), heed::causal());
  const auto [exact, size] = linear_oracle(
      c, phi, [](Index i, Index j, Index) { return j <= i; }, q, k, v);
  EXPECT_LE((y.cast<Wide>() - exact).cwiseAbs().maxCoeff(), 1e-2L);  // exponents of 600 are good to 1e-4
  EXPECT_TRUE(y.allFinite());
}

TEST(LinearAttention, StepsEqualOneCausalCall) {
  Dice dice(10);
  const Index n = 200;
  const auto q = dice.matrix<float>(n, 4 * 17), k = dice.matrix<float>(n, 2 * 17),
             v = dice.matrix<float>(n, 2 * 11);
  const auto run = [&](const auto& policy, double tolerance) {
    const auto variant = heed::spec(heed::heads(4, 2), policy);
    const Eigen::MatrixXf whole = heed::linear_attention(q, k, v, variant, heed::causal());
    heed::LinearState<float> state;
    Index at = 0;
    for (const Index count : {Index(1), Index(1), Index(0), Index(70), Index(1), Index(64), Index(2)}) {
      const Eigen::MatrixXf y =
          state.step(q.middleRows(at, count), k.middleRows(at, count), v.middleRows(at, count), variant);
      EXPECT_LE((y - whole.middleRows(at, count)).norm(), tolerance * whole.norm());
      at += count;
      EXPECT_EQ(state.tokens(), at);
    }
    // A fork; and a prompt of which only the last answer is wanted.
    heed::LinearState<float> fork = state;
    const Index left = n - at;
    const Eigen::MatrixXf last =
        heed::linear_attention_step(fork, q.bottomRows(1), k.bottomRows(left), v.bottomRows(left), variant);
    EXPECT_LE((last - whole.bottomRows(1)).norm(), tolerance * whole.norm());
    EXPECT_EQ(state.tokens(), at);
    EXPECT_THROW(state.step(q.topRows(2), k.topRows(1), v.topRows(1), variant), std::invalid_argument);
    EXPECT_THROW(
        state.step(q.topRows(1), k.topRows(1), v.topRows(1), heed::heads(4, 2), heed::performer(3, 1)),
        std::invalid_argument);
    state.reset();
    const Eigen::MatrixXf again = state.step(q, k, v, variant);
    EXPECT_TRUE(again == whole);
  };
  run(heed::spec(), 1e-6);
  run(heed::performer(40, 2), 1e-5);
}

/// Tasks dealt out to threads, each under its own number.
struct Dealt {
  int workers = 1;
  int threads() const { return workers; }
  template <class F>
  void run(Index tasks, F&& task) const {
    std::vector<std::thread> threads;
    for (int w = 0; w < workers; ++w)
      threads.emplace_back([&, w] {
        for (Index t = w; t < tasks; t += workers) task(t, w);
      });
    for (std::thread& thread : threads) thread.join();
  }
};

TEST(LinearAttention, BitsDoNotDependOnThreads) {
  Dice dice(11);
  const std::vector<Index> offsets = {0, 200, 200, 330, 500};
  const auto q = dice.matrix<float>(500, 6 * 32), k = dice.matrix<float>(500, 3 * 32),
             v = dice.matrix<float>(500, 3 * 24);
  const auto run = [&](const auto& policy) {
    const auto variant = heed::spec(heed::heads(6, 3), heed::sequences(offsets), policy);
    const Eigen::MatrixXf want = heed::linear_attention(q, k, v, variant, heed::on(heed::serial()));
    const auto gradient =
        heed::linear_attention_backward(want, q, k, v, want, variant, heed::on(heed::serial()));
    for (int threads : {1, 2, 3}) {
      EXPECT_TRUE(heed::linear_attention(q, k, v, variant, heed::on(Dealt{threads})) == want);
      const auto again =
          heed::linear_attention_backward(want, q, k, v, want, variant, heed::on(Dealt{threads}));
      EXPECT_TRUE(again.dq == gradient.dq && again.dk == gradient.dk && again.dv == gradient.dv);
    }
  };
  run(heed::causal());
  run(heed::spec());
  run(heed::spec(heed::performer(48, 1), heed::causal()));
}

TEST(LinearAttention, AllocatesNothingBesideItsWorkspace) {
  Dice dice(12);
  const auto q = dice.matrix<float>(150, 64), k = dice.matrix<float>(150, 64),
             v = dice.matrix<float>(150, 64);
  Matrix<float> out(150, 64), dq = q, dk = k, dv = v;
  heed::Workspace workspace;
  const auto run = [&](const auto& policy) {
    const auto pass = [&] {
      heed::linear_attention_into(out, q, k, v, heed::use(workspace), policy, heed::on(heed::serial()));
      heed::linear_attention_backward(q, q, k, v, out, heed::use(workspace), policy, heed::into(dq, dk, dv),
                                      heed::on(heed::serial()));
    };
    pass();
    const AllocationCounter counter;
    pass();
    EXPECT_EQ(counter.count(), 0);
  };
  run(heed::causal());
  run(heed::spec(heed::performer(100, 1), heed::causal()));
}

}  // namespace
