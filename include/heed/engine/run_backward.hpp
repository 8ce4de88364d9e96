// SPDX-License-Identifier: MIT
/// @file
/// Runs the tasks of a backward problem on the executor.
#ifndef HEED_ENGINE_RUN_BACKWARD_HPP
#define HEED_ENGINE_RUN_BACKWARD_HPP

#include <heed/core/spec.hpp>
#include <heed/engine/run_forward.hpp>

namespace heed::inline HEED_ABI::detail {

/// Number k of a head's in a gradient that takes one or several.
template <class Gradient>
auto& element(const Gradient& gradient, Index head, Index k) {
  if constexpr (requires { gradient(head, k); })
    return gradient(head, k);
  else
    return gradient(head);
}

/// Five products a pair instead of two. Each head of each sequence sums the gradients of its parameters, of
/// its buckets of relative positions, of its score, and of what a selection of rows learns, on its own, each
/// piece of keys its dq; in the end these are added in order.
template <class T, class Spec>
void run_backward(BackwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  using Rules = std::remove_cvref_t<decltype(spec.template bind<T>(Place{}))>;
  constexpr bool wants_parameters = has_policy<Spec, parameter_gradient_tag>;
  constexpr bool wants_buckets = has_policy<Spec, relative_bias_gradient_tag>;
  constexpr bool wants_score = has_policy<Spec, score_gradient_tag>;
  constexpr bool wants_sink = has_policy<Spec, sink_gradient_tag> && Spec::selects_rows;
  constexpr bool wants_alpha = has_policy<Spec, alpha_gradient_tag>;
  const Index places = p.shape.sequences * p.shape.heads;
  // Calls f(where the sums of a head lie, how many they are, the policy that takes them) for all that is
  // wanted.
  const auto for_each = [&](const auto& f) {
    if constexpr (wants_parameters)
      f(p.parameter_sums, Index(Rules::parameters), *spec.template find<parameter_gradient_tag>());
    if constexpr (wants_buckets)
      f(p.bucket_sums, spec.template find<relative_bias_tag>()->buckets(),
        *spec.template find<relative_bias_gradient_tag>());
    if constexpr (wants_score) f(p.score_sums, p.shape.d, *spec.template find<score_gradient_tag>());
    if constexpr (wants_sink) f(p.sink_sums, Index(1), *spec.template find<sink_gradient_tag>());
    if constexpr (wants_alpha) f(p.alpha_sums, Index(1), *spec.template find<alpha_gradient_tag>());
    (void)f;
  };
  constexpr bool wants_sums = wants_parameters || wants_buckets || wants_score || wants_sink || wants_alpha;
  if constexpr (!wants_sums && !Spec::selects_rows) p.pieces = HEED_DISPATCH(pieces_for(p, spec));
  Index numbers = 0;
  for_each([&](double*, Index count, const auto&) { numbers += places * count; });
  const auto clear = [&](std::byte* memory) {
    p.dq_parts = reinterpret_cast<T*>(memory);
    double* sums = reinterpret_cast<double*>(memory);
    for (Index t = 0; t < numbers; ++t) sums[t] = 0;
    for_each([&](double*& where, Index count, const auto&) {
      where = sums;
      sums += places * count;
    });
  };
  const auto add = [&](std::byte*) {
    if (p.pieces > 1) HEED_DISPATCH(add_pieces(p));
    for_each([&](const double* sums, Index count, const auto& gradient) {
      for (Index place = 0; place < places; ++place)
        for (Index k = 0; k < count; ++k) {
          auto& x = element(gradient, place % p.shape.heads, k);
          x = static_cast<std::remove_cvref_t<decltype(x)>>(static_cast<double>(x) + sums[place * count + k]);
        }
    });
  };
  const auto run = [&](std::size_t bytes, const auto& task) {
    run_workers<T>(HEED_DISPATCH(backward_tasks(p)), 2.5 * multiply_adds(p.shape), bytes, spec, workspace,
                   task, static_cast<std::size_t>(numbers) * sizeof(double) + p.part_bytes(), clear, add);
  };
  if constexpr (Spec::selects_rows)
    run(HEED_DISPATCH(rows_backward_bytes(p, spec)),
        [&](Index t, T* scratch) { HEED_DISPATCH(rows_backward_task(p, spec, t, scratch)); });
  else
    run(HEED_DISPATCH(backward_bytes(p, spec)),
        [&](Index t, T* scratch) { HEED_DISPATCH(backward_task(p, spec, t, scratch)); });
}

/// With queries that name their keys: one task for each sequence and key head.
template <class T, class Spec>
void run_backward_listed(const BackwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  const KeyLists& lists = Listed<Spec>::of(spec);
  const double pairs = static_cast<double>(lists.pairs()) * static_cast<double>(p.shape.heads);
  run_workers<T>(
      p.shape.sequences * p.shape.key_heads, 2.5 * pairs * static_cast<double>(p.shape.d + p.shape.d_v),
      HEED_DISPATCH(listed_bytes<T>(p.shape)), spec, workspace,
      [&](Index t, T* scratch) { HEED_DISPATCH(listed_backward_task(p, spec, lists, t, scratch)); });
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
