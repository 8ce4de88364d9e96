// SPDX-License-Identifier: MIT
// block_top_k() against a choice by full sorting, and native_sparse_attention() against plain loops and
// central differences.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <heed/block_top_k.hpp>
#include <heed/execute/on.hpp>
#include <heed/execute/pool.hpp>
#include <heed/mask/dense.hpp>
#include <heed/native_sparse_attention.hpp>

#include <unsupported/Eigen/CXX11/ThreadPool>

namespace {

using heed::Index;
using Matrix = Eigen::MatrixXd;
using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Bools = Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic>;
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

Matrix random_matrix(Index rows, Index cols, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<double> normal;
  return Matrix::NullaryExpr(rows, cols, [&] { return normal(generator); });
}

Index blocks_of(Index tokens, Index size) { return (tokens + size - 1) / size; }

/// Which blocks each query sees, by definition: N × (H · blocks).
Bools chosen(const Matrix& q, const Matrix& k, const heed::BlockTopK& o) {
  const Index n = q.rows(), m = k.rows(), kh = o.key_heads ? o.key_heads : o.heads;
  const Index d = q.cols() / o.heads, tile = o.tile ? o.tile : o.block, blocks = blocks_of(m, o.block);
  Bools sees = Bools::Constant(n, o.heads * blocks, false);
  for (Index h = 0; h < o.heads; ++h)
    for (Index i = 0; i < n; ++i) {
      const Index begin = i / tile * tile, end = std::min(n, begin + tile);
      std::vector<std::pair<long double, Index>> order;  // least first
      for (Index b = 0; b < blocks; ++b) {
        const Index last = std::min(m, (b + 1) * o.block);
        if (o.causal && b * o.block > end - 1 + m - n) continue;
        bool fixed = o.first_block && b == 0;
        for (Index r = begin; r < end; ++r)
          if (o.own_block && r + m - n >= b * o.block && r + m - n < last) fixed = true;
        long double score = 0;
        for (Index c = 0; c < d; ++c) {
          long double x = 0, y = 0;
          for (Index r = begin; r < end; ++r) x += q(r, h * d + c);
          for (Index j = b * o.block; j < last; ++j) y += k(j, h / (o.heads / kh) * d + c);
          score +=
              x / static_cast<long double>(end - begin) * y / static_cast<long double>(last - b * o.block);
        }
        if (fixed) sees(i, h * blocks + b) = true;
        order.push_back({fixed ? -std::numeric_limits<long double>::infinity() : -score, b});
      }
      std::sort(order.begin(), order.end());
      for (Index c = 0; c < std::min<Index>(o.count, static_cast<Index>(order.size())); ++c)
        sees(i, h * blocks + order[static_cast<std::size_t>(c)].second) = true;
    }
  return sees;
}

Bools of_lists(const heed::BlockLists& lists, Index n, Index m) {
  const Index rows = blocks_of(n, lists.block), blocks = blocks_of(m, lists.block);
  Bools sees = Bools::Constant(n, lists.heads * blocks, false);
  EXPECT_EQ(static_cast<Index>(lists.row_offsets.size()), lists.heads * rows + 1);
  for (Index h = 0; h < lists.heads; ++h)
    for (Index i = 0; i < n; ++i) {
      const auto r = static_cast<std::size_t>(h * rows + i / lists.block);
      for (Index x = lists.row_offsets[r]; x < lists.row_offsets[r + 1]; ++x)
        sees(i, h * blocks + lists.columns[static_cast<std::size_t>(x)]) = true;
    }
  return sees;
}

/// Pairs of each head side by side, N × (H·M), causal.
Bools pairs(const Bools& blocks, Index heads, Index size, Index m) {
  const Index n = blocks.rows(), count = blocks_of(m, size);
  return Bools::NullaryExpr(n, heads * m, [&](Index i, Index c) {
    const Index h = c / m, j = c % m;
    return blocks(i, h * count + j / size) && j <= i + m - n;
  });
}

TEST(BlockTopK, IsTheChoiceByFullSorting) {
  for (const Index n : {0, 1, 7, 32, 65, 100})
    for (const Index m : {0, 1, 31, 65, 130})
      for (const Index count : {0, 1, 3, 100})
        for (const unsigned flags : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u}) {
          const heed::BlockTopK o{.block = 8,
                                  .count = count,
                                  .tile = flags & 1 ? 16 : 0,
                                  .heads = 4,
                                  .key_heads = 2,
                                  .causal = (flags & 1) != 0,
                                  .own_block = (flags & 2) != 0,
                                  .first_block = (flags & 4) != 0};
          const Matrix q = random_matrix(n, 12, 1), k = random_matrix(m, 6, 2);
          const auto lists = heed::block_top_k(q, k, o);
          ASSERT_EQ(of_lists(lists, n, m), chosen(q, k, o)) << n << ' ' << m << ' ' << count << ' ' << flags;
          ASSERT_EQ(heed::block_top_k(Rows(q), k.topRows(m), o).columns, lists.columns);
        }
}

