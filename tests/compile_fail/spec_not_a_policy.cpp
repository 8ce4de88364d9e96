// expect: this argument is not a policy
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/mask/causal.hpp>

int main() {
  (void)heed::spec(heed::causal(), 3.5f);
}
