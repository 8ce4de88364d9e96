// SPDX-License-Identifier: MIT
// attention/ratio/…: comparisons in one run, the programs taking turns. Each counter is a quotient of best
// times.

#include <Eigen/Core>

#include "attention_case.hpp"
#include "native.hpp"
#include "plain_eigen.hpp"

namespace {

using namespace measure;

/// plain Eigen time over Heed's time.
template <class T>
double plain_over_heed(const Sizes& s, int turns, double turn, bool whole) {
  Operands<T> x(s);
  auto expected = x.out;
  const T scale = T(1) / std::sqrt(static_cast<T>(s.d));
  heed::Workspace workspace;
  const auto spec = heed::spec(heed::heads(s.heads), heed::on(heed::serial()));
  const auto heed_program = [&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, spec); };
  const auto plain_program = [&] {
    for (Index h = 0; h < s.heads; ++h) {
      auto out = expected.middleCols(h * s.d, s.d);
      const auto q = x.q.middleCols(h * s.d, s.d);
      const auto k = x.k.middleCols(h * s.d, s.d), v = x.v.middleCols(h * s.d, s.d);
      if (whole)
        plain_eigen::attention(out, q, k, v, scale, plain_eigen::all_keys(s.keys));
      else
        plain_eigen::attention_in_blocks(out, q, k, v, scale, plain_eigen::all_keys(s.keys));
    }
  };
  const auto best = best_in_turns(turns, turn, heed_program, plain_program);
  return (x.out - expected).isZero(T(1e-4)) ? best[1] / best[0] : 0;
}

void against_plain(benchmark::State& state, Sizes s) {
  for (auto _ : state) {
    state.counters["whole_over_heed"] = plain_over_heed<float>(s, 20, 0.005, true);
    state.counters["blocks_over_heed"] = plain_over_heed<float>(s, 20, 0.005, false);
  }
}

/// The least quotient of plain Eigen code over Heed on a grid of sizes, and where it is.
void grid(benchmark::State& state) {
  for (auto _ : state) {
    double least = 1e300;
    Sizes at{};
    for (const Index n : {1, 2, 5, 16, 33, 64, 100, 256})
      for (const Index m : {1, 3, 8, 17, 64, 130, 256})
        for (const Index d : {1, 4, 15, 16, 64, 130, 256}) {
          const Sizes s{1, 1, n, m, d};
          const double ratio = plain_over_heed<float>(s, 6, 0.0005, true);
          if (ratio < least) least = ratio, at = s;
        }
    state.counters["least_plain_over_heed"] = least;
    state.counters["at_N"] = static_cast<double>(at.queries);
    state.counters["at_M"] = static_cast<double>(at.keys);
    state.counters["at_d"] = static_cast<double>(at.d);
  }
}

void column_major(benchmark::State& state, Sizes s) {
  Operands<float, Eigen::RowMajor> rows(s);
  Operands<float, Eigen::ColMajor> columns(s);
  columns.q = rows.q;
  columns.k = rows.k;
  columns.v = rows.v;
  heed::Workspace workspace;
  const auto spec = heed::spec(heed::heads(s.heads), heed::on(heed::serial()));
  for (auto _ : state) {
    const auto best = best_in_turns(
        20, 0.03, [&] { heed::attention_into(rows.out, rows.q, rows.k, rows.v, workspace, spec); },
        [&] { heed::attention_into(columns.out, columns.q, columns.k, columns.v, workspace, spec); });
    if (!(rows.out - columns.out).isZero(1e-5f)) return state.SkipWithError("wrong result");
    state.counters["column_over_row"] = best[1] / best[0];
  }
}

/// This file is compiled with plain -O2, native.cpp with -O3 -march=native.
void plain_flags(benchmark::State& state, Sizes s) {
  Operands<float> x(s);
  auto native_out = x.out;
  heed::Workspace workspace;
  const auto spec = heed::spec(heed::heads(s.heads), heed::on(heed::serial()));
  for (auto _ : state) {
    const auto best = best_in_turns(
        20, 0.03, [&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, spec); },
        [&] { attention_native(native_out, x.q, x.k, x.v, s.heads); });
    if (!(x.out - native_out).isZero(1e-5f)) return state.SkipWithError("wrong result");
    state.counters["plain_flags_over_native"] = best[0] / best[1];
  }
}

#if defined(_OPENMP)
void two_threads(benchmark::State& state, Sizes s) {
  Operands<float> x(s);
  heed::Workspace one, two;
  const auto heads = heed::heads(s.heads);
  const auto serial = heed::spec(heads, heed::on(heed::serial()));
  const auto parallel = heed::spec(heads, heed::on(heed::openmp(2)));
  for (auto _ : state) {
    const auto best = best_in_turns(
        20, 0.03, [&] { heed::attention_into(x.out, x.q, x.k, x.v, one, serial); },
        [&] { heed::attention_into(x.out, x.q, x.k, x.v, two, parallel); });
    state.counters["one_over_two_threads"] = best[0] / best[1];
  }
}
#endif

