// expect: the function given to weight_with does not take dual numbers
// SPDX-License-Identifier: MIT
#include <heed/attention_backward.hpp>
#include <heed/select/weight_with.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Ones(3, 2);
  const auto squared = heed::weight_with([](float w, auto, auto) { return w * w; });
  heed::Saved<float> saved;
  const Eigen::MatrixXf y = heed::attention(q, q, q, squared, heed::save(saved));
  (void)heed::attention_backward(q, q, q, q, y, saved, squared);
}
