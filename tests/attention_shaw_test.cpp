// SPDX-License-Identifier: MIT
// Shaw's relative keys and values against plain loops over all pairs, and their gradients by central
// differences.
#include "oracle.hpp"

#include <algorithm>

#include <heed/core/when.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/position/alibi.hpp>
#include <heed/position/shaw.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/dropout.hpp>
#include <heed/select/gumbel.hpp>
#include <heed/select/local.hpp>

namespace {

using namespace heed_test;

/// What the tests choose among, at run time: one type of spec, which takes a minute less to compile than
/// many.
struct Choice {
  Index heads = 4, key_heads = 2;
  bool causal = false;
  Index offset = 0;
  double cap = 0, scale = 0, drop = 0;
  bool pattern = false;
};
auto make_spec(const Choice& c, const std::vector<Index>& q_offsets, const std::vector<Index>& k_offsets) {
  return heed::spec(
      heed::heads(c.heads, c.key_heads), heed::when(c.causal, heed::causal(c.offset)),
      heed::when(c.cap > 0, heed::softcap(c.cap > 0 ? c.cap : 1.0)),
      heed::when(c.scale > 0, heed::scale(c.scale)), heed::when(c.drop > 0, heed::dropout(c.drop, 3)),
      heed::when(c.pattern, heed::mask_where([](auto i, auto j) { return i != 4 && (i + j) % 2 == 0; })),
      heed::sequences(std::vector<Index>(q_offsets), std::vector<Index>(k_offsets)));
}
auto make_spec(const Choice& c, Index n, Index m) {
  return make_spec(c, std::vector<Index>{0, n}, std::vector<Index>{0, m});
}

/// A table's element for query head h.
template <class M>
long double element(const M& table, Index r, Index h, Index group, Index c, Index width) {
  if (table.rows() == 0) return 0;
  const Index reach = (table.rows() - 1) / 2;
  const Index n = std::clamp<Index>(r, -reach, reach) + reach;
  return static_cast<long double>(table(n, table.cols() == width ? c : h / group * width + c));
}

/// The formula, pair by pair: hidden(i, j) says what is not there, cap softens scores. Also the largest of
/// Σ α |v + a|, and the sizes of the products of every row, for the bound.
template <class T>
struct Expected {
  Matrix<long double> out, size;
  long double top = 0, longest = 0;

  template <class Hidden>
  Expected(const Matrix<T>& q, const Matrix<T>& k, const Matrix<T>& v, const Matrix<T>& kt,
           const Matrix<T>& vt, Index heads, Index key_heads, long double scale, long double cap,
           const Hidden& hidden) {
    const Index d = q.cols() / heads, d_v = v.cols() / key_heads, group = heads / key_heads;
    const Index off = k.rows() - q.rows();
    out = size = Matrix<long double>::Zero(q.rows(), heads * d_v);
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < q.rows(); ++i) {
        std::vector<long double> p(static_cast<std::size_t>(k.rows()), 0);
        long double max = -1e4000L, sum = 0;
        for (Index j = 0; j < k.rows(); ++j) {
          if (hidden(i, j)) continue;
          long double e = 0, abs = 0;
          for (Index c = 0; c < d; ++c) {
            const long double x = static_cast<long double>(q(i, h * d + c));
            const long double key = static_cast<long double>(k(j, h / group * d + c)),
                              a = element(kt, j - i - off, h, group, c, d);
            e += x * (key + a);
            abs += std::abs(x) * (std::abs(key) + std::abs(a));
          }
          e *= scale;
          if (cap > 0) e = cap * std::tanh(e / cap);
          longest = std::max(longest, scale * abs);
          top = std::max(top, std::abs(e));
          p[static_cast<std::size_t>(j)] = e;
          max = std::max(max, e);
        }
        for (Index j = 0; j < k.rows(); ++j)
          if (!hidden(i, j))
            sum += (p[static_cast<std::size_t>(j)] = std::exp(p[static_cast<std::size_t>(j)] - max));
        for (Index j = 0; j < k.rows(); ++j)
          if (!hidden(i, j))
            for (Index c = 0; c < d_v; ++c) {
              const long double value = static_cast<long double>(v(j, h / group * d_v + c)),
                                a = element(vt, j - i - off, h, group, c, d_v);
              const long double weight = p[static_cast<std::size_t>(j)] / sum;
              out(i, h * d_v + c) += weight * (value + a);
              size(i, h * d_v + c) += weight * (std::abs(value) + std::abs(a));
            }
      }
  }
};

