// SPDX-License-Identifier: MIT
// Every executor runs every task once, keeps worker numbers apart, brings exceptions home, and cannot
// deadlock.

#include <heed/execute/on.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <vector>

namespace {

using Eigen::Index;

/// The least that `thread_pool` asks for: functions run late, by whoever calls `run_scheduled`, if anybody
/// does.
class LatePool {
 public:
  explicit LatePool(int threads) : threads_(threads) {}
  void Schedule(std::function<void()> f) {
    if (full_) throw std::runtime_error("the pool takes no more");
    scheduled_.push_back(std::move(f));
  }
  int NumThreads() const { return threads_; }
  void refuse() { full_ = true; }
  std::size_t run_scheduled() {
    const std::size_t n = scheduled_.size();
    for (; !scheduled_.empty(); scheduled_.pop_front()) scheduled_.front()();
    return n;
  }

 private:
  int threads_;
  bool full_ = false;
  std::deque<std::function<void()>> scheduled_;
};

/// A caller's own executor: from the last task to the first, in the calling thread.
struct Backwards {
  int threads() const { return 2; }
  template <class F>
  void run(Index tasks, F&& task) const {
    while (tasks-- > 0) task(tasks, 1);
  }
};

/// Counts how often it was asked.
struct Counting {
  mutable int runs = 0;
  int threads() const { return 1; }
  template <class F>
  void run(Index tasks, F&& task) const {
    ++runs;
    for (Index t = 0; t < tasks; ++t) task(t, 0);
  }
};

/// Calls `check(name, executor)` with every executor there is, for 1, 2, 3 and 8 threads.
template <class Check>
void for_each_executor(Check check) {
  check("serial", heed::on(heed::serial()));
  check("the caller's", heed::on(Backwards()));
  check("default", heed::on(heed::default_executor()));
  for (const int threads : {1, 2, 3, 8}) {
    Eigen::ThreadPool pool(threads);
    check("pool of " + std::to_string(threads), heed::on(pool));
#if defined(_OPENMP)
    check("OpenMP with " + std::to_string(threads), heed::on(heed::openmp(threads)));
#endif
  }
}

TEST(Executor, RunsEveryTaskOnceWithAWorkerInRange) {
  for_each_executor([](const std::string& name, const auto& executor) {
    for (const Index tasks : {0, 1, 2, 3, 7, 64, 1000}) {
      std::vector<std::atomic<int>> runs(static_cast<std::size_t>(tasks));
      std::atomic<bool> in_range = true;
      executor.run(tasks, [&](Index t, int worker) {
        runs[static_cast<std::size_t>(t)].fetch_add(1);
        if (worker < 0 || worker >= executor.threads()) in_range = false;
      });
      EXPECT_TRUE(in_range) << name;
      for (const std::atomic<int>& n : runs) EXPECT_EQ(n, 1) << name << ", " << tasks << " tasks";
    }
  });
}

TEST(Executor, NeverGivesOneWorkerNumberToTwoThreadsAtOnce) {
  for_each_executor([](const std::string& name, const auto& executor) {
    std::vector<std::atomic<int>> inside(static_cast<std::size_t>(executor.threads()));
    std::atomic<bool> alone = true;
    executor.run(200, [&](Index, int worker) {
      std::atomic<int>& mine = inside[static_cast<std::size_t>(worker)];
      if (mine.fetch_add(1) != 0) alone = false;
      std::this_thread::yield();
      mine.fetch_sub(1);
    });
    EXPECT_TRUE(alone) << name;
  });
}

TEST(Executor, UsesItsThreads) {
  // Both tasks wait for each other: only two threads can finish this.
  const auto meet = [](const auto& executor) {
    std::atomic<int> arrived = 0;
    executor.run(2, [&](Index, int) {
      arrived.fetch_add(1);
      const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (arrived != 2 && std::chrono::steady_clock::now() < late) std::this_thread::yield();
      EXPECT_EQ(arrived, 2);
    });
  };
  Eigen::ThreadPool pool(2);
  meet(heed::on(pool));
#if defined(_OPENMP)
  meet(heed::on(heed::openmp(2)));
#endif
}

TEST(Executor, ThrowsTheExceptionThatASerialLoopWouldThrow) {
  for_each_executor([](const std::string& name, const auto& executor) {
    if (name == "the caller's") return;
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::atomic<int> caught = 0;
      try {
        executor.run(100, [&](Index t, int) {
          if (t >= 5) throw std::runtime_error(std::to_string(t));
        });
      } catch (const std::runtime_error& e) {
        ++caught;
        EXPECT_STREQ(e.what(), "5") << name;
      }
      EXPECT_EQ(caught, 1) << name;
    }
    int after = 0;  // and the executor is as good as before
    std::mutex mutex;
    executor.run(10, [&](Index, int) {
      const std::scoped_lock lock(mutex);
      ++after;
    });
    EXPECT_EQ(after, 10) << name;
  });
}

