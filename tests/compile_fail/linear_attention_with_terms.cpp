// expect: a linear attention never forms scores: it takes no softcap
// SPDX-License-Identifier: MIT
#include <heed/linear_attention.hpp>
#include <heed/position/alibi.hpp>

int main() {
  const Eigen::MatrixXf x = Eigen::MatrixXf::Zero(2, 2);
  heed::linear_attention(x, x, x, heed::alibi());
}
