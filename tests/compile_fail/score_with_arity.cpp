// expect: score_with takes
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/score/score_with.hpp>

int main() {
  const auto spec = heed::spec(heed::score_with([](float s) { return s; }));
  (void)spec.bind<float>(heed::Place{}).score(1.0f, 0, 0);
}
