// expect: attention_jvp moves dot products only
// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 2);
  const Eigen::Vector2f w(1, 1);
  (void)heed::attention_jvp(q, q, q, q, q, q, heed::additive(w));
}
