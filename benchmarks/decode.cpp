// SPDX-License-Identifier: MIT
// attention/decode/…: one query against a cache. Bound by memory: compared with a loop that only reads as
// many bytes.

#include "attention_case.hpp"
#include "plain_eigen.hpp"

namespace {

using namespace measure;

/// Best seconds to read both matrices once, with nothing but additions, interleaved with the attention that
/// reads them.
template <class Program>
void run_decode(benchmark::State& state, const Sizes& s, double bytes, const float* k, const float* v,
                Program&& attend) {
  const auto read = [&] {
    benchmark::DoNotOptimize(read_all(k, s.keys * s.key_heads * s.d) +
                             read_all(v, s.keys * s.key_heads * s.d));
  };
  double attention = 1e300, reading = 1e300;
  attend();
  for (auto _ : state) {
    attention = std::min(attention, seconds_of(attend));
    reading = std::min(reading, seconds_of(read));
  }
  state.counters["GB/s"] = bytes / attention * 1e-9;
  state.counters["read_GB/s"] = bytes / reading * 1e-9;
  state.counters["share_of_reading"] = reading / attention;
  state.counters["best_ms"] = attention * 1e3;
}

double cache_bytes(const Sizes& s) {
  return 2.0 * sizeof(float) * static_cast<double>(s.keys * s.key_heads * s.d);
}

void packed(benchmark::State& state, Sizes s) {
  Operands<float> x(s);
  const auto spec = heed::spec(heed::heads(s.heads, s.key_heads), heed::on(heed::serial()));
  heed::Workspace workspace;
  const auto attend = [&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, spec); };
  attend();
  if (!right(x, s, spec)) return state.SkipWithError("wrong result");
  run_decode(state, s, cache_bytes(s), x.k.data(), x.v.data(), attend);
}

/// Every key head a matrix of its own, one call a head.
void contiguous(benchmark::State& state, Sizes s) {
  Matrix<float, Eigen::RowMajor> k = Matrix<float, Eigen::RowMajor>::Random(s.keys * s.key_heads, s.d),
                                 v = k * 0.5f;
  Matrix<float, Eigen::RowMajor> q = Matrix<float, Eigen::RowMajor>::Random(s.queries, s.heads * s.d),
                                 out = q;
  heed::Workspace workspace;
  const Index group = s.heads / s.key_heads;
  const auto spec = heed::spec(heed::heads(group, 1), heed::on(heed::serial()));
  const auto attend = [&] {
    for (Index h = 0; h < s.key_heads; ++h)
      heed::attention_into(out.middleCols(h * group * s.d, group * s.d),
                           q.middleCols(h * group * s.d, group * s.d), k.middleRows(h * s.keys, s.keys),
                           v.middleRows(h * s.keys, s.keys), workspace, spec);
  };
  run_decode(state, s, cache_bytes(s), k.data(), v.data(), attend);
}

/// Heed against plain Eigen code, in turns.
void against_plain(benchmark::State& state, Sizes s) {
  Operands<float> x(s);
  auto expected = x.out;
  const auto spec = heed::spec(heed::heads(s.heads, s.key_heads), heed::on(heed::serial()));
  heed::Workspace workspace;
  const Index group = s.heads / s.key_heads;
  const auto heed_program = [&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, spec); };
  const auto plain_program = [&] {
    for (Index h = 0; h < s.heads; ++h)
      plain_eigen::attention(expected.middleCols(h * s.d, s.d), x.q.middleCols(h * s.d, s.d),
                             x.k.middleCols(h / group * s.d, s.d), x.v.middleCols(h / group * s.d, s.d),
                             1.0f / std::sqrt(static_cast<float>(s.d)), plain_eigen::all_keys(s.keys));
  };
  for (auto _ : state) {
    const auto best = best_in_turns(10, 0.02, heed_program, plain_program);
    if (!(x.out - expected).isZero(1e-4f)) return state.SkipWithError("wrong result");
    state.counters["plain_over_heed"] = best[1] / best[0];
  }
}

template <class F>
void add(const char* name, F f, Sizes s) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) { f(state, s); })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

const int registered = [] {
  add("attention/decode/packed/8x32768x64", packed, Sizes{8, 8, 1, 32768, 64});
  add("attention/decode/contiguous/8x32768x64", contiguous, Sizes{8, 8, 1, 32768, 64});
  add("attention/decode/packed/32on8x8192x128", packed, Sizes{32, 8, 1, 8192, 128});
  benchmark::RegisterBenchmark("attention/decode/against_plain_eigen/32on8x8192x128", against_plain,
                               Sizes{32, 8, 1, 8192, 128})
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
  return 0;
}();

}  // namespace
