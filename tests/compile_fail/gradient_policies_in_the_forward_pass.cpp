// expect: belong to attention_backward
// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

int main() {
  Eigen::MatrixXf x = Eigen::MatrixXf::Zero(2, 2), dx = x;
  (void)heed::attention(x, x, x, heed::bias_gradient(dx));
}
