// SPDX-License-Identifier: MIT
// Sparse patterns: what each shows, pair by pair, against its definition; ranges.
#include "mask_checks.hpp"

#include <limits>
#include <set>
#include <stdexcept>

#include <heed/mask/bigbird.hpp>
#include <heed/mask/block_sparse.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/chunked.hpp>
#include <heed/mask/dilated.hpp>
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

constexpr Index heads = 3;

/// A mask and what it should show: position p = i + off of the query, key j.
struct Pattern {
  Any mask;
  std::function<bool(const Place&, Index i, Index j)> want;
  bool exact = true;  ///< both kinds of ranges hold exactly what they should
};

std::string text(std::initializer_list<Index> numbers) {
  std::string list = "(";
  for (const Index n : numbers) list += (list.size() > 1 ? "," : "") + std::to_string(n);
  return list + ")";
}

Index off(const Place& place) { return place.keys - place.queries; }
/// Chunk of a position, also of a negative one, by counting.
Index chunk(Index position, Index size) {
  Index n = 0;
  while (position < 0) position += size, --n;
  while (position >= size) position -= size, ++n;
  return n;
}
bool one_of(const std::vector<Index>& list, Index x) {
  return std::find(list.begin(), list.end(), x) != list.end();
}

/// Sorted lists of numbers below `limit`: sparse, in runs, or nearly full.
struct Lists {
  std::vector<Index> offsets = {0}, items;

  void add(Draw& draw, Index limit) {
    const Index kind = draw.below(4);
    bool inside = false;
    for (Index x = 0; x < limit; ++x) {
      if (kind == 0) inside = draw.below(8) == 0;
      if (kind == 1) inside = draw.below(6) == 0 ? !inside : inside;
      if (kind == 2) inside = draw.below(12) != 0;
      if (inside) items.push_back(x);
    }
    offsets.push_back(static_cast<Index>(items.size()));
  }
  bool holds(Index list, Index x) const {
    const auto r = static_cast<std::size_t>(list);
    for (Index n = offsets[r]; n < offsets[r + 1]; ++n)
      if (items[static_cast<std::size_t>(n)] == x) return true;
    return false;
  }
};

Index longest(const std::vector<Index>& offsets) {
  Index most = 0;
  for (std::size_t s = 1; s < offsets.size(); ++s) most = std::max(most, offsets[s] - offsets[s - 1]);
  return most;
}

constexpr int kinds = 17;