TEST(AttentionShaw, PlainLoops) {
  double worst = 0;
  const auto sweep = [&](auto zero, bool causal) {
    using T = decltype(zero);
    const long double u = sizeof(T) == 4 ? 0x1p-24L : 0x1p-53L;
    int turn = 0;
    for (const Index n : {1, 7, 33, 65, 130})
      for (const Index m : {1, 9, 65, 131})
        for (const Index reach : {0, 1, 2, 16, 70}) {
          if (++turn % 2 == 0 && n + m > 100) continue;
          Dice dice(static_cast<std::uint64_t>(1000 * n + 10 * m + reach));
          const Index heads = turn % 3 == 0 ? 4 : 1, key_heads = turn % 3 == 0 ? 2 : 1, d = 5, d_v = 3;
          const bool own = turn % 2 == 0;
          const Matrix<T> q = dice.matrix<T>(n, heads * d), k = dice.matrix<T>(m, key_heads * d),
                          v = dice.matrix<T>(m, key_heads * d_v),
                          kt = dice.matrix<T>(turn % 5 == 1 ? 0 : 2 * reach + 1, own ? key_heads * d : d),
                          vt = dice.matrix<T>(turn % 5 == 3 ? 0 : 2 * reach + 1, own ? key_heads * d_v : d_v);
          heed::Saved<T> saved;
          const auto spec =
              make_spec({.heads = heads, .key_heads = key_heads, .causal = causal, .offset = m - n}, n, m);
          const Matrix<T> out =
              turn % 2 == 0 ? Matrix<T>(heed::shaw_attention(q, k, v, kt, vt, spec, heed::save(saved)))
                            : Matrix<T>(heed::shaw_attention(RowMatrix<T>(q), RowMatrix<T>(k),
                                                             RowMatrix<T>(v), RowMatrix<T>(kt),
                                                             RowMatrix<T>(vt), spec, heed::save(saved)));
          const Expected<T> expected(q, k, v, kt, vt, heads, key_heads, 1 / std::sqrt((long double)d), 0,
                                     [&](Index i, Index j) { return causal && j > i + m - n; });
          ASSERT_EQ(out.rows(), n);
          ASSERT_EQ(out.cols(), heads * d_v);
          const long double delta =
              5 * std::sqrt((long double)(d + 2 * reach)) * u * expected.longest + u * (2 * expected.top + 2);
          const long double bound = 2 * delta + (10 + 5 * std::sqrt((long double)m)) * u;
          for (Index i = 0; i < n; ++i)
            for (Index c = 0; c < heads * d_v; ++c) {
              const long double error = std::abs(static_cast<long double>(out(i, c)) - expected.out(i, c));
              if (expected.size(i, c) > 0)
                worst = std::max(worst, double(error / (bound * expected.size(i, c))));
              else
                EXPECT_EQ(out(i, c), T(0));
              if (!(error <= bound * expected.size(i, c))) {
                FAIL() << n << " x " << m << ", R " << reach << ", row " << i << ": " << out(i, c) << " for "
                       << double(expected.out(i, c));
              }
            }
        }
  };
  sweep(0.0f, false);
  sweep(0.0f, true);
  sweep(0.0, false);
  std::printf("worst ratio to the bound: %.3f\n", worst);
  EXPECT_GT(worst, 1e-3);
}

