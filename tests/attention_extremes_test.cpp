// SPDX-License-Identifier: MIT
// Scores of any size: finite ones saturate and stay finite, whatever made them; -inf alone hides a pair, and
// then nothing that stands in its key or value reaches anything.
#include "any_rank.hpp"
#include "oracle.hpp"

#include <heed/attention_backward.hpp>
#include <heed/attention_jvp.hpp>
#include <heed/attention_weights.hpp>
#include <heed/core/when.hpp>
#include <heed/layout/heads.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/key_lists.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>
#include <heed/position/alibi.hpp>
#include <heed/position/t5_buckets.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/sink.hpp>
#include <heed/select/softmax.hpp>
#include <heed/select/sparsemax.hpp>

namespace {

using namespace heed_test;

template <class T>
constexpr T greatest = std::numeric_limits<T>::max();
template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();
template <class T>
constexpr T nan = std::numeric_limits<T>::quiet_NaN();

/// Where finite scores saturate, give or take rounding.
template <class T>
T limited(T score) {
  const T most = greatest<T> * T(0.69314718);
  return score > most ? most : score < -most ? -most : score;
}
template <class T>
void expect_lse(const heed::Saved<T>& saved, T want, const char* what) {
  for (Index i = 0; i < saved.lse.rows(); ++i)
    EXPECT_NEAR(saved.lse(i, 0) / want, T(1), T(4e-6)) << what << ", row " << i << ", " << want;
}

/// One query and many; tiny, streamed and tiled problems.
const std::vector<std::pair<Index, Index>> sizes =
    small ? std::vector<std::pair<Index, Index>>{{1, 1}, {1, 3}, {1, 40}, {5, 33}, {20, 50}, {70, 120}}
          : std::vector<std::pair<Index, Index>>{{1, 1},   {1, 3},   {1, 40},  {1, 4200}, {5, 7},
                                                 {5, 33},  {8, 100}, {20, 50}, {40, 9},   {70, 120},
                                                 {129, 129}};

template <class T>
struct Problem {
  Matrix<T> q, k, v;
  Problem(Index n, Index m, Index d = 8, Index d_v = 5) {
    Dice dice(static_cast<std::uint64_t>(n * 1000 + m));
    q = dice.matrix<T>(n, d);
    k = dice.matrix<T>(m, d);
    v = dice.matrix<T>(m, d_v);
  }
  /// Every row the mean of these values.
  Matrix<T> mean(const Matrix<T>& values) const {
    return values.colwise().sum().replicate(q.rows(), 1) / static_cast<T>(values.rows());
  }
  Matrix<T> only(Index j) const { return v.row(j).replicate(q.rows(), 1); }
};

template <class T>
void expect_near(const Matrix<T>& out, const Matrix<T>& want, const char* what, double x = 0,
                 double most = 1e-5) {
  EXPECT_TRUE(out.allFinite()) << what << ", " << x << ", " << out.rows() << " rows";
  EXPECT_LT((out - want).cwiseAbs().maxCoeff(), T(most))
      << what << ", " << x << ", " << out.rows() << " rows";
}

template <class T>
void one_bias() {
  for (const auto& [n, m] : sizes) {
    const Problem<T> p(n, m);
    heed::Saved<T> saved;
    const auto attend = [&](const Matrix<T>& b) {
      return Matrix<T>(heed::attention(p.q, p.k, p.v, heed::bias(b), heed::save(saved)));
    };
    for (const T huge : {-greatest<T>, T(-0.9) * greatest<T>, T(-0.7) * greatest<T>, T(-1e30), T(1e30),
                         T(0.9) * greatest<T>, greatest<T>}) {
      // In double, 1e30 swallows the products as well.
      Matrix<T> b = Matrix<T>::Constant(1, m, huge);
      expect_near<T>(attend(b), p.mean(p.v), "the same everywhere", huge);
      expect_lse(saved, limited(huge), "the same everywhere");
      for (const Index j : {Index(0), m / 2, m - 1}) {
        // The only one that is greater;
        b.setConstant(huge < 0 ? huge : T(0));
        b(0, j) = huge < 0 ? T(0) : huge;
        expect_near<T>(attend(b), p.only(j), "one greater", huge);
        // all but one hidden; and one hidden.
        b.setConstant(-infinity<T>);
        b(0, j) = huge;
        expect_near<T>(attend(b), p.only(j), "one visible", huge);
        expect_lse(saved, limited(huge), "one visible");
        b.setConstant(huge);
        b(0, j) = -infinity<T>;
        const Matrix<T> rest = p.v.colwise().sum() - p.v.row(j);
        if (m > 1)
          expect_near<T>(attend(b), rest.replicate(n, 1) / static_cast<T>(m - 1), "one hidden", huge);
      }
    }
    const Matrix<T> b = Matrix<T>::Constant(n, m, -infinity<T>);
    EXPECT_TRUE(attend(b).isZero(T(0)));
    EXPECT_TRUE((saved.lse.array() == -infinity<T>).all());
    // Great products and a bias overflow together.
    Problem<T> great = p;
    great.q.setConstant(1);
    great.k.setConstant(greatest<T> / 64);
    for (const T sign : {T(1), T(-1)}) {
      const Matrix<T> same = Matrix<T>::Constant(n, m, sign * greatest<T>);
      great.k = great.k.cwiseAbs() * sign;
      const Matrix<T> out = heed::attention(great.q, great.k, great.v, heed::bias(same), heed::save(saved));
      expect_near<T>(out, p.mean(p.v), "a product and a bias", sign);
      expect_lse(saved, limited(sign * greatest<T>), "a product and a bias");
    }
  }
}
TEST(AttentionExtremes, OneBiasFloat) { one_bias<float>(); }
TEST(AttentionExtremes, OneBiasDouble) { one_bias<double>(); }

/// Two masks of lowest() overflow together; a sink saturates as scores do, and competes like a key.
template <class T>
void two_biases_and_a_sink() {
  for (const auto& [n, m] : sizes) {
    const Problem<T> p(n, m);
    heed::Saved<T> saved;
    const Matrix<T> zeros = Matrix<T>::Zero(n, m), lowest = Matrix<T>::Constant(n, m, -greatest<T>);
    const auto attend = [&](const Matrix<T>& a, const Matrix<T>& b, T sink) {
      return Matrix<T>(
          heed::attention(p.q, p.k, p.v, heed::bias(a), heed::bias(b), heed::sink(sink), heed::save(saved)));
    };
    const Matrix<T> alone = attend(zeros, zeros, -infinity<T>);
    expect_near<T>(alone, heed::attention(p.q, p.k, p.v, heed::bias(zeros), heed::save(saved)), "no bias");
    expect_near<T>(attend(lowest, lowest, -infinity<T>), p.mean(p.v), "twice the lowest");
    expect_lse(saved, limited(-greatest<T>), "twice the lowest");
    expect_near<T>(attend(-lowest, -lowest, -infinity<T>), p.mean(p.v), "twice the greatest");
    expect_lse(saved, limited(greatest<T>), "twice the greatest");
    for (const T sink : {greatest<T>, T(0.9) * greatest<T>, T(1e30)}) {
      expect_near<T>(attend(zeros, zeros, sink), Matrix<T>::Zero(n, 5), "a great sink", sink);
      expect_lse(saved, limited(sink), "a great sink");
      expect_near<T>(attend(zeros, zeros, -sink), alone, "a low sink", -sink);
    }
    const T share = static_cast<T>(m) / static_cast<T>(m + 1);
    expect_near<T>(attend(lowest, zeros, -greatest<T>), p.mean(p.v) * share, "a sink like all scores");
    expect_near<T>(attend(lowest, lowest, T(-0.9) * greatest<T>), p.mean(p.v) * share, "saturated alike");
    expect_near<T>(attend(-lowest, zeros, greatest<T>), p.mean(p.v) * share, "a sink like all scores");
    const Matrix<T> shown = heed::attention_weights(p.q, p.k, heed::bias(lowest), heed::bias(lowest),
                                                    heed::sink(T(-0.9) * greatest<T>));
    EXPECT_TRUE(shown.isApproxToConstant(T(1) / static_cast<T>(m + 1), T(1e-5)));
  }
}
TEST(AttentionExtremes, TwoBiasesAndASinkFloat) { two_biases_and_a_sink<float>(); }
TEST(AttentionExtremes, TwoBiasesAndASinkDouble) { two_biases_and_a_sink<double>(); }

/// Functions of the distance, which blocks of keys take.
template <class T>
void distances() {
  for (const auto& [n, m] : sizes) {
    if (n > m) continue;
    const Problem<T> p(n, m);
    heed::Saved<T> saved;
    std::vector<T> slope(1);
    Matrix<T> table = Matrix<T>::Zero(1, 32);
    const auto attend = [&] {
      return Matrix<T>(heed::attention(p.q, p.k, p.v, heed::t5_bias(table), heed::alibi(slope),
                                       heed::save(saved)));
    };
    Matrix<T> own(n, 5);
    for (Index i = 0; i < n; ++i) own.row(i) = p.v.row(i + m - n);
    for (const T steep : {T(1e30), greatest<T>}) {
      slope[0] = steep;
      table.setZero();
      expect_near<T>(attend(), own, "steep", steep);
      slope[0] = 0;
      table.setConstant(-steep);
      expect_near<T>(attend(), p.mean(p.v), "a low table", steep);
      expect_lse(saved, limited(-steep), "a low table");
      table(0, 0) = 0;
      expect_near<T>(attend(), own, "one bucket", steep);
    }
    slope[0] = greatest<T>;
    table.setConstant(-greatest<T>);
    expect_near<T>(attend(), p.mean(p.v), "both");
    expect_lse(saved, limited(-greatest<T>), "both");
  }
}
TEST(AttentionExtremes, DistancesFloat) { distances<float>(); }
TEST(AttentionExtremes, DistancesDouble) { distances<double>(); }

/// Products of any size: the greatest takes all, wherever it stands, and equal ones share.
template <class T>
void products() {
  for (const auto& [n, m] : sizes)
    for (const Index d : {Index(1), Index(64)}) {
      Problem<T> p(n, m);
      p.q.setConstant(n, d, T(1) / static_cast<T>(d));
      for (const T huge : {T(1e4), T(2e7), T(1e8), T(-1e9), T(1e30), T(-1e30), T(0.6) * greatest<T>,
                           T(-0.6) * greatest<T>}) {
        heed::Saved<T> saved;
        const auto attend = [&] {
          return Matrix<T>(heed::attention(p.q, p.k, p.v, heed::scale(1), heed::save(saved)));
        };
        p.k.setConstant(m, d, huge);
        // As long as rounding is small the sums start from minus the maximum, and end within rounding of it.
        expect_near<T>(attend(), p.mean(p.v), "equal products", huge, huge == T(1e4) ? 1e-3 : 1e-5);
        EXPECT_TRUE((saved.lse.array() / huge - 1).abs().maxCoeff() < T(1e-3));
        for (const Index j : {Index(0), m / 2, m - 1}) {
          p.k.setConstant(m, d, huge);
          p.k.row(j) *= huge < 0 ? T(0.875) : T(1.125);
          expect_near<T>(attend(), p.only(j), "products", huge);
          expect_lse(saved, p.k(j, 0), "products");
        }
      }
    }
}
TEST(AttentionExtremes, ProductsFloat) { products<float>(); }
TEST(AttentionExtremes, ProductsDouble) { products<double>(); }

/// Products beyond the range of T saturate as well: the greatest takes all, and equal ones share.
template <class T>
constexpr T root = sizeof(T) == 4 ? T(1e20) : T(1e160);

/// Of keys that are +root, -root or 0 in all columns. With `ends` the last key is NaN, and nobody sees it.
template <class T, class Attend>
void great_products(const char* what, const Attend& attend, Index heads = 1, Index ends = 0) {
  for (const auto& size : sizes) {
    const Index n = size.first, m = size.second;
    if (ends > 0 && m < 3) continue;
    const Index seen = ends > 0 ? m - 1 : m, d = 4;
    Problem<T> p(n, m, d * heads, 5 * heads);
    p.q.setConstant(root<T>);
    if (ends > 0) p.v.row(m - 1).setConstant(nan<T>);
    heed::Saved<T> saved;
    const auto check = [&](const Matrix<T>& want, T lse, const char* which) {
      if (ends > 0) p.k.row(m - 1).setConstant(nan<T>);
      const Matrix<T> out = attend(p, saved, seen);
      EXPECT_TRUE(out.allFinite()) << what << ", " << which << ", " << n << " x " << m;
      EXPECT_LT((out - want.replicate(n, 1)).cwiseAbs().maxCoeff(), T(1e-5))
          << what << ", " << which << ", " << n << " x " << m;
      if (lse != T(0)) expect_lse(saved, limited(lse), which);
    };
    const Matrix<T> sum = p.v.topRows(seen).colwise().sum();
    const Matrix<T> mean = sum / static_cast<T>(seen);
    p.k.setConstant(root<T>);
    check(mean, greatest<T>, "all great");
    p.k.setConstant(-root<T>);
    check(mean, -greatest<T>, "all low");
    p.k.setZero();
    for (Index h = 0; h < heads; ++h)
      p.k.col(h * d) = Matrix<T>::Constant(m, 1, root<T>), p.k.col(h * d + 1) = -p.k.col(h * d);
    check(mean, T(0), "both signs in one product");
    for (const Index j : {Index(0), seen - 1}) {
      p.k.setConstant(-root<T>);
      p.k.row(j).setConstant(root<T>);
      check(p.v.row(j), greatest<T>, "one great among low");
      p.k.setZero();
      p.k.row(j).setConstant(root<T>);
      check(p.v.row(j), greatest<T>, "one great");
      p.k.row(j).setConstant(-root<T>);
      if (seen > 1) check((sum - p.v.row(j)) / static_cast<T>(seen - 1), T(0), "one low");
    }
  }
}
template <class T>
void great_products_of_all() {
  great_products<T>("plain", [](const Problem<T>& p, auto& saved, Index) {
    return Matrix<T>(heed::attention(p.q, p.k, p.v, heed::save(saved)));
  });
  great_products<T>("heads, hidden NaN", [](const Problem<T>& p, auto& saved, Index seen) {
    return Matrix<T>(
        heed::attention(p.q, p.k, p.v, heed::heads(2), heed::lengths({seen}), heed::save(saved)));
  }, 2, 1);
  great_products<T>("lists", [](const Problem<T>& p, auto& saved, Index seen) {
    std::vector<Index> offsets, keys;
    for (Index i = 0; i <= p.q.rows(); ++i) offsets.push_back(i * seen);
    for (Index i = 0; i < p.q.rows() * seen; ++i) keys.push_back(i % seen);
    return Matrix<T>(heed::attention(p.q, p.k, p.v, heed::key_lists(offsets, keys), heed::save(saved)));
  }, 1, 1);
}
TEST(AttentionExtremes, GreatProductsFloat) { great_products_of_all<float>(); }
TEST(AttentionExtremes, GreatProductsDouble) { great_products_of_all<double>(); }

/// Under a causal mask each row has its own keys; NaN in q or k still reaches its rows; and what the forward
/// pass made finite has finite gradients.
TEST(AttentionExtremes, GreatProductsCausal) {
  for (const auto& [n, m] : sizes) {
    Problem<float> p(n, m);
    p.q.setConstant(root<float>);
    heed::Saved<float> saved;
    for (const float sign : {1.0f, -1.0f}) {
      p.k.setConstant(sign * root<float>);
      const auto attend = [&] {
        return Matrix<float>(heed::attention(p.q, p.k, p.v, heed::causal(), heed::save(saved)));
      };
      Matrix<float> out = attend();
      for (Index i = 0; i < n; ++i) {
        const Index seen = std::max<Index>(0, i + m - n + 1);
        const Matrix<float> want =
            p.v.topRows(seen).colwise().sum() / static_cast<float>(std::max<Index>(seen, 1));
        EXPECT_LT((out.row(i) - want).cwiseAbs().maxCoeff(), 1e-5f) << i << ", " << n << " x " << m;
      }
      const auto g = heed::attention_backward(Dice(3).matrix<float>(n, 5), p.q, p.k, p.v, out, saved,
                                              heed::causal());
      EXPECT_TRUE(g.dq.allFinite() && g.dk.allFinite() && g.dv.allFinite()) << n << " x " << m;
      p.k.row(m - 1).setConstant(nan<float>);
      out = attend();
      EXPECT_TRUE(out.row(n - 1).array().isNaN().all());
      EXPECT_TRUE(out.topRows(n - 1).allFinite());
    }
  }
}

/// A product that overflows is no great score where the scale is small.
TEST(AttentionExtremes, GreatProductsScaledDown) {
  Problem<float> p(2, 3, 4);  // so small that each product is scaled by itself
  p.q.setConstant(2 * root<float>);
  p.k.setConstant(-root<float>);
  p.k.row(1).setZero();
  const Matrix<float> out = heed::attention(p.q, p.k, p.v, heed::scale(1e-41));
  const float w = std::exp(-0.8f);
  const Matrix<float> want = (p.v.row(1) + w * (p.v.row(0) + p.v.row(2))) / (1 + 2 * w);
  EXPECT_LT((out - want.replicate(2, 1)).cwiseAbs().maxCoeff(), 1e-3f);
}

/// A cap that no score reaches changes nothing; a temperature may push scores beyond what is finite.
TEST(AttentionExtremes, CapsAndTemperatures) {
  for (const auto& [n, m] : sizes) {
    const Problem<float> p(n, m);
    heed::Saved<float> saved;
    const Matrix<float> plain = heed::attention(p.q, p.k, p.v, heed::save(saved));
    for (const float cap : {1e30f, 3e38f, greatest<float>})
      expect_near<float>(heed::attention(p.q, p.k, p.v, heed::softcap(cap)), plain, "a cap", cap);
    for (const float huge : {-3e38f, 3e38f, -1e38f, 1e38f}) {
      const Matrix<float> b = Matrix<float>::Constant(1, m, huge);
      expect_near<float>(
          heed::attention(p.q, p.k, p.v, heed::bias(b), heed::softmax(1e-3), heed::save(saved)), p.mean(p.v),
          "a temperature", huge);
      expect_lse(saved, limited(huge * 1e-3f > 0 ? greatest<float> : -greatest<float>), "a temperature");
    }
  }
}

/// Where each query names its keys.
TEST(AttentionExtremes, Lists) {
  const Index n = 7, m = 40;
  const Problem<float> p(n, m);
  std::vector<Index> offsets, keys;
  for (Index i = 0; i <= n; ++i) offsets.push_back(i * m);
  for (Index i = 0; i < n * m; ++i) keys.push_back(i % m);
  const auto lists = heed::key_lists(offsets, keys);
  Matrix<float> b = Matrix<float>::Constant(1, m, -greatest<float>);
  heed::Saved<float> saved;
  expect_near<float>(heed::attention(p.q, p.k, p.v, lists, heed::bias(b), heed::sink(-infinity<float>),
                                     heed::save(saved)),
                     p.mean(p.v), "lists");
  expect_lse(saved, limited(-greatest<float>), "lists");
  Matrix<float> k = p.k, v = p.v;
  b.setZero();
  for (Index j = 0; j < m; j += 3) b(0, j) = -infinity<float>;
  const auto attend = [&] {
    return Matrix<float>(heed::attention(p.q, k, v, lists, heed::bias(b), heed::sink(-infinity<float>),
                                         heed::save(saved)));
  };
  const Matrix<float> want = attend();
  for (const float bad : {nan<float>, infinity<float>, 3e38f}) {
    for (Index j = 0; j < m; j += 3) {
      k.row(j).setConstant(bad);
      v.row(j).setConstant(bad);
    }
    expect_near<float>(attend(), want, "hidden in lists", static_cast<double>(bad));
  }
}

/// A double bias of lowest() on float scores is a finite number as well.
TEST(AttentionExtremes, ABiasThatIsWider) {
  for (const Index n : {Index(1), Index(20)}) {
    const Problem<float> p(n, 50);
    Matrix<double> b = Matrix<double>::Constant(1, 50, -greatest<double>);
    b(0, 7) = -infinity<double>;
    Matrix<float> rest = (p.v.colwise().sum() - p.v.row(7)) / 49.0f;
    expect_near<float>(heed::attention(p.q, p.k, p.v, heed::bias(b)), rest.replicate(n, 1), "a wider bias");
  }
}

/// The last third of the keys is hidden from everyone, in one of these ways.
enum Way {
  by_lengths,
  by_dense_mask,
  by_functor,
  by_documents,
  by_window,
  by_causal,
  by_bias,
  by_score,
  ways
};

template <class T>
struct Hidden {
  Index n, m, seen;
  Problem<T> p;
  Matrix<T> b;
  Matrix<bool> dense;
  std::vector<int> query_documents, key_documents;

