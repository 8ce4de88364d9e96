// expect: use_heed_tanh_not_std_tanh|heed::tanh in place of std::tanh
// SPDX-License-Identifier: MIT
#include <cmath>

#include <heed/attention_jvp.hpp>
#include <heed/score/score_with.hpp>

int main() {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Ones(3, 2);
  const auto bent = heed::score_with([](auto s, auto, auto) { return std::tanh(s); });
  (void)heed::attention_jvp(q, q, q, q, q, q, bent);
}
