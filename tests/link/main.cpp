// SPDX-License-Identifier: MIT
#include <cmath>
#include <cstdio>
#include <vector>

#include "both.hpp"

int main() {
  constexpr int tokens = 200, d = 64;
  std::vector<float> x(tokens * d);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(0.7f * static_cast<float>(i));

  const Answer plain = answer_plain(x.data(), tokens, d);
  const Answer native = answer_native(x.data(), tokens, d);
  const Answer again = answer_plain(x.data(), tokens, d);
  bool equal = true;
  for (int i = 0; i < 5; ++i) {
    std::printf("%s % .7f   %s % .7f\n", plain.flags, plain.values[i], native.flags, native.values[i]);
    equal =
        equal && std::abs(plain.values[i] - native.values[i]) < 1e-5f && plain.values[i] == again.values[i];
  }
  return equal ? 0 : 1;
}
