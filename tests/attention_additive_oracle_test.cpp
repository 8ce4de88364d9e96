// SPDX-License-Identifier: MIT
// attention() with additive scores against plain loops: sizes, heads, masks, terms, dropout, ragged batches,
// layouts; the bound of additive_oracle.hpp.
#include "additive_oracle.hpp"
#include "batches.hpp"

#include <heed/core/when.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/dropout.hpp>
#include <heed/select/sink.hpp>

namespace {

using namespace heed_test;

template <class T>
Index cases(Index most) {
  return small ? most / 5 : sizeof(T) == 4 ? most : most / 2;
}

/// Hyperbolic tangents of wide scalars take long: smaller cases than dot products have.
template <class T>
Case draw_additive_case(std::uint64_t family, Index turn) {
  Case c = draw_case<T>(family, turn);
  for (Index more = 1000; c.n * c.m * c.d * c.heads > 150000; more += 1000)
    c = draw_case<T>(family, turn + more);
  return c;
}

template <class T>
void plain() {
  AdditiveOracle<T> oracle("additive");
  for (Index t = 0; t < cases<T>(150); ++t) {
    const Case c = draw_additive_case<T>(201, t);
    const auto w = AdditiveOracle<T>::weights(c, t % 2 == 0);
    oracle.forward(c, heed::spec(heed::additive(w), heed::heads(c.heads, c.key_heads),
                                 heed::when(t % 5 == 0, heed::scale(-0.7))));
  }
}

template <class T>
void masks() {
  AdditiveOracle<T> oracle("additive, masks");
  Dice dice(7);
  for (Index t = 0; t < cases<T>(100); ++t) {
    const Case c = draw_additive_case<T>(202, t);
    const auto w = AdditiveOracle<T>::weights(c, t % 2 == 0);
    const std::vector<Index> lengths = {dice.below(c.m + 1)};
    oracle.forward(
        c,
        heed::spec(
            heed::heads(c.heads, c.key_heads), heed::when(t % 3 != 0, heed::causal()), heed::additive(w),
            heed::when(t % 4 == 1, heed::window(40, 3)), heed::when(t % 4 == 2, heed::lengths(lengths)),
            heed::when(t % 4 == 3, heed::mask_where([](auto i, auto j) { return (i * 7 + j) % 3 != 0; }))));
  }
}

template <class T>
void everything() {
  AdditiveOracle<T> oracle("additive, terms, dropout, ragged");
  Dice dice(8);
  for (Index t = 0; t < cases<T>(80); ++t) {
    const Batch b = draw_batch<T>(203, t);
    const auto w = AdditiveOracle<T>::weights(b.c, t % 2 == 0);
    const Matrix<float> bias = dice.matrix<float>(b.c.n, b.c.heads * b.longest);
    oracle.forward(b.c,
                   heed::spec(heed::sequences(b.q, b.k), heed::heads(b.c.heads, b.c.key_heads),
                              heed::when(t % 2 == 0, heed::causal()), heed::additive(w),
                              heed::when(t % 3 == 0, heed::softcap(3)), heed::bias(bias),
                              heed::score_with([](auto s, auto i, auto j) {
                                using S = decltype(s);
                                return S(s * S(0.75) - S(static_cast<float>((i + j) % 2)));
                              }),
                              heed::when(t % 4 != 0, heed::sink(0.3)),
                              heed::when(t % 5 != 0, heed::dropout(0.2, static_cast<std::uint64_t>(t)))));
  }
}

TEST(AttentionAdditiveOracle, FloatPlain) { plain<float>(); }
TEST(AttentionAdditiveOracle, DoublePlain) { plain<double>(); }
TEST(AttentionAdditiveOracle, FloatMasks) { masks<float>(); }
TEST(AttentionAdditiveOracle, DoubleMasks) { masks<double>(); }
TEST(AttentionAdditiveOracle, FloatEverything) { everything<float>(); }
TEST(AttentionAdditiveOracle, DoubleEverything) { everything<double>(); }

}  // namespace
