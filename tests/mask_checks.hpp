// SPDX-License-Identifier: MIT
// Masks of any type behind one, random problems and compositions for them, and whether ranges agree with
// pairs.
#ifndef HEED_TESTS_MASK_CHECKS_HPP
#define HEED_TESTS_MASK_CHECKS_HPP

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <heed/core/spec.hpp>
#include <heed/layout/heads.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/algebra.hpp>

namespace heed_test {

using heed::Index;
using heed::KeyRange;
using heed::Place;
using heed::Position;

/// A mask of any type behind one type, so that compositions can be drawn at run time. Also what a user's own
/// mask is.
struct AnyBound {
  std::function<bool(Position, Position)> see;
  std::function<KeyRange(Index, Index, Index)> keys, full;

  bool visible(Position i, Position j) const { return see(i, j); }
  KeyRange key_ranges(Index i0, Index i1, Index from) const { return keys(i0, i1, from); }
  KeyRange full_ranges(Index i0, Index i1, Index from) const { return full(i0, i1, from); }
};

struct Any : heed::mask_tag {
  std::function<AnyBound(const Place&)> make;
  std::string name;

  template <class Mask>
  static Any of(std::string name, Mask mask) {
    Any any;
    any.name = std::move(name);
    any.make = [mask](const Place& place) {
      const auto bound = mask.bind(place);
      const Index m = place.keys;
      return AnyBound{[bound](Position i, Position j) { return bound.visible(i, j); },
                      [bound, m](Index i0, Index i1, Index from) {
                        return heed::detail::key_ranges(bound, m, i0, i1, from);
                      },
                      [bound, m](Index i0, Index i1, Index from) {
                        return heed::detail::full_ranges(bound, m, i0, i1, from);
                      }};
    };
    return any;
  }
  AnyBound bind(const Place& place) const { return make(place); }
};

class Draw {
 public:
  explicit Draw(unsigned seed) : engine_(seed) {}
  Index below(Index n) { return std::uniform_int_distribution<Index>(0, n - 1)(engine_); }
  Index between(Index a, Index b) { return std::uniform_int_distribution<Index>(a, b)(engine_); }
  bool coin() { return below(2) == 0; }

 private:
  std::mt19937 engine_;
};

struct Problem {
  std::vector<Index> query_offsets, key_offsets;
  Index queries() const { return query_offsets.back(); }
  Index keys() const { return key_offsets.back(); }
  Index sequences() const { return static_cast<Index>(query_offsets.size()) - 1; }
};

/// Masks made by draw_leaf(draw, problem), joined by & | ! at most `depth` deep.
template <class DrawLeaf>
Any compose(Draw& draw, const Problem& problem, int depth, const DrawLeaf& draw_leaf) {
  if (depth == 0 || draw.below(4) == 0) return draw_leaf(draw, problem);
  switch (draw.below(3)) {
    case 0: {
      Any a = compose(draw, problem, depth - 1, draw_leaf), b = compose(draw, problem, depth - 1, draw_leaf);
      const std::string name = "(" + a.name + " & " + b.name + ")";
      return Any::of(name, std::move(a) & std::move(b));
    }
    case 1: {
      Any a = compose(draw, problem, depth - 1, draw_leaf), b = compose(draw, problem, depth - 1, draw_leaf);
      const std::string name = "(" + a.name + " | " + b.name + ")";
      return Any::of(name, std::move(a) | std::move(b));
    }
    default: {
      Any a = compose(draw, problem, depth - 1, draw_leaf);
      const std::string name = "!" + a.name;
      return Any::of(name, !std::move(a));
    }
  }
}

/// Walks the ranges of one kind; marks what they cover. Fails on disorder, emptiness, or a walk that does not
/// end.
template <class Ranges>
std::vector<char> walk(const Ranges& ranges, Index keys, const std::string& name) {
  std::vector<char> covered(static_cast<std::size_t>(keys), 0);
  Index from = 0;
  for (Index steps = 0; steps <= keys; ++steps) {
    const KeyRange r = ranges(from);
    if (r.empty()) {
      EXPECT_EQ(r.begin, keys) << name;
      EXPECT_EQ(r.end, keys) << name;
      return covered;
    }
    EXPECT_GE(r.begin, from) << name;
    EXPECT_LE(r.end, keys) << name;
    for (Index j = r.begin; j < r.end; ++j) covered[static_cast<std::size_t>(j)] = 1;
    if (r.end <= from || r.end > keys) break;
    from = r.end;
  }
  ADD_FAILURE() << name << ": the ranges do not end";
  return covered;
}

template <class Bound>
void check_ranges(const Bound& bound, const Place& place, Draw& draw, const std::string& name) {
  for (int tile = 0; tile < 4; ++tile) {
    if (place.queries == 0) return;
    const Index i0 = draw.below(place.queries), i1 = draw.between(i0 + 1, std::min(place.queries, i0 + 16));
    const auto some =
        walk([&](Index from) { return bound.key_ranges(i0, i1, from); }, place.keys, name + " key_ranges");
    const auto all =
        walk([&](Index from) { return bound.full_ranges(i0, i1, from); }, place.keys, name + " full_ranges");
    for (Index j = 0; j < place.keys; ++j) {
      for (Index i = i0; i < i1; ++i) {
        const bool visible = bound.visible(static_cast<Position>(i), static_cast<Position>(j));
        ASSERT_TRUE(!visible || some[static_cast<std::size_t>(j)])
            << name << ": key " << j << " is visible to " << i << " outside key_ranges";
        ASSERT_TRUE(visible || !all[static_cast<std::size_t>(j)])
            << name << ": key " << j << " is hidden from " << i << " inside full_ranges";
      }
    }
    // A walk may start anywhere.
    const Index start = draw.between(0, place.keys);
    const KeyRange r = bound.key_ranges(i0, i1, start);
    for (Index j = start; j < r.begin; ++j)
      ASSERT_FALSE(some[static_cast<std::size_t>(j)] &&
                   [&] {
                     for (Index i = i0; i < i1; ++i) {
                       if (bound.visible(static_cast<Position>(i), static_cast<Position>(j))) return true;
                     }
                     return false;
                   }())
          << name << ": the walk from " << start << " skips " << j;
  }
}

inline Problem draw_problem(Draw& draw) {
  Problem problem{{0}, {0}};
  const Index sequences = draw.between(1, 3);
  for (Index s = 0; s < sequences; ++s) {
    problem.query_offsets.push_back(problem.query_offsets.back() + draw.between(0, 24));
    problem.key_offsets.push_back(problem.key_offsets.back() + draw.between(0, 40));
  }
  return problem;
}

/// Refers to the problem's offsets: those of a policy would go with it.
inline heed::Shape shape_of(const Problem& problem, Index heads = 1) {
  const auto layout = heed::sequences(problem.query_offsets, problem.key_offsets);
  heed::Shape shape = heed::detail::make_shape(heed::spec(layout, heed::heads(heads)), problem.queries(), heads,
                                               problem.keys(), heads, problem.keys(), heads);
  shape.query_offsets = problem.query_offsets.data();
  shape.key_offsets = problem.key_offsets.data();
  return shape;
}

}  // namespace heed_test

#endif
