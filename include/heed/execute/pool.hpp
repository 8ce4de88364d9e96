// SPDX-License-Identifier: MIT
/// @file
/// Tasks on Eigen's thread pool, or on anything that schedules closures.
#ifndef HEED_EXECUTE_POOL_HPP
#define HEED_EXECUTE_POOL_HPP

#include <memory>
#include <type_traits>

#include <heed/execute/serial.hpp>
#include <heed/execute/task_queue.hpp>

namespace heed::inline HEED_ABI {

/// What Heed asks of a thread pool: `Eigen::ThreadPool` has it, and so has anything with the same two
/// functions. `Schedule` takes a copyable function without arguments, such as `std::function<void()>`, and
/// runs it some time later.
template <class P>
concept thread_pool = requires(P& pool, void (*function)()) {
  pool.Schedule(function);
  static_cast<int>(pool.NumThreads());
};

namespace detail {

/// One `run` on a pool, shared by the caller and its helpers. A pool may start a helper late, long after the
/// tasks are done, or never while the caller waits (the caller may be the pool's only thread). So the caller
/// waits only for helpers that came in, and all of them own this together.
template <class F>
class PoolRun {
 public:
  PoolRun(Eigen::Index tasks, F& task) : queue_(tasks), task_(&task) {}

  /// A helper's part: nothing when the caller has already left.
  void help(int worker) {
    int n = inside_.load(std::memory_order_relaxed);
    do {
      if (n == 0) return;
    } while (!inside_.compare_exchange_weak(n, n + 1, std::memory_order_acquire, std::memory_order_relaxed));
    queue_.work(*task_, worker);
    if (inside_.fetch_sub(1, std::memory_order_acq_rel) == 1) inside_.notify_one();
  }

  /// The caller's part; `task` may be gone once this has returned.
  void lead() {
    queue_.work(*task_, 0);
    int n = inside_.fetch_sub(1, std::memory_order_acq_rel) - 1;
    while (n != 0) {
      inside_.wait(n, std::memory_order_acquire);
      n = inside_.load(std::memory_order_acquire);
    }
    queue_.rethrow();
  }

 private:
  TaskQueue queue_;
  F* task_;
  std::atomic<int> inside_{1};  // the caller and the helpers at work; 0 is final
};

}  // namespace detail

/// Runs the tasks on a thread pool and in the calling thread, `pool.NumThreads()` threads in all. Refers to
/// the pool. May be used from several threads at once, and from inside the pool's own threads. Allocates (the
/// pool's queue does too).
template <thread_pool Pool>
class PoolExecutor {
 public:
  explicit PoolExecutor(Pool& pool) : pool_(&pool) {}

  int threads() const {
    const int n = static_cast<int>(pool_->NumThreads());
    return n > 1 ? n : 1;
  }

  /// A single task, or a pool of one thread, runs in the caller.
  template <class F>
  void run(Eigen::Index tasks, F&& task) const {
    const int workers = static_cast<int>(tasks < threads() ? tasks : threads());
    if (workers <= 1) return Serial().run(tasks, task);
    const auto shared = std::make_shared<detail::PoolRun<std::remove_reference_t<F>>>(tasks, task);
    schedule(shared, workers);
    shared->lead();
  }

 private:
  /// A pool that takes no more (out of memory, say) only means fewer helpers: the caller does the work that
  /// they do not.
  template <class Run>
  void schedule(const std::shared_ptr<Run>& shared, int workers) const {
#if defined(__cpp_exceptions)
    try {
#endif
      for (int worker = 1; worker < workers; ++worker) {
        pool_->Schedule([shared, worker] { shared->help(worker); });
      }
#if defined(__cpp_exceptions)
    } catch (...) {
    }
#endif
  }

  Pool* pool_;
};

/// The executor around a pool, which it refers to: `attention(q, k, v, on(pool_executor(pool)))`, or simply
/// `on(pool)`.
template <thread_pool Pool>
PoolExecutor<Pool> pool_executor(Pool& pool) {
  return PoolExecutor<Pool>(pool);
}

}  // namespace heed::inline HEED_ABI

#endif
