// expect: rows and heads can be chosen once
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/attention_weights.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 2);
  (void)heed::attention_weights(q, q, heed::rows({0}), heed::rows({1}));
}
