// SPDX-License-Identifier: MIT
/// @file
/// Runs the tasks of a forward pass with tangents on the executor.
#ifndef HEED_ENGINE_RUN_TANGENTS_HPP
#define HEED_ENGINE_RUN_TANGENTS_HPP

#include <heed/engine/run_forward.hpp>

namespace heed::inline HEED_ABI::detail {

/// Six products a pair instead of two.
template <class T, class Spec>
void run_tangents(const TangentProblem<T>& p, const Spec& spec, Workspace* workspace) {
  run_workers<T>(HEED_DISPATCH(tangent_tasks(p)), 3 * multiply_adds(p.shape), HEED_DISPATCH(tangent_bytes(p)),
                 spec, workspace,
                 [&](Index t, T* scratch) { HEED_DISPATCH(tangent_task(p, spec, t, scratch)); });
}

}  // namespace heed::inline HEED_ABI::detail

#endif
