// SPDX-License-Identifier: MIT
// attention() against plain loops: no policy, heads and grouped heads, scales.
#include "oracle.hpp"

#include <heed/score/scale.hpp>

namespace {

using namespace heed_test;

template <class T>
void without_policies() {
  Oracle<T> oracle("no policy");
  for (Index t = 0; t < sweep(200); ++t) oracle.check(draw_case<T>(1, t, false), heed::spec());
}

template <class T>
void with_heads_and_scale() {
  Oracle<T> oracle("heads and scale");
  const T scales[] = {T(0.25), T(0), T(-0.3), T(1)};
  for (Index t = 0; t < sweep(200); ++t) {
    const Case c = draw_case<T>(2, t);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads),
                               heed::scale(t % 2 == 0 ? T(1) / std::sqrt(T(c.d))
                                                      : scales[t / 2 % 4] / std::sqrt(T(c.d)))));
  }
}

/// Blocks of 96 keys, their crumbs, and every number of query packs beside them.
template <class T>
void around_tiles() {
  Oracle<T> oracle("around tiles");
  for (Index n : {9, 12, 24, 47, 48, 49, 61, 96, 100, 200})
    for (Index m : {1, 4, 5, 6, 7, 11, 13, 23, 25, 90, 95, 96, 97, 98, 103, 104, 191, 192, 193, 289}) {
      if (small && (n + m) % 5 != 0) continue;
      Case c;
      c.n = n;
      c.m = m;
      c.d = 5 + (n + m) % 40;
      c.d_v = 3 + (n * m) % 61;
      c.seed = static_cast<std::uint64_t>(n * m);
      c.k = c.v = (n + m) % 3 == 0 ? Layout::columns : Layout::rows;
      oracle.check(c, heed::spec());
    }
}

TEST(AttentionOraclePlain, FloatWithoutPolicies) { without_policies<float>(); }
TEST(AttentionOraclePlain, DoubleWithoutPolicies) { without_policies<double>(); }
TEST(AttentionOraclePlain, FloatHeadsAndScale) { with_heads_and_scale<float>(); }
TEST(AttentionOraclePlain, DoubleHeadsAndScale) { with_heads_and_scale<double>(); }
TEST(AttentionOraclePlain, FloatAroundTiles) { around_tiles<float>(); }
TEST(AttentionOraclePlain, DoubleAroundTiles) { around_tiles<double>(); }

/// Pieces of 4096 keys are merged.
template <class T>
void many_keys() {
  Oracle<T> oracle("one query, many keys");
  for (Index m : {Index(4095), Index(4096), Index(4097), Index(8192), Index(12300)}) {
    if (small && m % 2 == 0) continue;
    for (Index n : {1, 3}) {
      Case c;
      c.n = n;
      c.m = m;
      c.d = 8;
      c.d_v = 9;
      c.heads = 2;
      c.key_heads = 1;
      c.k = n == 3 ? Layout::columns : Layout::rows;
      c.scores = n == 3 ? Scores::rising : Scores::ordinary;
      oracle.check(c, heed::spec(heed::heads(2, 1), heed::scale(T(0.4))));
    }
  }
}

TEST(AttentionOraclePlain, FloatManyKeys) { many_keys<float>(); }
TEST(AttentionOraclePlain, DoubleManyKeys) { many_keys<double>(); }

}  // namespace
