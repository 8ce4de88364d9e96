// SPDX-License-Identifier: MIT
// attention/block_top_k/…: 16,384 causal tokens, blocks of 64, 16 of them kept, one thread, float: the times
// of the selection and of each branch of native sparse attention, and dense causal attention's over them.

#include "attention_case.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>

#include <heed/native_sparse_attention.hpp>

#include "timing.hpp"

namespace {

using measure::Index;

void block_top_k(benchmark::State& state) {
  constexpr Index n = 16384, d = 64, block = 64, count = 16;
  using Matrix = Eigen::MatrixXf;
  const Matrix q = Matrix::Random(n, d), k = Matrix::Random(n, d), v = Matrix::Random(n, d);
  const heed::BlockTopK options{.block = block, .count = count};
  heed::BlockLists lists = heed::block_top_k(q, k, options);
  const auto mask = lists.mask();
  const auto serial = heed::on(heed::serial());
  heed::Workspace workspace;
  Matrix selected(n, d), nearby(n, d), dense(n, d), pooled;

  const auto select = [&] { lists = heed::block_top_k(q, k, options); };
  const auto attend_selected = [&] {
    heed::attention_into(selected, q, k, v, workspace, mask, heed::causal(), serial);
  };
  const auto attend_pooled = [&] {
    pooled = heed::pooled_attention(q, k, v, heed::strides({block}), heed::causal(), serial);
  };
  const auto attend_nearby = [&] {
    heed::attention_into(nearby, q, k, v, workspace, heed::window(512, 0), serial);
  };
  const auto attend_all = [&] { heed::attention_into(dense, q, k, v, workspace, heed::causal(), serial); };

  // A few rows of the selected branch by definition; the first `count` blocks of queries see everything.
  attend_selected();
  attend_all();
  bool right = (selected - dense).topRows(count * block).cwiseAbs().maxCoeff() < 1e-5f;
  for (const Index i : {n / 2 + 5, n - 1}) {
    Eigen::RowVectorXd sum = Eigen::RowVectorXd::Zero(d);
    double total = 0;
    const auto r = static_cast<std::size_t>(i / block);
    right = right && lists.row_offsets[r + 1] - lists.row_offsets[r] == count;
    for (Index x = lists.row_offsets[r]; x < lists.row_offsets[r + 1]; ++x)
      for (Index b = lists.columns[static_cast<std::size_t>(x)], j = b * block; j < (b + 1) * block && j <= i;
           ++j) {
        const double w = std::exp(q.row(i).cast<double>().dot(k.row(j).cast<double>()) / 8);
        total += w;
        sum += w * v.row(j).cast<double>();
      }
    right = right && (selected.row(i).cast<double>() - sum / total).cwiseAbs().maxCoeff() < 1e-5;
  }
  if (!right) {
    state.SkipWithError("wrong result");
    return;
  }

  for (auto _ : state) {
    const auto best = measure::best_in_turns<measure::Clock::thread>(
        3, 0.05, select, attend_selected, attend_pooled, attend_nearby, attend_all);
    state.counters["selection_ms"] = 1e3 * best[0];
    state.counters["selected_ms"] = 1e3 * best[1];
    state.counters["compressed_ms"] = 1e3 * best[2];
    state.counters["window_ms"] = 1e3 * best[3];
    state.counters["dense_ms"] = 1e3 * best[4];
    state.counters["dense_over_all"] = best[4] / (best[0] + best[1] + best[2] + best[3]);
  }
}
BENCHMARK(block_top_k)
    ->Name("attention/block_top_k/16384/block:64/count:16")
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
