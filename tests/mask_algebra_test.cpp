// SPDX-License-Identifier: MIT
// Random compositions of masks: key ranges, full ranges and visible() agree, and walking the ranges ends.
#include "mask_checks.hpp"

#include <heed/core/when.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>

namespace {

using namespace heed_test;

std::vector<int> draw_ids(Draw& draw, Index count) {
  std::vector<int> ids(static_cast<std::size_t>(count));
  const bool contiguous = draw.coin();
  int id = static_cast<int>(draw.below(4));
  for (auto& x : ids) {
    if (contiguous ? draw.below(6) == 0 : draw.coin()) id = static_cast<int>(draw.below(4));
    x = id;
  }
  return ids;
}

Any draw_leaf(Draw& draw, const Problem& problem) {
  const Index reach = problem.queries() + problem.keys() + 2;
  switch (draw.below(9)) {
    case 0:
      return Any::of("causal", heed::causal());
    case 1:
      return Any::of("causal(top_left)", heed::causal(heed::top_left));
    case 2: {
      const Index offset = draw.between(-reach, reach);
      return Any::of("causal(" + std::to_string(offset) + ")", heed::causal(offset));
    }
    case 3: {
      const Index left = draw.below(4) == 0 ? heed::unbounded : draw.between(-3, 9);
      const Index right =
          draw.below(4) == 0 ? heed::unbounded : draw.between(left == heed::unbounded ? -9 : -left, 9);
      return Any::of(
          "window(" + std::to_string(left) + "," + std::to_string(right) + ")",
          draw.coin() ? heed::window(left, right) : heed::window(left, right, draw.between(-5, 5)));
    }
    case 4: {
      const auto q = draw_ids(draw, problem.queries());
      const auto k = draw_ids(draw, problem.keys());
      return Any::of("documents", heed::documents(q, k));
    }
    case 5: {
      std::vector<Index> lengths;
      for (Index s = 0; s < problem.sequences(); ++s) {
        const auto n = static_cast<std::size_t>(s);
        lengths.push_back(draw.between(0, problem.key_offsets[n + 1] - problem.key_offsets[n]));
      }
      return Any::of("lengths", heed::lengths(std::move(lengths)));
    }
    case 6: {
      const Index period = draw.between(1, 5);
      return Any::of("mask_where",
                     heed::mask_where([period](auto i, auto j) { return (i + j) % period == 0; }));
    }
    case 7: {
      const Index seed = draw.below(1000);
      Index longest = 0;
      for (Index s = 0; s < problem.sequences(); ++s) {
        const auto n = static_cast<std::size_t>(s);
        longest = std::max(longest, problem.key_offsets[n + 1] - problem.key_offsets[n]);
      }
      Eigen::Matrix<bool, Eigen::Dynamic, Eigen::Dynamic> b(problem.queries(), longest);
      for (Index i = 0; i < b.rows(); ++i) {
        for (Index j = 0; j < b.cols(); ++j) b(i, j) = (i * 7 + j * 13 + seed) % 5 < 3;
      }
      return Any::of("dense", heed::dense_mask(std::move(b)));
    }
    default: {
      const bool active = draw.coin();
      return Any::of(active ? "when(true)" : "when(false)",
                     heed::when(active, heed::causal(draw.between(-4, 4))));
    }
  }
}

Any draw_mask(Draw& draw, const Problem& problem, int depth) {
  return compose(draw, problem, depth, draw_leaf);
}

TEST(MaskAlgebra, RangesAgreeWithPairsOnRandomCompositions) {
  Draw draw(20240611);
  for (int trial = 0; trial < 6000 && !HasFailure(); ++trial) {
    const Problem problem = draw_problem(draw);
    const heed::Shape shape = shape_of(problem);
    const Any mask = draw_mask(draw, problem, static_cast<int>(draw.below(4)));
    const Place place = shape.place(draw.below(shape.sequences), 0);
    check_ranges(mask.bind(place), place, draw, mask.name + " trial " + std::to_string(trial));
  }
}

TEST(MaskAlgebra, SpecIntersectsItsMasks) {
  Draw draw(7);
  for (int trial = 0; trial < 500 && !HasFailure(); ++trial) {
    const Problem problem = draw_problem(draw);
    const heed::Shape shape = shape_of(problem);
    const Any a = draw_mask(draw, problem, 1), b = draw_mask(draw, problem, 1),
              c = draw_mask(draw, problem, 1);
    const auto spec = heed::spec(a, b, c);
    const Place place = shape.place(draw.below(shape.sequences), 0);
    const auto rules = spec.bind<float>(place);
    check_ranges(rules, place, draw, a.name + ", " + b.name + ", " + c.name);
    const auto x = a.bind(place), y = b.bind(place), z = c.bind(place);
    for (Position i = 0; i < place.queries; ++i) {
      for (Position j = 0; j < place.keys; ++j) {
        ASSERT_EQ(rules.visible(i, j), x.visible(i, j) && y.visible(i, j) && z.visible(i, j));
      }
    }
  }
}

TEST(MaskAlgebra, BooleanLaws) {
  Draw draw(11);
  for (int trial = 0; trial < 300 && !HasFailure(); ++trial) {
    const Problem problem = draw_problem(draw);
    const Place place = shape_of(problem).place(0, 0);
    const Any a = draw_mask(draw, problem, 2), b = draw_mask(draw, problem, 2);
    const auto x = a.bind(place), y = b.bind(place);
    const auto both = (a & b).bind(place);
    const auto either = (a | b).bind(place);
    const auto neither = (!(a | b)).bind(place);
    const auto twice = (!!a).bind(place);
    for (Position i = 0; i < place.queries; ++i) {
      for (Position j = 0; j < place.keys; ++j) {
        ASSERT_EQ(both.visible(i, j), x.visible(i, j) && y.visible(i, j));
        ASSERT_EQ(either.visible(i, j), x.visible(i, j) || y.visible(i, j));
        ASSERT_EQ(neither.visible(i, j), !x.visible(i, j) && !y.visible(i, j));
        ASSERT_EQ(twice.visible(i, j), x.visible(i, j));
      }
    }
  }
}

/// Exact ranges are what makes a window cost its width.
TEST(MaskAlgebra, RangesAreTight) {
  const Place place{100, 100, 0, 0, 1, 1, 0, 0, 100};
  const auto window = (heed::window(10, 0) & heed::causal()).bind(place);
  EXPECT_EQ(window.key_ranges(50, 60, 0), (KeyRange{40, 60}));
  EXPECT_EQ(window.key_ranges(50, 60, 60), (KeyRange{100, 100}));
  EXPECT_EQ(window.full_ranges(50, 60, 0), (KeyRange{49, 51}));
  const auto outside = (!heed::window(10, 10)).bind(place);
  EXPECT_EQ(outside.full_ranges(50, 60, 0), (KeyRange{0, 40}));
  EXPECT_EQ(outside.full_ranges(50, 60, 40), (KeyRange{70, 100}));
  EXPECT_EQ(outside.key_ranges(50, 60, 0), (KeyRange{0, 49}));
  EXPECT_EQ(outside.key_ranges(50, 60, 49), (KeyRange{61, 100}));
  const auto touching = (heed::window(10, -1) | heed::window(0, 10)).bind(place);
  EXPECT_EQ(touching.key_ranges(50, 51, 0), (KeyRange{40, 61}));
  EXPECT_EQ(touching.full_ranges(50, 51, 0), (KeyRange{40, 61}));

  std::vector<int> ids(100);
  for (std::size_t t = 0; t < 100; ++t) ids[t] = t < 30 ? 5 : t < 70 ? -2 : 5;
  const auto owner = heed::documents(ids);
  const auto documents = owner.bind(place);
  EXPECT_EQ(documents.key_ranges(32, 40, 0), (KeyRange{30, 70}));
  EXPECT_EQ(documents.full_ranges(32, 40, 0), (KeyRange{30, 70}));
  EXPECT_EQ(documents.key_ranges(0, 8, 0), (KeyRange{0, 30}));
  EXPECT_EQ(documents.key_ranges(0, 8, 30), (KeyRange{70, 100}));
  EXPECT_EQ(documents.full_ranges(80, 99, 10), (KeyRange{10, 30}));
  EXPECT_EQ(documents.key_ranges(28, 32, 0), (KeyRange{0, 100}));
  EXPECT_EQ(documents.full_ranges(28, 32, 0), (KeyRange{100, 100}));
}

TEST(MaskAlgebra, FunctorsAreAskedOnlyWhereTheAnswerIsOpen) {
  const Place place{20, 20, 0, 0, 1, 1, 0, 0, 20};
  // The functor would read before the table for j > i.
  const auto only_causal = heed::mask_where([](Position i, Position j) {
    if (j > i) ADD_FAILURE() << "asked about " << i << ", " << j;
    return true;
  });
  const auto only_later = heed::mask_where([](Position i, Position j) {
    if (j <= i) ADD_FAILURE() << "asked about " << i << ", " << j;
    return true;
  });
  const auto a = (heed::causal() & only_causal).bind(place);
  const auto b = (only_causal & heed::causal()).bind(place);
  const auto c = (heed::causal() | only_later).bind(place);
  const auto d = (only_later | heed::causal()).bind(place);
  const auto e = heed::spec(only_causal, heed::lengths({20}), heed::causal());
  const auto rules = e.bind<float>(place);
  for (Position i = 0; i < 20; ++i) {
    for (Position j = 0; j < 20; ++j) {
      EXPECT_EQ(a.visible(i, j), j <= i);
      EXPECT_EQ(b.visible(i, j), j <= i);
      EXPECT_TRUE(c.visible(i, j));
      EXPECT_TRUE(d.visible(i, j));
      EXPECT_EQ(rules.visible(i, j), j <= i);
    }
  }
}

}  // namespace
