// SPDX-License-Identifier: MIT
#ifndef HEED_TESTS_LINK_BOTH_HPP
#define HEED_TESTS_LINK_BOTH_HPP

// The same computation, compiled twice. Plain pointers: Eigen's own types may differ between the two files.

struct Answer {
  const char* flags;  // the inline namespace that the file was compiled with
  float values[5];
};

Answer answer_plain(const float* x, int tokens, int d);
Answer answer_native(const float* x, int tokens, int d);

#endif
