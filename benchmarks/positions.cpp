// SPDX-License-Identifier: MIT
// attention/shaw/… and attention/monotonic/…: what relative keys and values, and monotonic alignments, cost
// in units of plain attention over the same tokens, in turns; one contiguous head.

#include <cmath>

#include <heed/monotonic_attention.hpp>
#include <heed/position/shaw.hpp>

#include "attention_case.hpp"

namespace {

using namespace measure;

/// Forward and backward, each over that of plain attention.
void shaw(benchmark::State& state, Index tokens, Index reach) {
  const Sizes s{1, 1, tokens, tokens, 64};
  const Operands<float> x(s);
  using Table = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Table zeros = Table::Zero(2 * reach + 1, 64), keys = 0.1f * Table::Random(2 * reach + 1, 64);
  const auto serial = heed::on(heed::serial());
  heed::Saved<float> saved, shaw_saved;
  const auto out = heed::attention(x.q, x.k, x.v, serial, heed::save(saved));
  if (!heed::shaw_attention(x.q, x.k, x.v, zeros, zeros, serial).isApprox(out, 1e-5f))
    return state.SkipWithError("wrong result");
  const auto shaw_out = heed::shaw_attention(x.q, x.k, x.v, keys, keys, serial, heed::save(shaw_saved));
  for (auto _ : state) {
    const auto best = best_in_turns(
        4, 0.05,
        [&] { benchmark::DoNotOptimize(heed::shaw_attention(x.q, x.k, x.v, keys, keys, serial).sum()); },
        [&] { benchmark::DoNotOptimize(heed::attention(x.q, x.k, x.v, serial).sum()); },
        [&] {
          const auto g =
              heed::shaw_attention_backward(out, x.q, x.k, x.v, keys, keys, shaw_out, shaw_saved, serial);
          benchmark::DoNotOptimize(g.dq.sum());
        },
        [&] {
          const auto g = heed::attention_backward(out, x.q, x.k, x.v, out, saved, serial);
          benchmark::DoNotOptimize(g.dq.sum());
        });
    state.counters["ms"] = best[0] * 1e3;
    state.counters["over_attention"] = best[0] / best[1];
    state.counters["backward_over_attention"] = best[2] / best[3];
  }
}

void monotonic(benchmark::State& state, Index tokens) {
  const Sizes s{1, 1, tokens, tokens, 64};
  const Operands<float> x(s);
  const auto serial = heed::on(heed::serial());
  const heed::Monotonic options{.shift = -3};
  heed::Saved<float> saved;
  const auto out = heed::attention(x.q, x.k, x.v, serial, heed::save(saved));
  const Eigen::MatrixXd e = x.q.template cast<double>() * x.k.template cast<double>().transpose() / 8;
  const Eigen::MatrixXd want =
      heed::monotonic_weights(heed::monotonic_probabilities(e, options)) * x.v.template cast<double>();
  if (!heed::monotonic_attention(x.q, x.k, x.v, options, serial).template cast<double>().isApprox(want, 1e-5))
    return state.SkipWithError("wrong result");
  for (auto _ : state) {
    const auto best = best_in_turns(
        3, 0.05,
        [&] { benchmark::DoNotOptimize(heed::monotonic_attention(x.q, x.k, x.v, options, serial).sum()); },
        [&] { benchmark::DoNotOptimize(heed::attention(x.q, x.k, x.v, serial).sum()); },
        [&] {
          const auto g = heed::monotonic_attention_backward(out, x.q, x.k, x.v, options, serial);
          benchmark::DoNotOptimize(g.dq.sum());
        },
        [&] {
          benchmark::DoNotOptimize(heed::hard_monotonic_attention(x.q, x.k, x.v, options, serial).sum());
        });
    const double pairs = static_cast<double>(tokens) * static_cast<double>(tokens);
    state.counters["ns_a_pair"] = best[0] * 1e9 / pairs;
    state.counters["backward_ns_a_pair"] = best[2] * 1e9 / pairs;
    state.counters["over_attention"] = best[0] / best[1];
    state.counters["hard_over_soft"] = best[3] / best[0];
  }
}

template <class F>
void add(const char* name, const F& f) {
  benchmark::RegisterBenchmark(name, f)->Unit(benchmark::kMillisecond)->UseRealTime()->Iterations(1);
}

const int registered = [] {
  add("attention/shaw/16/1x2048x64", [](benchmark::State& state) { shaw(state, 2048, 16); });
  add("attention/shaw/64/1x2048x64", [](benchmark::State& state) { shaw(state, 2048, 64); });
  add("attention/monotonic/1x512x64", [](benchmark::State& state) { monotonic(state, 512); });
  add("attention/monotonic/1x2048x64", [](benchmark::State& state) { monotonic(state, 2048); });
  return 0;
}();

}  // namespace
