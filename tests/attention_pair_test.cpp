// SPDX-License-Identifier: MIT
// Functors that take a heed::Pair: every name means what it says in every path of the engine, and costs what
// positions one after the other do.
#include "batches.hpp"
#include "gradient_oracle.hpp"

#include <array>

#include <heed/attention_double_backward.hpp>
#include <heed/attention_jvp.hpp>
#include <heed/attention_weights.hpp>
#include <heed/core/pair.hpp>
#include <heed/functions.hpp>
#include <heed/mask/dilated.hpp>
#include <heed/mask/key_lists.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>
#include <heed/reference/attention.hpp>
#include <heed/score/score_with.hpp>
#include <heed/select/sparsemax.hpp>
#include <heed/select/weight_with.hpp>

namespace {

using namespace heed_test;
using heed::Pair;
using heed::Position;

/// Remembers whether some row was not that of its position.
struct Rows {
  const Index *q, *k;
  static inline bool wrong = false;
  void check(const Pair& p) const {
    if (p.query_row != q[p.sequence] + p.query || p.query_row >= q[p.sequence + 1] ||
        p.key_row != k[p.sequence] + p.key || p.key_row >= k[p.sequence + 1])
      wrong = true;
  }
};
struct Decay {
  Rows rows;
  template <class S>
  S operator()(S s, Pair p) const {
    rows.check(p);
    const float slope = 0.01f * static_cast<float>(1 + p.head + p.sequence);
    return S(s - S(slope * static_cast<float>(heed::abs(p.query - p.key) % 50)));
  }
};
struct Seen {
  Rows rows;
  bool operator()(Pair p) const {
    rows.check(p);
    return (p.query_row + 2 * p.key_row + p.head) % 7 != 0;
  }
};

TEST(AttentionPair, NamesOfOnePair) {
  heed::Shape shape;
  shape.queries = 5, shape.keys = 9, shape.heads = 2, shape.sequences = 2;
  const Index q[] = {0, 2, 5}, k[] = {0, 6, 9};
  shape.query_offsets = q, shape.key_offsets = k;
  const heed::Place place = shape.place(1, 1);
  const auto encode = [](auto s, Pair p) {
    return s + static_cast<float>(p.query + 10 * p.key + 100 * p.head + 1000 * p.sequence +
                                  10000 * p.query_row + 100000 * p.key_row);
  };
  const auto score = heed::score_with(encode);
  EXPECT_EQ(score.bind(place)(0.0f, 2, 1), 2 + 10 + 100 + 1000 + 10000 * 4 + 100000 * 7);
  const std::array<float, 1> half{0.5f};
  const auto learnt =
      heed::score_with([&](auto s, const auto& p, Pair pair) { return encode(s + p[0], pair); }, half);
  EXPECT_EQ(learnt.bind(place)(0.0f, 2, 1), 0.5f + 2 + 10 + 100 + 1000 + 10000 * 4 + 100000 * 7);
  const auto weight = heed::weight_with(encode);
  EXPECT_EQ(weight.bind_weights(place)(0.0f, 2, 1), 2 + 10 + 100 + 1000 + 10000 * 4 + 100000 * 7);
  const Eigen::MatrixXf x = Eigen::MatrixXf::Constant(5, 2, 0.5f);
  const auto with_row = heed::weight_with([&](auto w, auto y, Pair pair) { return encode(w + y, pair); }, x);
  EXPECT_EQ(with_row.bind_weights(place)(0.0f, 2, 1), 0.5f + 2 + 10 + 100 + 1000 + 10000 * 4 + 100000 * 7);
  const auto mask = heed::mask_where([](const Pair& p) { return p.query_row == 4 && p.key_row == 7; });
  EXPECT_TRUE(mask.bind(place).visible(2, 1));
  EXPECT_FALSE(mask.bind(place).visible(1, 1));
  EXPECT_FALSE(mask.bind(place).visible(2, 0));
}

/// Tiles and streams, forward and backward, of ragged batches.
template <class T>
void ragged() {
  Oracle<T> oracle("score_with(pair), mask_where(pair)");
  GradientOracle<T> gradients("gradients, score_with(pair), mask_where(pair)");
  for (Index t = 0; t < sweep(80); ++t) {
    const Batch b = draw_batch<T>(901, t);
    const Rows rows{b.q.data(), b.k.data()};
    const auto variant = heed::spec(heed::heads(b.c.heads, b.c.key_heads), heed::sequences(b.q, b.k),
                                    heed::mask_where(Seen{rows}), heed::score_with(Decay{rows}));
    oracle.check(b.c, variant);
    gradients.check(b.c, variant);
  }
  EXPECT_FALSE(Rows::wrong);
}
TEST(AttentionPair, FloatRaggedBatches) { ragged<float>(); }
TEST(AttentionPair, DoubleRaggedBatches) { ragged<double>(); }

/// Class by class, where rows lie apart, and list by list.
TEST(AttentionPair, Gaps) {
  Oracle<float> oracle("dilated, pair");
  GradientOracle<float> gradients("gradients, dilated, pair");
  Dice dice(902);
  for (Index t = 0; t < sweep(60); ++t) {
    const Batch b = draw_batch<float>(902, t);
    const Rows rows{b.q.data(), b.k.data()};
    const auto variant =
        heed::spec(heed::dilated(dice.below(60), 4, 1 + dice.below(6)), heed::heads(b.c.heads, b.c.key_heads),
                   heed::sequences(b.q, b.k), heed::mask_where(Seen{rows}), heed::score_with(Decay{rows}));
    oracle.check(b.c, variant);
    gradients.check(b.c, variant);
  }
  EXPECT_FALSE(Rows::wrong);
}
TEST(AttentionPair, KeyLists) {
  Oracle<float> oracle("key_lists, pair");
  GradientOracle<float> gradients("gradients, key_lists, pair");
  for (Index t = 0; t < sweep(60); ++t) {
    const Batch b = draw_batch<float>(903, t);
    const Rows rows{b.q.data(), b.k.data()};
    std::vector<Index> offsets{0}, keys;
    for (Index i = 0; i < b.c.n; ++i) {
      for (Index j = i % 3; j < b.longest; j += 1 + i % 5) keys.push_back(j);
      offsets.push_back(static_cast<Index>(keys.size()));
    }
    const auto variant = heed::spec(heed::key_lists(offsets, keys), heed::heads(b.c.heads, b.c.key_heads),
                                    heed::sequences(b.q, b.k), heed::score_with(Decay{rows}));
    oracle.check(b.c, variant);
    gradients.check(b.c, variant);
  }
  EXPECT_FALSE(Rows::wrong);
}

/// A selection of rows, a function of weights, forward mode, second order, weights and the plain loops: the
/// same numbers as from positions.
struct ByPosition {
  Rows rows;
  template <class S>
  S operator()(S s, Position i, Position j, Position h, Position b) const {
    return Decay{rows}(
        s, Pair{i, j, h, b, static_cast<Position>(rows.q[b] + i), static_cast<Position>(rows.k[b] + j)});
  }
};
struct Halved {
  Rows rows;
  template <class S>
  S operator()(S w, Pair p) const {
    rows.check(p);
    return S(w * S(static_cast<float>(1 + p.key_row % 2)));
  }
};

TEST(AttentionPair, EveryOtherPath) {
  const std::vector<Index> q_rows{0, 3, 40}, k_rows{0, 50, 90};
  const Rows rows{q_rows.data(), k_rows.data()};
  Dice dice(904);
  const auto q = dice.matrix<float>(40, 16), k = dice.matrix<float>(90, 16), v = dice.matrix<float>(90, 8),
             dout = dice.matrix<float>(40, 8);
  const auto base = heed::spec(heed::heads(2), heed::sequences(q_rows, k_rows), heed::window(60, 60));
  const auto close = [](const auto& a, const auto& b) { return a.isApprox(b, 1e-5f); };
  const auto named = heed::spec(base, heed::score_with(Decay{rows}));
  const auto placed = heed::spec(base, heed::score_with(ByPosition{rows}));

  const auto moved = heed::attention_jvp(q, k, v, q, k, v, named);
  const auto moved_too = heed::attention_jvp(q, k, v, q, k, v, placed);
  EXPECT_TRUE(close(moved.out, moved_too.out) && close(moved.out_tangent, moved_too.out_tangent));
  EXPECT_TRUE(close(heed::attention_weights(q, k, named), heed::attention_weights(q, k, placed)));

  heed::Saved<float> saved;
  const auto out = heed::attention(q, k, v, named, heed::save(saved));
  EXPECT_TRUE(close(out, moved.out));
  const auto second = heed::attention_double_backward(dout, q, k, v, out, saved, q, k, v, named);
  const auto second_too = heed::attention_double_backward(dout, q, k, v, out, saved, q, k, v, placed);
  EXPECT_TRUE(close(second.q, second_too.q) && close(second.k, second_too.k));

  // Rows: every weight to an odd row of v counts twice, which doubling those values undoes.
  const auto halved = [&](auto&& values, const auto&... more) {
    return heed::attention(q, k, values, named, heed::sparsemax(), more...);
  };
  const auto weighed = halved(v, heed::weight_with(Halved{rows}));
  Matrix<float> doubled = v;
  for (Index j = 1; j < doubled.rows(); j += 2) doubled.row(j) *= 2;
  EXPECT_TRUE(close(weighed, halved(doubled)));
  (void)heed::attention(q, k, v, named, heed::sparsemax(), heed::weight_with(Halved{rows}),
                        heed::save(saved));
  const auto rows_of = heed::attention_backward(dout, q, k, v, weighed, saved, named, heed::sparsemax(),
                                                heed::weight_with(Halved{rows}));
  heed::Saved<float> plain;
  (void)halved(doubled, heed::save(plain));
  Matrix<float> dv =
      heed::attention_backward(dout, q, k, doubled, weighed, plain, named, heed::sparsemax()).dv;
  for (Index j = 1; j < dv.rows(); j += 2) dv.row(j) *= 2;
  EXPECT_TRUE(close(rows_of.dv, dv));
  EXPECT_FALSE(Rows::wrong);
}

TEST(AttentionPair, RowsBeyond32BitsAreRefused) {
  heed::Shape shape;
  shape.queries = shape.keys = Index{1} << 31;
  EXPECT_THROW(heed::mask_where([](Pair) { return true; }).check(shape), std::invalid_argument);
  EXPECT_THROW(heed::score_with([](auto s, Pair) { return s; }).check(shape), std::invalid_argument);
  EXPECT_NO_THROW(heed::score_with([](auto s, auto, auto) { return s; }).check(shape));
}

}  // namespace