Pattern draw_pattern(Draw& draw, const Problem& problem, int kind) {
  const Index size = draw.between(1, 12);
  switch (kind) {
    case 0: {
      const Index left = draw.between(-2, 8), right = draw.between(-left, 8), step = draw.between(1, 9);
      return {Any::of("dilated" + text({left, right, step}), heed::dilated(left, right, step)),
              [=](const Place& p, Index i, Index j) {
                for (Index t = -left; t <= right; ++t)
                  if (i + off(p) + t * step == j) return true;
                return false;
              }};
    }
    case 1: {
      const Index w = draw.below(6), step = draw.between(1, 30);
      return {
          Any::of("dilated" + text({w, step}), heed::dilated(w, step, heed::top_left)),
          [=](const Place&, Index i, Index j) { return std::abs(i - j) <= w * step && (i - j) % step == 0; }};
    }
    case 2: {
      const Index step = draw.between(1, 20), offset = draw.between(-50, 50);
      const bool past = draw.coin();
      return {Any::of("dilated(unbounded)" + text({step, offset}),
                      past ? heed::dilated(heed::unbounded, 0, step, offset)
                           : heed::dilated(0, heed::unbounded, step, offset)),
              [=](const Place&, Index i, Index j) {
                return (i + offset - j) % step == 0 && (past ? j <= i + offset : j >= i + offset);
              }};
    }
    case 3: {
      const std::vector<Index> l{draw.below(9), heed::unbounded, draw.below(30)},
          r{draw.below(9), draw.below(3), heed::unbounded};
      return {Any::of("windows", heed::windows(std::vector<Index>(l), std::vector<Index>(r))),
              [=](const Place& p, Index i, Index j) {
                const auto h = static_cast<std::size_t>(p.head);
                return j - i - off(p) >= -l[h] && j - i - off(p) <= r[h];
              }};
    }
    case 4:
      return {Any::of("chunked" + text({size}), heed::chunked(size)),
              [=](const Place& p, Index i, Index j) { return chunk(i + off(p), size) == chunk(j, size); }};
    case 5: {
      const Index before = draw.below(4), after = draw.below(3), offset = draw.between(-30, 30);
      return {Any::of("chunked" + text({size, before, after, offset}),
                      heed::chunked(size, before, after, offset)),
              [=](const Place&, Index i, Index j) {
                const Index apart = chunk(j, size) - chunk(i + offset, size);
                return -before <= apart && apart <= after;
              }};
    }
    case 6:
      return {Any::of("strided" + text({size}), heed::strided(size)),
              [=](const Place& p, Index i, Index j) {
                const Index at = i + off(p);
                return j <= at && (at - j <= size || (at - j) % size == 0);
              },
              false};
    case 7: {
      const Index c = draw.between(0, size);
      return {Any::of("fixed" + text({size, c}), heed::fixed(size, c)),
              [=](const Place& p, Index i, Index j) {
                const Index at = i + off(p);
                return j <= at && (chunk(at, size) == chunk(j, size) || j % size >= size - c);
              },
              false};
    }
    case 8: {
      const Index c = draw.between(0, size);
      return {Any::of("summary_keys" + text({size, c}), heed::summary_keys(size, c)),
              [=](const Place&, Index, Index j) { return j % size >= size - c; }};
    }
    case 9: {
      std::vector<Index> positions;
      for (Index n = draw.below(6); n > 0; --n) {
        positions.push_back(draw.below(50));
        if (draw.coin()) positions.push_back(positions.back() + 1);
      }
      const bool left = draw.coin();
      return {Any::of("global_tokens",
                      left ? heed::global_tokens(positions, heed::top_left) : heed::global_tokens(positions)),
              [=](const Place& p, Index i, Index j) {
                return one_of(positions, j) || one_of(positions, i + (left ? 0 : off(p)));
              }};
    }
    case 10: {
      const Index count = draw.below(9), where = draw.below(3), given = draw.below(60) - 30;
      const auto mask = where == 0   ? heed::global_tokens(count)
                        : where == 1 ? heed::global_tokens(count, heed::top_left)
                                     : heed::global_tokens(count, given);
      return {Any::of("global_tokens" + text({count, where, given}), mask),
              [=](const Place& p, Index i, Index j) {
                const Index position = i + (where == 0 ? off(p) : where == 1 ? 0 : given);
                return j < count || (position >= 0 && position < count);
              }};
    }
    case 11: {
      const Index count = draw.below(50);
      return {Any::of("prefix" + text({count}), heed::prefix(count) | heed::causal()),
              [=](const Place& p, Index i, Index j) { return j < count || j <= i + off(p); }};
    }
    case 12: {
      const Index w = draw.below(5), g = draw.below(4), step = draw.between(1, 6);
      return {Any::of("longformer" + text({w, g, step}), heed::longformer(w, g, step)),
              [=](const Place& p, Index i, Index j) {
                const Index at = i + off(p);
                return (std::abs(at - j) <= w * step && (at - j) % step == 0) || j < g || (at >= 0 && at < g);
              },
              false};
    }
    case 13: {
      const Index w = 1 + 2 * draw.below(2), g = draw.below(3), r = draw.below(4);
      const auto lots = heed::random_blocks(size, r, 5);
      return {Any::of("bigbird" + text({size, w, g, r}), heed::bigbird(size, w, g, r, 5)),
              [=](const Place& p, Index i, Index j) {
                const Index at = i + off(p);
                return std::abs(chunk(at, size) - chunk(j, size)) <= w / 2 || j < g * size ||
                       (at >= 0 && at < g * size) ||
                       lots.bind(p).visible(static_cast<Position>(i), static_cast<Position>(j));
              },
              false};
    }
    case 14: {
      const bool by_head = draw.coin();
      Lists lists;
      const Index rows = (longest(problem.query_offsets) + size - 1) / size,
                  columns = (longest(problem.key_offsets) + size - 1) / size;
      for (Index r = 0; r < rows * (by_head ? heads : 1); ++r) lists.add(draw, columns);
      return {Any::of("block_sparse" + text({size}),
                      heed::block_sparse(size, std::vector<Index>(lists.offsets),
                                         std::vector<Index>(lists.items), by_head ? heads : 1)),
              [=](const Place& p, Index i, Index j) {
                return lists.holds((by_head ? p.head * rows : 0) + chunk(i, size), chunk(j, size));
              }};
    }
    case 15: {
      const bool by_head = draw.coin();
      Lists lists;
      for (Index r = 0; r < problem.queries() * (by_head ? heads : 1); ++r)
        lists.add(draw, longest(problem.key_offsets));
      const Index rows = problem.queries();
      return {Any::of("key_lists", heed::key_lists(std::vector<Index>(lists.offsets),
                                                   std::vector<Index>(lists.items), by_head ? heads : 1)),
              [=](const Place& p, Index i, Index j) {
                return lists.holds((by_head ? p.head * rows : 0) + p.query_begin + i, j);
              },
              false};
    }
    default: {
      const Index r = draw.below(5);
      const auto lots = heed::random_blocks(size, r, static_cast<std::uint64_t>(draw.below(100)));
      return {Any::of("in_heads(1, 2, random_blocks)" + text({size, r}), heed::in_heads(1, 2, lots)),
              [=](const Place& p, Index i, Index j) {
                return p.head != 1 ||
                       lots.bind(p).visible(static_cast<Position>(i), static_cast<Position>(j));
              }};
    }
  }
}

