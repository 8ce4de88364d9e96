// SPDX-License-Identifier: MIT
// No queries, no keys, no value columns, no sequences: legal everywhere, and no address is computed from the
// null pointer of an empty matrix (which a sanitizer sees). In plain loops: what is made of attention() is
// the same for every scalar, and cheap to compile with this one.
#include <gtest/gtest.h>

#include <heed/block_top_k.hpp>
#include <heed/layout/heads.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/linear_attention.hpp>
#include <heed/merge.hpp>
#include <heed/monotonic_attention.hpp>
#include <heed/position/shaw.hpp>
#include <heed/score/general.hpp>
#include <heed/score/location.hpp>

namespace {

using heed::Index;
using Rows = Eigen::Matrix<long double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Rows ones(Index rows, Index columns) { return Rows::Ones(rows, columns); }

struct Sizes {
  Index n, m, d_v;
};
constexpr Sizes all_sizes[] = {{0, 5, 2}, {5, 0, 2}, {0, 0, 2}, {5, 5, 0}, {0, 0, 0}, {5, 0, 0}};

/// Two heads of two columns; every size that is not empty counts.
template <class F>
void each_size(const F& f) {
  for (const Sizes s : all_sizes) {
    SCOPED_TRACE(testing::Message() << s.n << " x " << s.m << ", " << s.d_v << " value columns");
    f(ones(s.n, 4), ones(s.m, 4), ones(s.m, 2 * s.d_v), ones(s.n, 2 * s.d_v));
  }
}

/// Of the sizes of what they are gradients by, and all zeros where nobody sees anything.
template <class G>
void expect_zeros(const G& g, const Rows& q, const Rows& k, const Rows& v) {
  EXPECT_EQ(Rows(g.dq.template cast<long double>()), Rows::Zero(q.rows(), q.cols()));
  EXPECT_EQ(Rows(g.dk.template cast<long double>()), Rows::Zero(k.rows(), k.cols()));
  EXPECT_EQ(Rows(g.dv.template cast<long double>()), Rows::Zero(v.rows(), v.cols()));
}

TEST(EmptyInputs, BlockTopKAndMerge) {
  each_size([](const Rows& q, const Rows& k, const Rows&, const Rows& out) {
    const auto lists = heed::block_top_k(q, k, {.block = 2, .count = 2, .heads = 2});
    EXPECT_EQ(lists.row_offsets.size(), static_cast<std::size_t>(2 * ((q.rows() + 1) / 2) + 1));
    const auto merged = heed::merge(out, ones(out.rows(), 2), out, ones(out.rows(), 2));
    EXPECT_EQ(merged.out.cols(), out.cols());
    EXPECT_TRUE(merged.lse.isApproxToConstant(1 + std::log(2.0L)) || out.rows() == 0);
  });
}

TEST(EmptyInputs, Monotonic) {
  each_size([](const Rows& q, const Rows& k, const Rows& v, const Rows& out) {
    const auto options = heed::monotonic();
    const Rows y = heed::monotonic_attention(q, k, v, options, heed::heads(2));
    EXPECT_EQ(y.cols(), out.cols());
    EXPECT_TRUE(y.isZero() || k.rows() > 0);
    EXPECT_EQ(heed::hard_monotonic_attention(q, k, v, options, heed::heads(2)).rows(), q.rows());
    expect_zeros(heed::monotonic_attention_backward(out, q, k, v, options, heed::heads(2)), q, k, v);
    EXPECT_EQ(heed::hard_monotonic(ones(q.rows(), k.rows())).size(), static_cast<std::size_t>(q.rows()));
  });
  const std::vector<Index> none = {0};
  const Rows x = ones(0, 4);
  const auto no_sequences = heed::spec(heed::heads(2), heed::sequences(none));
  EXPECT_EQ(heed::monotonic_attention(x, x, x, heed::monotonic(), no_sequences).rows(), 0);
}

TEST(EmptyInputs, PooledAndShaw) {
  each_size([](const Rows& q, const Rows& k, const Rows& v, const Rows& out) {
    heed::Saved<long double> saved;
    const auto spec = heed::spec(heed::heads(2), heed::causal());
    const auto scales = heed::strides({2, 3});
    const Rows y = heed::pooled_attention(q, k, v, scales, spec, heed::save(saved));
    EXPECT_EQ(y.cols(), out.cols());
    expect_zeros(heed::pooled_attention_backward(out, q, k, v, scales, y, saved, spec), q, k, v);

    const Rows key_table = ones(5, 2), value_table = ones(5, v.cols() / 2);
    EXPECT_EQ(heed::shaw_attention(q, k, v, key_table, value_table, spec).rows(), q.rows());
    // Gradients are for scalars with an engine.
    const auto in_float = [](const Rows& x) { return Eigen::MatrixXf(x.cast<float>()); };
    const Eigen::MatrixXf a = in_float(q), b = in_float(k), c = in_float(v), keys = in_float(key_table),
                          values = in_float(value_table);
    heed::Saved<float> float_saved;
    const Eigen::MatrixXf z = heed::shaw_attention(a, b, c, keys, values, spec, heed::save(float_saved));
    const auto g = heed::shaw_attention_backward(in_float(out), a, b, c, keys, values, z, float_saved, spec);
    expect_zeros(g, q, k, v);
    EXPECT_TRUE(g.dkey_table.isZero());
  });
}

TEST(EmptyInputs, MapsOfQueriesAndKeys) {
  for (const Index n : {0, 3}) {
    const Rows x = ones(n, 4), w = ones(2, 2);
    EXPECT_EQ(heed::general(x, w, 2).rows(), n);
    EXPECT_EQ(heed::general_gradient(x, x, w, 2).dx.rows(), n);
    EXPECT_TRUE(heed::location_gradient(ones(2, n), 5).bottomRows(3).isZero());
  }
}

}  // namespace
