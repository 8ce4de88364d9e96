// SPDX-License-Identifier: MIT
#include "attend.inl"

Answer answer_native(const float* x, int tokens, int d) { return attend(x, tokens, d); }
