// expect: Heed needs float and double to be computed as such
// flags (GNU x86_64): -mfpmath=387
// SPDX-License-Identifier: MIT
// Whether a number is rounded would depend on where the compiler keeps it.
#include <heed/attention.hpp>
