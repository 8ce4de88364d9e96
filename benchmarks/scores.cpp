// SPDX-License-Identifier: MIT
// attention/score/…: what scores other than plain dot products cost in units of plain attention, in turns,
// with what is done to queries and keys before; attention/weight/…: the same of functions of the weights;
// attention/training/…: nanoseconds a pair of what trains hard attention and regularises weights.

#include "attention_case.hpp"

namespace {

using namespace measure;
using Rows = Matrix<float, Eigen::RowMajor>;

/// A few rows of one head against weights that plain loops make.
template <class Spec>
bool right_rows(const Rows& out, const Rows& q, const Rows& k, const Rows& v, const Spec& spec) {
  const Index d = v.cols() / 8, head = 3, chosen[] = {0, 511, 1023};
  for (const Index i : chosen) {
    const Rows weights = heed::attention_weights(q, k, spec, heed::rows({i}), heed::head(head));
    const Rows want = weights * v.middleCols(head * d, d);
    if (!out.row(i).segment(head * d, d).isApprox(want.row(0), 1e-4f)) return false;
  }
  return true;
}

/// `prepare` makes the queries and keys that `variant` is given.
template <class Prepare, class Variant>
void against_plain(benchmark::State& state, const Prepare& prepare, const Variant& variant) {
  const Sizes s{8, 8, 1024, 1024, 64};
  const Operands<float> x(s);
  const auto plain = heed::spec(heed::heads(s.heads), heed::on(heed::serial()));
  const auto spec = heed::spec(plain, variant);
  const auto attend = [&] {
    const auto [q, k] = prepare(x.q, x.k);
    return Rows(heed::attention(q, k, x.v, spec));
  };
  const auto [q, k] = prepare(x.q, x.k);
  if (!right_rows(attend(), q, k, x.v, spec)) return state.SkipWithError("wrong result");
  for (auto _ : state) {
    const auto best = best_in_turns(
        12, 0.03, [&] { benchmark::DoNotOptimize(heed::attention(x.q, x.k, x.v, plain).sum()); },
        [&] { benchmark::DoNotOptimize(attend().sum()); });
    state.counters["over_attention"] = best[1] / best[0];
    state.counters["ms"] = best[1] * 1e3;
  }
}

template <class Make>
void a_pair(benchmark::State& state, const Make& make) {
  const Index n = 512;
  const Rows scores = Operands<float>({1, 1, n, n, n}).q;
  const Rows weights = heed::softmax_rows(scores);
  for (auto _ : state) {
    const auto best = best_in_turns(8, 0.03, [&] { benchmark::DoNotOptimize(make(scores, weights)); });
    state.counters["ns_a_pair"] = best[0] * 1e9 / static_cast<double>(n * n);
  }
}

template <class F>
void add(const char* name, const F& f) {
  benchmark::RegisterBenchmark(name, f)->Iterations(1)->Unit(benchmark::kMillisecond)->UseRealTime();
}

const int registered = [] {
  using State = benchmark::State;
  const auto as_they_are = [](const Rows& q, const Rows& k) { return std::pair(q, k); };
  add("attention/score/general/8x1024x64", [](State& state) {
    const Rows w = Rows::Random(64, 64) / 8;
    against_plain(
        state, [&](const Rows& q, const Rows& k) { return std::pair(Rows(heed::general(q, w, 8)), k); },
        heed::spec());
  });
  add("attention/score/location/8x1024x64", [](State& state) {
    const Rows w = Rows::Random(2048, 512);
    against_plain(
        state, [&](const Rows& q, const Rows& k) { return std::pair(q, Rows(heed::location(w, k.rows()))); },
        heed::scale(1));
  });
  add("attention/score/cosine/8x1024x64", [](State& state) {
    against_plain(
        state,
        [](const Rows& q, const Rows& k) {
          return std::pair(heed::unit_heads(q, 8), heed::unit_heads(k, 8));
        },
        heed::cosine(0.1));
  });
  add("attention/score/normalized/8x1024x64", [](State& state) {
    const heed::NormalizeHeads options{.heads = 8};
    against_plain(
        state,
        [&](const Rows& q, const Rows& k) {
          return std::pair(heed::normalize_heads(q, options), heed::normalize_heads(k, options));
        },
        heed::spec());
  });
  add("attention/weight/local_p/8x1024x64", [=](State& state) {
    const Rows centers = (Rows::Random(1024, 8).array() + 1) * 512;
    against_plain(state, as_they_are, heed::local_p(centers, 64));
  });
  add("attention/weight/adaptive_span/8x1024x64", [=](State& state) {
    const Eigen::VectorXf spans = Eigen::VectorXf::LinSpaced(8, 16, 256);
    against_plain(state, as_they_are, heed::adaptive_span(spans, 32));
  });
  add("attention/weight/weight_with/8x1024x64", [=](State& state) {
    against_plain(state, as_they_are, heed::weight_with([](auto w, auto, auto) { return w * w; }));
  });
  add("attention/training/softmax_rows/512x512", [](State& state) {
    a_pair(state, [](const Rows& s, const Rows&) { return heed::softmax_rows(s).sum(); });
  });
  add("attention/training/gumbel_softmax_rows/512x512", [](State& state) {
    a_pair(state, [](const Rows& s, const Rows&) { return heed::gumbel_softmax_rows(s).sum(); });
  });
  add("attention/training/reinforce_gradient/512x512", [](State& state) {
    const Eigen::VectorXf reward = Eigen::VectorXf::Random(512);
    const Eigen::VectorXi chosen = Eigen::VectorXi::LinSpaced(512, 0, 511);
    a_pair(state, [&](const Rows&, const Rows& p) {
      return heed::reinforce_gradient(p, chosen, reward, 0.5, {.entropy = 0.002}).sum();
    });
  });
  add("attention/training/entropy_gradient/512x512", [](State& state) {
    a_pair(state, [](const Rows&, const Rows& p) { return heed::entropy_gradient(p).sum(); });
  });
  add("attention/training/doubly_stochastic_gradient/512x512", [](State& state) {
    a_pair(state, [](const Rows&, const Rows& p) { return heed::doubly_stochastic_gradient(p).sum(); });
  });
  return 0;
}();

}  // namespace
