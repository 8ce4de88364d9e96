// SPDX-License-Identifier: MIT
#ifndef HEED_BENCHMARKS_TIMING_HPP
#define HEED_BENCHMARKS_TIMING_HPP

#include <algorithm>
#include <array>
#include <chrono>

namespace measure {

/// Wall-clock seconds of one call.
template <class F>
double seconds_of(F&& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// The best times of programs whose ratios are wanted, in seconds a call. They take turns, so that the
/// machine's moods meet all of them; a turn lasts about `turn` seconds, or one call if that takes longer.
template <class... F>
std::array<double, sizeof...(F)> best_in_turns(int turns, double turn, F&&... programs) {
  const auto calls_in_a_turn = [&](auto& f) {
    f();  // warm
    return std::clamp(static_cast<int>(turn / std::max(seconds_of(f), 1e-9)), 1, 1 << 20);
  };
  const std::array<int, sizeof...(F)> calls{calls_in_a_turn(programs)...};
  std::array<double, sizeof...(F)> best;
  best.fill(1e300);
  for (int t = 0; t < turns; ++t) {
    std::size_t p = 0;
    const auto take_turn = [&](auto& f) {
      const double seconds = seconds_of([&] {
        for (int i = 0; i < calls[p]; ++i) f();
      });
      best[p] = std::min(best[p], seconds / calls[p]);
      ++p;
    };
    (take_turn(programs), ...);
  }
  return best;
}

}  // namespace measure

#endif
