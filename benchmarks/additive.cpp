// SPDX-License-Identifier: MIT
// additive/…: additive scores against the Eigen programs that one would write, and against what they rest on.
// Compiled with -O3 -march=native like the programs that it is compared with, in a program of its own, since
// Eigen's matrices are aligned differently elsewhere.

#include <benchmark/benchmark.h>

#include <cmath>
#include <random>

#include <heed/heed.hpp>

#include "timing.hpp"

namespace {

using Eigen::Index;
using measure::best_in_turns;
using measure::Clock;

#if HEED_WITH_AVX512
namespace lanes = heed::detail::avx512;
#elif HEED_WITH_AVX2
namespace lanes = heed::detail::avx2;
#else
namespace lanes = heed::detail::generic;
#endif

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

template <class T>
struct Operands {
  Matrix<T> q, k, v, dout, out, expected, dq, dk, dv;
  Eigen::Matrix<T, Eigen::Dynamic, 1> w, dw;
  Index n, m;

  Operands(Index rows, Index keys, Index a, Index d_v) : n(rows), m(keys) {
    std::mt19937 generator(1);
    std::normal_distribution<double> normal;
    const auto draw = [&](auto& x, Index r, Index c) {
      x.resize(r, c);
      for (Index t = 0; t < x.size(); ++t) x.data()[t] = static_cast<T>(normal(generator));
    };
    draw(q, n, a);
    draw(k, m, a);
    draw(v, m, d_v);
    draw(dout, n, d_v);
    draw(w, a, 1);
    w /= std::sqrt(static_cast<T>(a));
    out = expected = Matrix<T>::Zero(n, d_v);
    dq = q, dk = k, dv = v, dw = w;
  }
  template <class Row>
  void select_and_mix(Index i, Row& s) {
    s = (s.array() - s.maxCoeff()).exp();
    s /= s.sum();
    expected.row(i).noalias() = s.transpose() * v;
  }
};

/// What one writes first: a line for a query's scores, temporaries and all.
template <class T>
void one_line(Operands<T>& x) {
  for (Index i = 0; i < x.n; ++i) {
    Eigen::Matrix<T, Eigen::Dynamic, 1> s =
        (x.k + x.q.row(i).replicate(x.m, 1)).array().tanh().matrix() * x.w;
    x.select_and_mix(i, s);
  }
}

/// With a temporary that is kept, row by row: Eigen has vectors for the hyperbolic tangent of a row of
/// floats, and for the exponential of a row of doubles, but not with a row broadcast over a matrix.
template <class T>
struct Tuned {
  Matrix<T> t;
  Eigen::Matrix<T, Eigen::Dynamic, 1> s;
  void operator()(Operands<T>& x) {
    t.resize(x.m, x.w.size());
    for (Index i = 0; i < x.n; ++i) {
      for (Index j = 0; j < x.m; ++j)
        if constexpr (sizeof(T) == 4)
          t.row(j) = (x.k.row(j) + x.q.row(i)).array().tanh();
        else
          t.row(j) = T(1) - T(2) / (T(1) + ((x.k.row(j) + x.q.row(i)).array() * T(2)).exp());
      s.noalias() = t * x.w;
      x.select_and_mix(i, s);
    }
  }
};

/// The bare work: so many vector tanh and multiply-adds.
template <class T>
T bare(const Operands<T>& x) {
  constexpr Index width = lanes::Pack<T>::width;
  lanes::Pack<T> sums[4] = {lanes::zero<T>(), lanes::zero<T>(), lanes::zero<T>(), lanes::zero<T>()};
  for (Index i = 0; i < x.n; ++i)
    for (Index j = 0; j + 4 <= x.m; j += 4)
      for (Index a = 0; a + width <= x.w.size(); a += width)
        for (Index c = 0; c < 4; ++c)
          sums[c] = lanes::multiply_add(
              lanes::load(x.w.data() + a),
              lanes::tanh(lanes::load(&x.q.coeffRef(i, a)) + lanes::load(&x.k.coeffRef(j + c, a))), sums[c]);
  alignas(64) T lane[width];
  lanes::store(lane, (sums[0] + sums[1]) + (sums[2] + sums[3]));
  T sum = 0;
  for (Index l = 0; l < width; ++l) sum += lane[l];
  return sum;
}

template <class T>
constexpr double near = sizeof(T) == 4 ? 2e-5 : 1e-12;

template <class T>
void prefill(benchmark::State& state, Index n, Index m, Index a) {
  Operands<T> x(n, m, a, 64);
  heed::Workspace workspace;
  heed::Saved<T> saved;
  Tuned<T> tuned;
  const auto spec = heed::spec(heed::additive(x.w), heed::on(heed::serial()));
  const auto forward = [&] {
    heed::attention_into(x.out, x.q, x.k, x.v, workspace, spec, heed::save(saved));
  };
  forward();
  one_line(x);
  if (!((x.out - x.expected).cwiseAbs().maxCoeff() < near<T>)) return state.SkipWithError("wrong result");
  x.expected.setZero();
  tuned(x);
  if (!((x.out - x.expected).cwiseAbs().maxCoeff() < near<T>)) return state.SkipWithError("wrong result");
  for (auto _ : state) {
    const auto best = best_in_turns<Clock::thread>(
        5, 0.01, forward,
        [&] {
          heed::attention_backward(x.dout, x.q, x.k, x.v, x.out, saved, spec, heed::into(x.dq, x.dk, x.dv),
                                   heed::score_gradient(x.dw), heed::use(workspace));
        },
        [&] { one_line(x); }, [&] { tuned(x); }, [&] { benchmark::DoNotOptimize(bare(x)); });
    const double tanhs = static_cast<double>(n) * static_cast<double>(m) * static_cast<double>(a);
    state.counters["tanh/s"] = tanhs / best[0];
    state.counters["backward_over_forward"] = best[1] / best[0];
    state.counters["one_line_over_heed"] = best[2] / best[0];
    state.counters["tuned_over_heed"] = best[3] / best[0];
    state.counters["heed_over_bare"] = best[0] / best[4];
  }
}

/// One step of a recurrent decoder.
template <class T>
void step(benchmark::State& state, Index m, Index a) {
  Operands<T> x(1, m, a, 64);
  heed::Workspace workspace;
  Tuned<T> tuned;
  const auto spec = heed::spec(heed::additive(x.w), heed::on(heed::serial()));
  const auto forward = [&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, spec); };
  forward();
  tuned(x);
  if (!((x.out - x.expected).cwiseAbs().maxCoeff() < near<T>)) return state.SkipWithError("wrong result");
  for (auto _ : state) {
    const auto best = best_in_turns<Clock::thread>(
        20, 0.005, forward, [&] { tuned(x); }, [&] { one_line(x); },
        [&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, heed::on(heed::serial())); });
    state.counters["ns"] = best[0] * 1e9;
    state.counters["tuned_over_heed"] = best[1] / best[0];
    state.counters["one_line_over_heed"] = best[2] / best[0];
    state.counters["heed_over_dot_products"] = best[0] / best[3];
  }
}

template <class F>
void add(const char* name, F f) {
  benchmark::RegisterBenchmark(name, f)->Iterations(1)->Unit(benchmark::kMillisecond);
}

const int registered = [] {
  add("additive/float/512x512x64", [](benchmark::State& s) { prefill<float>(s, 512, 512, 64); });
  add("additive/float/512x512x256", [](benchmark::State& s) { prefill<float>(s, 512, 512, 256); });
  add("additive/double/512x512x64", [](benchmark::State& s) { prefill<double>(s, 512, 512, 64); });
  add("additive/double/512x512x256", [](benchmark::State& s) { prefill<double>(s, 512, 512, 256); });
  add("additive/step/float/1x30x64", [](benchmark::State& s) { step<float>(s, 30, 64); });
  add("additive/step/double/1x30x64", [](benchmark::State& s) { step<double>(s, 30, 64); });
  add("additive/step/float/1x30x256", [](benchmark::State& s) { step<float>(s, 30, 256); });
  return 0;
}();

}  // namespace
