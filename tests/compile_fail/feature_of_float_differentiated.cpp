// expect: the function given to feature_map does not take dual numbers
// SPDX-License-Identifier: MIT
#include <heed/linear_attention.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Ones(3, 2);
  (void)heed::linear_attention_backward(q, q, q, q, q, heed::feature_map([](float x) { return x * x; }));
}
