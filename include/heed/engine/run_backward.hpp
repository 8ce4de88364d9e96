// SPDX-License-Identifier: MIT
/// @file
/// Runs the tasks of a backward problem on the executor.
#ifndef HEED_ENGINE_RUN_BACKWARD_HPP
#define HEED_ENGINE_RUN_BACKWARD_HPP

#include <heed/engine/run_forward.hpp>

namespace heed::inline HEED_ABI::detail {

/// Five products a pair instead of two. Each head of each sequence sums the gradients of its parameters on
/// its own, each piece of keys its dq; in the end these are added in order.
template <class T, class Spec>
void run_backward(BackwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  using Rules = std::remove_cvref_t<decltype(spec.template bind<T>(Place{}))>;
  constexpr Index n = has_policy<Spec, parameter_gradient_tag> ? Rules::parameters : 0;
  const Index places = p.shape.sequences * p.shape.heads;
  if constexpr (n == 0) p.plan_pieces(HEED_DISPATCH(is_narrow(p, spec)));
  const auto clear = [&](std::byte* memory) {
    p.dq_parts = reinterpret_cast<T*>(memory);
    if (n == 0) return;
    p.parameter_sums = reinterpret_cast<double*>(memory);
    for (Index t = 0; t < places * n; ++t) p.parameter_sums[t] = 0;
  };
  const auto add = [&](std::byte*) {
    if (p.pieces > 1) HEED_DISPATCH(add_pieces(p));
    if constexpr (n > 0) {
      const auto& gradient = *spec.template find<parameter_gradient_tag>();
      for (Index place = 0; place < places; ++place)
        for (Index k = 0; k < n; ++k) {
          auto& x = gradient(place % p.shape.heads, k);
          x = static_cast<std::remove_cvref_t<decltype(x)>>(static_cast<double>(x) +
                                                            p.parameter_sums[place * n + k]);
        }
    }
  };
  run_workers<T>(
      HEED_DISPATCH(backward_tasks(p)), 2.5 * multiply_adds(p.shape), HEED_DISPATCH(backward_bytes(p)), spec,
      workspace, [&](Index t, T* scratch) { HEED_DISPATCH(backward_task(p, spec, t, scratch)); },
      static_cast<std::size_t>(places * n) * sizeof(double) + p.part_bytes(), clear, add);
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
