// expect: two save.. in one spec
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/core/saved.hpp>

int main() {
  heed::Saved<float> a, b;
  (void)heed::spec(heed::save(a), heed::save(b));
}
