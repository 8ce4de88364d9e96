// SPDX-License-Identifier: MIT
// attention/prefill/…, attention/cross/…, attention/window/…: many queries, one thread, heads packed in
// columns unless "contiguous".

#include "attention_case.hpp"

namespace {

using namespace measure;

template <class T = float>
void full(benchmark::State& state, Sizes s) {
  run_case<T>(state, s, heed::spec(), pairs_full(s));
}
void causal(benchmark::State& state, Sizes s) {
  run_case<float>(state, s, heed::spec(heed::causal()), pairs_causal(s, s.keys));
}
void window(benchmark::State& state, Sizes s, Index w) {
  run_case<float>(state, s, heed::spec(heed::sliding_window(w)), pairs_causal(s, w));
}

/// A batch of images: sequences of equal length, one after the other in rows.
void vision(benchmark::State& state, Index images, Index heads, Index tokens, Index d) {
  std::vector<Index> offsets;
  for (Index n = 0; n <= images; ++n) offsets.push_back(n * tokens);
  const double pairs =
      static_cast<double>(images) * static_cast<double>(tokens) * static_cast<double>(tokens);
  run_case<float>(state, Sizes{heads, heads, images * tokens, images * tokens, d},
                  heed::spec(heed::sequences(offsets)), pairs);
}

template <class... A>
void add(const char* name, void (*f)(benchmark::State&, A...), A... a) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) { f(state, a...); })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime();
}

const int registered = [] {
  add("attention/prefill/full/8x1024x64", full<float>, Sizes{8, 8, 1024, 1024, 64});
  add("attention/prefill/causal/8x1024x64", causal, Sizes{8, 8, 1024, 1024, 64});
  add("attention/prefill/causal/8x4096x64", causal, Sizes{8, 8, 4096, 4096, 64});
  add("attention/prefill/causal/8x2048x128", causal, Sizes{8, 8, 2048, 2048, 128});
  add("attention/prefill/full/8x2048x128", full<float>, Sizes{8, 8, 2048, 2048, 128});
  add("attention/prefill/full/contiguous/1x1024x64", full<float>, Sizes{1, 1, 1024, 1024, 64});
  add("attention/prefill/full/contiguous/1x2048x128", full<float>, Sizes{1, 1, 2048, 2048, 128});
  add("attention/prefill/vision/8x12x197x64", vision, Index(8), Index(12), Index(197), Index(64));
  add("attention/prefill/double/8x1024x64", full<double>, Sizes{8, 8, 1024, 1024, 64});
  add("attention/prefill/double/8x1024x128", full<double>, Sizes{8, 8, 1024, 1024, 128});
  add("attention/cross/8x128x2048x64", full<float>, Sizes{8, 8, 128, 2048, 64});
  add("attention/window256/8x8192x64", window, Sizes{8, 8, 8192, 8192, 64}, Index(256));
  add("attention/window256/contiguous/1x8192x64", window, Sizes{1, 1, 8192, 8192, 64}, Index(256));
  add("attention/window256/contiguous/1x131072x64", window, Sizes{1, 1, 131072, 131072, 64}, Index(256));
  add("attention/window256/contiguous/1x1048576x64", window, Sizes{1, 1, 1048576, 1048576, 64}, Index(256));
  return 0;
}();

}  // namespace
