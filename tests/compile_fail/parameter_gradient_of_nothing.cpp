// expect: parameter_gradient\(\) without a score_with\(\) that has parameters
// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 2);
  heed::Saved<float> saved;
  const Eigen::MatrixXf y = heed::attention(q, q, q, heed::save(saved));
  Eigen::Vector2f d;
  (void)heed::attention_backward(q, q, q, q, y, saved, heed::parameter_gradient(d));
}
