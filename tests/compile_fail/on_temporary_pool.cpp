// expect: heed::on refers to the pool: give it one that outlives the call
// SPDX-License-Identifier: MIT
#include <heed/execute/on.hpp>

struct Pool {
  template <class F>
  void Schedule(F f) {
    f();
  }
  int NumThreads() const { return 2; }
};

auto executor = heed::on(Pool());
