// expect: their number must be known to
// SPDX-License-Identifier: MIT
#include <vector>

#include <heed/score/score_with.hpp>

int main() {
  const std::vector<float> theta{1, 2};
  (void)heed::score_with([](auto s, const auto& p, auto, auto) { return s * p[0]; }, theta);
}
