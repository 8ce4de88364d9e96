// SPDX-License-Identifier: MIT
// attention/selection/…: what other selections cost in units of softmax, in turns; forward and backward.

#include "attention_case.hpp"

namespace {

using namespace measure;
using Rows = Matrix<float, Eigen::RowMajor>;

template <class Selection>
void against_softmax(benchmark::State& state, const Selection& selection) {
  const Sizes s{8, 8, 1024, 1024, 64};
  Operands<float> x(s);
  x.q *= 2;
  heed::Workspace one, two;
  const auto softmax = heed::spec(heed::heads(s.heads), heed::on(heed::serial()));
  const auto spec = heed::spec(softmax, selection);
  heed::Saved<float> saved, saved_softmax;
  const Rows soft = heed::attention(x.q, x.k, x.v, softmax, heed::save(saved_softmax));
  heed::attention_into(x.out, x.q, x.k, x.v, one, spec, heed::save(saved));
  if (!right(x, s, spec)) return state.SkipWithError("wrong result");
  const Rows out = x.out, dout = x.v;
  Rows dq(x.q), dk(x.k), dv(x.v);
  const auto into = heed::into(dq, dk, dv);
  for (auto _ : state) {
    const auto forward = best_in_turns(
        12, 0.05, [&] { heed::attention_into(x.out, x.q, x.k, x.v, one, softmax); },
        [&] { heed::attention_into(x.out, x.q, x.k, x.v, two, spec); });
    const auto backward = best_in_turns(
        6, 0.1,
        [&] {
          heed::attention_backward(dout, x.q, x.k, x.v, soft, saved_softmax, softmax, into, heed::use(one));
        },
        [&] { heed::attention_backward(dout, x.q, x.k, x.v, out, saved, spec, into, heed::use(two)); });
    state.counters["forward_over_softmax"] = forward[1] / forward[0];
    state.counters["backward_over_softmax"] = backward[1] / backward[0];
    state.counters["forward_ms"] = forward[1] * 1e3;
  }
}

template <class Selection>
void add(const char* name, const Selection& selection) {
  benchmark::RegisterBenchmark((std::string("attention/selection/8x1024x64/") + name).c_str(),
                               [selection](benchmark::State& state) { against_softmax(state, selection); })
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
}

[[maybe_unused]] const bool registered = [] {
  add("sparsemax", heed::sparsemax());
  add("entmax15", heed::entmax15());
  add("entmax_1.3", heed::entmax(1.3));
  add("top_k_8", heed::top_k(8));
  add("top_k_64", heed::top_k(64));
  add("top_p_0.9", heed::top_p(0.9));
  add("argmax", heed::argmax());
  add("argmax_straight_through", heed::argmax(heed::straight_through));
  add("sample_1", heed::sample(1));
  add("sample_8", heed::sample(1, 8));
  add("gumbel_softmax_0.5", heed::gumbel_softmax(0.5, 1));
  return true;
}();

}  // namespace
