// SPDX-License-Identifier: MIT
// attention_backward() against plain loops: sparse patterns, in one sequence and in ragged batches.
#include "gradient_oracle.hpp"
#include "patterns.hpp"

namespace {

using namespace heed_test;

template <class T>
void patterns() {
  for (std::size_t kind = 0; kind < pattern_names.size(); ++kind) {
    SCOPED_TRACE(pattern_names[kind]);
    GradientOracle<T> oracle(pattern_names[kind]);
    const std::uint64_t family = 150 + kind;
    Dice dice(family);
    for (Index t = 0; t < sweep(60); ++t) {
      const Batch b = draw_pattern_case<T>(family, t);
      oracle.check(b.c, draw_pattern(dice, b, kind), t % 3 == 0);
    }
  }
}

TEST(AttentionBackwardOraclePatterns, Float) { patterns<float>(); }
TEST(AttentionBackwardOraclePatterns, Double) { patterns<double>(); }

}  // namespace
