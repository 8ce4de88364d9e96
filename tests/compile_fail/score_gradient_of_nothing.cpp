// expect: score_gradient\(\) without an additive\(\)
// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 2);
  heed::Saved<float> saved;
  const Eigen::MatrixXf y = heed::attention(q, q, q, heed::save(saved));
  Eigen::Vector2f d;
  (void)heed::attention_backward(q, q, q, q, y, saved, heed::score_gradient(d));
}
