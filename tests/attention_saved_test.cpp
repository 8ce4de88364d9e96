// SPDX-License-Identifier: MIT
// What a forward pass saves: the backward pass finds its weights again at any size of scores, and refuses to
// go back through another variant.
#include "backward_pass.hpp"

#include <heed/attention_double_backward.hpp>
#include <heed/core/when.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/key_lists.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>
#include <heed/merge.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/additive.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/dropout.hpp>
#include <heed/select/entmax.hpp>
#include <heed/select/sink.hpp>
#include <heed/select/softmax.hpp>
#include <heed/select/sparsemax.hpp>

namespace {

using namespace heed_test;

// ---- great scores ----------------------------------------------------------------------------------------

/// Gradients against plain loops in the next wider type, at rows of which one key has all the weight (random
/// ones of that size), or all keys have the same (of one product, by a power of two, so that no order rounds
/// it otherwise): then the wider type's weights are those of T, and so must the gradients be to a few
/// roundings, whatever the size of scores.
template <class T, class Spec>
void check_great(const char* name, T size, Index n, Index m, Index d, bool equal, const Spec& spec) {
  using Wide = typename WiderOf<T>::type;
  Dice dice(static_cast<std::uint64_t>(n * 100 + m + d));
  const T root = std::sqrt(std::abs(size));
  Matrix<T> q = dice.matrix<T>(n, d), k = dice.matrix<T>(m, d);
  if (equal) {
    q.setZero(), k.setZero();
    const T power = std::exp2(std::round(std::log2(root)));
    q.col(d / 2).setConstant(size / power);
    k.col(d / 2).setConstant(power);
  } else {
    q *= root, k *= root;
  }
  const Matrix<T> v = dice.matrix<T>(m, 5), dout = dice.matrix<T>(n, 5);
  heed::Saved<T> saved;
  const Matrix<T> out = heed::attention(q, k, v, spec, heed::save(saved));
  const auto [dq, dk, dv] = heed::attention_backward(dout, q, k, v, out, saved, spec);
  ASSERT_TRUE(dq.allFinite() && dk.allFinite() && dv.allFinite())
      << name << ", " << size << ", " << n << " x " << m << " x " << d;

  const heed::Shape shape = heed::detail::make_shape(spec, n, d, m, d, m, Index(5));
  const RowMatrix<Wide> wq = q.template cast<Wide>(), wk = k.template cast<Wide>(),
                        wv = v.template cast<Wide>(), wd = dout.template cast<Wide>();
  Matrix<Wide> eq(n, d), ek(m, d), ev(m, 5);
  const Matrix<Wide>* no_lse = nullptr;
  const auto nothing = [](const heed::Place&, Index, Index, const Wide&) {};
  heed::detail::reference_backward<false, Wide>(spec, shape, wd, wq, wk, wv, no_lse, eq, ek, ev, nothing);
  const Wide u = std::numeric_limits<T>::epsilon() / 2;
  const Wide off = (dv.template cast<Wide>() - ev).cwiseAbs().maxCoeff();
  EXPECT_LE(off, 64 * u * static_cast<Wide>(n))
      << name << ", " << size << ", " << n << " x " << m << " x " << d;
  // dS is rounded like dP - D, by a few u, and then meets keys of that root.
  const Wide most = 256 * u * static_cast<Wide>(root) * static_cast<Wide>(n);
  EXPECT_LE((dk.template cast<Wide>() - ek).cwiseAbs().maxCoeff(), most) << name << ", " << size;
}

template <class T>
class AttentionSavedGreat : public testing::Test {};
using Engines = testing::Types<float, double>;
TYPED_TEST_SUITE(AttentionSavedGreat, Engines);

/// Tiles, few queries, tiny problems, and borders of a mask.
TYPED_TEST(AttentionSavedGreat, WeightsAreThoseOfTheForwardPass) {
  using T = TypeParam;
  const auto plain = heed::spec(heed::scale(T(1)));
  const auto causal = heed::spec(heed::scale(T(1)), heed::causal());
  const auto alibi = heed::spec(heed::scale(T(1)), heed::causal(), heed::alibi());
  for (const double size : {1e4, 1e6, 2e7, 1e8, 1e10, 1e15, 1e30})
    for (const Index n : {1, 7, 37})
      for (const Index d : {1, 64}) {
        const T x = static_cast<T>(sizeof(T) == 4 || size < 1e5 ? size : size * 1e5);
        // Of random numbers of one dimension the greatest two may lie close.
        if (d > 1 && size >= 1e6) check_great("plain", x, n, Index(100), d, false, plain);
        if (d > 1 && size >= 1e6) check_great("causal", x, n, Index(100), d, false, causal);
        if (d > 1 && size >= 1e6) check_great("alibi", x, n, Index(100), d, false, alibi);
        check_great("plain, equal", x, n, Index(100), d, true, plain);
        check_great("plain, equal, negative", -x, n, Index(100), d, true, plain);
        check_great("causal, equal", x, n, Index(100), d, true, causal);
        check_great("tiny", x, Index(2), Index(3), Index(4), true, plain);
        check_great("tiny", x, Index(2), Index(3), Index(4), size < 1e6, plain);
      }
}

/// Queries that name their keys, and dropout.
TYPED_TEST(AttentionSavedGreat, ListsOfKeys) {
  using T = TypeParam;
  std::vector<Index> offsets = {0}, keys;
  for (Index i = 0; i < 20; ++i) {
    for (Index j = i % 3; j < 90; j += 1 + i % 4) keys.push_back(j);
    offsets.push_back(static_cast<Index>(keys.size()));
  }
  const auto lists = heed::spec(heed::scale(T(1)), heed::key_lists(offsets, keys));
  for (const T size : {T(1e4), T(2e7), T(1e15), T(1e30)}) {
    check_great("lists, equal", size, 20, 90, 16, true, lists);
    check_great("lists, equal, negative", -size, 20, 90, 16, true, lists);
    if (size > T(1e6)) check_great("lists", size, 20, 90, 16, false, lists);
  }
}

/// Additive numbers as masks are made of: weights stay at most 1 and gradients finite.
TYPED_TEST(AttentionSavedGreat, EveryPairCarriesAGreatNumber) {
  using T = TypeParam;
  Dice dice(3);
  for (const Index n : {1, 40})
    for (const T number : {T(-1e9), T(1e8), T(-1e30), T(1e30), std::numeric_limits<T>::lowest()}) {
      const Matrix<T> q = dice.matrix<T>(n, 16), k = dice.matrix<T>(50, 16), v = dice.matrix<T>(50, 8),
                      dout = Matrix<T>::Ones(n, 8), b = Matrix<T>::Constant(n, 50, number);
      heed::Saved<T> saved;
      const Matrix<T> out = heed::attention(q, k, v, heed::bias(b), heed::save(saved));
      const auto [dq, dk, dv] = heed::attention_backward(dout, q, k, v, out, saved, heed::bias(b));
      EXPECT_TRUE(dq.allFinite() && dk.allFinite() && dv.allFinite()) << number << ", " << n;
      // Every row's weights sum to about 1, so do those of a column of ones.
      EXPECT_LE(dv.maxCoeff(), T(n) * T(1.001)) << number << ", " << n;
      if (std::abs(number) <= T(1e30)) {
        EXPECT_NEAR(static_cast<double>(dv.col(0).sum() / T(n)), 1, 1e-3) << number;
      }
    }
}

TYPED_TEST(AttentionSavedGreat, SinkGradient) {
  using T = TypeParam;
  // Two equal logits, of which one is the sink's: half the weight each.
  for (const T size : {T(3), T(1e4), T(1e8), T(1e30)}) {
    const Matrix<T> q = Matrix<T>::Constant(1, 1, T(1)), k = Matrix<T>::Constant(1, 1, size),
                    v = Matrix<T>::Constant(1, 1, T(4)), dout = Matrix<T>::Constant(1, 1, T(1));
    const auto half = heed::spec(heed::scale(T(1)), heed::sink(size));
    heed::Saved<T> saved;
    const Matrix<T> out = heed::attention(q, k, v, half, heed::save(saved));
    Eigen::Matrix<T, 1, 1> ds;
    const auto back = heed::attention_backward(dout, q, k, v, out, saved, half, heed::sink_gradient(ds));
    EXPECT_NEAR(static_cast<double>(out(0)), 2, 1e-5) << size;
    EXPECT_NEAR(static_cast<double>(back.dv(0)), 0.5, 1e-6) << size;
    EXPECT_NEAR(static_cast<double>(ds(0)), -1, 1e-5) << size;
  }
}

/// The least logit beside scores that are all as low: both saturate, and have half the weight each.
TYPED_TEST(AttentionSavedGreat, SinkGradientOfTheLowestLogit) {
  using T = TypeParam;
  const T lowest = std::numeric_limits<T>::lowest();
  const Matrix<T> q = Matrix<T>::Constant(1, 1, T(1)), k = Matrix<T>::Constant(1, 1, lowest),
                  v = Matrix<T>::Constant(1, 1, T(4)), dout = Matrix<T>::Constant(1, 1, T(1));
  const auto half = heed::spec(heed::scale(T(1)), heed::sink(lowest));
  heed::Saved<T> saved;
  const Matrix<T> out = heed::attention(q, k, v, half, heed::save(saved));
  Eigen::Matrix<T, 1, 1> ds;
  heed::attention_backward(dout, q, k, v, out, saved, half, heed::sink_gradient(ds));
  EXPECT_NEAR(static_cast<double>(out(0)), 2, 1e-5);
  EXPECT_NEAR(static_cast<double>(ds(0)), -1, 1e-5);
}

/// A log-sum-exp that was merged, or filled in by hand, counts by itself; weights stay bounded.
TEST(AttentionSaved, LseAlone) {
  Dice dice(8);
  const Eigen::MatrixXd q = dice.matrix<double>(30, 8), k = dice.matrix<double>(60, 8),
                        v = dice.matrix<double>(60, 8), dout = dice.matrix<double>(30, 8);
  heed::Saved<double> whole, first, second;
  const Eigen::MatrixXd out = heed::attention(q, k, v, heed::save(whole));
  const auto want = heed::attention_backward(dout, q, k, v, out, whole);
  // In place: what was saved with the first part takes in the second.
  Eigen::MatrixXd merged = heed::attention(q, k.topRows(25), v.topRows(25), heed::save(first));
  const Eigen::MatrixXd other = heed::attention(q, k.bottomRows(35), v.bottomRows(35), heed::save(second));
  heed::merge_into(merged, first.lse, other, second.lse);
  const auto a = heed::attention_backward(dout, q, k.topRows(25), v.topRows(25), merged, first);
  const auto b = heed::attention_backward(dout, q, k.bottomRows(35), v.bottomRows(35), merged, first);
  EXPECT_LT((a.dq + b.dq - want.dq).cwiseAbs().maxCoeff(), 1e-13);
  EXPECT_LT((a.dk - want.dk.topRows(25)).cwiseAbs().maxCoeff(), 1e-13);
  EXPECT_LT((b.dv - want.dv.bottomRows(35)).cwiseAbs().maxCoeff(), 1e-13);
  heed::Saved<double> filled;
  filled.lse = whole.lse;
  const auto c = heed::attention_backward(dout, q, k, v, out, filled);
  EXPECT_LT((c.dk - want.dk).cwiseAbs().maxCoeff(), 1e-13);
  filled.lse.setConstant(-1e300);  // as if every weight were infinite: they are 1
  EXPECT_LE(heed::attention_backward(dout, q, k, v, out, filled).dv.cwiseAbs().maxCoeff(),
            dout.cwiseAbs().colwise().sum().maxCoeff() * (1 + 1e-12));
}

// ---- another variant
// ---------------------------------------------------------------------------------------

/// What a forward pass of 6 queries and keys with 8 columns says about itself, without its kernels.
template <class... P>
heed::Saved<float> saved_by(const P&... policies) {
  const auto spec = heed::spec(policies...);
  const heed::Shape shape = heed::detail::make_shape(spec, 6, 8, 6, 8, 6, 8);
  heed::Saved<float> saved;
  heed::detail::open_saved<true>(saved, spec, shape, spec.template scale<float>(shape.d));
  saved.lse.setZero(), saved.maximum.setZero(), saved.log_sum.setZero();
  return saved;
}
/// What a backward pass says to it, with so many columns of values.
template <class... P>
std::string message(const heed::Saved<float>& saved, Index columns, const P&... policies) {
  const auto spec = heed::spec(policies...);
  const heed::Shape shape = heed::detail::make_shape(spec, 6, 8, 6, 8, 6, columns);
  try {
    heed::detail::check_variant("attention_backward", saved, spec, shape,
                                spec.template scale<float>(shape.d));
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

void expect_says(const char* text, const std::string& message) {
  EXPECT_NE(message.find(text), std::string::npos) << "not \"" << text << "\" but: " << message;
}

TEST(AttentionSaved, BackwardPassesAsk) {
  Dice dice(9);
  const auto q = dice.matrix<float>(6, 8), k = dice.matrix<float>(6, 8), v = dice.matrix<float>(6, 8),
             dout = dice.matrix<float>(6, 8);
  heed::Saved<float> saved;
  const Eigen::MatrixXf out = heed::attention(q, k, v, heed::causal(), heed::save(saved));
  EXPECT_THROW(heed::attention_backward(dout, q, k, v, out, saved), std::invalid_argument);
  EXPECT_THROW(heed::attention_double_backward(dout, q, k, v, out, saved, q, k, v), std::invalid_argument);
  EXPECT_NO_THROW(heed::attention_backward(dout, q, k, v, out, saved, heed::causal()));
  saved.lse(3, 0) += 1;  // merged, say: now it is nobody's
  EXPECT_NO_THROW(heed::attention_backward(dout, q, k, v, out, saved));
}

TEST(AttentionSaved, AnotherVariantIsRefused) {
  const auto causal = saved_by(heed::causal());
  expect_says("attention_backward: the forward pass that saved this had causal(), this call has no mask",
              message(causal, 8));
  expect_says("causal(), this call has window()", message(causal, 8, heed::window(2, 0)));
  expect_says("another mask", message(causal, 8, heed::causal(2)));
  expect_says("1 query heads, this call has 2", message(causal, 8, heed::causal(), heed::heads(2)));
  expect_says("a scale of", message(causal, 8, heed::causal(), heed::scale(0.5f)));
  expect_says("no score term, this call has softcap()",
              message(causal, 8, heed::causal(), heed::softcap(5.0f)));
  expect_says("no selection, this call has sparsemax()",
              message(causal, 8, heed::causal(), heed::sparsemax()));
  expect_says("no sink, this call has sink()", message(causal, 8, heed::causal(), heed::sink(1.0f)));
  expect_says("1 sequences, this call has 2", message(causal, 8, heed::causal(), heed::sequences({0, 2, 6})));
  expect_says("8 columns of v a head, this call has 9", message(causal, 9, heed::causal()));
  const auto dropped = saved_by(heed::dropout(0.25, 7), heed::sequences({0, 2, 6}));
  expect_says("another dropout", message(dropped, 8, heed::dropout(0.25, 8), heed::sequences({0, 2, 6})));
  expect_says("sequences()", message(dropped, 8, heed::dropout(0.25, 7), heed::sequences({0, 3, 6})));
  EXPECT_EQ(message(dropped, 8, heed::sequences({0, 2, 6}), heed::dropout(0.25, 7)), "");
  const auto unmasked = saved_by(heed::sink({2.0}));
  expect_says("sink() with other numbers", message(unmasked, 8, heed::sink(3.0)));
  EXPECT_EQ(message(unmasked, 8, heed::sink(2.0f)), "");
}

TEST(AttentionSaved, TheSameVariantInOtherWords) {
  const Eigen::MatrixXf b = Eigen::MatrixXf::Zero(6, 6), moved = b;
  const auto lambda = [] { return heed::score_with([](auto s, auto, auto) { return s * 0.5f; }); };
  const auto again = [] { return heed::score_with([](auto s, auto, auto) { return s * 0.5f; }); };
  const auto all = saved_by(heed::causal(), heed::window(3, 3), heed::bias(b), lambda(), heed::softcap(5.0f));
  // Nested and in another order; the same lambda written twice; the same numbers elsewhere.
  EXPECT_EQ(message(all, 8, heed::softcap(5.0f), heed::spec(heed::bias(moved), again()),
                    heed::spec(heed::window(3, 3), heed::spec(heed::causal())), heed::on(heed::serial())),
            "");
  // As one intersection; what is off; 1/sqrt(d) in words; causal() by other names where N = M.
  EXPECT_EQ(message(all, 8, heed::window(3, 3) & heed::window(heed::unbounded, 0, heed::top_left),
                    heed::bias(b), heed::when(false, heed::sink(3.0f)), heed::when(true, heed::softcap(5.0f)),
                    lambda(), heed::scale(1 / std::sqrt(8.0f)), heed::dropout(0, 4)),
            "");
  expect_says("another score term", message(all, 8, heed::causal(), heed::window(3, 3),
                                            heed::bias(b.topRows(1)), lambda(), heed::softcap(5.0f)));
  EXPECT_EQ(message(saved_by(heed::softmax()), 8, heed::softmax(1.0)), "");
  EXPECT_EQ(message(saved_by(heed::entmax(1.25)), 8, heed::entmax({1.25})), "");
  const auto additive = saved_by(heed::additive({1, 2, 3, 4, 5, 6, 7, 8}));
  expect_says("additive(), this call has no additive score", message(additive, 8));
  // Unions in any order.
  const auto united = saved_by(heed::window(1, 0) | heed::window(0, 1) | heed::causal(-3));
  EXPECT_EQ(message(united, 8, heed::causal(-3) | (heed::window(0, 1) | heed::window(1, 0))), "");
  expect_says("another mask", message(united, 8, !(heed::window(1, 0) | heed::window(0, 1))));
}

}  // namespace
