// SPDX-License-Identifier: MIT
/// @file
/// Runs the tasks of a backward problem on the executor.
#ifndef HEED_ENGINE_RUN_BACKWARD_HPP
#define HEED_ENGINE_RUN_BACKWARD_HPP

#include <heed/core/spec.hpp>
#include <heed/engine/run_forward.hpp>

namespace heed::inline HEED_ABI::detail {

/// Five products a pair instead of two. Each head of each sequence sums the gradients of its parameters, and
/// of its buckets of relative positions and of its score, on its own, each piece of keys its dq; in the end
/// these are added in order.
template <class T, class Spec>
void run_backward(BackwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  using Rules = std::remove_cvref_t<decltype(spec.template bind<T>(Place{}))>;
  constexpr Index n = has_policy<Spec, parameter_gradient_tag> ? Rules::parameters : 0;
  constexpr bool wants_buckets = has_policy<Spec, relative_bias_gradient_tag>;
  Index buckets = 0;
  if constexpr (wants_buckets) buckets = spec.template find<relative_bias_tag>()->buckets();
  const Index places = p.shape.sequences * p.shape.heads;
  constexpr bool wants_score = has_policy<Spec, score_gradient_tag>;
  const Index weights = wants_score ? p.shape.d : 0;
  if constexpr (n == 0 && !wants_buckets && !wants_score) p.plan_pieces(HEED_DISPATCH(is_narrow(p, spec)));
  const auto clear = [&](std::byte* memory) {
    p.dq_parts = reinterpret_cast<T*>(memory);
    double* const sums = reinterpret_cast<double*>(memory);
    for (Index t = 0; t < places * (n + buckets + weights); ++t) sums[t] = 0;
    if constexpr (n > 0) p.parameter_sums = sums;
    if constexpr (wants_buckets) p.bucket_sums = sums + places * n;
    if constexpr (wants_score) p.score_sums = sums + places * (n + buckets);
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
    if constexpr (wants_score) add_sums(*spec.template find<score_gradient_tag>(), p.score_sums, weights);
    if constexpr (n > 0) add_sums(*spec.template find<parameter_gradient_tag>(), p.parameter_sums, n);
    if constexpr (wants_buckets)
      add_sums(*spec.template find<relative_bias_gradient_tag>(), p.bucket_sums, buckets);
  };
  run_workers<T>(
      HEED_DISPATCH(backward_tasks(p)), 2.5 * multiply_adds(p.shape), HEED_DISPATCH(backward_bytes(p, spec)),
      spec, workspace, [&](Index t, T* scratch) { HEED_DISPATCH(backward_task(p, spec, t, scratch)); },
      static_cast<std::size_t>(places * (n + buckets + weights)) * sizeof(double) + p.part_bytes(), clear,
      add);
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
