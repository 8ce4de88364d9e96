// SPDX-License-Identifier: MIT
// heed_benchmarks: run with --help for the options, --benchmark_filter=decode for a part,
// --benchmark_out=FILE for JSON.

#include <benchmark/benchmark.h>

#include <cstdio>

#include "memory.hpp"
#include "peak.hpp"

#include <heed/heed.hpp>

namespace {

/// What a call takes beside operands and result.
void extra_memory_of(benchmark::State& state, Eigen::Index n, Eigen::Index window) {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Random(n, 64);
  Eigen::MatrixXf out(n, 64);
  for (auto _ : state) {
    const long long bytes = measure::extra_memory([&] {
      heed::Workspace workspace;
      heed::attention_into(out, q, q, q, workspace, heed::sliding_window(window), heed::on(heed::serial()));
    });
    state.counters["extra_KB"] = static_cast<double>(bytes) / 1024.0;
  }
}

}  // namespace

int main(int argc, char** argv) {
  Eigen::setNbThreads(1);  // plain Eigen code and Heed both on one thread, unless a case says otherwise
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RegisterBenchmark("attention/memory/window256/1x131072x64", extra_memory_of,
                               Eigen::Index(131072), Eigen::Index(256))
      ->Iterations(1);
  benchmark::RegisterBenchmark("attention/memory/window512/1x1048576x64", extra_memory_of,
                               Eigen::Index(1048576), Eigen::Index(512))
      ->Iterations(1);
  const double peak = measure::peak_gflops<float>(), peak_double = measure::peak_gflops<double>();
  benchmark::AddCustomContext("heed_instruction_set", heed::name(heed::instruction_set()));
  benchmark::AddCustomContext("multiply_add_peak_GFLOP/s", std::to_string(peak));
  benchmark::AddCustomContext("multiply_add_peak_double_GFLOP/s", std::to_string(peak_double));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
