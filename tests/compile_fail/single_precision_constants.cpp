// expect: constants must keep their digits
// flags (GNU): -fsingle-precision-constant
// SPDX-License-Identifier: MIT
// Polynomials in double need coefficients in double.
#include <heed/attention.hpp>