TEST(BlockTopK, TiesGoToTheLowerBlockAndNaNComesLast) {
  const Matrix q = Matrix::Ones(8, 2);
  Matrix k = Matrix::Ones(40, 2);
  const heed::BlockTopK o{.block = 8, .count = 2, .causal = false, .own_block = false, .first_block = false};
  EXPECT_EQ(heed::block_top_k(q, k, o).columns, (std::vector<Index>{0, 1}));
  k(0, 0) = nan;
  EXPECT_EQ(heed::block_top_k(q, k, o).columns, (std::vector<Index>{1, 2}));
  k.row(39) *= 2;
  EXPECT_EQ(heed::block_top_k(q, k, o).columns, (std::vector<Index>{1, 4}));
}

struct Problem {
  Matrix q, k, v, gates, dout;
  heed::NativeSparse o;
};
Problem problem(Index n, Index m, Index count, Index heads = 4, Index key_heads = 2) {
  return {random_matrix(n, heads * 5, 3),
          random_matrix(m, key_heads * 5, 4),
          random_matrix(m, key_heads * 3, 5),
          random_matrix(n, 3 * heads, 6),
          random_matrix(n, heads * 3, 7),
          {.selection = {.block = 8, .count = count, .heads = heads, .key_heads = key_heads},
           .stride = 4,
           .window = 6}};
}

/// Gates of one branch alone.
Matrix only(Index n, Index heads, Index branch) {
  Matrix g = Matrix::Zero(n, 3 * heads);
  g.middleCols(branch * heads, heads).setOnes();
  return g;
}

/// The weighted sum of the three branches by plain loops.
Matrix plain(const Problem& p) {
  const Index n = p.q.rows(), m = p.k.rows(), heads = p.o.selection.heads, kh = p.o.selection.key_heads;
  const Index d = p.q.cols() / heads, dv = p.v.cols() / kh, s = p.o.stride;
  const Bools sees = pairs(chosen(p.q, p.k, p.o.selection), heads, p.o.selection.block, m);
  Matrix out = Matrix::Zero(n, heads * dv);
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < n; ++i)
      for (Index c = 0; c < 3; ++c) {
        const Index own = i + m - n, b = h / (heads / kh);
        long double total = 0;
        std::vector<long double> sum(static_cast<std::size_t>(dv), 0);
        const auto add = [&](Index first, Index last) {  // the mean of keys [first, last)
          long double score = 0;
          const auto share = static_cast<long double>(last - first);
          for (Index x = 0; x < d; ++x)
            for (Index j = first; j < last; ++j)
              score += static_cast<long double>(p.q(i, h * d + x)) * p.k(j, b * d + x) / share;
          const long double w = std::exp(score / std::sqrt(static_cast<long double>(d)));
          total += w;
          for (Index x = 0; x < dv; ++x)
            for (Index j = first; j < last; ++j)
              sum[static_cast<std::size_t>(x)] += w * p.v(j, b * dv + x) / share;
        };
        for (Index j = 0; j < m; ++j) {
          if (c == 0 && j % s == 0 && std::min(m, j + s) - 1 <= own) add(j, std::min(m, j + s));
          if (c == 1 && sees(i, h * m + j)) add(j, j + 1);
          if (c == 2 && j <= own && j >= own - p.o.window) add(j, j + 1);
        }
        if (total > 0)
          for (Index x = 0; x < dv; ++x)
            out(i, h * dv + x) +=
                p.gates(i, c * heads + h) * static_cast<double>(sum[static_cast<std::size_t>(x)] / total);
      }
  return out;
}

