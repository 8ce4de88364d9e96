// SPDX-License-Identifier: MIT
// Wrong arguments are refused with the argument's name and both sizes; legal edge cases are not refused.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <heed/core/spec.hpp>
#include <heed/core/when.hpp>
#include <heed/layout/heads.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/window.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/softcap.hpp>

namespace {

using heed::Index;

struct Sizes {
  Index q_rows, q_cols, k_rows, k_cols, v_rows, v_cols;
};

/// What the call says, or "" if it is accepted.
template <class... P>
std::string refusal(const Sizes& s, const P&... policies) {
  try {
    heed::detail::make_shape(heed::spec(policies...), s.q_rows, s.q_cols, s.k_rows, s.k_cols, s.v_rows,
                             s.v_cols);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

const Sizes plain{10, 8, 12, 8, 12, 4};

TEST(Shape, Matrices) {
  EXPECT_EQ(refusal(plain), "");
  EXPECT_EQ(refusal({10, 128, 12, 64, 12, 4}),
            "heed: k has 64 columns, q has 128; for grouped heads give heads(query heads, key heads)");
  EXPECT_EQ(refusal({10, 8, 12, 8, 11, 4}), "heed: v has 11 rows, k has 12");
  EXPECT_EQ(refusal({10, 0, 12, 0, 12, 4}),
            "heed: q has 0 columns and k has 0: queries and keys need a dimension of at least 1");
  EXPECT_EQ(refusal({0, 8, 12, 8, 12, 4}), "");
  EXPECT_EQ(refusal({10, 8, 0, 8, 0, 4}), "");
  EXPECT_EQ(refusal({10, 8, 12, 8, 12, 0}), "");
  const auto shape = heed::detail::make_shape(heed::spec(heed::heads(4, 2)), 10, 8, 12, 4, 12, 6);
  EXPECT_EQ(shape.d, 2);
  EXPECT_EQ(shape.d_v, 3);
  EXPECT_EQ(shape.place(0, 3).keys, 12);
  const Index many = Index{1} << 31;
  EXPECT_EQ(refusal({many, 1, 3, 1, 3, 1}),
            "heed: a sequence has 2147483648 queries and 3 keys; at most 2147482623 are possible");
  const std::vector<Index> offsets{0, many / 2, many};
  EXPECT_EQ(refusal({many, 64, many, 64, many, 64}, heed::sequences(offsets)), "");
}

TEST(Shape, Heads) {
  EXPECT_EQ(refusal(plain, heed::heads(0)), "heed: heads: 0 query heads, at least 1 is needed");
  EXPECT_EQ(refusal(plain, heed::heads(4, 0)), "heed: heads: 0 key heads, at least 1 is needed");
  EXPECT_EQ(refusal(plain, heed::heads(4, 3)),
            "heed: heads: 4 query heads are not a multiple of 3 key heads");
  EXPECT_EQ(refusal(plain, heed::heads(3)), "heed: q has 8 columns, not a multiple of 3 query heads");
  EXPECT_EQ(refusal({10, 12, 12, 8, 12, 3}, heed::heads(6, 3)),
            "heed: k has 8 columns, not a multiple of 3 key heads");
  EXPECT_EQ(refusal({10, 8, 12, 4, 12, 3}, heed::heads(4, 2)),
            "heed: v has 3 columns, not a multiple of 2 key heads");
  EXPECT_EQ(refusal({10, 8, 12, 8, 12, 4}, heed::heads(4, 2)),
            "heed: k has 8 columns, 4 for each of 2 heads; q has 8, 2 for each of 4");
}

TEST(Shape, Sequences) {
  EXPECT_EQ(refusal(plain, heed::sequences({0, 4, 10}, {0, 12, 12})), "");
  EXPECT_EQ(refusal({0, 8, 0, 8, 0, 4}, heed::sequences({0})), "");
  EXPECT_EQ(refusal(plain, heed::sequences({0, 10}, {0, 4, 12})),
            "heed: sequences: 2 offsets for q, 3 for k");
  EXPECT_EQ(refusal(plain, heed::sequences(std::vector<int>{}, std::vector<int>{})),
            "heed: sequences: 0 offsets for q, at least 1 is needed");
  EXPECT_EQ(refusal(plain, heed::sequences({1, 10}, {0, 12})),
            "heed: sequences: the first offset of q is 1, it must be 0: offsets are wanted, not lengths");
  EXPECT_EQ(refusal(plain, heed::sequences({0, 6, 5, 10}, {0, 1, 2, 12})),
            "heed: sequences: offset 2 of q is 5, less than 6 before it");
  EXPECT_EQ(refusal(plain, heed::sequences({0, 10}, {0, 11})),
            "heed: sequences: the last offset of k is 11, k has 12 rows");
  EXPECT_EQ(refusal(plain, heed::sequences({0, 10})),
            "heed: sequences: the last offset of k is 10, k has 12 rows");
}

TEST(Shape, Masks) {
  using Bools = Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic>;
  EXPECT_EQ(refusal(plain, heed::dense_mask(Bools(10, 12))), "");
  EXPECT_EQ(refusal(plain, heed::heads(2), heed::dense_mask(Bools(10, 24))), "");
  EXPECT_EQ(refusal(plain, heed::dense_mask(Bools(9, 12))), "heed: dense_mask has 9 rows, q has 10");
  EXPECT_EQ(refusal(plain, heed::heads(2), heed::dense_mask(Bools(10, 13))),
            "heed: dense_mask has 13 columns, 12 keys and 2 heads allow 12 or 24");
  EXPECT_EQ(refusal(plain, heed::lengths({12})), "");
  EXPECT_EQ(refusal(plain, heed::lengths({3, 4})), "heed: lengths: 2 lengths for 1 sequences");
  EXPECT_EQ(refusal(plain, heed::lengths({13})), "heed: lengths: length 0 is 13, its sequence has 12 keys");
  EXPECT_EQ(refusal(plain, heed::lengths({-1})), "heed: lengths: length 0 is -1, its sequence has 12 keys");
  EXPECT_EQ(refusal(plain, heed::documents(std::vector<int>(10), std::vector<int>(12))), "");
  EXPECT_EQ(refusal(plain, heed::documents(std::vector<int>(10))),
            "heed: documents: 10 ids for keys, k has 12 rows");
  EXPECT_EQ(refusal(plain, heed::documents(std::vector<int>(12))),
            "heed: documents: 12 ids for queries, q has 10 rows");
  EXPECT_EQ(refusal(plain, heed::window(-3, 2)),
            "heed: window: left is -3 and right is 2, there is no position between");
  EXPECT_EQ(refusal(plain, heed::sliding_window(0)),
            "heed: window: left is -1 and right is 0, there is no position between");
  EXPECT_EQ(refusal(plain, heed::window(-3, 3)), "");
  EXPECT_EQ(refusal(plain, heed::window(-3, heed::unbounded)), "");
  // Inside compositions too.
  EXPECT_EQ(refusal(plain, heed::causal() | !(heed::causal() & heed::lengths({13}))),
            "heed: lengths: length 0 is 13, its sequence has 12 keys");
}

TEST(Shape, Terms) {
  EXPECT_EQ(refusal(plain, heed::scale(INFINITY)), "heed: scale is inf, it must be finite");
  EXPECT_NE(refusal(plain, heed::scale(std::nan(""))), "");
  EXPECT_EQ(refusal(plain, heed::scale(0.0f)), "");
  EXPECT_EQ(refusal(plain, heed::softcap(0)), "heed: softcap is 0, it must be positive and finite");
  EXPECT_EQ(refusal(plain, heed::softcap(-2.5f)), "heed: softcap is -2.5, it must be positive and finite");
  EXPECT_NE(refusal(plain, heed::softcap(std::nanf(""))), "");
  EXPECT_EQ(refusal(plain, heed::heads(2), heed::alibi({1.0, 2.0})), "");
  EXPECT_EQ(refusal(plain, heed::heads(2), heed::alibi({1.0})), "heed: alibi: 1 slopes for 2 heads");
  EXPECT_EQ(refusal(plain, heed::heads(2), heed::alibi({1.0, NAN})),
            "heed: alibi: slope 1 is nan, it must be finite");
  EXPECT_EQ(refusal(plain, heed::alibi(std::numeric_limits<Index>::max())),
            "heed: alibi: the offset is 9223372036854775807, with 12 tokens it may be 2147482611 at most");
  using Floats = Eigen::MatrixXf;
  for (const auto& [rows, cols] :
       {std::pair<Index, Index>{10, 12}, {10, 24}, {1, 12}, {1, 24}, {10, 1}, {1, 1}}) {
    EXPECT_EQ(refusal(plain, heed::heads(2), heed::bias(Floats(rows, cols))), "") << rows << " x " << cols;
  }
  EXPECT_EQ(refusal(plain, heed::bias(Floats(2, 12))), "heed: bias has 2 rows, q has 10");
  EXPECT_EQ(refusal(plain, heed::heads(2), heed::bias(Floats(10, 36))),
            "heed: bias has 36 columns, 12 keys and 2 heads allow 12 or 24");
}

}  // namespace
