// expect: mask_where takes
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/mask/mask_where.hpp>

int main() {
  const auto mask = heed::mask_where([](int) { return true; });
  (void)mask.bind(heed::Place{}).visible(0, 0);
}