/// Every range walk covers exactly the keys that some, or all, queries of a tile see.
template <class Bound, class Want>
void expect_exact(const Bound& bound, const Place& place, Index i0, Index i1, const Want& want,
                  const std::string& name) {
  const auto some = walk([&](Index from) { return bound.key_ranges(i0, i1, from); }, place.keys, name);
  const auto all = walk([&](Index from) { return bound.full_ranges(i0, i1, from); }, place.keys, name);
  for (Index j = 0; j < place.keys; ++j) {
    bool any = false, every = true;
    for (Index i = i0; i < i1; ++i) {
      any |= want(i, j);
      every &= want(i, j);
    }
    ASSERT_EQ(some[static_cast<std::size_t>(j)] != 0, any)
        << name << " key_ranges of queries " << i0 << " to " << i1 << ", key " << j;
    ASSERT_EQ(all[static_cast<std::size_t>(j)] != 0, every)
        << name << " full_ranges of queries " << i0 << " to " << i1 << ", key " << j;
  }
}

TEST(MaskPatterns, EachShowsItsDefinition) {
  Draw draw(31);
  for (int trial = 0; trial < 400 * kinds && !HasFailure(); ++trial) {
    const Problem problem = draw_problem(draw);
    const heed::Shape shape = shape_of(problem, heads);
    const Pattern pattern = draw_pattern(draw, problem, trial % kinds);
    const Place place = shape.place(draw.below(shape.sequences), draw.below(heads));
    const auto bound = pattern.mask.bind(place);
    const std::string name = pattern.mask.name + " N " + std::to_string(place.queries) + " M " +
                             std::to_string(place.keys) + " head " + std::to_string(place.head);
    Index pairs = 0;
    for (Index i = 0; i < place.queries; ++i)
      for (Index j = 0; j < place.keys; ++j) {
        const bool want = pattern.want(place, i, j);
        ASSERT_EQ(bound.visible(static_cast<Position>(i), static_cast<Position>(j)), want)
            << name << " i " << i << " j " << j;
        pairs += want ? 1 : 0;
      }
    ASSERT_EQ(heed::visible_pairs(pattern.mask, place), pairs) << name;
    check_ranges(bound, place, draw, name);
    if (!pattern.exact || place.queries == 0) continue;
    const Index i0 = draw.below(place.queries), i1 = draw.between(i0 + 1, place.queries);
    const auto want = [&](Index i, Index j) { return pattern.want(place, i, j); };
    expect_exact(bound, place, i0, i1, want, name);
    expect_exact(bound, place, i0, i0 + 1, want, name);
  }
}

