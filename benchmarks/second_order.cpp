// SPDX-License-Identifier: MIT
// attention/ratio/…: what forward mode, the gradient of the gradients and dropout cost, in units of the plain
// forward pass (of the plain backward pass, where the name says so), in turns.

#include "attention_case.hpp"

namespace {

using namespace measure;
using Rows = Matrix<float, Eigen::RowMajor>;

/// A direction in which an operand moves.
Rows direction(const Rows& x) {
  Rows u(x.rows(), x.cols());
  for (Index n = 0; n < u.size(); ++n) u.data()[n] = std::sin(0.37f * static_cast<float>(n % 9973));
  return u;
}

template <class Spec>
void forward_mode(benchmark::State& state, Sizes s, const Spec& variant) {
  Operands<float> x(s);
  const Rows u_q = direction(x.q), u_k = direction(x.k), u_v = direction(x.v);
  const auto spec = heed::spec(variant, heed::heads(s.heads, s.key_heads), heed::on(heed::serial()));
  heed::Workspace one, two;
  {
    const float h = 1e-2f;
    const Rows above = heed::attention(x.q + h * u_q, x.k + h * u_k, x.v + h * u_v, spec);
    const Rows below = heed::attention(x.q - h * u_q, x.k - h * u_k, x.v - h * u_v, spec);
    const auto moved = heed::attention_jvp(x.q, x.k, x.v, u_q, u_k, u_v, spec);
    if (!((above - below) / (2 * h) - moved.out_tangent).isZero(1e-2f))
      return state.SkipWithError("wrong result");
  }
  for (auto _ : state) {
    const auto best = best_in_turns(
        12, 0.1, [&] { heed::attention_into(x.out, x.q, x.k, x.v, one, spec); },
        [&] {
          const auto moved = heed::attention_jvp(x.q, x.k, x.v, u_q, u_k, u_v, spec, heed::use(two));
          benchmark::DoNotOptimize(moved.out_tangent.data());
        });
    state.counters["jvp_over_forward"] = best[1] / best[0];
    state.counters["jvp_ms"] = best[1] * 1e3;
  }
}

void second_order(benchmark::State& state, Sizes s) {
  Operands<float> x(s);
  const Rows u_q = direction(x.q), u_k = direction(x.k), u_v = direction(x.v), dout = direction(x.out);
  const auto spec = heed::spec(heed::heads(s.heads, s.key_heads), heed::on(heed::serial()));
  heed::Workspace one, two;
  heed::Saved<float> saved;
  heed::attention_into(x.out, x.q, x.k, x.v, one, spec, heed::save(saved));
  for (auto _ : state) {
    const auto best = best_in_turns(
        8, 0.1, [&] { heed::attention_into(x.out, x.q, x.k, x.v, one, spec); },
        [&] {
          const auto g = heed::attention_double_backward(dout, x.q, x.k, x.v, x.out, saved, u_q, u_k, u_v,
                                                         spec, heed::use(two));
          benchmark::DoNotOptimize(g.q.data());
        });
    state.counters["double_backward_over_forward"] = best[1] / best[0];
    state.counters["double_backward_ms"] = best[1] * 1e3;
    state.counters["workspace_KB"] = static_cast<double>(two.bytes()) / 1024;
  }
}

void dropout(benchmark::State& state, Sizes s) {
  Operands<float> x(s);
  const Rows dout = direction(x.out);
  Rows dq = x.q, dk = x.k, dv = x.v;
  const auto plain = heed::spec(heed::heads(s.heads, s.key_heads), heed::on(heed::serial()));
  const auto dropped = heed::spec(plain, heed::dropout(0.1, 1));
  heed::Workspace workspace;
  heed::Saved<float> saved, saved_dropped;
  Rows out_dropped = x.out;
  heed::attention_into(x.out, x.q, x.k, x.v, workspace, plain, heed::save(saved));
  heed::attention_into(out_dropped, x.q, x.k, x.v, workspace, dropped, heed::save(saved_dropped));
  const auto backward = [&](const auto& out, const auto& kept, const auto& spec) {
    heed::attention_backward(dout, x.q, x.k, x.v, out, kept, spec, heed::into(dq, dk, dv),
                             heed::use(workspace));
  };
  for (auto _ : state) {
    const auto best = best_in_turns(
        12, 0.1, [&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, plain); },
        [&] { heed::attention_into(x.out, x.q, x.k, x.v, workspace, dropped); });
    const auto best_backward = best_in_turns(
        8, 0.1, [&] { backward(x.out, saved, plain); },
        [&] { backward(out_dropped, saved_dropped, dropped); });
    state.counters["dropout_over_plain_forward"] = best[1] / best[0];
    state.counters["dropout_over_plain_backward"] = best_backward[1] / best_backward[0];
  }
}

void add(const char* name, void (*f)(benchmark::State&, Sizes), Sizes s) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) { f(state, s); })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime()
      ->Iterations(1);
}

const int registered = [] {
  const Sizes usual{8, 8, 1024, 1024, 64};
  add(
      "attention/ratio/jvp/8x1024x64",
      [](benchmark::State& state, Sizes s) { forward_mode(state, s, heed::spec()); }, usual);
  add(
      "attention/ratio/jvp/contiguous/1x1024x64",
      [](benchmark::State& state, Sizes s) { forward_mode(state, s, heed::spec()); },
      Sizes{1, 1, 1024, 1024, 64});
  add(
      "attention/ratio/jvp/causal/8x1024x64",
      [](benchmark::State& state, Sizes s) { forward_mode(state, s, heed::spec(heed::causal())); }, usual);
  add("attention/ratio/double_backward/8x1024x64", second_order, usual);
  add("attention/ratio/dropout/8x1024x64", dropout, usual);
  return 0;
}();

}  // namespace
