// expect: lse_gradient.. is for softmax
// SPDX-License-Identifier: MIT
#include <heed/attention_backward.hpp>
#include <heed/select/top_k.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 2);
  heed::Saved<float> saved;
  (void)heed::attention_backward(q, q, q, q, q, saved, heed::top_k(1), heed::lse_gradient(q));
}
