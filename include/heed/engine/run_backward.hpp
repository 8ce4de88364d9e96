// SPDX-License-Identifier: MIT
/// @file
/// Runs the tasks of a backward problem on the executor.
#ifndef HEED_ENGINE_RUN_BACKWARD_HPP
#define HEED_ENGINE_RUN_BACKWARD_HPP

#include <heed/core/spec.hpp>
#include <heed/engine/run_forward.hpp>

namespace heed::inline HEED_ABI::detail {

/// Five products a pair instead of two. Each head of each sequence sums the gradients of its parameters, and
/// of its buckets of relative positions, on its own, each piece of keys its dq; in the end these are added in
/// order.
template <class T, class Spec>
void run_backward(BackwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  using Rules = std::remove_cvref_t<decltype(spec.template bind<T>(Place{}))>;
  constexpr Index n = has_policy<Spec, parameter_gradient_tag> ? Rules::parameters : 0;
  constexpr bool wants_buckets = has_policy<Spec, relative_bias_gradient_tag>;
  Index buckets = 0;
  if constexpr (wants_buckets) buckets = spec.template find<relative_bias_tag>()->buckets();
  const Index places = p.shape.sequences * p.shape.heads;
  if constexpr (n == 0 && !wants_buckets) p.plan_pieces(HEED_DISPATCH(is_narrow(p, spec)));
  const auto clear = [&](std::byte* memory) {
    p.dq_parts = reinterpret_cast<T*>(memory);
    double* const sums = reinterpret_cast<double*>(memory);
    for (Index t = 0; t < places * (n + buckets); ++t) sums[t] = 0;
    if constexpr (n > 0) p.parameter_sums = sums;
    if constexpr (wants_buckets) p.bucket_sums = sums + places * n;
  };
  const auto add_sums = [&](const auto& gradient, const double* sums, Index count) {
    for (Index place = 0; place < places; ++place)
      for (Index k = 0; k < count; ++k) {
        auto& x = gradient(place % p.shape.heads, k);
        x = static_cast<std::remove_cvref_t<decltype(x)>>(static_cast<double>(x) + sums[place * count + k]);
      }
  };
  const auto add = [&](std::byte*) {
    if (p.pieces > 1) HEED_DISPATCH(add_pieces(p));
    if constexpr (n > 0) add_sums(*spec.template find<parameter_gradient_tag>(), p.parameter_sums, n);
    if constexpr (wants_buckets)
      add_sums(*spec.template find<relative_bias_gradient_tag>(), p.bucket_sums, buckets);
  };
  run_workers<T>(
      HEED_DISPATCH(backward_tasks(p)), 2.5 * multiply_adds(p.shape), HEED_DISPATCH(backward_bytes(p)), spec,
      workspace, [&](Index t, T* scratch) { HEED_DISPATCH(backward_task(p, spec, t, scratch)); },
      static_cast<std::size_t>(places * (n + buckets)) * sizeof(double) + p.part_bytes(), clear, add);
}

/// With a selection that needs whole rows.
template <class T, class Spec>
void run_rows_backward(BackwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  using Rules = std::remove_cvref_t<decltype(spec.template bind<T>(Place{}))>;
  constexpr Index parameters = has_policy<Spec, parameter_gradient_tag> ? Rules::parameters : 0;
  constexpr Index sinks = has_policy<Spec, sink_gradient_tag> ? 1 : 0;
  constexpr Index alphas = has_policy<Spec, alpha_gradient_tag> ? 1 : 0;
  Index buckets = 0;
  if constexpr (has_policy<Spec, relative_bias_gradient_tag>)
    buckets = spec.template find<relative_bias_tag>()->buckets();
  const Index places = p.shape.sequences * p.shape.heads;
  const Index count = places * (parameters + buckets + sinks + alphas);
  const auto clear = [&](std::byte* memory) {
    double* sums = reinterpret_cast<double*>(memory);
    for (Index t = 0; t < count; ++t) sums[t] = 0;
    if constexpr (parameters > 0) p.parameter_sums = sums;
    sums += places * parameters;
    if (buckets > 0) p.bucket_sums = sums;
    sums += places * buckets;
    if constexpr (sinks > 0) p.sink_sums = sums;
    sums += places * sinks;
    if constexpr (alphas > 0) p.alpha_sums = sums;
  };
  const auto add_sums = [&](const auto& gradient, const double* sums, Index n) {
    for (Index place = 0; place < places; ++place)
      for (Index k = 0; k < n; ++k) {
        auto& x = [&]() -> auto& {
          if constexpr (requires { gradient(place, k); })
            return gradient(place % p.shape.heads, k);
          else
            return gradient(place % p.shape.heads);
        }
        ();
        x = static_cast<std::remove_cvref_t<decltype(x)>>(static_cast<double>(x) + sums[place * n + k]);
      }
  };
  const auto add = [&](std::byte*) {
    if constexpr (parameters > 0)
      add_sums(*spec.template find<parameter_gradient_tag>(), p.parameter_sums, parameters);
    if constexpr (has_policy<Spec, relative_bias_gradient_tag>)
      add_sums(*spec.template find<relative_bias_gradient_tag>(), p.bucket_sums, buckets);
    if constexpr (sinks > 0) add_sums(*spec.template find<sink_gradient_tag>(), p.sink_sums, 1);
    if constexpr (alphas > 0) add_sums(*spec.template find<alpha_gradient_tag>(), p.alpha_sums, 1);
  };
  run_workers<T>(
      HEED_DISPATCH(backward_tasks(p)), 2.5 * multiply_adds(p.shape),
      HEED_DISPATCH(rows_backward_bytes(p, spec)), spec, workspace,
      [&](Index t, T* scratch) { HEED_DISPATCH(rows_backward_task(p, spec, t, scratch)); },
      static_cast<std::size_t>(count) * sizeof(double), clear, add);
}

/// Ten products a pair.
template <class T, class Spec>
void run_second(const SecondProblem<T>& p, const Spec& spec, Workspace* workspace) {
  run_workers<T>(HEED_DISPATCH(second_tasks(p)), 5 * multiply_adds(p.first.shape),
                 HEED_DISPATCH(second_bytes(p)), spec, workspace,
                 [&](Index t, T* scratch) { HEED_DISPATCH(second_task(p, spec, t, scratch)); });
}

}  // namespace heed::inline HEED_ABI::detail

#endif
