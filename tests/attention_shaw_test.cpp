// SPDX-License-Identifier: MIT
// Shaw's relative keys and values against plain loops over all pairs, and their gradients by central
// differences.
#include "oracle.hpp"

#include <algorithm>

#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/position/shaw.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/dropout.hpp>

namespace {

using namespace heed_test;

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
  const auto sweep = [&](auto zero, const auto& hidden, const auto&... policies) {
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
          const Matrix<T> out =
              turn % 2 == 0
                  ? heed::shaw_attention(q, k, v, kt, vt, policies..., heed::heads(heads, key_heads),
                                         heed::save(saved))
                  : Matrix<T>(heed::shaw_attention(RowMatrix<T>(q), RowMatrix<T>(k), RowMatrix<T>(v),
                                                   RowMatrix<T>(kt), RowMatrix<T>(vt), policies...,
                                                   heed::heads(heads, key_heads), heed::save(saved)));
          const Expected<T> expected(q, k, v, kt, vt, heads, key_heads, 1 / std::sqrt((long double)d), 0,
                                     [&](Index i, Index j) { return hidden(i, j, n, m); });
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
  sweep(0.0f, [](Index, Index, Index, Index) { return false; });
  sweep(
      0.0f, [](Index i, Index j, Index n, Index m) { return j > i + m - n; }, heed::causal());
  sweep(0.0, [](Index, Index, Index, Index) { return false; });
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
  const std::vector<Index> q_offsets{0, 3, 3, 9}, k_offsets{0, 4, 6, 11};
  for (const Index reach : {0, 1, 3, 20})
    for (const bool own : {false, true}) {
      const auto spec = heed::spec(heed::heads(4, 2), heed::causal(2), heed::softcap(2.0), heed::scale(0.8),
                                   heed::sequences(q_offsets, k_offsets), heed::dropout(0.25, 3));
      check_gradients(Model(9, 11, reach, own), spec);
    }
  const auto plain = heed::spec(heed::heads(4, 2));
  check_gradients(Model(6, 6, 2, false), plain);
  check_gradients(Model(6, 4, 2, false, true, false), plain);
  check_gradients(Model(4, 6, 2, true, false, true), plain);
}

TEST(AttentionShaw, MasksTermsAndSequences) {
  const Model x(9, 9, 2, false);
  const auto even = heed::mask_where([](auto i, auto j) { return i != 4 && (i + j) % 2 == 0; });
  const Matrix<double> out = heed::shaw_attention(x.q, x.k, x.v, x.kt, x.vt, heed::heads(4, 2), even,
                                                  heed::softcap(1.5), heed::scale(2));
  const Expected<double> expected(x.q, x.k, x.v, x.kt, x.vt, 4, 2, 2, 1.5L,
                                  [](Index i, Index j) { return i == 4 || (i + j) % 2 != 0; });
  EXPECT_TRUE(out.isApprox(expected.out.cast<double>(), 1e-13));
  EXPECT_TRUE(out.row(4).isZero(0));
  // Sequences: each as if alone.
  const std::vector<Index> offsets{0, 3, 3, 9};
  const auto heads = heed::heads(4, 2);
  const Matrix<double> batch =
      heed::shaw_attention(x.q, x.k, x.v, x.kt, x.vt, heads, heed::sequences(offsets, offsets));
  EXPECT_TRUE(batch.topRows(3).isApprox(
      heed::shaw_attention(x.q.topRows(3), x.k.topRows(3), x.v.topRows(3), x.kt, x.vt, heads), 1e-14));
  EXPECT_TRUE(batch.bottomRows(6).isApprox(
      heed::shaw_attention(x.q.bottomRows(6), x.k.bottomRows(6), x.v.bottomRows(6), x.kt, x.vt, heads),
      1e-14));
}

/// Zero tables leave attention() as it is, log-sum-exp included; a table of equal rows is a shift of keys and
/// values.
TEST(AttentionShaw, ZeroAndConstantTables) {
  Model x(70, 75, 3, false);
  x.kt.setZero();
  x.vt.setZero();
  heed::Saved<double> saved, plain;
  const auto spec = heed::spec(heed::heads(4, 2), heed::causal());
  const Matrix<double> out = heed::shaw_attention(x.q, x.k, x.v, x.kt, x.vt, spec, heed::save(saved));
  EXPECT_TRUE(out.isApprox(heed::attention(x.q, x.k, x.v, spec, heed::save(plain)), 1e-13));
  EXPECT_TRUE(saved.lse.isApprox(plain.lse, 1e-13));
  x.kt.rowwise() = Eigen::RowVector3d(1, -2, 0.5);
  x.vt.rowwise() = Eigen::RowVector2d(10, -3);
  Matrix<double> k = x.k, v = x.v;
  k.rowwise() += Eigen::RowVectorXd(x.kt.row(0).replicate(1, 2));
  v.rowwise() += Eigen::RowVectorXd(x.vt.row(0).replicate(1, 2));
  EXPECT_TRUE(heed::shaw_attention(x.q, x.k, x.v, x.kt, x.vt, spec)
                  .isApprox(heed::attention(x.q, k, v, spec), 1e-13));
}

/// Under causal() nobody looks ahead: whatever stands in the tables for that reaches nothing.
TEST(AttentionShaw, RowsOfTablesThatNobodyUses) {
  Model x(9, 9, 3, false);
  const auto spec = heed::spec(heed::heads(4, 2), heed::causal());
  const Matrix<double> clean = heed::shaw_attention(x.q, x.k, x.v, x.kt, x.vt, spec);
  const auto clean_gradients = x.gradients(spec);
  x.kt.bottomRows(3).setConstant(std::nan(""));
  x.vt.bottomRows(3).setConstant(std::nan(""));
  EXPECT_EQ(heed::shaw_attention(x.q, x.k, x.v, x.kt, x.vt, spec), clean);
  const auto gradients = x.gradients(spec);
  EXPECT_EQ(gradients.dq, clean_gradients.dq);
  EXPECT_EQ(gradients.dk, clean_gradients.dk);
  EXPECT_EQ(gradients.dv, clean_gradients.dv);
  EXPECT_TRUE(gradients.dkey_table.bottomRows(3).isZero(0));
  EXPECT_TRUE(gradients.dvalue_table.bottomRows(3).isZero(0));
  EXPECT_EQ(gradients.dkey_table, clean_gradients.dkey_table);
}

TEST(AttentionShaw, EmptySizesAndErrors) {
  const Matrix<float> x = Matrix<float>::Ones(4, 4), none(0, 4), table = Matrix<float>::Ones(5, 4), odd(4, 4),
                      wide(5, 5), other = Matrix<float>::Ones(3, 4);
  EXPECT_EQ(heed::shaw_attention(none, x, x, table, table).rows(), 0);
  EXPECT_TRUE(heed::shaw_attention(x, none, none, table, table).isZero(0));
  EXPECT_THROW(heed::shaw_attention(x, x, x, odd, table), std::invalid_argument);
  EXPECT_THROW(heed::shaw_attention(x, x, x, table, wide), std::invalid_argument);
  EXPECT_THROW(heed::shaw_attention(x, x, x, table, other), std::invalid_argument);
  EXPECT_THROW(heed::shaw_attention(x, x, x, none, none), std::invalid_argument);
  EXPECT_THROW(heed::shaw_attention(x, x, Matrix<float>(3, 4), table, table), std::invalid_argument);
  heed::Saved<float> saved;
  EXPECT_THROW(heed::shaw_attention_backward(x, x, x, x, table, table, x, saved), std::invalid_argument);
}

}  // namespace
