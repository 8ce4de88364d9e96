// expect: two scores in one spec
// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 2);
  const Eigen::Vector2f w(1, 1);
  (void)heed::attention(q, q, q, heed::additive(w), heed::additive(w));
}
