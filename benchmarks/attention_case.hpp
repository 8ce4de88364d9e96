// SPDX-License-Identifier: MIT
#ifndef HEED_BENCHMARKS_ATTENTION_CASE_HPP
#define HEED_BENCHMARKS_ATTENTION_CASE_HPP

// One case of attention: its sizes, its random operands, the operations that count, and the check before the
// clock starts.

#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <vector>

#include <heed/heed.hpp>

#include "peak.hpp"

namespace measure {

using Eigen::Index;
template <class T, int Order>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Order>;

struct Sizes {
  Index heads, key_heads, queries, keys, d;
};

/// Random operands, heads packed in columns.
template <class T, int Order = Eigen::RowMajor>
struct Operands {
  Matrix<T, Order> q, k, v, out;

  explicit Operands(const Sizes& s)
      : q(s.queries, s.heads * s.d),
        k(s.keys, s.key_heads * s.d),
        v(s.keys, s.key_heads * s.d),
        out(s.queries, s.heads * s.d) {
    std::mt19937 generator(1);
    std::normal_distribution<float> normal;
    for (auto* m : {&q, &k, &v})
      for (Index n = 0; n < m->size(); ++n) m->data()[n] = static_cast<T>(normal(generator));
    out.setZero();
  }
};

/// Visible pairs of one head: all, or those of a causal mask with a window of `window` keys.
inline double pairs_full(const Sizes& s) {
  return static_cast<double>(s.queries) * static_cast<double>(s.keys);
}
inline double pairs_causal(const Sizes& s, Index window) {
  double pairs = 0;
  for (Index i = 0; i < s.queries; ++i)
    pairs += static_cast<double>(std::clamp<Index>(i + s.keys - s.queries + 1, 0, window));
  return pairs;
}

/// Useful operations: 4 · pairs · d a head.
inline double operations(const Sizes& s, double pairs) {
  return 4.0 * pairs * static_cast<double>(s.heads * s.d);
}

/// A few rows against the reference in double; a benchmark of wrong results is worth nothing.
template <class T, int Order, class Spec>
bool right(const Operands<T, Order>& x, const Sizes& s, const Spec& spec) {
  const heed::Shape shape =
      heed::detail::make_shape(spec, x.q.rows(), x.q.cols(), x.k.rows(), x.k.cols(), x.v.rows(), x.v.cols());
  const double scale = spec.template scale<double>(s.d);
  std::vector<heed::detail::Weight<double>> row;
  for (Index n = 0; n < 8; ++n) {
    const Index h = n % s.heads, kh = h / (s.heads / s.key_heads);
    const heed::Place place = shape.place(0, h);
    const Index i = n * (place.queries - 1) / 7;
    heed::detail::score_row(spec, spec.template bind<double>(place), shape, place, scale, i, x.q, x.k, row);
    heed::detail::select_row(spec, place, i, row);
    for (Index c = 0; c < s.d; ++c) {
      double exact = 0, size = 0;
      for (const auto& w : row) {
        exact += w.value * static_cast<double>(x.v(w.key, kh * s.d + c));
        size += w.value * std::abs(static_cast<double>(x.v(w.key, kh * s.d + c)));
      }
      if (!(std::abs(static_cast<double>(x.out(i, h * s.d + c)) - exact) <= 1e-5 * size + 1e-30))
        return false;
    }
  }
  return true;
}

/// Runs one spec in the calling thread and reports GFLOP/s and the share of the multiply-add peak, both of
/// the best iteration; the peak is measured just before and just after.
template <class T, class Spec>
void run_case(benchmark::State& state, const Sizes& s, const Spec& variant, double pairs) {
  Operands<T> x(s);
  const auto spec = heed::spec(variant, heed::heads(s.heads, s.key_heads), heed::on(heed::serial()));
  heed::Workspace workspace;
  heed::attention_into(x.out, x.q, x.k, x.v, workspace, spec);
  if (!right(x, s, spec)) return state.SkipWithError("wrong result");
  double peak = peak_gflops<T>(heed::instruction_set(), 3);
  double best = 1e300;
  for (auto _ : state) {
    const double seconds = seconds_of([&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, spec); });
    best = std::min(best, seconds);
    benchmark::ClobberMemory();
  }
  peak = std::max(peak, peak_gflops<T>(heed::instruction_set(), 3));
  const double gflops = operations(s, pairs) / best * 1e-9;
  state.counters["GFLOP/s"] = gflops;
  state.counters["share_of_peak"] = gflops / peak;
  state.counters["best_ms"] = best * 1e3;
}

}  // namespace measure

#endif
