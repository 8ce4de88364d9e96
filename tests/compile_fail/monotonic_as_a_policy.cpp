// expect: monotonic\(\) is no selection of attention
// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

int main() {
  const Eigen::MatrixXf x = Eigen::MatrixXf::Zero(2, 2);
  (void)heed::attention(x, x, x, heed::monotonic());
}
