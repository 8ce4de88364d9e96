// SPDX-License-Identifier: MIT
#ifndef ATTEND_WORDS_COMPARE_HPP
#define ATTEND_WORDS_COMPARE_HPP

// One variant of attention, by Heed and by plain Eigen: the same result, and what each takes for it.

#include <heed/heed.hpp>

#include <cmath>
#include <memory.hpp>
#include <plain_eigen.hpp>
#include <stdexcept>
#include <string>
#include <timing.hpp>

#include "report.hpp"
#include "words.hpp"

/// Runs softmax(q k^T / sqrt(d)) v, with `heads` heads side by side in columns, in the three ways. `keys_of`
/// says for plain Eigen what `policies` say for Heed. Throws when the results differ.
template <class KeysOf, class... Policies>
Measured compare(const std::string& name, double peak, const Matrix& q, const Matrix& k, const Matrix& v,
                 Eigen::Index heads, const KeysOf& keys_of, const Policies&... policies) {
  const Eigen::Index d = q.cols() / heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  Matrix y(q.rows(), v.cols()), plain(q.rows(), v.cols());

  const auto heed_run = [&](heed::Workspace& workspace) {
    heed::attention_into(y, q, k, v, workspace, heed::heads(heads), heed::on(heed::serial()), policies...);
  };
  const auto head_by_head = [&](auto attention) {
    for (Eigen::Index c = 0; c < q.cols(); c += d) {
      attention(plain.middleCols(c, d), q.middleCols(c, d), k.middleCols(c, d), v.middleCols(c, d));
    }
  };
  const auto plain_run = [&] {
    head_by_head([&](auto out, const auto&... qkv) { plain_eigen::attention(out, qkv..., scale, keys_of); });
  };
  const auto blocks_run = [&] {
    head_by_head(
        [&](auto out, const auto&... qkv) { plain_eigen::attention_in_blocks(out, qkv..., scale, keys_of); });
  };

  Measured m;
  m.name = name;
  m.memory = measure::extra_memory([&] {
    heed::Workspace workspace;
    heed_run(workspace);
  });
  m.plain_memory = measure::extra_memory(plain_run);
  m.difference = static_cast<double>((y - plain).cwiseAbs().maxCoeff());
  if (!(m.difference < 1e-4)) throw std::runtime_error("Heed and plain Eigen differ in the variant " + name);
  blocks_run();
  if (!((y - plain).cwiseAbs().maxCoeff() < 1e-4f))
    throw std::runtime_error("plain Eigen in blocks differs: " + name);

  heed::Workspace workspace;
  const auto reuse = [&] { heed_run(workspace); };
  const auto best = measure::best_in_turns<measure::Clock::thread>(5, 0.05, reuse, plain_run, blocks_run);
  m.seconds = best[0];
  m.plain_seconds = best[1];
  m.blocks_seconds = best[2];

  double pairs = 0;
  for (Eigen::Index i = 0; i < q.rows(); ++i) pairs += static_cast<double>(keys_of(i).end - keys_of(i).begin);
  m.gflops = 4.0 * pairs * static_cast<double>(q.cols()) / m.seconds *
             1e-9;  // two products, a multiplication and an addition each
  m.share = m.gflops / peak;
  return m;
}

#endif