TEST(NativeSparse, IsTheSumOfItsBranches) {
  double worst = 0;
  for (const Index n : {0, 1, 7, 65, 70})
    for (const Index m : {0, 1, 65, 90}) {
      const Problem p = problem(n, m, 3);
      const Matrix expected = plain(p);
      const Matrix got = heed::native_sparse_attention(p.q, p.k, p.v, p.gates, p.o);
      const auto rows = heed::native_sparse_attention(Rows(p.q), Rows(p.k), p.v, Rows(p.gates), p.o);
      ASSERT_EQ(got.rows(), n);
      ASSERT_EQ(got.cols(), 12);
      if (n == 0) continue;
      worst =
          std::max({worst, (got - expected).cwiseAbs().maxCoeff(), (rows - expected).cwiseAbs().maxCoeff()});
    }
  std::printf("worst error %.2g\n", worst);
  EXPECT_LT(worst, 1e-12);
}

TEST(NativeSparse, TheSelectedBranchIsDenseAttentionUnderTheSameMatrix) {
  for (const Index count : {2, 100}) {
    Problem p = problem(70, 75, count);
    p.gates = only(70, 4, 1);
    heed::NativeSparseSaved<double> saved;
    const Matrix got = heed::native_sparse_attention(p.q, p.k, p.v, p.gates, p.o, saved);
    const auto g = heed::native_sparse_attention_backward(p.dout, p.q, p.k, p.v, p.gates, p.o, saved);
    // As many blocks as there are: full causal attention.
    const Bools blocks =
        count == 100 ? Bools(Bools::Constant(70, 40, true)) : chosen(p.q, p.k, p.o.selection);
    const Bools sees = pairs(blocks, 4, 8, 75);
    heed::Saved<double> dense;
    const Matrix out =
        heed::attention(p.q, p.k, p.v, heed::heads(4, 2), heed::dense_mask(sees), heed::save(dense));
    const auto e = heed::attention_backward(p.dout, p.q, p.k, p.v, out, dense, heed::heads(4, 2),
                                            heed::dense_mask(sees));
    EXPECT_LT((got - out).cwiseAbs().maxCoeff(), 1e-13);
    EXPECT_LT((g.dq - e.dq).cwiseAbs().maxCoeff(), 1e-12);
    EXPECT_LT((g.dk - e.dk).cwiseAbs().maxCoeff(), 1e-12);
    EXPECT_LT((g.dv - e.dv).cwiseAbs().maxCoeff(), 1e-12);
  }
}

TEST(NativeSparse, GradientsAreCentralDifferences) {
  Problem p = problem(29, 34, 2);
  heed::NativeSparseSaved<double> saved;
  heed::native_sparse_attention(p.q, p.k, p.v, p.gates, p.o, saved);
  const auto g = heed::native_sparse_attention_backward(p.dout, p.q, p.k, p.v, p.gates, p.o, saved);
  const auto columns = saved.blocks.columns;
  double worst = 0;
  const auto check = [&](Matrix& x, const Matrix& dx) {
    ASSERT_EQ(dx.rows(), x.rows());
    ASSERT_EQ(dx.cols(), x.cols());
    for (Index e = 0; e < x.size(); e += 3) {
      const double h = 1e-5, was = x.data()[e];
      double loss[2];
      for (int side = 0; side < 2; ++side) {
        x.data()[e] = was + (side ? h : -h);
        heed::NativeSparseSaved<double> moved;
        loss[side] =
            heed::native_sparse_attention(p.q, p.k, p.v, p.gates, p.o, moved).cwiseProduct(p.dout).sum();
        ASSERT_EQ(moved.blocks.columns, columns);  // no choice flips
      }
      x.data()[e] = was;
      worst = std::max(worst, std::abs((loss[1] - loss[0]) / (2 * h) - dx.data()[e]));
    }
  };
  check(p.q, g.dq);
  check(p.k, g.dk);
  check(p.v, g.dv);
  check(p.gates, g.dgates);
  std::printf("worst difference %.2g\n", worst);
  EXPECT_LT(worst, 1e-7);
}

