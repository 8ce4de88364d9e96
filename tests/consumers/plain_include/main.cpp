// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

#include <cstdio>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Random(5, 8), k = Eigen::MatrixXf::Random(7, 8);
  const Eigen::MatrixXf v = Eigen::MatrixXf::Constant(7, 3, 2.0f);
  const Eigen::MatrixXf y = heed::attention(q, k, v, heed::causal());  // weights sum to 1: 2 everywhere
  std::printf("%g\n", static_cast<double>(y(4, 2)));
  return y.isConstant(2.0f) ? 0 : 1;
}
