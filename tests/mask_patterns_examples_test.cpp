// SPDX-License-Identifier: MIT
// Sparse patterns: worked examples, counts and pictures, long sequences, what is refused.
#include "mask_checks.hpp"

#include <limits>
#include <set>
#include <stdexcept>

#include <heed/mask/bigbird.hpp>
#include <heed/mask/block_sparse.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/chunked.hpp>
#include <heed/mask/dilated.hpp>
#include <heed/mask/gaps.hpp>
#include <heed/mask/global_tokens.hpp>
#include <heed/mask/in_heads.hpp>
#include <heed/mask/key_lists.hpp>
#include <heed/mask/longformer.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/pattern_picture.hpp>
#include <heed/mask/prefix.hpp>
#include <heed/mask/random_blocks.hpp>
#include <heed/mask/strided.hpp>
#include <heed/mask/visible_pairs.hpp>
#include <heed/mask/windows.hpp>

namespace {

using namespace heed_test;

Place square(Index n) { return {n, n, 0, 0, 1, 1, 0, 0, n}; }

TEST(MaskPatterns, WorkedExamples) {
  EXPECT_EQ(heed::pattern_text(heed::strided(3), 8, 8),
            "#.......\n"
            "##......\n"
            "###.....\n"
            "####....\n"
            ".####...\n"
            "..####..\n"
            "#..####.\n"
            ".#..####\n");
  EXPECT_EQ(heed::pattern_text(heed::strided_column(3), 5, 5), "#....\n.#...\n..#..\n#..#.\n.#..#\n");
  EXPECT_EQ(heed::pattern_text(heed::strided_local(1), 4, 4), "#...\n##..\n.##.\n..##\n");
  EXPECT_EQ(heed::pattern_text(heed::fixed(4, 1), 9, 9),
            "#........\n"
            "##.......\n"
            "###......\n"
            "####.....\n"
            "...##....\n"
            "...###...\n"
            "...####..\n"
            "...#####.\n"
            "...#...##\n");
  EXPECT_EQ(heed::pattern_text(heed::fixed_local(2), 4, 4), "#...\n##..\n..#.\n..##\n");
  EXPECT_EQ(heed::pattern_text(heed::fixed_column(2, 1), 4, 4), "....\n.#..\n.#..\n.#.#\n");
  EXPECT_EQ(heed::pattern_text(heed::dilated(1, 2), 5, 5), "#.#..\n.#.#.\n#.#.#\n.#.#.\n..#.#\n");
  EXPECT_EQ(heed::pattern_text(heed::dilated(2, 0, 2), 2, 6), "#.#.#.\n.#.#.#\n");
  EXPECT_EQ(heed::pattern_text(heed::longformer(1, 1), 5, 5), "#####\n###..\n####.\n#.###\n#..##\n");
  EXPECT_EQ(heed::pattern_text(heed::longformer(0, {3}), 4, 4), "#..#\n.#.#\n..##\n####\n");
  EXPECT_EQ(heed::pattern_text(heed::longformer(1, {0}, 2), 4, 4), "####\n##.#\n#.#.\n##.#\n");
  EXPECT_EQ(heed::pattern_text(heed::prefix(2) | heed::causal(), 4, 4), "##..\n##..\n###.\n####\n");
  EXPECT_EQ(heed::pattern_text(heed::chunked(2) & heed::causal(), 3, 5), "..#..\n..##.\n....#\n");
  EXPECT_EQ(heed::pattern_text(heed::block_sparse(2, {0, 1, 3}, {1, 0, 2}), 3, 5), "..##.\n..##.\n##..#\n");
  EXPECT_EQ(heed::pattern_text(heed::key_lists({0, 2, 2, 3}, {1, 3, 0}), 3, 4), ".#.#\n....\n#...\n");
  EXPECT_EQ(heed::pattern_text(heed::bigbird(2, 1, 1, 0, 0), 6, 6),
            "######\n######\n####..\n####..\n##..##\n##..##\n");
  const auto two = heed::spec(heed::heads(2), heed::windows({0, 1}));
  const heed::Shape shape = heed::detail::make_shape(two, 3, 2, 3, 2, 3, 2);
  EXPECT_EQ(heed::pattern_text(two, 3, 3), "#..\n.#.\n..#\n");
  EXPECT_EQ(heed::pattern_text(two, shape.place(0, 1)), "##.\n###\n.##\n");
}

TEST(MaskPatterns, PicturesOfLongSequences) {
  EXPECT_EQ(heed::pattern_text(heed::causal(), 12, 12, 4), "*...\n#*..\n##*.\n###*\n");
  EXPECT_EQ(heed::pattern_text(heed::window(0, 0), 16, 16, 4), "-...\n.-..\n..-.\n...-\n");
  EXPECT_EQ(heed::pattern_text(heed::prefix(5), 10, 10, 3), "#-.\n#-.\n#-.\n");
  EXPECT_EQ(heed::pattern_text(heed::prefix(2), 10, 10, 2), "+.\n+.\n");
  EXPECT_EQ(heed::pattern_text(heed::prefix(6), 10, 10, 3), "#+.\n#+.\n#+.\n");
  EXPECT_EQ(heed::pattern_text(heed::causal(), 0, 4), "");
  EXPECT_EQ(heed::pattern_pgm(heed::causal(), 4, 4, 2), std::string("P5\n2 2\n255\n\xbf\0\xff\xbf", 15));
  EXPECT_EQ(heed::pattern_pgm(heed::window(0, 0), 1000, 1000, 1), "P5\n1 1\n255\n\1");
  EXPECT_EQ(heed::pattern_pgm(heed::causal(), 3, 0), "P5\n0 3\n255\n");
}

/// Counts of what could never be gone through pair by pair.
TEST(MaskPatterns, CountsOfLongSequences) {
  const Index n = 1 << 20;
  EXPECT_EQ(heed::visible_pairs(heed::causal(), n, n), n * (n + 1) / 2);
  EXPECT_EQ(heed::visible_pairs(heed::window(100, 0), n, n), 101 * n - 100 * 101 / 2);
  EXPECT_EQ(heed::visible_pairs(heed::chunked(1 << 10), n, n), n << 10);
  EXPECT_EQ(heed::visible_pairs(heed::prefix(7) & heed::chunked(n), n, n), 7 * n);
  EXPECT_EQ(heed::visible_pairs(heed::global_tokens(5), n, n), 5 * n + 5 * (n - 5));
  EXPECT_EQ(heed::visible_pairs(heed::global_tokens({std::numeric_limits<Index>::max()}), n, n), 0);
  EXPECT_EQ(heed::visible_pairs(!heed::causal(), n, n), n * (n - 1) / 2);
  EXPECT_EQ(heed::visible_pairs(heed::dilated(3, 0, 1 << 18), n, n), n * 4 - (n >> 2) * 6);
  EXPECT_EQ(
      heed::visible_pairs(heed::spec(heed::heads(4, 2), heed::windows({0, 0, 1, 2}), heed::causal()), n, n),
      n + n + (2 * n - 1) + (3 * n - 3));
  EXPECT_EQ(heed::visible_pairs(heed::spec(heed::sequences({0, n, n + 3})), n + 3, n + 3), n * n + 9);
  EXPECT_EQ(heed::visible_pairs(heed::causal(), 0, n), 0);
}

/// Masks of the longest sequences, asked at both ends and in what a tile may reach past them: nothing
/// overflows, which a sanitizer would see, and pairs are as visible as 64-bit positions say.
TEST(MaskPatterns, LongestSequences) {
  constexpr Index longest = heed::detail::longest_sequence;
  for (const Index n : {Index(1), longest})
    for (const Index m : {Index(1), longest}) {
      const Place place{.queries = n, .keys = m};
      const auto each = [&](const auto& policy, const auto& want) {
        const auto mask = policy.bind(place);
        for (const Index i : {Index(0), n - 1, n + 200})
          for (const Index j : {Index(0), m - 1, m + 200})
            EXPECT_EQ(mask.visible(static_cast<Position>(i), static_cast<Position>(j)), want(i, j))
                << n << " x " << m << ": " << i << " " << j;
        for (const Index from : {Index(0), m - 1, m}) {
          heed::detail::key_ranges(mask, m, n - 1, n, from);
          heed::detail::full_ranges(mask, m, n - 1, n, from);
        }
      };
      const Index off = m - n, great = Index(1) << 40;
      for (const Index given : {Index(0), off, great, -great}) {
        each(heed::causal(given), [&](Index i, Index j) { return j <= i + given; });
        each(heed::window(5, 7, given), [&](Index i, Index j) { return std::abs(i + given - j + 1) <= 6; });
        each(heed::window(heed::unbounded, 0, given), [&](Index i, Index j) { return j <= i + given; });
        each(heed::chunked(1000, 1, 0, given), [&](Index i, Index j) {
          const Index before = (i + given < 0 ? i + given - 999 : i + given) / 1000 - j / 1000;
          return before == 0 || before == 1;
        });
        each(heed::global_tokens(std::vector<Index>{0, 3}, given), [&](Index i, Index j) {
          return j == 0 || j == 3 || i + given == 0 || i + given == 3;
        });
        each(heed::global_tokens(2, given),
             [&](Index i, Index j) { return j < 2 || (i + given >= 0 && i + given < 2); });
      }
      each(heed::windows({3}), [&](Index i, Index j) { return std::abs(i + off - j) <= 3; });
      each(heed::prefix(great), [&](Index, Index) { return true; });
      each(heed::summary_keys(1000, 2), [&](Index, Index j) { return j % 1000 >= 998; });
      // Positions past the end need only be answered.
      const auto far = heed::dilated(heed::unbounded, heed::unbounded, 1 << 22);
      far.bind(place).visible(static_cast<Position>(n + 200), static_cast<Position>(m + 200));
      const heed::detail::TokenClass tokens(far.bind(place), place, 0);
      const auto among = heed::detail::among(tokens, m, heed::causal().bind(place));
      for (const Index j : {Index(0), tokens.keys - 1, tokens.keys + 96})
        among.visible(static_cast<Position>(tokens.queries + 96), static_cast<Position>(j));
    }
}

/// Positions near the largest possible, and numbers near the largest: nothing overflows.
TEST(MaskPatterns, HugeNumbers) {
  constexpr Index most = std::numeric_limits<Position>::max(), huge = heed::unbounded;
  const Place place = square(most);
  const Position end = most - 1;
  const auto column = heed::dilated(huge, huge, 1 << 30).bind(place);
  EXPECT_TRUE(column.visible(end, end - (1 << 30)));
  EXPECT_TRUE(column.visible(end - (1 << 30), end));
  EXPECT_FALSE(column.visible(end, 0));
  EXPECT_EQ(column.key_ranges(end, most, 0), (KeyRange{end - (1 << 30), end - (1 << 30) + 1}));
  for (const Index step : {huge, Index{1} << 32, most}) {
    const auto self = heed::dilated(huge, huge, step).bind(place);
    EXPECT_TRUE(self.visible(end, end));
    EXPECT_FALSE(self.visible(end, 0));
    EXPECT_EQ(self.key_ranges(7, 9, 0), (KeyRange{7, 9}));
    EXPECT_EQ(self.key_ranges(7, 9, 9), (KeyRange{most, most}));
  }
  for (const Index offset : {huge, -huge, 2 * most, -2 * most}) {
    EXPECT_TRUE(heed::dilated(3, 3, 1, offset).bind(place).key_ranges(0, 1, 0).empty());
    EXPECT_FALSE(heed::dilated(3, 3, 1, offset).bind(place).visible(0, end));
    EXPECT_TRUE(heed::chunked(8, 0, 0, offset).bind(place).key_ranges(0, 1, 0).empty());
    EXPECT_TRUE(heed::chunked(8, huge, huge, offset).bind(place).visible(0, end));
  }
  const auto whole = heed::chunked(huge).bind(place);
  EXPECT_TRUE(whole.visible(0, end));
  EXPECT_TRUE(whole.visible(end, 0));
  EXPECT_EQ(whole.full_ranges(0, most, 0), (KeyRange{0, most}));
  const auto last = heed::chunked(1000).bind(place);
  EXPECT_TRUE(last.visible(end, most / 1000 * 1000));
  EXPECT_FALSE(last.visible(end, most / 1000 * 1000 - 1));
  EXPECT_TRUE(heed::summary_keys(huge, huge).bind(place).visible(0, 0));
  EXPECT_TRUE(heed::summary_keys(huge, 1).bind(place).key_ranges(0, 1, 0).empty());
  EXPECT_TRUE(heed::global_tokens(huge).bind(place).visible(0, end));
  EXPECT_TRUE(heed::prefix(huge).bind(place).visible(0, end));
  EXPECT_TRUE(heed::random_blocks(huge, huge, 1).bind(place).visible(0, end));
  EXPECT_EQ(heed::random_blocks(1, huge, 1).bind(place).full_ranges(0, 1, end), (KeyRange{end, most}));
  EXPECT_TRUE(heed::bigbird(huge, 3, huge, huge, 1).bind(place).visible(0, end));
}

TEST(MaskPatterns, RandomBlocksAreDistinctWholeAndEvenlySpread) {
  const Index size = 4, count = 3, blocks = 20, n = size * blocks;
  Place place{n, n, 0, 0, 2, 2, 0, 0, n};
  std::set<std::string> pictures;
  std::vector<int> drawn(static_cast<std::size_t>(blocks), 0);
  for (std::uint64_t seed = 0; seed < 200; ++seed)
    for (place.head = 0; place.head < 2; ++place.head) {
      const auto mask = heed::random_blocks(size, count, seed);
      const auto bound = mask.bind(place);
      EXPECT_EQ(heed::visible_pairs(mask, place), n * count * size);
      for (Position row = 0; row < blocks; ++row) {
        int part[3] = {0, 0, 0};
        for (Position block = 0; block < blocks; ++block) {
          const bool sees = bound.visible(row * 4, block * 4);
          for (Position t = 0; t < 16; ++t)
            EXPECT_EQ(bound.visible(row * 4 + t / 4, block * 4 + t % 4), sees);
          if (!sees) continue;
          ++part[block * count / blocks];
          ++drawn[static_cast<std::size_t>(block)];
        }
        EXPECT_TRUE(part[0] == 1 && part[1] == 1 && part[2] == 1);
      }
      pictures.insert(heed::pattern_text(mask, place));
    }
  EXPECT_EQ(pictures.size(), 400u);
  // 8000 draws of each part of 7, 7 and 6 blocks; five standard deviations are less than 180.
  for (Index b = 0; b < blocks; ++b)
    EXPECT_NEAR(drawn[static_cast<std::size_t>(b)], b < 14 ? 8000 / 7 : 8000 / 6, 180) << b;
  EXPECT_EQ(heed::visible_pairs(heed::random_blocks(4, 99, 3), n, n), n * n);
  EXPECT_EQ(heed::visible_pairs(heed::random_blocks(4, 0, 3), n, n), 0);
}

/// Once a policy is made, its lists may change or go.
TEST(MaskPatterns, ListsAreCopied) {
  std::vector<Index> offsets{0, 1, 2}, columns{0, 1};
  const auto copied = heed::block_sparse(2, offsets, columns);
  const auto lists = heed::key_lists(offsets, columns);
  const auto owned = heed::block_sparse(2, std::vector<int>{0, 1, 2}, std::vector<short>{0, 1});
  EXPECT_TRUE(copied.bind(square(4)).visible(0, 0));
  columns[0] = 1;
  EXPECT_TRUE(copied.bind(square(4)).visible(0, 0));
  EXPECT_FALSE(copied.bind(square(4)).visible(1, 3));
  EXPECT_TRUE(lists.bind(square(2)).visible(0, 0));  // read when it was made
  EXPECT_TRUE(owned.bind(square(4)).visible(0, 0));
  std::vector<int> widths{1, 5};
  const auto windows = heed::windows(widths);
  widths[0] = 3;
  EXPECT_FALSE(windows.bind(square(9)).visible(0, 3));
  Eigen::Matrix<int, 2, 2, Eigen::RowMajor> table;
  table << 1, 3, 1, 0;
  EXPECT_TRUE(heed::windows(table.col(1)).bind(square(9)).visible(0, 3));
}

/// What the mask says to n queries and m keys of `count` heads.
template <class Mask>
std::string refusal(const Mask& mask, Index n, Index m, Index count = 1) {
  try {
    heed::detail::make_shape(heed::spec(heed::heads(count), mask), n, count, m, count, m, count);
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

TEST(MaskPatterns, BadArgumentsAreRefused) {
  EXPECT_EQ(refusal(heed::dilated(3, 0), 4, 4), "heed: dilated: step is 0, it must be at least 1");
  EXPECT_EQ(refusal(heed::dilated(2, -3, 2), 4, 4),
            "heed: dilated: left is 2 and right is -3, there is no position between");
  EXPECT_EQ(refusal(heed::dilated(3, -3, 2), 4, 4), "");
  EXPECT_EQ(refusal(heed::dilated(heed::unbounded, -3, 2), 4, 4), "");
  EXPECT_EQ(refusal(heed::strided(0), 4, 4), "heed: dilated: step is 0, it must be at least 1");
  EXPECT_EQ(refusal(heed::windows({1, 2, 3}), 4, 4, 2), "heed: windows: 3 left sides for 2 heads");
  EXPECT_EQ(refusal(heed::windows({1, 2}, {1}), 4, 4, 2), "heed: windows: 1 right sides for 2 heads");
  EXPECT_EQ(refusal(heed::windows({1, -2}), 4, 4, 2),
            "heed: window: left is -2 and right is -2, there is no position between");
  EXPECT_EQ(refusal(heed::chunked(0), 4, 4), "heed: chunked: size is 0, it must be at least 1");
  EXPECT_EQ(refusal(heed::chunked(2, 1, -1), 4, 4),
            "heed: chunked: before is 1 and after is -1, neither may be negative");
  EXPECT_EQ(refusal(heed::fixed(4, 5), 4, 4),
            "heed: summary_keys: the last 5 keys of every 4, which has no so many");
  EXPECT_EQ(refusal(heed::fixed_column(0, 0), 4, 4),
            "heed: summary_keys: the period is 0, it must be at least 1");
  EXPECT_EQ(refusal(heed::in_heads(1, 3, heed::causal()), 4, 4, 2), "heed: in_heads: heads 1 to 3 of 2");
  EXPECT_EQ(refusal(heed::in_heads(0, 1, heed::chunked(0)), 4, 4, 2),
            "heed: chunked: size is 0, it must be at least 1");
  EXPECT_EQ(refusal(heed::global_tokens({3, -1}), 4, 4), "heed: global_tokens: position -1 is negative");
  EXPECT_EQ(refusal(heed::global_tokens(-1), 4, 4),
            "heed: global_tokens: the count is -1, it must not be negative");
  EXPECT_EQ(refusal(heed::prefix(-1), 4, 4),
            "heed: prefix: the prefix has -1 keys, that must not be negative");
  EXPECT_EQ(refusal(heed::random_blocks(0, 1, 0), 4, 4),
            "heed: random_blocks: the block size is 0, it must be at least 1");
  EXPECT_EQ(refusal(heed::random_blocks(2, -1, 0), 4, 4),
            "heed: random_blocks: -1 blocks, that must not be negative");
  EXPECT_EQ(refusal(heed::bigbird(0, 3, 1, 1, 0), 4, 4),
            "heed: bigbird: the block size is 0, it must be at least 1");
  EXPECT_EQ(refusal(heed::bigbird(2, 2, 1, 1, 0), 4, 4),
            "heed: bigbird: a window of 2 blocks, it must be odd: as many to either side");
  EXPECT_EQ(refusal(heed::bigbird(2, 3, -1, 1, 0), 4, 4),
            "heed: bigbird: -1 global blocks, that must not be negative");
  EXPECT_EQ(refusal(heed::bigbird(2, 3, 1, -1, 0), 4, 4),
            "heed: random_blocks: -1 blocks, that must not be negative");
}

TEST(MaskPatterns, BadListsAreRefused) {
  using heed::block_sparse;
  using heed::key_lists;
  EXPECT_EQ(refusal(block_sparse(2, {0, 1, 2}, {0, 1}), 4, 4), "");
  EXPECT_EQ(refusal(block_sparse(0, {0, 1, 2}, {0, 1}), 4, 4),
            "heed: block_sparse: the block size is 0, it must be at least 1");
  EXPECT_EQ(refusal(block_sparse(2, {0, 1, 2}, {0, 1}), 5, 4),
            "heed: block_sparse: 3 row_offsets for 3 rows, 4 are needed");
  EXPECT_EQ(refusal(block_sparse(2, {0, 1, 2}, {0, 1}, 3), 4, 4, 2),
            "heed: block_sparse: 3 patterns for 2 heads");
  EXPECT_EQ(refusal(block_sparse(2, {0, 1, 2}, {0, 1}, 2), 4, 4, 2),
            "heed: block_sparse: 3 row_offsets for 4 rows, 5 are needed");
  EXPECT_EQ(refusal(block_sparse(2, {1, 1, 2}, {0, 1}), 4, 4),
            "heed: block_sparse: the first of the row_offsets is 1, it must be 0");
  EXPECT_EQ(refusal(block_sparse(2, {0, 1, 3}, {0, 1}), 4, 4),
            "heed: block_sparse: the last of the row_offsets is 3, there are 2 columns");
  EXPECT_EQ(refusal(block_sparse(2, {0, 3, 2}, {0, 1}), 4, 4),
            "heed: block_sparse: number 2 of the row_offsets is 2, less than 3 before it");
  EXPECT_EQ(refusal(block_sparse(2, {0, 1, 2}, {0, 2}), 4, 4),
            "heed: block_sparse: row 1 has 2 among its columns, there are 2");
  EXPECT_EQ(refusal(block_sparse(2, {0, 1, 2}, {-1, 1}), 4, 4),
            "heed: block_sparse: row 0 has -1 among its columns");
  EXPECT_EQ(refusal(block_sparse(2, {0, 2, 2}, {1, 0}), 4, 4),
            "heed: block_sparse: the columns of row 0 are not in increasing order: 1 before 0");
  EXPECT_EQ(refusal(block_sparse(2, {0, 2, 2}, {1, 1}), 4, 4),
            "heed: block_sparse: the columns of row 0 are not in increasing order: 1 before 1");
  EXPECT_EQ(refusal(key_lists({0, 1, 2}, {3, 3}), 2, 4), "");
  EXPECT_EQ(refusal(key_lists({0, 1, 2}, {3, 4}), 2, 4),
            "heed: key_lists: row 1 has 4 among its keys, there are 4");
  EXPECT_EQ(refusal(key_lists({0, 1, 2}, {3, 3}), 3, 4),
            "heed: key_lists: 3 offsets for 3 rows, 4 are needed");
  EXPECT_EQ(refusal(key_lists({0, 1, 2}, {3, 3}, 4), 2, 4), "heed: key_lists: 4 patterns for 1 heads");
}

}  // namespace
