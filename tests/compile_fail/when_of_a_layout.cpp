// expect: when.. chooses masks
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/core/when.hpp>
#include <heed/layout/heads.hpp>

int main() {
  (void)heed::when(true, heed::heads(2));
}
