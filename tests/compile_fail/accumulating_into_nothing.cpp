// expect: accumulating needs into
// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

int main() {
  const Eigen::MatrixXf x = Eigen::MatrixXf::Zero(2, 2);
  const heed::Saved<float> saved;
  (void)heed::attention_backward(x, x, x, x, x, saved, heed::accumulating);
}
