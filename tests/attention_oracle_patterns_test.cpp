// SPDX-License-Identifier: MIT
// attention() against plain loops: sparse patterns, in one sequence and in ragged batches.
#include "patterns.hpp"

namespace {

using namespace heed_test;

template <class T>
void patterns() {
  for (std::size_t kind = 0; kind < pattern_names.size(); ++kind) {
    SCOPED_TRACE(pattern_names[kind]);
    Oracle<T> oracle(pattern_names[kind]);
    const std::uint64_t family = 140 + kind;
    Dice dice(family);
    for (Index t = 0; t < sweep(100); ++t) {
      const Batch b = draw_pattern_case<T>(family, t);
      oracle.check(b.c, draw_pattern(dice, b, kind));
    }
  }
}

TEST(AttentionOraclePatterns, Float) { patterns<float>(); }
TEST(AttentionOraclePatterns, Double) { patterns<double>(); }

}  // namespace
