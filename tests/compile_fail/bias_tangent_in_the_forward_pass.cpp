// expect: bias_tangent\(\) belongs to attention_jvp and attention_double_backward
// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 2);
  (void)heed::attention(q, q, q, heed::bias_tangent(q));
}
