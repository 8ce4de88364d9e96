// expect: k and v have different numbers of rows
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/core/shape.hpp>

int main() {
  heed::detail::check_fixed_sizes<true, Eigen::Matrix3f, Eigen::Matrix3f, Eigen::Matrix2f>();
}
