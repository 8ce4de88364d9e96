// expect: t5_bias_gradient.. without a t5_bias
// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

int main() {
  Eigen::MatrixXf x = Eigen::MatrixXf::Zero(2, 2), table(1, 32);
  heed::Saved<float> saved;
  (void)heed::attention_backward(x, x, x, x, x, saved, heed::t5_bias_gradient(table));
}