TEST(MaskPatterns, RangesAgreeWithPairsOnRandomCompositions) {
  Draw draw(32);
  const auto draw_leaf = [](Draw& d, const Problem& problem) {
    return draw_pattern(d, problem, static_cast<int>(d.below(kinds))).mask;
  };
  for (int trial = 0; trial < 4000 && !HasFailure(); ++trial) {
    const Problem problem = draw_problem(draw);
    const heed::Shape shape = shape_of(problem, heads);
    const Any mask = compose(draw, problem, static_cast<int>(draw.between(1, 3)), draw_leaf);
    const Place place = shape.place(draw.below(shape.sequences), draw.below(heads));
    const auto bound = mask.bind(place);
    check_ranges(bound, place, draw, mask.name + " trial " + std::to_string(trial));
    Index pairs = 0;
    for (Position i = 0; i < place.queries; ++i)
      for (Position j = 0; j < place.keys; ++j) pairs += bound.visible(i, j) ? 1 : 0;
    ASSERT_EQ(heed::visible_pairs(mask, place), pairs) << mask.name;
  }
}

/// Blocks of 64 keys and more at once: lists that are longer than what is looked through in one go.
TEST(MaskPatterns, LongLists) {
  Draw draw(33);
  for (int trial = 0; trial < 60 && !HasFailure(); ++trial) {
    const Index n = 5, m = 700;
    Lists lists;
    std::vector<std::vector<bool>> sees(static_cast<std::size_t>(n), std::vector<bool>(m));
    const Index mean = draw.between(1, 150);
    for (auto& row : sees) {
      bool inside = draw.coin();
      for (Index j = 0; j < m; ++j) {
        if (draw.below(mean) == 0) inside = !inside;
        row[static_cast<std::size_t>(j)] = inside;
        if (inside) lists.items.push_back(j);
      }
      lists.offsets.push_back(static_cast<Index>(lists.items.size()));
    }
    const Place place{n, m, 0, 0, 1, 1, 0, 0, m};
    const auto mask = heed::key_lists(lists.offsets, lists.items);
    const auto blocks = heed::block_sparse(1, lists.offsets, lists.items);
    const auto want = [&](Index i, Index j) {
      return bool(sees[static_cast<std::size_t>(i)][static_cast<std::size_t>(j)]);
    };
    Index pairs = 0;
    for (Index i = 0; i < n; ++i)
      for (Index j = 0; j < m; ++j) pairs += want(i, j) ? 1 : 0;
    EXPECT_EQ(heed::visible_pairs(mask, n, m), pairs);
    EXPECT_EQ(heed::visible_pairs(blocks, place), pairs);
    EXPECT_EQ(heed::visible_pairs(!mask, place), n * m - pairs);
    check_ranges(mask.bind(place), place, draw, "key_lists");
    check_ranges(blocks.bind(place), place, draw, "block_sparse");
    for (Index i = 0; i < n; ++i) expect_exact(blocks.bind(place), place, i, i + 1, want, "block_sparse");
  }
}

}  // namespace