struct Model {
  Index heads = 4, key_heads = 2, n, m;
  Matrix<double> q, k, v, kt, vt, dout;
  Model(Index rows, Index keys, Index reach, bool own, bool with_keys = true, bool with_values = true)
      : n(rows), m(keys) {
    Dice dice(11);
    q = dice.matrix<double>(n, heads * 3);
    k = dice.matrix<double>(m, key_heads * 3);
    v = dice.matrix<double>(m, key_heads * 2);
    kt = dice.matrix<double>(with_keys ? 2 * reach + 1 : 0, own ? 6 : 3);
    vt = dice.matrix<double>(with_values ? 2 * reach + 1 : 0, own ? 4 : 2);
    dout = dice.matrix<double>(n, heads * 2);
  }
  template <class Spec>
  double loss(const Spec& spec) const {
    return heed::shaw_attention(q, k, v, kt, vt, spec).cwiseProduct(dout).sum();
  }
  template <class Spec>
  auto gradients(const Spec& spec) const {
    heed::Saved<double> saved;
    const Matrix<double> out = heed::shaw_attention(q, k, v, kt, vt, spec, heed::save(saved));
    return heed::shaw_attention_backward(dout, q, k, v, kt, vt, out, saved, spec);
  }
};

template <class Spec>
void check_gradients(Model x, const Spec& spec) {
  const auto gradients = x.gradients(spec);
  const double h = 1e-5;
  const auto compare = [&](const char* name, Matrix<double>& of, const Matrix<double>& gradient) {
    ASSERT_EQ(of.rows(), gradient.rows());
    ASSERT_EQ(of.cols(), gradient.cols());
    for (Index i = 0; i < of.rows(); ++i)
      for (Index j = 0; j < of.cols(); ++j) {
        const double old = of(i, j);
        of(i, j) = old + h;
        const double above = x.loss(spec);
        of(i, j) = old - h;
        const double below = x.loss(spec);
        of(i, j) = old;
        EXPECT_NEAR(gradient(i, j), (above - below) / (2 * h), 2e-8) << name << " " << i << ", " << j;
      }
  };
  compare("q", x.q, gradients.dq);
  compare("k", x.k, gradients.dk);
  compare("v", x.v, gradients.dv);
  compare("key_table", x.kt, gradients.dkey_table);
  compare("value_table", x.vt, gradients.dvalue_table);
}

TEST(AttentionShaw, GradientsByCentralDifferences) {
  for (const Index reach : {0, 1, 3, 20})
    for (const bool own : {false, true})
      check_gradients(Model(9, 11, reach, own),
                      make_spec({.causal = true, .offset = 2, .cap = 2, .scale = 0.8, .drop = 0.25},
                                {0, 3, 3, 9}, {0, 4, 6, 11}));
  check_gradients(Model(6, 6, 2, false), make_spec({}, 6, 6));
  check_gradients(Model(6, 4, 2, false, true, false), make_spec({}, 6, 4));
  check_gradients(Model(4, 6, 2, true, false, true), make_spec({}, 4, 6));
  check_gradients(Model(9, 9, 2, false), make_spec({.pattern = true}, 9, 9));
}

/// float and double agree over many rows and sums.
TEST(AttentionShaw, GradientsInFloat) {
  Model x(150, 170, 9, true);
  for (Matrix<double>* m : {&x.q, &x.k, &x.v, &x.kt, &x.vt, &x.dout})
    *m = m->cast<float>().cast<double>().eval();
  const auto spec = make_spec({.causal = true, .offset = 20}, 150, 170);
  const auto exact = x.gradients(spec);
  const auto f = [](const Matrix<double>& m) { return Matrix<float>(m.cast<float>()); };
  heed::Saved<float> saved;
  const RowMatrix<float> out =
      heed::shaw_attention(f(x.q), f(x.k), f(x.v), f(x.kt), f(x.vt), spec, heed::save(saved));
  const auto near =
      heed::shaw_attention_backward(f(x.dout), f(x.q), f(x.k), f(x.v), f(x.kt), f(x.vt), out, saved, spec);
  const auto compare = [](const char* name, const Matrix<float>& x_near, const Matrix<double>& x_exact) {
    const double error = (x_near.cast<double>() - x_exact).norm() / x_exact.norm();
    std::printf("%s: relative error %.1e\n", name, error);
    EXPECT_LE(error, 2e-6) << name;
  };
  compare("dq", near.dq, exact.dq);
  compare("dk", near.dk, exact.dk);
  compare("dv", near.dv, exact.dv);
  compare("dkey_table", near.dkey_table, exact.dkey_table);
  compare("dvalue_table", near.dvalue_table, exact.dvalue_table);
}

