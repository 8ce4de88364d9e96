// expect: two selections in one spec
// SPDX-License-Identifier: MIT
#include <heed/core/spec.hpp>
#include <heed/select/softmax.hpp>

int main() {
  (void)heed::spec(heed::softmax(), heed::softmax());
}
