// expect: Heed needs infinities, NaN and sums in their order
// flags (GNU): -freciprocal-math
// SPDX-License-Identifier: MIT
// A quotient of two small numbers would be infinite.
#include <heed/attention.hpp>
