// expect: attention_jvp differentiates softmax
// SPDX-License-Identifier: MIT
#include <heed/attention_jvp.hpp>
#include <heed/select/sparsemax.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(2, 2);
  (void)heed::attention_jvp(q, q, q, q, q, q, heed::sparsemax());
}
