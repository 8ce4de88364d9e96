// SPDX-License-Identifier: MIT
// attention() against plain loops: masks combined by & | ! and when().
#include "oracle.hpp"

#include <heed/core/when.hpp>
#include <heed/mask/algebra.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/window.hpp>

namespace {

using namespace heed_test;

std::vector<int> runs(Dice& dice, Index count) {
  std::vector<int> ids;
  for (int id = 0; static_cast<Index>(ids.size()) < count; ++id)
    for (Index run = 1 + dice.below(60); run > 0 && static_cast<Index>(ids.size()) < count; --run)
      ids.push_back(id % 5);
  return ids;
}

template <class T>
void intersection() {
  Oracle<T> oracle("window & documents & !window");
  Dice dice(31);
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(31, t);
    const std::vector<int> q = runs(dice, c.n), k = runs(dice, c.m);
    const Index inner = dice.below(12);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads),
                               heed::window(dice.below(200), dice.below(100)) & heed::documents(q, k) &
                                   !heed::window(inner, inner - 5 > 0 ? inner - 5 : 0)));
  }
}

template <class T>
void unions() {
  Oracle<T> oracle("window | window | causal");
  Dice dice(32);
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(32, t);
    oracle.check(c,
                 heed::spec(heed::heads(c.heads, c.key_heads), heed::window(dice.below(20), dice.below(20)) |
                                                                   heed::window(3, 3, dice.below(150) - 60) |
                                                                   heed::causal(-dice.below(120))));
  }
}

template <class T>
void several() {
  Oracle<T> oracle("causal, lengths, !window, when");
  Dice dice(33);
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(33, t);
    const std::vector<Index> length = {dice.below(c.m + 1)};
    oracle.check(c, heed::spec(heed::when(t % 2 == 0, heed::causal()), heed::heads(c.heads, c.key_heads),
                               heed::lengths(length),
                               heed::when(t % 3 == 0, !heed::window(dice.below(30), dice.below(30)))));
  }
}

TEST(AttentionOracleAlgebra, FloatIntersection) { intersection<float>(); }
TEST(AttentionOracleAlgebra, DoubleIntersection) { intersection<double>(); }
TEST(AttentionOracleAlgebra, FloatUnions) { unions<float>(); }
TEST(AttentionOracleAlgebra, DoubleUnions) { unions<double>(); }
TEST(AttentionOracleAlgebra, FloatSeveral) { several<float>(); }

}  // namespace