TEST(NativeSparse, NaNWhereNobodySeesReachesNothing) {
  // Only the last query sees the last key.
  Problem p = problem(24, 24, 2);
  const auto run = [](const Problem& x, heed::NativeSparseSaved<double>& saved) {
    return heed::native_sparse_attention(x.q, x.k, x.v, x.gates, x.o, saved);
  };
  heed::NativeSparseSaved<double> saved;
  const Matrix clean = run(p, saved);
  Problem bad = p;
  bad.k.bottomRows(1).setConstant(nan);
  bad.v.bottomRows(1).setConstant(nan);
  const Matrix got = run(bad, saved);
  EXPECT_LT((got - clean).topRows(23).cwiseAbs().maxCoeff(), 1e-13);
  EXPECT_TRUE(got.row(23).hasNaN());

  // More queries than keys: the first see nothing, and neither gates nor gradients of theirs reach anything.
  p = problem(30, 20, 2);
  p.gates.topRows(10).setConstant(nan);
  p.dout.topRows(10).setConstant(nan);
  p.q.topRows(10).setConstant(nan);
  // Query 10 shares a tile with 8 and 9: NaN scores rank last, all else is fixed blocks.
  const Matrix out = run(p, saved);
  EXPECT_EQ(out.topRows(10), Matrix::Zero(10, 12));
  EXPECT_FALSE(out.hasNaN());
  const auto g = heed::native_sparse_attention_backward(p.dout, p.q, p.k, p.v, p.gates, p.o, saved);
  EXPECT_FALSE(g.dk.hasNaN() || g.dv.hasNaN() || g.dgates.hasNaN());
  EXPECT_EQ(g.dq.topRows(10), Matrix::Zero(10, 20));
  EXPECT_EQ(g.dgates.topRows(10), Matrix::Zero(10, 12));
}

TEST(NativeSparse, BitsDoNotDependOnThreads) {
  const Problem p = problem(300, 310, 5);
  Eigen::ThreadPool one(1), three(3);
  heed::NativeSparseSaved<double> saved;
  const auto run = [&](Eigen::ThreadPool& pool) {
    const Matrix out = heed::native_sparse_attention(p.q, p.k, p.v, p.gates, p.o, saved, heed::on(pool));
    const auto g =
        heed::native_sparse_attention_backward(p.dout, p.q, p.k, p.v, p.gates, p.o, saved, heed::on(pool));
    return std::vector<Matrix>{out, g.dq, g.dk, g.dv, g.dgates};
  };
  EXPECT_EQ(run(one), run(three));
}

