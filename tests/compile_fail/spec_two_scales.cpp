// expect: two scales in one spec
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/score/scale.hpp>
#include <heed/core/when.hpp>

int main() {
  (void)heed::spec(heed::scale(2), heed::spec(heed::when(true, heed::scale(3))));
}
