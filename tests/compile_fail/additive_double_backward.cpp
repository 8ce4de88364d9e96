// expect: attention_double_backward moves dot products only
// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 2);
  const Eigen::Vector2f w(1, 1);
  heed::Saved<float> saved;
  const Eigen::MatrixXf y = heed::attention(q, q, q, heed::additive(w), heed::save(saved));
  (void)heed::attention_double_backward(q, q, q, q, y, saved, q, q, q, heed::additive(w));
}
