// expect: Heed needs a target of 64 bits
// flags (x86_64): -m32
// SPDX-License-Identifier: MIT
// Sizes and bounds are 64-bit integers.
#include <heed/config.hpp>
