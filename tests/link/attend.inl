// SPDX-License-Identifier: MIT
// Included by plain.cpp and native.cpp.

#include <cstddef>
#include <vector>

#include <heed/heed.hpp>

#include "both.hpp"

namespace {

#define HEED_TEXT_(x) #x
#define HEED_TEXT(x) HEED_TEXT_(x)

Answer attend(const float* x, int tokens, int d) {
  // Memory of the standard library's: Eigen's own allocation is compiled with another alignment in each of the two files,
  // under one name.
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  std::vector<float> memory(static_cast<std::size_t>(tokens * d));
  const Eigen::Map<const Matrix> tokens_by_d(x, tokens, d);
  const Eigen::Map<Matrix> y(memory.data(), tokens, d);
  heed::Workspace workspace;
  heed::attention_into(y, tokens_by_d, tokens_by_d, tokens_by_d, workspace, heed::causal());
  Answer answer{HEED_TEXT(HEED_ABI), {}};
  for (int i = 0; i < 5; ++i) answer.values[i] = y(i * (tokens - 1) / 4, i * (d - 1) / 4);
  return answer;
}

}  // namespace
