// SPDX-License-Identifier: MIT
/// @file
/// Cuts a forward problem into tasks, gives each worker its scratch and runs them on the executor.
#ifndef HEED_ENGINE_RUN_FORWARD_HPP
#define HEED_ENGINE_RUN_FORWARD_HPP

#include <heed/core/workspace.hpp>
#include <heed/engine/instruction_sets.hpp>
#include <heed/execute/on.hpp>

namespace heed::inline HEED_ABI::detail {

/// Problems of fewer multiply-adds end before a second thread would have started (about 10 microseconds).
inline constexpr double worth_a_thread = 1e6;

/// Scratch of at most this many bytes is taken from the stack when no workspace is given.
inline constexpr std::size_t stack_scratch = 32768;

template <class Spec>
decltype(auto) executor_of(const Spec& spec) {
  if constexpr (std::is_same_v<decltype(spec.executor()), std::nullptr_t>)
    return default_executor();
  else
    return *spec.executor();
}

/// Threads that may take part: one where all the work is over before a second has started.
template <class T, class Executor>
int workers_for(const ForwardProblem<T>& p, const Executor& executor) {
  const Shape& s = p.shape;
  const double work = static_cast<double>(s.queries) * static_cast<double>(s.longest) * static_cast<double>(s.heads) *
                      static_cast<double>(s.d + s.d_v);
  return work < worth_a_thread ? 1 : executor.threads();
}

/// Memory of one call, cut into the tile scratch of each worker and the partial results of split sequences.
template <class T>
struct ForwardMemory {
  std::size_t worker_bytes, partial_bytes;
  int workers;

  ForwardMemory(const ForwardProblem<T>& p, int threads)
      : worker_bytes((static_cast<std::size_t>(HEED_DISPATCH(forward_scratch(p))) + 63) / 64 * 64),
        partial_bytes(static_cast<std::size_t>(HEED_DISPATCH(partial_scratch(p)))),
        workers(threads) {}
  std::size_t bytes() const { return worker_bytes * static_cast<std::size_t>(workers) + partial_bytes; }
};

template <class T, class Spec, class Executor>
void run_forward_in(const ForwardProblem<T>& p, const Spec& spec, const Executor& executor, const ForwardMemory<T>& plan,
                    std::byte* memory) {
  const auto scratch = [&](int worker) {
    return reinterpret_cast<T*>(memory + plan.worker_bytes * static_cast<std::size_t>(worker));
  };
  T* partials = reinterpret_cast<T*>(memory + plan.worker_bytes * static_cast<std::size_t>(plan.workers));
  const auto run = [&](Index tasks, auto&& task) {
    if (plan.workers == 1)
      for (Index t = 0; t < tasks; ++t) task(t, 0);
    else
      executor.run(tasks, task);
  };
  const Index tiles = HEED_DISPATCH(tiled_tasks(p));
  const Index pieces = HEED_DISPATCH(streamed_tasks(p));
  if (tiles > 0) run(tiles, [&](Index t, int worker) { HEED_DISPATCH(tiled_task(p, spec, t, scratch(worker))); });
  if (pieces > 0) {
    run(pieces, [&](Index t, int worker) { HEED_DISPATCH(streamed_task(p, spec, t, scratch(worker), partials)); });
    run(p.shape.sequences, [&](Index s, int) { HEED_DISPATCH(merge_pieces(p, s, partials)); });
  }
}

/// Runs the problem with scratch from the workspace, or from the stack or the heap when there is none.
template <class T, class Spec>
void run_forward(const ForwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  if (p.shape.queries == 0 || (p.shape.d_v == 0 && p.lse.data == nullptr)) return;
  const auto& executor = executor_of(spec);
  const ForwardMemory<T> plan(p, workers_for(p, executor));
  if (workspace != nullptr) {
    workspace->reserve(plan.bytes());
    return run_forward_in(p, spec, executor, plan, workspace->data());
  }
  if (plan.bytes() <= stack_scratch) {
    alignas(Workspace::alignment) std::byte memory[stack_scratch];
    return run_forward_in(p, spec, executor, plan, memory);
  }
  Workspace own(plan.bytes());
  run_forward_in(p, spec, executor, plan, own.data());
}

}  // namespace heed::inline HEED_ABI::detail

#endif
