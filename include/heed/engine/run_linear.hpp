// SPDX-License-Identifier: MIT
/// @file
/// Runs linear attention and plain matrix products on the executor: a task for each sequence and key head.
#ifndef HEED_ENGINE_RUN_LINEAR_HPP
#define HEED_ENGINE_RUN_LINEAR_HPP

#include <heed/config.hpp>
#include <heed/engine/run_forward.hpp>
#include <heed/linear/linear_spec.hpp>

namespace heed::inline HEED_ABI::detail {

/// Of the products with the state; features and pairs inside chunks cost about as much again.
template <class T>
double linear_multiply_adds(const LinearProblem<T>& p) {
  const double tokens = static_cast<double>(p.shape.queries) * static_cast<double>(p.shape.heads) +
                        static_cast<double>(p.shape.keys) * static_cast<double>(p.shape.key_heads);
  return 2 * tokens * static_cast<double>(p.features) * static_cast<double>(p.shape.d_v + 1);
}

/// Runs task(features, place, bounds, scratch) for every sequence and key head.
template <class T, class Spec, class Policy, class Task>
void run_linear_tasks(const LinearProblem<T>& p, const Spec& spec, const Policy& policy, double work,
                      std::size_t bytes, Workspace* workspace, const Task& task) {
  const Shape& shape = p.shape;
  const Index group = shape.heads / shape.key_heads;
  const bool gradients = p.dq.data != nullptr || p.dk.data != nullptr || p.dv.data != nullptr;
  (void)gradients;
  const auto run = [&](const auto& features, std::size_t shared, const auto& before) {
    run_workers<T>(
        shape.sequences * shape.key_heads, work, bytes, spec, workspace,
        [&](Index t, T* scratch) {
          const Place place = shape.place(t / shape.key_heads, t % shape.key_heads * group);
          task(features, place, bounds_of(spec, place), scratch);
        },
        shared, before, [](std::byte*) {});
  };
  if constexpr (Policy::projects) {
    ProjectedFeatures<T> features;
    const T scale = performer_scale<T>(spec, shape.d);
    run(features, static_cast<std::size_t>(policy.size(shape.d, gradients)) * sizeof(T),
        [&](std::byte* memory) {
          features = policy.fill(shape.d, scale, reinterpret_cast<T*>(memory), gradients);
        });
  } else {
    run(policy.bind(), 0, [](std::byte*) {});
  }
}

template <class T, class Spec, class Policy>
void run_linear(const LinearProblem<T>& p, const Spec& spec, const Policy& policy, Workspace* workspace) {
  run_linear_tasks(p, spec, policy, linear_multiply_adds(p), HEED_DISPATCH(linear_bytes(p)), workspace,
                   [&](const auto& features, const Place& place, const LinearBounds& bounds, T* scratch) {
                     HEED_DISPATCH(linear_task(p, features, place, bounds, scratch));
                   });
}

template <class T, class Spec, class Policy>
void run_linear_backward(const LinearProblem<T>& p, const Spec& spec, const Policy& policy,
                         Workspace* workspace) {
  Index queries = 0;
  for (Index s = 0; s < p.shape.sequences; ++s) {
    const Index n = p.shape.place(s, 0).queries;
    if (n > queries) queries = n;
  }
  const Index keys = p.shape.longest;
  run_linear_tasks(p, spec, policy, 4 * linear_multiply_adds(p),
                   HEED_DISPATCH(linear_gradient_bytes(p, queries, keys)), workspace,
                   [&](const auto& features, const Place& place, const LinearBounds& bounds, T* scratch) {
                     HEED_DISPATCH(linear_gradient_task(p, features, place, bounds, queries, keys, scratch));
                   });
}

/// c (+)= a · b.
template <class T, class Spec>
void run_product(const ProductProblem<T>& p, const Spec& spec, Workspace* workspace) {
  const double work =
      static_cast<double>(p.rows) * static_cast<double>(p.terms) * static_cast<double>(p.columns);
  run_workers<T>(HEED_DISPATCH(product_tasks(p)), work, HEED_DISPATCH(product_bytes(p)), spec, workspace,
                 [&](Index t, T* scratch) { HEED_DISPATCH(product_task(p, t, scratch)); });
}

}  // namespace heed::inline HEED_ABI::detail

#endif
