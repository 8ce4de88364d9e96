// SPDX-License-Identifier: MIT
// attention/backward/…: gradients, one thread, heads packed in columns unless "contiguous". GFLOP/s count the
// five products: 10 · pairs · d a head.

#include "attention_case.hpp"
#include "plain_eigen.hpp"

namespace {

using namespace measure;

template <class T>
struct Gradients {
  Matrix<T, Eigen::RowMajor> dout, dq, dk, dv;
  heed::Saved<T> saved;

  explicit Gradients(const Operands<T>& x)
      : dout(x.out.rows(), x.out.cols()),
        dq(x.q.rows(), x.q.cols()),
        dk(x.k.rows(), x.k.cols()),
        dv(x.v.rows(), x.v.cols()) {
    std::mt19937 generator(2);
    std::normal_distribution<float> normal;
    for (Index n = 0; n < dout.size(); ++n) dout.data()[n] = static_cast<T>(normal(generator));
  }
  template <class Spec>
  void run(const Operands<T>& x, heed::Workspace& workspace, const Spec& spec) {
    heed::attention_backward(dout, x.q, x.k, x.v, x.out, saved, spec, heed::into(dq, dk, dv),
                             heed::use(workspace));
  }
};

/// The derivative along a direction against a difference of the forward pass, in double.
template <class Spec>
bool right_gradients(const Sizes& s, const Spec& spec) {
  Operands<double> x(s);
  Gradients<double> g(x);
  heed::Workspace workspace;
  heed::attention_into(x.out, x.q, x.k, x.v, workspace, spec, heed::save(g.saved));
  g.run(x, workspace, spec);
  const auto direction = [](Index rows, Index columns) {
    Matrix<double, Eigen::RowMajor> m(rows, columns);
    for (Index n = 0; n < m.size(); ++n) m.data()[n] = std::sin(0.37 * static_cast<double>(n));
    return m;
  };
  const auto q = direction(x.q.rows(), x.q.cols()), k = direction(x.k.rows(), x.k.cols()),
             v = direction(x.v.rows(), x.v.cols());
  const double h = 1e-6;
  const auto loss = [&](double t) {
    return heed::attention(x.q + t * q, x.k + t * k, x.v + t * v, spec).cwiseProduct(g.dout).sum();
  };
  const double slope = g.dq.cwiseProduct(q).sum() + g.dk.cwiseProduct(k).sum() + g.dv.cwiseProduct(v).sum();
  const double difference = (loss(h) - loss(-h)) / (2 * h);
  return std::abs(slope - difference) <= 1e-5 * (std::abs(slope) + g.dq.norm());
}

template <class T = float, class Variant>
void backward(benchmark::State& state, const Sizes& s, const Variant& variant, double pairs) {
  Operands<T> x(s);
  Gradients<T> g(x);
  const auto spec = heed::spec(variant, heed::heads(s.heads, s.key_heads), heed::on(heed::serial()));
  if (s.queries <= 1024 && !right_gradients(s, spec)) return state.SkipWithError("wrong result");
  heed::Workspace workspace;
  heed::attention_into(x.out, x.q, x.k, x.v, workspace, spec, heed::save(g.saved));
  g.run(x, workspace, spec);
  double peak = peak_gflops<T>(heed::instruction_set(), 3), best = 1e300;
  for (auto _ : state) {
    best = std::min(best, seconds_of([&] { g.run(x, workspace, spec); }));
    benchmark::ClobberMemory();
  }
  peak = std::max(peak, peak_gflops<T>(heed::instruction_set(), 3));
  const double gflops = 2.5 * operations(s, pairs) / best * 1e-9;
  state.counters["GFLOP/s"] = gflops;
  state.counters["share_of_peak"] = gflops / peak;
  state.counters["best_ms"] = best * 1e3;
  state.counters["workspace_KB"] = static_cast<double>(workspace.bytes()) / 1024;
}

template <class T>
void full(benchmark::State& state, Sizes s) {
  backward<T>(state, s, heed::spec(), pairs_full(s));
}
void causal(benchmark::State& state, Sizes s) {
  backward(state, s, heed::spec(heed::causal()), pairs_causal(s, s.keys));
}
void window(benchmark::State& state, Sizes s) {
  backward(state, s, heed::spec(heed::sliding_window(256)), pairs_causal(s, 256));
}
void vision(benchmark::State& state, Sizes s) {
  std::vector<Index> offsets;
  for (Index n = 0; n <= 8; ++n) offsets.push_back(n * s.queries / 8);
  backward(state, s, heed::spec(heed::sequences(offsets)), pairs_full(s) / 8);
}

/// Forward and backward of the lines that everybody writes, which store N × M twice, over Heed's.
void against_plain(benchmark::State& state, Sizes s) {
  using Rows = Matrix<float, Eigen::RowMajor>;
  Operands<float> x(s);
  Gradients<float> g(x);
  heed::Workspace workspace;
  const auto spec = heed::spec(heed::heads(s.heads), heed::on(heed::serial()));
  Rows out = x.out, dq = g.dq, dk = g.dk, dv = g.dv, p, ds;
  const float scale = 1 / std::sqrt(static_cast<float>(s.d));
  const auto plain = [&] {
    for (Index h = 0; h < s.heads; ++h) {
      const auto of = [&](auto& m) { return m.middleCols(h * s.d, s.d); };
      p.noalias() = scale * of(x.q) * of(x.k).transpose();
      for (Index i = 0; i < s.queries; ++i)
        plain_eigen::softmax_row(p.row(i), i, 0, plain_eigen::all_keys(s.keys));
      of(out).noalias() = p * of(x.v);
      of(dv).noalias() = p.transpose() * of(g.dout);
      ds.noalias() = of(g.dout) * of(x.v).transpose();
      const Eigen::VectorXf mean = of(g.dout).cwiseProduct(of(out)).rowwise().sum();
      ds = scale * p.cwiseProduct(ds.colwise() - mean);
      of(dq).noalias() = ds * of(x.k);
      of(dk).noalias() = ds.transpose() * of(x.q);
    }
  };
  const auto heed_program = [&] {
    heed::attention_into(x.out, x.q, x.k, x.v, workspace, spec, heed::save(g.saved));
    g.run(x, workspace, spec);
  };
  for (auto _ : state) {
    const auto best = best_in_turns(5, 0.1, heed_program, plain);
    if (!(g.dq - dq).isZero(1e-4f) || !(g.dk - dk).isZero(1e-4f) || !(g.dv - dv).isZero(1e-4f))
      return state.SkipWithError("wrong result");
    state.counters["plain_over_heed"] = best[1] / best[0];
    state.counters["heed_ms"] = best[0] * 1e3;
  }
}

#if defined(_OPENMP)
void two_threads(benchmark::State& state, Sizes s) {
  Operands<float> x(s);
  Gradients<float> g(x);
  heed::Workspace one, two;
  const auto serial = heed::spec(heed::heads(s.heads), heed::on(heed::serial()));
  const auto parallel = heed::spec(heed::heads(s.heads), heed::on(heed::openmp(2)));
  heed::attention_into(x.out, x.q, x.k, x.v, one, serial, heed::save(g.saved));
  for (auto _ : state) {
    const auto best = best_in_turns(
        10, 0.06, [&] { g.run(x, one, serial); }, [&] { g.run(x, two, parallel); });
    state.counters["one_over_two_threads"] = best[0] / best[1];
  }
}
#endif

void add(const char* name, void (*f)(benchmark::State&, Sizes), Sizes s, int iterations = 0) {
  auto* b = benchmark::RegisterBenchmark(name, [=](benchmark::State& state) { f(state, s); });
  b->Unit(benchmark::kMillisecond)->UseRealTime();
  if (iterations > 0) b->Iterations(iterations);
}

const int registered = [] {
  const Sizes usual{8, 8, 1024, 1024, 64};
  add("attention/backward/full/8x1024x64", full<float>, usual);
  add("attention/backward/full/4x1024x128", full<float>, Sizes{4, 4, 1024, 1024, 128});
  add("attention/backward/full/contiguous/1x1024x64", full<float>, Sizes{1, 1, 1024, 1024, 64});
  add("attention/backward/full/contiguous/1x1024x128", full<float>, Sizes{1, 1, 1024, 1024, 128});
  add("attention/backward/causal/8x1024x64", causal, usual);
  add("attention/backward/causal/8x4096x64", causal, Sizes{8, 8, 4096, 4096, 64});
  add("attention/backward/causal/contiguous/1x4096x64", causal, Sizes{1, 1, 4096, 4096, 64});
  add("attention/backward/vision/8x12x197x64", vision, Sizes{12, 12, 8 * 197, 8 * 197, 64});
  add("attention/backward/window256/contiguous/1x131072x64", window, Sizes{1, 1, 131072, 131072, 64});
  add("attention/backward/double/8x1024x64", full<double>, usual);
  add("attention/backward/double/contiguous/1x1024x64", full<double>, Sizes{1, 1, 1024, 1024, 64});
  add("attention/ratio/forward_and_backward/plain_eigen/8x1024x64", against_plain, usual, 1);
#if defined(_OPENMP)
  add("attention/ratio/backward/threads/8x1024x64", two_threads, usual, 1);
#endif
  return 0;
}();

}  // namespace
