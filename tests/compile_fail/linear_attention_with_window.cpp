// expect: of the masks it takes causal
// SPDX-License-Identifier: MIT
#include <heed/linear_attention.hpp>
#include <heed/mask/window.hpp>

int main() {
  const Eigen::MatrixXf x = Eigen::MatrixXf::Zero(2, 2);
  heed::linear_attention(x, x, x, heed::sliding_window(2));
}
