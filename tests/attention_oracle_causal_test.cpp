// SPDX-License-Identifier: MIT
// attention() against plain loops: causal masks of every alignment, windows, lengths.
#include "oracle.hpp"

#include <heed/mask/causal.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/window.hpp>

namespace {

using namespace heed_test;

template <class T>
void causal() {
  Oracle<T> oracle("causal");
  Dice dice(5);
  for (Index t = 0; t < sweep(240); ++t) {
    const Case c = draw_case<T>(11, t);
    const auto mask = t % 3 == 0   ? heed::causal()
                      : t % 3 == 1 ? heed::causal(heed::top_left)
                                   : heed::causal(dice.below(2 * c.m + 3) - c.m - 1);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), mask));
  }
}

template <class T>
void window() {
  Oracle<T> oracle("window");
  Dice dice(6);
  const std::vector<Index> sides = {0, 1, 2, 5, 8, 15, 16, 17, 40, 64, 100, 256, heed::unbounded};
  for (Index t = 0; t < sweep(300); ++t) {
    const Case c = draw_case<T>(12, t);
    const Index left = dice.of(sides), right = dice.of(sides);
    const Index offset = dice.below(2 * c.m + 3) - c.m - 1;
    const auto mask =
        t % 5 == 0   ? heed::sliding_window(1 + dice.below(70))
        : t % 5 == 1 ? heed::window(left, right, heed::top_left)
        : t % 5 == 2 ? heed::window(left, right, offset)
        : t % 5 == 3 ? heed::window(left + (left < 300 ? 20 : 0), -dice.below(20))  // ends before the query
                     : heed::window(left, right);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), mask));
  }
}

template <class T>
void lengths() {
  Oracle<T> oracle("lengths");
  Dice dice(7);
  for (Index t = 0; t < sweep(120); ++t) {
    const Case c = draw_case<T>(13, t);
    const std::vector<Index> length = {t % 4 == 0 ? c.m : dice.below(c.m + 1)};
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), heed::lengths(length)));
  }
}

TEST(AttentionOracleCausal, FloatCausal) { causal<float>(); }
TEST(AttentionOracleCausal, DoubleCausal) { causal<double>(); }
TEST(AttentionOracleCausal, FloatWindow) { window<float>(); }
TEST(AttentionOracleCausal, DoubleWindow) { window<double>(); }
TEST(AttentionOracleCausal, FloatLengths) { lengths<float>(); }
TEST(AttentionOracleCausal, DoubleLengths) { lengths<double>(); }

}  // namespace
