// expect: Heed needs infinities, NaN and sums in their order
// flags: -ffast-math
// SPDX-License-Identifier: MIT
// Masks are infinities.
#include <heed/attention.hpp>
