// expect: alpha_gradient.. without an entmax
// SPDX-License-Identifier: MIT
#include <heed/attention_backward.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 2);
  Eigen::VectorXf da(1);
  heed::Saved<float> saved;
  (void)heed::attention_backward(q, q, q, q, q, saved, heed::alpha_gradient(da));
}
