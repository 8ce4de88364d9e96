// SPDX-License-Identifier: MIT
/// @file
/// Dealing out tasks to workers, and carrying exceptions back.
#ifndef HEED_EXECUTE_TASK_QUEUE_HPP
#define HEED_EXECUTE_TASK_QUEUE_HPP

#include <Eigen/Core>
#include <atomic>
#include <exception>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI::detail {

/// Tasks 0, 1, ..., tasks - 1, handed to any number of threads in that order, and the exception that comes
/// back.
///
/// Tasks are taken in order, so that the heaviest, which are put first, start first. After an exception no
/// further task is handed out. Of several exceptions the one of the lowest task is kept: whatever lies below
/// a task that failed was handed out before it and is finished too, so that the caller sees the exception
/// that a serial loop would have thrown.
class TaskQueue {
 public:
  explicit TaskQueue(Eigen::Index tasks) : tasks_(tasks) {}

  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;

  /// Works until nothing is left. Called once by every thread that takes part; never throws.
  template <class F>
  void work(F& task, int worker) noexcept {
    for (;;) {
      const Eigen::Index t = next_.fetch_add(1, std::memory_order_relaxed);
      if (t >= tasks_) return;
#if defined(__cpp_exceptions)
      try {
        task(t, worker);
      } catch (...) {
        fail(t);
      }
#else
      task(t, worker);
#endif
    }
  }

  /// Called by the one who waits, after every thread has come back.
  void rethrow() {
    if (error_) std::rethrow_exception(static_cast<std::exception_ptr&&>(error_));
  }

 private:
  void fail(Eigen::Index t) noexcept {
    next_.store(tasks_, std::memory_order_relaxed);
    while (busy_.test_and_set(std::memory_order_acquire)) {
    }
    if (!error_ || t < failed_) {
      failed_ = t;
      error_ = std::current_exception();
    }
    busy_.clear(std::memory_order_release);
  }

  const Eigen::Index tasks_;
  std::atomic<Eigen::Index> next_{0};
  std::atomic_flag busy_;  // guards the two below
  Eigen::Index failed_ = 0;
  std::exception_ptr error_;
};

}  // namespace heed::inline HEED_ABI::detail

#endif
