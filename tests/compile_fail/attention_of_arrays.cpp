// expect: for an Eigen::Array x write x.matrix
// SPDX-License-Identifier: MIT
#include <heed/attention.hpp>

int main() {
  const Eigen::ArrayXXf q = Eigen::ArrayXXf::Ones(3, 2);
  const Eigen::MatrixXf y = heed::attention(q, q, q);
}