  Hidden(Index queries, Index keys) : n(queries), m(keys), seen(keys - (keys + 2) / 3), p(queries, keys) {
    b.setZero(1, m);
    b.rightCols(m - seen).setConstant(-infinity<T>);
    dense.setConstant(n, m, true);
    dense.rightCols(m - seen).setConstant(false);
    query_documents.assign(static_cast<std::size_t>(n), 0);
    for (Index j = 0; j < m; ++j) key_documents.push_back(j < seen ? 0 : 1);
  }
  auto spec(int way) const {
    const Index end = seen, off = seen - n;
    return heed::spec(
        heed::when(way == by_lengths, heed::lengths({end})),
        heed::when(way == by_dense_mask, heed::dense_mask(dense)),
        heed::when(way == by_functor, heed::mask_where([end](auto, auto j) { return j < end; })),
        heed::when(way == by_documents, heed::documents(query_documents, key_documents)),
        heed::when(way == by_window, heed::window(heed::unbounded, (seen - 1) - (m - 1))),
        heed::when(way == by_causal, heed::causal(off)), heed::when(way == by_bias, heed::bias(b)),
        heed::when(way == by_score, heed::score_with([end](auto s, auto, auto j) {
                     return heed::select(j < end, s, decltype(s)(-std::numeric_limits<float>::infinity()));
                   })));
  }
};

template <class T, class Selection>
void hidden_ways(const char* name, const Selection& selection) {
  for (const auto& [n, m] : std::vector<std::pair<Index, Index>>{{1, 3}, {1, 60}, {5, 9}, {6, 70}, {40, 75}})
    for (int way = 0; way < ways; ++way) {
      const Hidden<T> h(n, m);
      if (way == by_causal && h.seen < n) continue;
      const auto spec = heed::spec(h.spec(way), selection);
      heed::Saved<T> saved;
      const Matrix<T> want = heed::attention(h.p.q, h.p.k, h.p.v, spec, heed::save(saved));
      const Matrix<T> dout = Dice(3).matrix<T>(n, 5);
      const auto gradients = heed::attention_backward(dout, h.p.q, h.p.k, h.p.v, want, saved, spec);
      ASSERT_TRUE(want.allFinite() && gradients.dq.allFinite()) << name << way;
      EXPECT_TRUE(gradients.dk.bottomRows(m - h.seen).isZero(0));
      EXPECT_TRUE(gradients.dv.bottomRows(m - h.seen).isZero(0));
      for (const T bad : {nan<T>, infinity<T>, -infinity<T>, T(0.9) * greatest<T>})
        for (const bool in_keys : {true, false}) {
          Matrix<T> k = h.p.k, v = h.p.v;
          (in_keys ? k : v).bottomRows(m - h.seen).setConstant(bad);
          const Matrix<T> out = heed::attention(h.p.q, k, v, spec, heed::save(saved));
          EXPECT_TRUE(out.isApprox(want, T(1e-6)))
              << name << ", way " << way << ", " << bad << " in " << (in_keys ? "keys" : "values") << ", " << n
              << " x " << m;
          const auto g = heed::attention_backward(dout, h.p.q, k, v, out, saved, spec);
          EXPECT_TRUE(g.dq.isApprox(gradients.dq, T(1e-4)) && g.dk.isApprox(gradients.dk, T(1e-4)) &&
                      g.dv.isApprox(gradients.dv, T(1e-4)))
              << name << ", backward, way " << way << ", " << bad << " in " << (in_keys ? "keys" : "values")
              << ", " << n << " x " << m;
        }
    }
}
TEST(AttentionExtremes, HiddenFromSoftmaxFloat) { hidden_ways<float>("softmax", heed::softmax()); }
TEST(AttentionExtremes, HiddenFromSoftmaxDouble) { hidden_ways<double>("softmax", heed::softmax()); }
TEST(AttentionExtremes, HiddenFromSparsemax) { hidden_ways<float>("sparsemax", heed::sparsemax()); }
TEST(AttentionExtremes, HiddenFromRanks) {
  hidden_ways<double>("top_k", AnyRank(heed::top_k(4)));
  hidden_ways<double>("top_p", AnyRank(heed::top_p(0.7)));
}

/// Forward mode likewise.
TEST(AttentionExtremes, HiddenFromTangents) {
  for (const auto& [n, m] : std::vector<std::pair<Index, Index>>{{1, 3}, {5, 9}, {40, 75}})
    for (const int way : {by_lengths, by_bias, by_score}) {
      const Hidden<float> h(n, m);
      const Problem<float> moving(m + 3, m, 8, 5);
      const Matrix<float> moving_q = moving.q.topRows(n);
      const auto want =
          heed::attention_jvp(h.p.q, h.p.k, h.p.v, moving_q, moving.k, moving.v, h.spec(way));
      for (const float bad : {nan<float>, infinity<float>, 3e38f}) {
        Matrix<float> k = h.p.k, v = h.p.v, moving_k = moving.k;
        k.bottomRows(m - h.seen).setConstant(bad);
        v.bottomRows(m - h.seen).setConstant(bad);
        moving_k.bottomRows(m - h.seen).setConstant(bad);
        const auto moved = heed::attention_jvp(h.p.q, k, v, moving_q, moving_k, moving.v, h.spec(way));
        expect_near<float>(moved.out, want.out, "forward mode", static_cast<double>(bad));
        expect_near<float>(moved.out_tangent, want.out_tangent, "forward mode", static_cast<double>(bad));
      }
    }
}

}  // namespace
