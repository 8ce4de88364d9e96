// SPDX-License-Identifier: MIT
// attention() against plain loops: biases of every shape, ALiBi.
#include "oracle.hpp"

#include <heed/mask/causal.hpp>
#include <heed/mask/window.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/bias.hpp>

namespace {

using namespace heed_test;

template <class T>
Matrix<T> draw_bias(Dice& dice, const Case& c, Index kind) {
  const Index rows = kind == 2 || kind == 3 ? 1 : c.n;
  const Index columns = kind == 4 ? 1 : kind == 1 || kind == 3 ? c.heads * c.m : c.m;
  Matrix<T> b = dice.matrix<T>(rows, columns, 2);
  if (kind == 0)  // some pairs are hidden, and some rows see nothing
    for (Index j = 0; j < columns; ++j)
      for (Index i = 0; i < rows; ++i)
        if (dice.below(4) == 0 || i % 7 == 3) b(i, j) = -std::numeric_limits<T>::infinity();
  return b;
}

template <class T>
void bias() {
  Oracle<T> oracle("bias");
  Dice dice(41);
  for (Index t = 0; t < sweep(250); ++t) {
    const Case c = draw_case<T>(41, t);
    // One column or row alone may stand for both shapes: only where it is the bias that is meant.
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), heed::bias(draw_bias<T>(dice, c, t % 5))));
  }
}

template <class T>
void causal_bias() {
  Oracle<T> oracle("causal, bias");
  Dice dice(42);
  for (Index t = 0; t < sweep(120); ++t) {
    const Case c = draw_case<T>(42, t);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), heed::causal(),
                               heed::bias(draw_bias<T>(dice, c, t % 5))));
  }
}

template <class T>
void alibi() {
  Oracle<T> oracle("alibi");
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(43, t);
    const auto term = t % 3 == 0   ? heed::alibi()
                      : t % 3 == 1 ? heed::alibi(heed::top_left)
                                   : heed::alibi(t - 80);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), term));
  }
}

/// Scores that rise by hundreds within a block, or fall; keys of wide scores stand out all the same.
template <class T>
void steep_alibi() {
  Oracle<T> oracle("steep alibi");
  Dice dice(44);
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(44, t);
    std::vector<double> slopes;
    for (Index h = 0; h < c.heads; ++h)
      slopes.push_back(std::ldexp(t % 4 == 0 ? -1.0 : 1.0, static_cast<int>(dice.below(9)) - 6));
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), heed::alibi(slopes),
                               heed::window(heed::unbounded, dice.below(3) == 0 ? 0 : 40)));
  }
}

TEST(AttentionOracleBias, FloatBias) { bias<float>(); }
TEST(AttentionOracleBias, DoubleBias) { bias<double>(); }
TEST(AttentionOracleBias, FloatCausalBias) { causal_bias<float>(); }
TEST(AttentionOracleBias, DoubleCausalBias) { causal_bias<double>(); }
TEST(AttentionOracleBias, FloatAlibi) { alibi<float>(); }
TEST(AttentionOracleBias, DoubleAlibi) { alibi<double>(); }
TEST(AttentionOracleBias, FloatSteepAlibi) { steep_alibi<float>(); }
TEST(AttentionOracleBias, DoubleSteepAlibi) { steep_alibi<double>(); }

}  // namespace
