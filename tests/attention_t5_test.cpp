// SPDX-License-Identifier: MIT
// attention() and its backward pass against plain loops: T5's relative positions.
#include "batches.hpp"
#include "gradient_oracle.hpp"

#include <heed/position/t5_buckets.hpp>

namespace {

using namespace heed_test;

/// A row for each head or one for all, of any options, at any offset.
template <class T, class Check>
void sweep_cases(std::uint64_t family, Index cases, const Check& check) {
  Dice dice(family);
  for (Index t = 0; t < sweep(cases); ++t) {
    Batch b = draw_batch<T>(family, t);
    if (t % 2 == 0) {
      b.c = draw_case<T>(family, t);
      b.q = {0, b.c.n};
      b.k = {0, b.c.m};
    }
    const heed::T5Buckets options =
        t % 3 == 0   ? heed::T5Buckets{}
        : t % 3 == 1 ? heed::T5Buckets{.bidirectional = false, .buckets = 7, .distance = 40}
                     : heed::T5Buckets{.buckets = 64, .distance = 300};
    const RowMatrix<T> table = dice.matrix<T>(t % 5 == 0 ? 1 : b.c.heads, options.buckets);
    const auto policy = [&] {
      return t % 4 == 0   ? heed::t5_bias(table, options, heed::top_left)
             : t % 4 == 1 ? heed::t5_bias(table, options, dice.below(200) - 100)
                          : heed::t5_bias(table, options);
    };
    check(b.c, heed::spec(heed::heads(b.c.heads, b.c.key_heads), policy(), heed::sequences(b.q, b.k)));
  }
}

template <class T>
void forward() {
  Oracle<T> oracle("t5_bias");
  sweep_cases<T>(91, 160, [&](const Case& c, const auto& spec) { oracle.check(c, spec); });
}
template <class T>
void backward() {
  GradientOracle<T> oracle("gradients, t5_bias");
  sweep_cases<T>(92, 90, [&](const Case& c, const auto& spec) { oracle.check(c, spec); });
}

TEST(AttentionT5, FloatForward) { forward<float>(); }
TEST(AttentionT5, DoubleForward) { forward<double>(); }
TEST(AttentionT5, FloatGradients) { backward<float>(); }
TEST(AttentionT5, DoubleGradients) { backward<double>(); }

}  // namespace
