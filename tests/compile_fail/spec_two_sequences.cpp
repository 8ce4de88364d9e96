// expect: two sequences.. in one spec
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/layout/sequences.hpp>

int main() {
  (void)heed::spec(heed::sequences({0, 1}), heed::sequences({0, 2}));
}
