// expect: (constraint|no matching function)
// SPDX-License-Identifier: MIT
#include <heed/execute/on.hpp>

auto executor = heed::on(4);  // a number of threads alone does not say what runs them
