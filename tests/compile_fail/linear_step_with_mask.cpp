// expect: a step of a linear attention is causal, and takes no mask
// SPDX-License-Identifier: MIT
#include <heed/linear_attention.hpp>

int main() {
  const Eigen::MatrixXf x = Eigen::MatrixXf::Zero(2, 2);
  heed::LinearState<float> state;
  state.step(x, x, x, heed::causal());
}
