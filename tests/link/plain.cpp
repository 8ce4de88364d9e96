// SPDX-License-Identifier: MIT
#include "attend.inl"

Answer answer_plain(const float* x, int tokens, int d) { return attend(x, tokens, d); }