/// What a policy costs: time with it over time without.
template <class Spec, class Common>
void cost(benchmark::State& state, Sizes s, Spec variant, Common common) {
  Operands<float> x(s);
  heed::Workspace workspace;
  const auto base = heed::spec(heed::heads(s.heads), heed::on(heed::serial()), common);
  const auto more = heed::spec(base, variant);
  for (auto _ : state) {
    const auto best = best_in_turns(
        20, 0.03, [&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, base); },
        [&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, more); });
    if (!right(x, s, more)) return state.SkipWithError("wrong result");
    state.counters["with_over_without"] = best[1] / best[0];
  }
}
template <class Spec>
void cost(benchmark::State& state, Sizes s, Spec variant) {
  cost(state, s, std::move(variant), heed::spec());
}

/// What turning queries and keys in place costs before it, heads side by side.
template <class Spec>
void rotary_cost(benchmark::State& state, Sizes s, Spec variant) {
  Operands<float> x(s);
  heed::Workspace workspace;
  const auto all = heed::spec(heed::heads(s.heads), heed::on(heed::serial()), variant);
  const heed::Rotary turn{.heads = s.heads};
  const auto q = x.q, k = x.k;
  heed::rotary(x.q, turn), heed::rotary(x.k, turn);
  heed::attention_into(x.out, x.q, x.k, x.v, workspace, all);
  if (!right(x, s, all)) return state.SkipWithError("wrong result");
  heed::rotary_gradient(x.q, turn), heed::rotary_gradient(x.k, turn);
  if (!x.q.isApprox(q, 1e-5f) || !x.k.isApprox(k, 1e-5f)) return state.SkipWithError("wrong turn back");
  for (auto _ : state) {
    const auto best = best_in_turns(
        20, 0.03, [&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, all); },
        [&] {
          heed::rotary(x.q, turn), heed::rotary(x.k, turn);
          heed::attention_into(x.out, x.q, x.k, x.v, workspace, all);
        });
    state.counters["with_over_without"] = best[1] / best[0];
  }
}

template <class F>
void add(const char* name, F f) {
  benchmark::RegisterBenchmark(name, f)->Iterations(1)->Unit(benchmark::kMillisecond);
}
template <class F>
void add(const char* name, F f, Sizes s) {
  add(name, [=](benchmark::State& state) { f(state, s); });
}

const int registered = [] {
  const Sizes usual{8, 8, 1024, 1024, 64};
  add("attention/ratio/plain_eigen/16x16x16", against_plain, Sizes{1, 1, 16, 16, 16});
  add("attention/ratio/plain_eigen/64x64x32", against_plain, Sizes{1, 1, 64, 64, 32});
  add("attention/ratio/plain_eigen/4x64x64x32", against_plain, Sizes{4, 4, 64, 64, 32});
  add("attention/ratio/plain_eigen/8x1024x64", against_plain, usual);
  add("attention/ratio/plain_eigen/grid", grid);
  add("attention/ratio/column_major/8x1024x64", column_major, usual);
  add("attention/ratio/column_major/8x2048x128", column_major, Sizes{8, 8, 2048, 2048, 128});
  add("attention/ratio/flags/8x1024x64", plain_flags, usual);
#if defined(_OPENMP)
  add("attention/ratio/threads/8x1024x64", two_threads, usual);
#endif
  add("attention/ratio/cost/alibi", [=](benchmark::State& state) { cost(state, usual, heed::alibi()); });
  add("attention/ratio/cost/alibi/causal",
      [=](benchmark::State& state) { cost(state, usual, heed::alibi(), heed::spec(heed::causal())); });
  add("attention/ratio/cost/t5", [=](benchmark::State& state) {
    cost(state, usual, heed::t5_bias(Eigen::MatrixXf::Random(usual.heads, 32).eval()));
  });
  add("attention/ratio/cost/rotary",
      [=](benchmark::State& state) { rotary_cost(state, usual, heed::spec()); });
  add("attention/ratio/cost/rotary/causal",
      [=](benchmark::State& state) { rotary_cost(state, usual, heed::spec(heed::causal())); });
  add("attention/ratio/cost/softcap",
      [=](benchmark::State& state) { cost(state, usual, heed::softcap(30.0)); });
  add("attention/ratio/cost/score_with", [=](benchmark::State& state) {
    cost(state, usual,
         heed::score_with([](auto s, auto i, auto j) { return s - 0.01f * static_cast<float>(i - j); }));
  });
  return 0;
}();

}  // namespace
