// expect: dense_mask needs a matrix of bool
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/mask/dense.hpp>

int main() {
  const Eigen::MatrixXf b = Eigen::MatrixXf::Zero(2, 2);
  (void)heed::dense_mask(b);
}
