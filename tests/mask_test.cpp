// SPDX-License-Identifier: MIT
// What each mask shows, pair by pair, against its definition.
#include <gtest/gtest.h>

#include <array>
#include <limits>
#include <vector>

#include <heed/core/spec.hpp>
#include <heed/layout/heads.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>

namespace {

using heed::Index;
using heed::Place;
using heed::Position;

Place one(Index n, Index m) { return {n, m, 0, 0, 1, 1, 0, 0, m}; }

template <class Mask, class Want>
void expect(const Mask& mask, const Place& place, Want want) {
  const auto bound = mask.bind(place);
  for (Position i = 0; i < place.queries; ++i) {
    for (Position j = 0; j < place.keys; ++j) {
      ASSERT_EQ(bound.visible(i, j), want(i, j))
          << "N " << place.queries << " M " << place.keys << " i " << i << " j " << j;
    }
  }
}

TEST(Mask, Causal) {
  for (Index n : {0, 1, 2, 5, 9}) {
    for (Index m : {0, 1, 2, 5, 9}) {
      expect(heed::causal(), one(n, m), [&](Index i, Index j) { return j <= i + m - n; });
      expect(heed::causal(heed::top_left), one(n, m), [&](Index i, Index j) { return j <= i; });
      for (Index offset : {Index{-3}, Index{2}, Index{20}, Index{-20}, std::numeric_limits<Index>::max(),
                           std::numeric_limits<Index>::min()}) {
        const Index off = std::max<Index>(-100, std::min<Index>(100, offset));
        expect(heed::causal(offset), one(n, m), [&](Index i, Index j) { return j <= i + off; });
      }
    }
  }
}

TEST(Mask, Window) {
  for (Index n : {1, 5, 9}) {
    for (Index m : {1, 5, 12}) {
      for (Index left : {Index{-1}, Index{0}, Index{2}, Index{50}}) {
        for (Index right : {Index{1}, Index{3}, Index{50}}) {
          const Index off = m - n;
          expect(heed::window(left, right), one(n, m),
                 [&](Index i, Index j) { return i + off - left <= j && j <= i + off + right; });
          expect(heed::window(left, right, heed::top_left), one(n, m),
                 [&](Index i, Index j) { return i - left <= j && j <= i + right; });
          expect(heed::window(left, right, 4), one(n, m),
                 [&](Index i, Index j) { return i + 4 - left <= j && j <= i + 4 + right; });
          expect(heed::window(heed::unbounded, right), one(n, m),
                 [&](Index i, Index j) { return j <= i + off + right; });
          expect(heed::window(left, heed::unbounded), one(n, m),
                 [&](Index i, Index j) { return i + off - left <= j; });
        }
      }
      expect(heed::window(heed::unbounded, heed::unbounded), one(n, m), [](Index, Index) { return true; });
      expect(heed::sliding_window(3), one(n, m),
             [&](Index i, Index j) { return i + m - n - 2 <= j && j <= i + m - n; });
    }
  }
}

/// Positions near the largest possible: nothing overflows (the undefined-behaviour sanitizer watches).
TEST(Mask, LongSequences) {
  constexpr Index most = std::numeric_limits<Position>::max();
  const Place place = one(most, most);
  const auto causal = heed::causal().bind(place);
  EXPECT_TRUE(causal.visible(most - 1, most - 1));
  EXPECT_FALSE(causal.visible(0, most - 1));
  EXPECT_TRUE(causal.visible(most - 1, 0));
  const auto far = heed::causal(most).bind(place);
  EXPECT_TRUE(far.visible(0, most - 1));
  EXPECT_EQ(far.key_ranges(most - 4, most, 0).end, most);
  const auto window = heed::window(heed::unbounded, 2, -most).bind(place);
  EXPECT_TRUE(window.visible(most - 1, 0));
  EXPECT_FALSE(window.visible(0, 3));
  EXPECT_EQ(heed::window(5, 0).bind(place).key_ranges(most - 2, most, 0), (heed::KeyRange{most - 7, most}));
}

TEST(Mask, Lengths) {
  const std::vector<int> l{3, 0};
  const auto spec = heed::spec(heed::sequences({0, 2, 4}, {0, 5, 6}), heed::lengths(l));
  const auto shape = heed::detail::make_shape(spec, 4, 2, 6, 2, 6, 2);
  expect(heed::lengths(l), shape.place(0, 0), [](Index, Index j) { return j < 3; });
  expect(heed::lengths(l), shape.place(1, 0), [](Index, Index) { return false; });
  // A strided Eigen vector of lengths.
  Eigen::Matrix<int, 2, 2, Eigen::RowMajor> table;
  table << 1, 3, 1, 0;
  expect(heed::lengths(table.col(1)), shape.place(0, 0), [](Index, Index j) { return j < 3; });
}

TEST(Mask, DocumentsCountRowsOverAllSequences) {
  const std::vector<unsigned char> q{1, 1, 2, 9, 2}, k{2, 1, 7, 2, 1, 1};
  const auto mask = heed::documents(q, k);
  const auto spec = heed::spec(heed::sequences({0, 2, 5}, {0, 2, 6}), mask);
  const auto shape = heed::detail::make_shape(spec, 5, 2, 6, 2, 6, 2);
  for (Index s = 0; s < 2; ++s) {
    const Place place = shape.place(s, 0);
    expect(mask, place, [&](Index i, Index j) {
      return q[static_cast<std::size_t>(place.query_begin + i)] ==
             k[static_cast<std::size_t>(place.key_begin + j)];
    });
  }
}

TEST(Mask, DenseSharedAndPerHead) {
  using Bools = Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic>;
  Bools b(4, 6);
  for (Index i = 0; i < 4; ++i) {
    for (Index j = 0; j < 6; ++j) b(i, j) = (i * j) % 3 != 1;
  }
  const auto two_heads = heed::spec(heed::heads(2));
  const auto shape = heed::detail::make_shape(two_heads, 4, 2, 3, 2, 3, 2);
  for (Index h = 0; h < 2; ++h) {
    expect(heed::dense_mask(b), shape.place(0, h), [&](Index i, Index j) { return b(i, 3 * h + j); });
    expect(heed::dense_mask(b.leftCols(3)), shape.place(0, h), [&](Index i, Index j) { return b(i, j); });
    expect(heed::dense_mask(b.transpose().transpose()), shape.place(0, h),
           [&](Index i, Index j) { return b(i, 3 * h + j); });
    expect(heed::dense_mask((b.array() == false).matrix()), shape.place(0, h),
           [&](Index i, Index j) { return !b(i, 3 * h + j); });
  }
}

TEST(Mask, DenseOfSeveralSequencesHasAllRowsAndTheLongestKeys) {
  Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic> b(5, 8);
  for (Index i = 0; i < 5; ++i) {
    for (Index j = 0; j < 8; ++j) b(i, j) = (3 * i + j) % 4 != 0;
  }
  const auto spec = heed::spec(heed::heads(2), heed::sequences({0, 3, 5}, {0, 2, 6}), heed::dense_mask(b));
  const auto shape = heed::detail::make_shape(spec, 5, 2, 6, 2, 6, 2);
  EXPECT_EQ(shape.longest, 4);
  for (Index s = 0; s < 2; ++s) {
    for (Index h = 0; h < 2; ++h) {
      const Place place = shape.place(s, h);
      expect(heed::dense_mask(b), place,
             [&](Index i, Index j) { return b(place.query_begin + i, 4 * h + j); });
    }
  }
}

bool even_sum(Position i, Position j) { return (i + j) % 2 == 0; }

TEST(Mask, MaskWhereTakesWhatItIsGiven) {
  const Place place{4, 5, 2, 3, 4, 4, 0, 0, 5};
  expect(heed::mask_where([](auto i, auto j) { return i < j; }), place,
         [](Index i, Index j) { return i < j; });
  expect(heed::mask_where([](auto i, auto j, auto h) { return i + h < j; }), place,
         [](Index i, Index j) { return i + 2 < j; });
  expect(heed::mask_where([](auto i, auto j, auto h, auto s) { return i + h < j + s; }), place,
         [](Index i, Index j) { return i + 2 < j + 3; });
  expect(heed::mask_where(even_sum), place, [](Index i, Index j) { return (i + j) % 2 == 0; });
  expect(heed::mask_where(&even_sum), place, [](Index i, Index j) { return (i + j) % 2 == 0; });
  struct Heavy {
    std::array<int, 100> table;
    bool operator()(Position i, Position j) const { return table[static_cast<std::size_t>(i + j)] != 0; }
  };
  Heavy heavy{};
  heavy.table[3] = 1;
  expect(heed::mask_where(heavy), place, [](Index i, Index j) { return i + j == 3; });
  expect(heed::mask_where(Heavy(heavy)), place, [](Index i, Index j) { return i + j == 3; });
}

}  // namespace
