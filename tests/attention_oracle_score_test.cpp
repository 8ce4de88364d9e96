// SPDX-License-Identifier: MIT
// attention() against plain loops: softcap, functions of the score. (Functors that do not stretch differences
// between scores: the bound knows nothing of their slopes.)
#include "oracle.hpp"

#include <heed/functions.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/window.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/sink.hpp>

namespace {

using namespace heed_test;

template <class T>
void softcap() {
  Oracle<T> oracle("softcap");
  const T caps[] = {T(0.5), T(3), T(30)};
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(51, t);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), heed::softcap(caps[t % 3])));
  }
}

/// Where blocks take it between product and exponential (full stretches), in stored scores (borders), and not
/// at all (beside another term).
template <class T>
void masked_softcap() {
  Oracle<T> oracle("window, softcap"), both("window, softcap, score_with");
  Dice dice(54);
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(54, t);
    const auto variant =
        heed::spec(heed::heads(c.heads, c.key_heads), heed::window(dice.below(200), dice.below(60)),
                   heed::softcap(std::ldexp(T(1), static_cast<int>(dice.below(9)) - 2)), heed::sink(T(0.5)));
    oracle.check(c, variant);
    if (t % 4 == 0)
      both.check(c, heed::spec(variant, heed::score_with([](auto s, auto, auto) { return s + s; })));
  }
}

/// The greatest cap is none; the least one makes all scores equal.
template <class T>
void extreme_softcaps() {
  Dice dice(55);
  for (const Index n : {1, 5, 70}) {
    RowMatrix<T> q = dice.matrix<T>(n, 16);
    q.row(0).setZero();
    const RowMatrix<T> k = dice.matrix<T>(200, 16), v = dice.matrix<T>(200, 7);
    const RowMatrix<T> plain = heed::attention(q, k, v);
    const T most = std::numeric_limits<T>::max();
    for (const T cap : {most, most / 2, T(1e30)})
      EXPECT_TRUE(RowMatrix<T>(heed::attention(q, k, v, heed::softcap(cap))).isApprox(plain, T(1e-5)))
          << n << " " << cap;
    const RowMatrix<T> flat = heed::attention(q, k, v, heed::softcap(std::numeric_limits<T>::min()));
    EXPECT_TRUE(flat.isApprox(v.colwise().mean().replicate(n, 1), T(1e-5))) << n;
  }
}

template <class T>
void score_with() {
  Oracle<T> oracle("score_with");
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(52, t);
    oracle.check(
        c, heed::spec(heed::heads(c.heads, c.key_heads), heed::score_with([](auto s, auto i, auto j, auto h) {
                        using S = decltype(s);
                        return heed::select((i + j) % 5 == 0, S(-std::numeric_limits<double>::infinity()),
                                            S(s * S(0.5) + S(0.25) * S(static_cast<float>(h % 3))));
                      })));
  }
}

/// Border tiles, where pairs are tested before the functor is asked.
template <class T>
void masked_score_with() {
  Oracle<T> oracle("window, score_with");
  Dice dice(53);
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(53, t);
    oracle.check(c,
                 heed::spec(heed::heads(c.heads, c.key_heads), heed::window(dice.below(100), dice.below(20)),
                            heed::score_with([](auto s, auto i, auto j) {
                              using S = decltype(s);
                              return S(s - S(0.125) * S(static_cast<float>(heed::abs(i - j) % 16)));
                            })));
  }
}

TEST(AttentionOracleScore, FloatSoftcap) { softcap<float>(); }
TEST(AttentionOracleScore, DoubleSoftcap) { softcap<double>(); }
TEST(AttentionOracleScore, FloatMaskedSoftcap) { masked_softcap<float>(); }
TEST(AttentionOracleScore, DoubleMaskedSoftcap) { masked_softcap<double>(); }
TEST(AttentionOracleScore, FloatExtremeSoftcaps) { extreme_softcaps<float>(); }
TEST(AttentionOracleScore, DoubleExtremeSoftcaps) { extreme_softcaps<double>(); }
TEST(AttentionOracleScore, FloatScoreWith) { score_with<float>(); }
TEST(AttentionOracleScore, DoubleScoreWith) { score_with<double>(); }
TEST(AttentionOracleScore, FloatMaskedScoreWith) { masked_score_with<float>(); }
TEST(AttentionOracleScore, DoubleMaskedScoreWith) { masked_score_with<double>(); }

}  // namespace
