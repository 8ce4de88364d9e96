// expect: no mask can hide a token from a query
// SPDX-License-Identifier: MIT
#include <heed/linear_attention.hpp>

int main() {
  const Eigen::MatrixXf x = Eigen::MatrixXf::Zero(2, 2);
  heed::linformer_attention(x, x, x, x, x, heed::causal());
}
