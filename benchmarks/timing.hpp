// SPDX-License-Identifier: MIT
#ifndef HEED_BENCHMARKS_TIMING_HPP
#define HEED_BENCHMARKS_TIMING_HPP

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <ctime>

namespace measure {

/// wall: what a user waits. thread: what the calling thread worked, which a busy machine does not stretch;
/// for programs that run in one thread.
enum class Clock { wall, thread };

template <Clock clock = Clock::wall>
double now() {
#if defined(CLOCK_THREAD_CPUTIME_ID)
  if (clock == Clock::thread) {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }
#endif
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Seconds of one call.
template <Clock clock = Clock::wall, class F>
double seconds_of(F&& f) {
  const double begin = now<clock>();
  f();
  return now<clock>() - begin;
}

/// The best times of programs whose ratios are wanted, in seconds a call. They take turns, so that the
/// machine's moods meet all of them; a turn lasts about `turn` seconds, or one call if that takes longer, and
/// is timed in pieces of about a millisecond: a busy machine leaves some of them alone. Where the environment
/// says HEED_QUICK_BENCHMARKS, a single turn shows that all runs.
template <Clock clock = Clock::wall, class... F>
std::array<double, sizeof...(F)> best_in_turns(int turns, double turn, F&&... programs) {
  const auto calls_in_a_piece = [](auto& f) {
    f();  // warm
    return std::clamp(static_cast<int>(1e-3 / std::max(seconds_of<clock>(f), 1e-9)), 1, 1 << 20);
  };
  const std::array<int, sizeof...(F)> calls{calls_in_a_piece(programs)...};
  std::array<double, sizeof...(F)> best;
  best.fill(1e300);
  if (std::getenv("HEED_QUICK_BENCHMARKS") != nullptr) turns = 1;
  for (int t = 0; t < turns; ++t) {
    std::size_t p = 0;
    const auto take_turn = [&](auto& f) {
      for (double spent = 0; spent < turn;) {
        const double seconds = seconds_of<clock>([&] {
          for (int i = 0; i < calls[p]; ++i) f();
        });
        best[p] = std::min(best[p], seconds / calls[p]);
        spent += seconds;
      }
      ++p;
    };
    (take_turn(programs), ...);
  }
  return best;
}

}  // namespace measure

#endif