TEST(NativeSparse, FindsWhatWasPlanted) {
  // Each tile of queries looks for the four keys of its own direction, far in the past.
  const Index n = 512, d = 32, block = 16;
  Matrix q = 0.05 * random_matrix(n, d, 8), k = 0.05 * random_matrix(n, d, 9);
  const Matrix v = random_matrix(n, 8, 10);
  for (Index t = 16; t < 32; ++t) {
    const Index wanted = (t * 7) % 16 * block;
    const Matrix direction = random_matrix(1, d, static_cast<unsigned>(100 + wanted));
    q.middleRows(t * block, block).rowwise() += Eigen::RowVectorXd(direction.row(0)) * 3;
    for (Index j = 3; j < 7; ++j) k.row(wanted + j) = direction.row(0);
  }
  const heed::NativeSparse o{.selection = {.block = block, .count = 4}, .window = 63};
  const Matrix full = heed::attention(q, k, v, heed::heads(1, 1),
                                      heed::dense_mask(pairs(Bools::Constant(n, 32, true), 1, block, n)),
                                      heed::save(*std::make_unique<heed::Saved<double>>()));
  const auto error = [&](Index branch) {
    const Matrix y = heed::native_sparse_attention(q, k, v, only(n, 1, branch), o);
    return (y - full).bottomRows(n / 2).norm() / full.bottomRows(n / 2).norm();
  };
  const double selected = error(1), nearby = error(2);
  std::printf("relative error: selected %.3g (64 keys), window %.3g (64 keys)\n", selected, nearby);
  EXPECT_LT(selected, 0.01);
  EXPECT_GT(nearby, 0.5);
}

template <class F>
void refuses(const F& f, const std::string& words) {
  try {
    f();
    ADD_FAILURE() << "accepted: " << words;
  } catch (const std::invalid_argument& e) {
    EXPECT_NE(std::string(e.what()).find(words), std::string::npos) << e.what();
  }
}

TEST(NativeSparse, EmptyInputs) {
  using Sizes = std::array<Index, 3>;
  for (const auto [n, m, columns] : {Sizes{0, 9, 6}, {9, 0, 6}, {0, 0, 6}, {9, 9, 0}, {0, 0, 0}}) {
    Problem p = problem(n, m, 2);
    p.v.resize(m, columns);
    p.v.setOnes();
    p.dout.resize(n, 2 * columns);
    p.dout.setOnes();
    heed::NativeSparseSaved<double> saved;
    const Matrix out = heed::native_sparse_attention(p.q, p.k, p.v, p.gates, p.o, saved);
    EXPECT_EQ(out.rows(), n);
    EXPECT_EQ(out.cols(), 2 * columns);
    EXPECT_TRUE(out.isZero() || m > 0);
    const auto g = heed::native_sparse_attention_backward(p.dout, p.q, p.k, p.v, p.gates, p.o, saved);
    EXPECT_TRUE(g.dq.isZero() && g.dk.isZero() && g.dv.isZero() && g.dgates.isZero());
    EXPECT_EQ(g.dv.rows(), m);
  }
}

TEST(NativeSparse, RefusesWhatDoesNotFit) {
  const Problem p = problem(9, 9, 2);
  const auto with = [&](heed::NativeSparse o) {
    return [&p, o] { heed::native_sparse_attention(p.q, p.k, p.v, p.gates, o); };
  };
  auto o = p.o;
  o.selection.block = 0, refuses(with(o), "the block is 0");
  o = p.o, o.selection.count = -1, refuses(with(o), "the count is -1");
  o = p.o, o.selection.tile = 12, refuses(with(o), "the tile is 12");
  o = p.o, o.selection.key_heads = 3, refuses(with(o), "4 heads are no multiple of 3");
  o = p.o, o.selection.causal = false, refuses(with(o), "not causal");
  o = p.o, o.stride = -1, refuses(with(o), "the stride is -1");
  o = p.o, o.window = -1, refuses(with(o), "the window is -1");
  Problem bad = p;
  bad.gates.resize(9, 4);
  refuses([&] { heed::native_sparse_attention(bad.q, bad.k, bad.v, bad.gates, bad.o); }, "gates is 9 x 4");
  heed::NativeSparseSaved<double> saved;
  refuses([&] { heed::native_sparse_attention_backward(p.dout, p.q, p.k, p.v, p.gates, p.o, saved); },
          "saved has");
  refuses([&] { heed::block_top_k(p.q, p.v, p.o.selection); }, "k has 6 columns, 2 key heads of 5 have 10");
  refuses([&] { heed::block_top_k(p.q.leftCols(3), p.k, p.o.selection); },
          "q has 3 columns, there are 4 heads");
}

}  // namespace
