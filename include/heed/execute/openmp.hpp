// SPDX-License-Identifier: MIT
/// @file
/// openmp(threads): tasks on OpenMP, the default where the compiler has it.
#ifndef HEED_EXECUTE_OPENMP_HPP
#define HEED_EXECUTE_OPENMP_HPP

#include <heed/config.hpp>

#if defined(_OPENMP)

#include <heed/execute/serial.hpp>
#include <heed/execute/task_queue.hpp>

#include <omp.h>

namespace heed::inline HEED_ABI {

/// Runs the tasks on an OpenMP team. Present only when the program is compiled with OpenMP.
/// Inside a parallel region the team follows OpenMP's own rules for nesting, by default one thread: the
/// caller.
class OpenMP {
 public:
  /// @param threads size of the team; 0 leaves it to OpenMP (`OMP_NUM_THREADS`, `omp_set_num_threads`).
  explicit OpenMP(int threads = 0) : threads_(threads) {}

  int threads() const { return threads_ > 0 ? threads_ : omp_get_max_threads(); }

  /// A single task, or a team of one, runs in the caller without opening a parallel region.
  template <class F>
  void run(Eigen::Index tasks, F&& task) const {
    const int team = static_cast<int>(tasks < threads() ? tasks : threads());
    if (team <= 1) return Serial().run(tasks, task);
    detail::TaskQueue queue(tasks);
#pragma omp parallel num_threads(team)
    queue.work(task, omp_get_thread_num());
    queue.rethrow();
  }

 private:
  int threads_;
};

/// The OpenMP executor: `attention(q, k, v, on(openmp(4)))`.
inline OpenMP openmp(int threads = 0) { return OpenMP(threads); }

}  // namespace heed::inline HEED_ABI

#endif
#endif
