// SPDX-License-Identifier: MIT
// The same bits from any number of threads and any order of the tasks, callers side by side, and exceptions
// that come home.
#include "oracle.hpp"

#include <atomic>
#include <stdexcept>
#include <thread>
#include <unsupported/Eigen/CXX11/ThreadPool>

#include <heed/attention_backward.hpp>
#include <heed/execute/on.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/windows.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/score_with.hpp>

namespace {

using namespace heed_test;

/// A caller's own executor: the tasks in an order drawn from a seed, each under another worker's number.
struct Shuffled {
  int workers = 1;
  std::uint64_t seed = 0;
  int threads() const { return workers; }
  template <class F>
  void run(Index tasks, F&& task) const {
    std::vector<Index> order(static_cast<std::size_t>(tasks));
    for (Index t = 0; t < tasks; ++t) order[static_cast<std::size_t>(t)] = tasks - 1 - t;
    Dice dice(seed);
    if (seed != 0)
      for (Index t = tasks - 1; t > 0; --t)
        std::swap(order[static_cast<std::size_t>(t)], order[static_cast<std::size_t>(dice.below(t + 1))]);
    for (const Index t : order) task(t, static_cast<int>(dice.below(workers)));
  }
};

/// A real thread for every worker, tasks dealt out round robin.
struct Dealt {
  int workers = 1;
  int threads() const { return workers; }
  template <class F>
  void run(Index tasks, F&& task) const {
    std::vector<std::thread> threads;
    for (int w = 0; w < workers; ++w)
      threads.emplace_back([&, w] {
        for (Index t = w; t < tasks; t += workers) task(t, w);
      });
    for (std::thread& thread : threads) thread.join();
  }
};

struct Problem {
  Eigen::MatrixXf q, k, v;
  std::vector<Index> queries, keys;

  // Long sequences and single queries with long caches: tiles and pieces.
  Problem() {
    const std::vector<Index> n = {150, 1, 0, 200, 2, 1, 40}, m = {150, 9000, 20, 100, 5000, 3, 40};
    queries.push_back(0);
    keys.push_back(0);
    for (std::size_t s = 0; s < n.size(); ++s) {
      queries.push_back(queries.back() + n[s]);
      keys.push_back(keys.back() + (small ? (m[s] + 1) / 2 : m[s]));
    }
    Dice dice(12);
    q = dice.matrix<float>(queries.back(), 4 * 24);
    k = dice.matrix<float>(keys.back(), 2 * 24);
    v = dice.matrix<float>(keys.back(), 2 * 17);
  }

