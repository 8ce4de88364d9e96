// expect: Heed needs infinities, NaN and sums in their order
// flags (GNU): -ffast-math -fno-finite-math-only
// SPDX-License-Identifier: MIT
// Sums in another order undo what rounds to whole numbers. Clang 14 does not say how it was called.
#include <heed/attention.hpp>
