// SPDX-License-Identifier: MIT
/// @file
/// on(executor): who runs the tasks of a call.
#ifndef HEED_EXECUTE_ON_HPP
#define HEED_EXECUTE_ON_HPP

#include <type_traits>

#include <heed/core/policy.hpp>
#include <heed/core/stored.hpp>
#include <heed/execute/openmp.hpp>
#include <heed/execute/pool.hpp>
#include <heed/execute/serial.hpp>

namespace heed::inline HEED_ABI {

/// What runs the tasks when no `on(...)` is given: OpenMP when the program is compiled with it (as Eigen
/// does), else the caller alone.
inline auto default_executor() {
#if defined(_OPENMP)
  return OpenMP();
#else
  return Serial();
#endif
}

/// The policy made by `on(x)`, itself an executor. `Holder` owns the executor or refers to it.
template <class Holder>
class On : public executor_tag {
 public:
  explicit On(Holder executor) : executor_(static_cast<Holder&&>(executor)) {}

  int threads() const { return static_cast<int>(executor_.get().threads()); }

  template <class F>
  void run(Eigen::Index tasks, F&& task) const {
    executor_.get().run(tasks, task);
  }

 private:
  Holder executor_;
};

/// Chooses what runs the independent tasks of one call.
/// @param x an executor (`serial()`, `openmp(4)`, the caller's own: see the concept `executor`) or a thread
/// pool with `Schedule`
///   and `NumThreads`, such as `Eigen::ThreadPool`. Rvalue executors are owned; lvalues and pools are
///   referred to.
/// Results do not depend on it, bit by bit.
template <class X>
  requires executor<std::remove_cvref_t<X>> || thread_pool<std::remove_reference_t<X>>
auto on(X&& x) {
  if constexpr (executor<std::remove_cvref_t<X>>) {
    return On(detail::stored<X>(static_cast<X&&>(x)));
  } else {
    static_assert(std::is_lvalue_reference_v<X>,
                  "heed::on refers to the pool: give it one that outlives the call");
    using Executor = PoolExecutor<std::remove_reference_t<X>>;
    return On(detail::stored<Executor>(Executor(x)));
  }
}

}  // namespace heed::inline HEED_ABI

#endif
