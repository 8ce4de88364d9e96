// expect: two t5_bias.. in one spec
// SPDX-License-Identifier: MIT
#include <heed/heed.hpp>

int main() {
  const Eigen::MatrixXf table = Eigen::MatrixXf::Zero(1, 32);
  (void)heed::spec(heed::t5_bias(table), heed::t5_bias(table, {}, heed::top_left));
}
