// SPDX-License-Identifier: MIT
/// @file
/// Runs the tasks of a backward problem on the executor.
#ifndef HEED_ENGINE_RUN_BACKWARD_HPP
#define HEED_ENGINE_RUN_BACKWARD_HPP

#include <heed/engine/run_forward.hpp>

namespace heed::inline HEED_ABI::detail {

/// Five products a pair instead of two, and nothing to gain from a second thread where there is one task.
template <class T, class Spec>
void run_backward(const BackwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  const auto& executor = executor_of(spec);
  const Index tasks = HEED_DISPATCH(backward_tasks(p));
  const int workers = tasks == 1 || 2.5 * multiply_adds(p.shape) < worth_a_thread ? 1 : executor.threads();
  const std::size_t bytes = HEED_DISPATCH(backward_bytes(p));
  Workspace own;
  Workspace& memory = workspace != nullptr ? *workspace : own;
  memory.reserve(bytes * static_cast<std::size_t>(workers));
  const auto task = [&](Index t, int worker) {
    HEED_DISPATCH(backward_task(
        p, spec, t, reinterpret_cast<T*>(memory.data() + bytes * static_cast<std::size_t>(worker))));
  };
  if (workers == 1)
    for (Index t = 0; t < tasks; ++t) task(t, 0);
  else
    executor.run(tasks, task);
}

}  // namespace heed::inline HEED_ABI::detail

#endif
