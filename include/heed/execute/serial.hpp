// SPDX-License-Identifier: MIT
/// @file
/// serial(): tasks in the calling thread; what an executor is.
#ifndef HEED_EXECUTE_SERIAL_HPP
#define HEED_EXECUTE_SERIAL_HPP

#include <Eigen/Core>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI {

/// What runs Heed's independent tasks. `run(n, task)` calls `task(t, worker)` once for every t in [0, n), in
/// any order and on any thread, with worker in [0, threads()) and no two calls at work under the same number
/// at one time; it returns when all are done and throws what a task threw. Results are bitwise equal whatever
/// the executor: every task owns what it writes.
template <class X>
concept executor = requires(const X& x, Eigen::Index n, void (*task)(Eigen::Index, int)) {
  static_cast<int>(x.threads());
  x.run(n, task);
};

/// Runs the tasks one after the other in the calling thread.
class Serial {
 public:
  int threads() const { return 1; }

  template <class F>
  void run(Eigen::Index tasks, F&& task) const {
    for (Eigen::Index t = 0; t < tasks; ++t) task(t, 0);
  }
};

/// The serial executor: `attention(q, k, v, on(serial()))`.
inline Serial serial() { return {}; }

}  // namespace heed::inline HEED_ABI

#endif
