// expect: two heads.. in one spec
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/layout/heads.hpp>

int main() {
  (void)heed::spec(heed::heads(2), heed::heads(4, 2));
}