TEST(AttentionShaw, MasksTermsAndSequences) {
  const Model x(9, 9, 2, false);
  const auto run = [&](Index first, Index count, const auto& spec) {
    return Matrix<double>(heed::shaw_attention(x.q.middleRows(first, count), x.k.middleRows(first, count),
                                               x.v.middleRows(first, count), x.kt, x.vt, spec));
  };
  const Matrix<double> out = run(0, 9, make_spec({.cap = 1.5, .scale = 2, .pattern = true}, 9, 9));
  const Expected<double> expected(x.q, x.k, x.v, x.kt, x.vt, 4, 2, 2, 1.5L,
                                  [](Index i, Index j) { return i == 4 || (i + j) % 2 != 0; });
  EXPECT_TRUE(out.isApprox(expected.out.cast<double>(), 1e-13));
  EXPECT_TRUE(out.row(4).isZero(0));
  // Sequences: each as if alone.
  const std::vector<Index> offsets{0, 3, 3, 9};
  const Matrix<double> batch = run(0, 9, make_spec({}, offsets, offsets));
  EXPECT_TRUE(batch.topRows(3).isApprox(run(0, 3, make_spec({}, 3, 3)), 1e-14));
  EXPECT_TRUE(batch.bottomRows(6).isApprox(run(3, 6, make_spec({}, 6, 6)), 1e-14));
}

/// Zero tables leave attention() as it is, log-sum-exp included; a table of equal rows is a shift of keys and
/// values.
TEST(AttentionShaw, ZeroAndConstantTables) {
  Model x(70, 75, 3, false);
  x.kt.setZero();
  x.vt.setZero();
  heed::Saved<double> saved, plain;
  const auto spec = make_spec({.causal = true, .offset = 5}, 70, 75);
  const Matrix<double> out = heed::shaw_attention(x.q, x.k, x.v, x.kt, x.vt, spec, heed::save(saved));
  const auto simple = heed::spec(heed::heads(4, 2), heed::causal(), heed::save(plain));
  EXPECT_TRUE(out.isApprox(heed::attention(x.q, x.k, x.v, simple), 1e-13));
  EXPECT_TRUE(saved.lse.isApprox(plain.lse, 1e-13));
  x.kt.rowwise() = Eigen::RowVector3d(1, -2, 0.5);
  x.vt.rowwise() = Eigen::RowVector2d(10, -3);
  Matrix<double> k = x.k, v = x.v;
  k.rowwise() += Eigen::RowVectorXd(x.kt.row(0).replicate(1, 2));
  v.rowwise() += Eigen::RowVectorXd(x.vt.row(0).replicate(1, 2));
  EXPECT_TRUE(heed::shaw_attention(x.q, x.k, x.v, x.kt, x.vt, spec)
                  .isApprox(heed::attention(x.q, k, v, simple), 1e-13));
}

