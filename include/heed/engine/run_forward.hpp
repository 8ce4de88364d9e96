// SPDX-License-Identifier: MIT
/// @file
/// Cuts a forward problem into tasks, gives each worker its scratch and runs them on the executor.
#ifndef HEED_ENGINE_RUN_FORWARD_HPP
#define HEED_ENGINE_RUN_FORWARD_HPP

#include <heed/core/spec.hpp>
#include <heed/core/workspace.hpp>
#include <heed/engine/instruction_sets.hpp>
#include <heed/execute/on.hpp>
#include <heed/mask/key_lists.hpp>

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

/// Of a forward pass, at most.
inline double multiply_adds(const Shape& s) {
  return static_cast<double>(s.queries) * static_cast<double>(s.longest) * static_cast<double>(s.heads) *
         static_cast<double>(s.d + s.d_v);
}

/// Threads that may take part: one where all the work is over before a second has started.
template <class T, class Executor>
int workers_for(const ForwardProblem<T>& p, const Executor& executor) {
  return multiply_adds(p.shape) < worth_a_thread ? 1 : executor.threads();
}

/// Runs the problem with scratch from the workspace, or from the stack or the heap when there is none.
template <class T, class Spec>
void run_forward(const ForwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  if (p.shape.queries == 0 || (p.shape.d_v == 0 && p.lse.data == nullptr)) return;
  if constexpr (!has_policy<Spec, score_tag>)
    if (HEED_DISPATCH(is_direct(p))) return HEED_DISPATCH(attend_directly(p, spec));
  const auto& executor = executor_of(spec);
  const int workers = workers_for(p, executor);
  const ForwardPlan plan = HEED_DISPATCH(plan_forward(p, spec));
  const std::size_t bytes = plan.bytes(workers);
  if (workspace == nullptr && bytes <= stack_scratch) {
    alignas(Workspace::alignment) std::byte memory[stack_scratch];
    return HEED_DISPATCH(run_tasks(p, spec, executor, plan, workers, memory));
  }
  Workspace own;
  Workspace& memory = workspace != nullptr ? *workspace : own;
  memory.reserve(bytes);
  HEED_DISPATCH(run_tasks(p, spec, executor, plan, workers, memory.data()));
}

/// Runs task(t, scratch) for t < tasks, each worker with `bytes` of scratch of its own, from the workspace if
/// there is one. A single thread where all the work is over before a second has started, or where there is a
/// single task. `shared_bytes` more are there for all: before(memory) is called with them first,
/// after(memory) in the end.
template <class T, class Spec, class Task, class Before, class After>
void run_workers(Index tasks, double work, std::size_t bytes, const Spec& spec, Workspace* workspace,
                 const Task& task, std::size_t shared_bytes, const Before& before, const After& after) {
  const auto& executor = executor_of(spec);
  const int workers = tasks == 1 || work < worth_a_thread ? 1 : executor.threads();
  Workspace own;
  Workspace& memory = workspace != nullptr ? *workspace : own;
  const std::size_t scratch = bytes * static_cast<std::size_t>(workers);
  memory.reserve(scratch + shared_bytes);
  before(memory.data() + scratch);
  const auto run = [&](Index t, int worker) {
    task(t, reinterpret_cast<T*>(memory.data() + bytes * static_cast<std::size_t>(worker)));
  };
  if (workers == 1)
    for (Index t = 0; t < tasks; ++t) run(t, 0);
  else
    executor.run(tasks, run);
  after(memory.data() + scratch);
}
template <class T, class Spec, class Task>
void run_workers(Index tasks, double work, std::size_t bytes, const Spec& spec, Workspace* workspace,
                 const Task& task) {
  const auto nothing = [](std::byte*) {};
  run_workers<T>(tasks, work, bytes, spec, workspace, task, 0, nothing, nothing);
}

/// Whether queries name their keys, and the engine can go by that: not where policies write something for
/// each pair.
template <class Spec>
struct Listed;
template <class... P>
struct Listed<Spec<P...>> {
  static constexpr auto lists = order_of<ConjunctOf<KeyLists, P>::found...>();
  static constexpr bool possible = lists.size == 1 && !Spec<P...>::selects_rows &&
                                   count_of<score_tag, P...> + count_of<bias_gradient_tag, P...> +
                                           count_of<parameter_gradient_tag, P...> +
                                           count_of<relative_bias_gradient_tag, P...> ==
                                       0;
  static const KeyLists& of(const Spec<P...>& spec) {
    using M = std::remove_cvref_t<decltype(detail::get<lists.at[0]>(spec.parts()))>;
    return ConjunctOf<KeyLists, M>::of(detail::get<lists.at[0]>(spec.parts()));
  }
};

/// With queries that name their keys.
template <class T, class Spec>
void run_listed(const ForwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  if (p.shape.queries == 0 || (p.shape.d_v == 0 && p.lse.data == nullptr)) return;
  const KeyLists& lists = Listed<Spec>::of(spec);
  const double pairs = static_cast<double>(lists.pairs()) * static_cast<double>(p.shape.heads);
  run_workers<T>(HEED_DISPATCH(listed_tasks(p)), pairs * static_cast<double>(p.shape.d + p.shape.d_v),
                 HEED_DISPATCH(listed_bytes<T>(p.shape)), spec, workspace,
                 [&](Index t, T* scratch) { HEED_DISPATCH(listed_task(p, spec, lists, t, scratch)); });
}

/// With a selection that needs whole rows.
template <class T, class Spec>
void run_rows(const ForwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  if (p.shape.queries == 0 || (p.shape.d_v == 0 && p.lse.data == nullptr)) return;
  run_workers<T>(HEED_DISPATCH(rows_tasks(p, spec)), multiply_adds(p.shape),
                 HEED_DISPATCH(rows_bytes(p, spec)), spec, workspace,
                 [&](Index t, T* scratch) { HEED_DISPATCH(rows_task(p, spec, t, scratch)); });
}

}  // namespace heed::inline HEED_ABI::detail

#endif
