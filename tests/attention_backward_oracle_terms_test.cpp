// SPDX-License-Identifier: MIT
// attention_backward() against plain loops: terms of the score, whose slopes come from dual numbers.
#include "gradient_oracle.hpp"

#include <heed/mask/causal.hpp>
#include <heed/mask/window.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>

namespace {

using namespace heed_test;

template <class T>
void softcap() {
  GradientOracle<T> oracle("gradients, softcap, alibi");
  const T caps[] = {T(0.5), T(3), T(30)};
  for (Index t = 0; t < sweep(90); ++t) {
    const Case c = draw_case<T>(81, t);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), heed::softcap(caps[t % 3]), heed::alibi()));
  }
}

template <class T>
void bias() {
  GradientOracle<T> oracle("gradients, bias, window");
  Dice dice(82);
  for (Index t = 0; t < sweep(90); ++t) {
    const Case c = draw_case<T>(82, t);
    Matrix<T> b = dice.matrix<T>(t % 3 == 0 ? 1 : c.n, t % 2 == 0 ? c.m : c.heads * c.m);
    for (Index i = 0; i < b.rows(); ++i)
      for (Index j = 0; j < b.cols(); ++j)
        if (dice.below(9) == 0) b(i, j) = -std::numeric_limits<T>::infinity();
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), heed::bias(b), heed::window(120, 9)));
  }
}

template <class T>
void functor() {
  GradientOracle<T> oracle("gradients, score_with");
  for (Index t = 0; t < sweep(120); ++t) {
    const Case c = draw_case<T>(83, t);
    const auto f = heed::score_with([](auto s, auto i, auto j, auto h) {
      using S = decltype(s);
      const S bent = heed::tanh(s / 4) * 3 + s / 20 - heed::exp(-s * s);
      return heed::select((i + 2 * j) % 7 == 0, S(-std::numeric_limits<double>::infinity()),
                          S(bent - S(0.1f) * S(static_cast<float>(h % 3))));
    });
    if (t % 2 == 0)
      oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), f), t % 4 == 0);
    else
      oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), f, heed::causal(), heed::alibi()));
  }
}

TEST(AttentionBackwardOracleTerms, FloatSoftcap) { softcap<float>(); }
TEST(AttentionBackwardOracleTerms, DoubleSoftcap) { softcap<double>(); }
TEST(AttentionBackwardOracleTerms, FloatBias) { bias<float>(); }
TEST(AttentionBackwardOracleTerms, DoubleBias) { bias<double>(); }
TEST(AttentionBackwardOracleTerms, FloatScoreWith) { functor<float>(); }
TEST(AttentionBackwardOracleTerms, DoubleScoreWith) { functor<double>(); }

}  // namespace
