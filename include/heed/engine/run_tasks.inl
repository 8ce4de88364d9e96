// SPDX-License-Identifier: MIT
// From a problem to its tasks, and the tasks on an executor.

template <class T, class Spec>
HEED_NOINLINE ForwardPlan plan_forward(const ForwardProblem<T>& p, const Spec& spec) {
  using Scorer = ScorerOf<T, Spec>;
  ForwardPlan plan;
  plan.tiled_tasks = tiled_tasks(p);
  plan.streamed_queries = streamed_queries(p.shape);
  plan.streamed_tasks = streamed_tasks(p.shape, plan.streamed_queries);
  if (plan.tiled_tasks > 0) plan_copies(p, is_narrow(p, spec), plan);
  const Index tiled = plan.tiled_tasks > 0 ? tiled_scratch(p, plan, Scorer::numbers(p.shape.d)) : 0;
  const Index streamed =
      plan.streamed_tasks > 0 ? streamed_scratch<T, Scorer>(p.shape, plan.streamed_queries) : 0;
  plan.worker_bytes = (static_cast<std::size_t>(tiled > streamed ? tiled : streamed) + 63) / 64 * 64;
  plan.partial_bytes = static_cast<std::size_t>(partial_scratch<T>(p.shape, plan.streamed_queries));
  return plan;
}

template <class T, class Spec, class Executor>
HEED_NOINLINE void run_tasks(const ForwardProblem<T>& p, const Spec& spec, const Executor& executor,
                             const ForwardPlan& plan, int workers, std::byte* memory) {
  const auto run = [&](Index tasks, auto&& task) {
    if (workers == 1)
      for (Index t = 0; t < tasks; ++t) task(t, 0);
    else if (tasks > 0)
      executor.run(tasks, task);
  };
  T* partials = reinterpret_cast<T*>(memory + plan.worker_bytes * static_cast<std::size_t>(workers));
  const auto scratch = [&](int worker) {
    return reinterpret_cast<T*>(memory + plan.worker_bytes * static_cast<std::size_t>(worker));
  };
  if (plan.copied_keys > 0)
    for (int w = 0; w < workers; ++w) CopiedKeys<T>(p, plan, scratch(w)).forget();
  run(plan.tiled_tasks, [&](Index t, int worker) { tiled_task(p, spec, plan, t, scratch(worker)); });
  run(plan.streamed_tasks, [&](Index t, int worker) {
    streamed_task(p, spec, t, plan.streamed_queries, scratch(worker), partials);
  });
  for (Index s = 0; plan.partial_bytes > 0 && s < p.shape.sequences; ++s)
    merge_pieces(p, spec, s, plan.streamed_queries, partials);
}
