// SPDX-License-Identifier: MIT
// overlap(): an output may lie between the elements of an input, never on one.

#include <gtest/gtest.h>

#include <heed/core/operand.hpp>

#include <random>
#include <set>

namespace {

using heed::Index;
using heed::detail::Operand;
using heed::detail::overlap;

struct Grid {
  Index at, row, column, rows, columns;
};

std::set<Index> elements(const Grid& g) {
  std::set<Index> all;
  for (Index r = 0; r < g.rows; ++r)
    for (Index c = 0; c < g.columns; ++c) all.insert(g.at + r * g.row + c * g.column);
  return all;
}

bool found(float* memory, const Grid& out, const Grid& in) {
  return overlap<float>({memory + out.at, out.row, out.column}, out.rows, out.columns,
                        {memory + in.at, in.row, in.column}, in.rows, in.columns);
}

TEST(Overlap, AgreesWithTheElementsOneByOne) {
  std::vector<float> memory(4000);
  std::mt19937 random(7);
  const auto draw = [&](Index low, Index high) {
    return std::uniform_int_distribution<Index>(low, high)(random);
  };
  int shared = 0, apart = 0;
  for (int n = 0; n < 40000; ++n) {
    const Index ld = draw(4, 12), inner = draw(1, 2);
    const auto grid = [&](bool same) {
      Grid g{2000 + draw(-40, 40), same ? ld : draw(1, 12), same ? inner : draw(1, 3), draw(1, 5),
             draw(1, 4)};
      if (draw(0, 1) != 0) std::swap(g.row, g.column);
      if (draw(0, 3) == 0) g.row = -g.row;
      if (draw(0, 3) == 0) g.column = -g.column;
      return g;
    };
    const bool same = draw(0, 1) != 0;
    const Grid out = grid(same), in = grid(same);
    // A matrix whose own rows lie on each other is nobody's operand.
    if (static_cast<Index>(elements(in).size()) != in.rows * in.columns ||
        static_cast<Index>(elements(out).size()) != out.rows * out.columns)
      continue;
    const auto spans = [](const Grid& g) {
      const Index row = std::abs(g.row), column = std::abs(g.column);
      return row >= column ? column * (g.columns - 1) < row : row * (g.rows - 1) < column;
    };
    if (!spans(in) || !spans(out)) continue;
    bool expected = false;
    const std::set<Index> read = elements(in);
    for (const Index e : elements(out)) expected |= read.count(e) != 0;
    (expected ? shared : apart) += 1;
    ASSERT_EQ(found(memory.data(), out, in), expected)
        << "out " << out.at << " " << out.row << " " << out.column << " " << out.rows << " " << out.columns
        << ", in " << in.at << " " << in.row << " " << in.column << " " << in.rows << " " << in.columns;
  }
  EXPECT_GT(shared, 1000);
  EXPECT_GT(apart, 1000);
}

TEST(Overlap, InterleavedBlocksOfOneMatrixAreApart) {
  std::vector<float> memory(1000 * 96);
  const Grid q{0, 96, 1, 1000, 32}, out{64, 96, 1, 1000, 32}, beside{31, 96, 1, 1000, 32};
  EXPECT_FALSE(found(memory.data(), out, q));
  EXPECT_TRUE(found(memory.data(), beside, q));
}

TEST(Overlap, EmptyOperandsShareNothing) {
  float x = 0;
  EXPECT_FALSE(overlap<float>({&x, 1, 1}, 0, 1, {&x, 1, 1}, 1, 1));
  EXPECT_FALSE(overlap<float>({&x, 1, 1}, 1, 1, {&x, 1, 1}, 1, 0));
}

}  // namespace
