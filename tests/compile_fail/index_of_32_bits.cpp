// expect: EIGEN_DEFAULT_DENSE_INDEX_TYPE must have 64 bits
// flags: -DEIGEN_DEFAULT_DENSE_INDEX_TYPE=int
// SPDX-License-Identifier: MIT
// Sizes and bounds are 64-bit integers.
#include <heed/attention.hpp>