/// Everything else that it takes: products with a table of keys are then a bias like any other.
TEST(AttentionShaw, OtherPolicies) {
  const Model x(40, 43, 2, false);
  const Eigen::VectorXd spans = Eigen::VectorXd::LinSpaced(4, 1, 30);
  const auto same = heed::spec(heed::heads(4, 2), heed::alibi(), heed::adaptive_span(spans, 3.5),
                               heed::gumbel_softmax(0.7, 5), heed::dropout(0.2, 9), heed::scale(0.5));
  Matrix<double> b(40, 4 * 43);
  for (Index h = 0; h < 4; ++h)
    for (Index i = 0; i < 40; ++i)
      for (Index j = 0; j < 43; ++j) {
        b(i, h * 43 + j) = 0;
        for (Index c = 0; c < 3; ++c)
          b(i, h * 43 + j) +=
              0.5 * x.q(i, h * 3 + c) * static_cast<double>(element(x.kt, j - i - 3, h, 2, c, 3));
      }
  const Matrix<double> no_values(0, 2);
  heed::Saved<double> saved, whole;
  const Matrix<double> out = heed::shaw_attention(x.q, x.k, x.v, x.kt, no_values, same, heed::save(saved));
  EXPECT_TRUE(out.isApprox(heed::attention(x.q, x.k, x.v, same, heed::bias(b), heed::save(whole)), 1e-12));
  EXPECT_TRUE(saved.lse.isApprox(whole.lse, 1e-12));
}

/// Under causal() nobody looks ahead: whatever stands in the tables for that reaches nothing.
TEST(AttentionShaw, RowsOfTablesThatNobodyUses) {
  Model x(9, 9, 3, false);
  const auto spec = make_spec({.causal = true}, 9, 9);
  const Matrix<double> clean = heed::shaw_attention(x.q, x.k, x.v, x.kt, x.vt, spec);
  const auto clean_gradients = x.gradients(spec);
  x.kt.bottomRows(3).setConstant(std::nan(""));
  x.vt.bottomRows(3).setConstant(std::nan(""));
  EXPECT_TRUE(heed::shaw_attention(x.q, x.k, x.v, x.kt, x.vt, spec).isApprox(clean, 1e-14));
  const auto gradients = x.gradients(spec);
  EXPECT_TRUE(gradients.dq.isApprox(clean_gradients.dq, 1e-14));
  EXPECT_TRUE(gradients.dk.isApprox(clean_gradients.dk, 1e-14));
  EXPECT_TRUE(gradients.dv.isApprox(clean_gradients.dv, 1e-14));
  EXPECT_TRUE(gradients.dkey_table.isApprox(clean_gradients.dkey_table, 1e-14));
  EXPECT_TRUE(gradients.dvalue_table.isApprox(clean_gradients.dvalue_table, 1e-14));
  EXPECT_TRUE(gradients.dkey_table.bottomRows(3).isZero(0));
  EXPECT_TRUE(gradients.dvalue_table.bottomRows(3).isZero(0));
}

TEST(AttentionShaw, EmptySizesAndErrors) {
  const Matrix<float> x = Matrix<float>::Ones(4, 4), none(0, 4), table = Matrix<float>::Ones(5, 4), odd(4, 4),
                      wide(5, 5), other = Matrix<float>::Ones(3, 4), short_v(3, 4);
  const auto run = [](const auto& q, const auto& k, const auto& v, const auto& kt, const auto& vt) {
    return Matrix<float>(
        heed::shaw_attention(q, k, v, kt, vt, make_spec({.heads = 1, .key_heads = 1}, q.rows(), k.rows())));
  };
  EXPECT_EQ(run(none, x, x, table, table).rows(), 0);
  EXPECT_TRUE(run(x, none, none, table, table).isZero(0));
  EXPECT_THROW(run(x, x, x, odd, table), std::invalid_argument);
  EXPECT_THROW(run(x, x, x, table, wide), std::invalid_argument);
  EXPECT_THROW(run(x, x, x, table, other), std::invalid_argument);
  EXPECT_THROW(run(x, x, x, none, none), std::invalid_argument);
  EXPECT_THROW(run(x, x, short_v, table, table), std::invalid_argument);
  heed::Saved<float> saved;
  EXPECT_THROW(heed::shaw_attention_backward(x, x, x, x, table, table, x, saved,
                                             make_spec({.heads = 1, .key_heads = 1}, 4, 4)),
               std::invalid_argument);
}

}  // namespace