TEST(Executor, GivesOutNothingAfterAnException) {
  int ran = 0;
  const auto fail_at_3 = [&](Index t, int) {
    ++ran;
    if (t == 3) throw std::runtime_error("stop");
  };
  LatePool pool(2);
  EXPECT_THROW(heed::on(pool).run(1000, fail_at_3), std::runtime_error);
  EXPECT_EQ(ran, 4);
  pool.run_scheduled();
  EXPECT_EQ(ran, 4);
}

TEST(Executor, MayBeNested) {
  for_each_executor([](const std::string& name, const auto& executor) {
    std::atomic<int> ran = 0;
    executor.run(8, [&](Index, int) {
      executor.run(8, [&](Index, int) { executor.run(2, [&](Index, int) { ran.fetch_add(1); }); });
    });
    EXPECT_EQ(ran, 128) << name;
  });
}

TEST(Executor, MayBeUsedFromItsOwnPoolsThreads) {
  for (const int threads : {1, 2}) {
    std::atomic<int> ran = 0, finished = 0;
    {
      Eigen::ThreadPool pool(threads);
      for (int i = 0; i < 4; ++i) {
        pool.Schedule([&] {
          heed::pool_executor(pool).run(50, [&](Index, int) { ran.fetch_add(1); });
          finished.fetch_add(1);
        });
      }
      while (finished != 4) std::this_thread::yield();
    }
    EXPECT_EQ(ran, 200) << threads;
  }
}

TEST(Executor, ServesManyCallersAtOnce) {
  Eigen::ThreadPool pool(3);
  std::atomic<int> ran = 0;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 100; ++repeat) {
        Index sum = 0;
        std::mutex mutex;
        heed::on(pool).run(20, [&](Index t, int) {
          const std::scoped_lock lock(mutex);
          sum += t;
        });
        EXPECT_EQ(sum, 190);
        ran.fetch_add(1);
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(ran, 400);
}

TEST(Executor, DoesNotWaitForHelpersThatNeverStart) {
  LatePool pool(8);
  int ran = 0;
  {
    std::vector<int> local(5, 0);  // gone when the late helpers come
    heed::on(pool).run(5, [&](Index t, int worker) {
      EXPECT_EQ(worker, 0);
      ran += ++local[static_cast<std::size_t>(t)];
    });
  }
  EXPECT_EQ(ran, 5);
  EXPECT_EQ(pool.run_scheduled(), 4u);  // no more helpers than there are tasks beside the caller's
  EXPECT_EQ(ran, 5);
}

TEST(Executor, DoesTheWorkItselfWhenThePoolTakesNoMore) {
  LatePool pool(4);
  pool.refuse();
  int ran = 0;
  heed::on(pool).run(10, [&](Index, int) { ++ran; });
  EXPECT_EQ(ran, 10);
}

TEST(Executor, HandsNothingToAnybodyForOneTaskOrOneThread) {
  LatePool eight(8), one(1);
  int ran = 0;
  heed::on(eight).run(1, [&](Index, int) { ++ran; });
  heed::on(eight).run(0, [&](Index, int) { ++ran; });
  heed::on(one).run(10, [&](Index, int) { ++ran; });
  EXPECT_EQ(ran, 11);
  EXPECT_EQ(eight.run_scheduled() + one.run_scheduled(), 0u);
}

TEST(Executor, OwnsRvaluesAndRefersToLvalues) {
  const Counting mine;
  const auto policy = heed::on(mine);
  const auto copy = policy;
  copy.run(1, [](Index, int) {});
  policy.run(1, [](Index, int) {});
  EXPECT_EQ(mine.runs, 2);
  heed::on(Counting()).run(1, [](Index, int) {});
}

static_assert(heed::executor<heed::Serial>);
static_assert(heed::executor<Backwards>);
static_assert(heed::executor<heed::PoolExecutor<Eigen::ThreadPool>>);
static_assert(heed::thread_pool<Eigen::ThreadPool>);
static_assert(!heed::executor<Eigen::ThreadPool>);
static_assert(!heed::executor<int>);
#if defined(_OPENMP)
static_assert(heed::executor<heed::OpenMP>);
#endif

}  // namespace
