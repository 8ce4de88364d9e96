// expect: the function given to score_with does not take dual numbers.*write `auto s`
// SPDX-License-Identifier: MIT
#include <heed/attention_backward.hpp>
#include <heed/score/score_with.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Ones(3, 2);
  const auto doubled = heed::score_with([](float s, auto, auto) { return s * 2; });
  heed::Saved<float> saved;
  const Eigen::MatrixXf y = heed::attention(q, q, q, doubled, heed::save(saved));
  (void)heed::attention_backward(q, q, q, q, y, saved, doubled);
}