  template <class Executor>
  std::pair<Eigen::MatrixXf, Eigen::MatrixXf> run(Executor&& executor) const {
    heed::Saved<float> saved;
    Eigen::MatrixXf out =
        heed::attention(q, k, v, heed::heads(4, 2), heed::sequences(queries, keys), heed::causal(),
                        heed::alibi(), heed::save(saved), heed::on(executor));
    return {std::move(out), std::move(saved.lse)};
  }
};

const Problem& problem() {
  static const Problem p;
  return p;
}

template <class Executor>
void expect_same(const char* name, int threads, Executor&& executor) {
  static const auto want = problem().run(heed::serial());
  const auto got = problem().run(executor);
  EXPECT_TRUE(got.first == want.first) << name << " with " << threads << " threads";
  EXPECT_TRUE(got.second == want.second) << name << " with " << threads << " threads";
}

constexpr int counts[] = {1, 2, 3, 8};

TEST(AttentionThreads, CallersOwnExecutor) {
  for (int threads : counts) {
    expect_same("reversed", threads, Shuffled{threads, 0});
    for (std::uint64_t seed = 1; seed < 4; ++seed) expect_same("shuffled", threads, Shuffled{threads, seed});
    expect_same("dealt", threads, Dealt{threads});
  }
}

TEST(AttentionThreads, EigensThreadPool) {
  for (int threads : counts) {
    Eigen::ThreadPool pool(threads);
    for (int again = 0; again < 3; ++again) expect_same("Eigen::ThreadPool", threads, pool);
  }
}

#if defined(_OPENMP)
TEST(AttentionThreads, OpenMP) {
  for (int threads : counts)
    for (int again = 0; again < 3; ++again) expect_same("OpenMP", threads, heed::openmp(threads));
}
#endif

/// The default executor, and no executor at all, give the same bits too.
TEST(AttentionThreads, DefaultExecutor) {
  static const auto want = problem().run(heed::serial());
  heed::Saved<float> saved;
  const Eigen::MatrixXf out = heed::attention(problem().q, problem().k, problem().v, heed::heads(4, 2),
                                              heed::sequences(problem().queries, problem().keys),
                                              heed::causal(), heed::alibi(), heed::save(saved));
  EXPECT_TRUE(out == want.first);
  EXPECT_TRUE(saved.lse == want.second);
}

TEST(AttentionThreads, CallersSideBySide) {
  const auto want = problem().run(heed::serial());
  std::atomic<int> wrong{0};
  Eigen::ThreadPool pool(3);
  std::vector<std::thread> callers;
  for (int t = 0; t < 6; ++t)
    callers.emplace_back([&, t] {
      for (int again = 0; again < 3; ++again) {
        const auto got = t % 2 == 0 ? problem().run(heed::serial()) : problem().run(pool);
        if (got.first != want.first || got.second != want.second) ++wrong;
      }
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
}

/// Counts the tasks of the last run; with one worker, since problems of a thread's worth ask for more.
struct Counting {
  Index* tasks;
  int threads() const { return 2; }
  template <class F>
  void run(Index count, F&& task) const {
    *tasks = count;
    for (Index t = 0; t < count; ++t) task(t, static_cast<int>(t % 2));
  }
};

/// Long keys are cut into pieces wherever in the batch they stand, and whichever head sees them: else one
/// task would do nearly all the work.
TEST(AttentionThreads, BackwardTasksFollowTheWork) {
  Dice dice(14);
  const auto tasks = [&](std::vector<Index> queries, std::vector<Index> keys, Index heads,
                         const auto&... policies) {
    const Eigen::MatrixXf q = dice.matrix<float>(queries.back(), heads * 8),
                          k = dice.matrix<float>(keys.back(), 8), v = dice.matrix<float>(keys.back(), 8),
                          dout = dice.matrix<float>(queries.back(), heads * 8);
    const auto spec = heed::spec(heed::heads(heads, 1), heed::sequences(queries, keys), policies...);
    heed::Saved<float> saved;
    const Eigen::MatrixXf out = heed::attention(q, k, v, spec, heed::save(saved));
    Index count = 1;
    const auto got = heed::attention_backward(dout, q, k, v, out, saved, spec, heed::on(Counting{&count}));
    const auto want = heed::attention_backward(dout, q, k, v, out, saved, spec, heed::on(heed::serial()));
    EXPECT_TRUE(got.dq == want.dq && got.dk == want.dk && got.dv == want.dv);
    return count;
  };
  const auto sums = [](std::initializer_list<Index> lengths) {
    std::vector<Index> offsets = {0};
    for (Index n : lengths) offsets.push_back(offsets.back() + n);
    return offsets;
  };
  EXPECT_EQ(tasks(sums({40, 16}), sums({8000, 16}), 1), 16);
  EXPECT_EQ(tasks(sums({16, 40}), sums({16, 8000}), 1), 16);
  // One long among twenty short ones; equals that are enough as they are.
  EXPECT_GE(tasks(sums({9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 40, 9, 9, 9, 9, 9, 9, 9, 9, 9}),
                  sums({9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 8000, 9, 9, 9, 9, 9, 9, 9, 9, 9}), 1),
            160);
  EXPECT_EQ(tasks(sums({40}), sums({8000}), 2, heed::windows({4, 9000}, {0, 0})), 8);
  EXPECT_EQ(tasks(sums({40}), sums({8000}), 2, heed::windows({4, 8}, {0, 0})), 1);
  EXPECT_EQ(tasks(sums({40}), sums({4000}), 1), 1);
}

/// From any thread, tiled and streamed; afterwards everything works as before.
TEST(AttentionThreads, ExceptionsReachTheCaller) {
  Eigen::ThreadPool pool(4);
  Dice dice(13);
  for (const auto& [n, m] : std::vector<std::pair<Index, Index>>{{300, 300}, {2, 20000}, {12, 12}}) {
    const Eigen::MatrixXf q = dice.matrix<float>(n, 32), k = dice.matrix<float>(m, 32),
                          v = dice.matrix<float>(m, 32);
    for (const Index where : {Index(0), m / 2, m - 1}) {
      const auto explode = heed::score_with([where](auto s, auto, auto j) {
        if (j == where) throw std::runtime_error("no score for this pair");
        return s;
      });
      const auto message = [&](const auto& executor) -> std::string {
        try {
          heed::attention(q, k, v, executor, explode);
        } catch (const std::runtime_error& e) {
          return e.what();
        }
        return "";
      };
      EXPECT_EQ(message(heed::on(heed::serial())), "no score for this pair");
      EXPECT_EQ(message(heed::on(pool)), "no score for this pair");
#if defined(_OPENMP)
      EXPECT_EQ(message(heed::on(heed::openmp(4))), "no score for this pair");
#endif
    }
  }
  expect_same("after exceptions", 4, pool);
}

}  // namespace
