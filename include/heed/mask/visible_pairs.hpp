// SPDX-License-Identifier: MIT
/// @file
/// visible_pairs(mask, n, m): how many pairs a mask shows, which is what a call costs.
#ifndef HEED_MASK_VISIBLE_PAIRS_HPP
#define HEED_MASK_VISIBLE_PAIRS_HPP

#include <concepts>
#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/spec.hpp>

namespace heed::inline HEED_ABI {

/// What says which pairs exist: a mask, or a spec with its masks, heads and sequences.
template <class P>
concept pattern = mask<P> || std::derived_from<std::remove_cvref_t<P>, spec_tag>;

namespace detail {

/// Visible pairs of queries [i0, i1) and keys [begin, end). What some see and others do not is asked again
/// of fewer queries, and pair by pair only where a single query has no answer in ranges.
template <class Bound>
Index count_visible(const Bound& mask, Index keys, Index i0, Index i1, Index begin, Index end) {
  Index count = 0;
  for (Index from = begin; from < end;) {
    KeyRange some = key_ranges(mask, keys, i0, i1, from);
    if (some.empty() || some.begin >= end) break;
    if (some.end > end) some.end = end;
    const KeyRange full = full_ranges(mask, keys, i0, i1, some.begin);
    from = some.end;
    if (!full.empty() && full.begin <= some.begin) {
      if (full.end < from) from = full.end;
      count += (i1 - i0) * (from - some.begin);
      continue;
    }
    if (!full.empty() && full.begin < from) from = full.begin;
    if (i1 - i0 > 1) {
      const Index part = i1 - i0 > 256 ? 256 : i1 - i0 > 16 ? 16 : 1;
      for (Index i = i0; i < i1; i += part)
        count += count_visible(mask, keys, i, i + part < i1 ? i + part : i1, some.begin, from);
    } else {
      for (Index j = some.begin; j < from; ++j)
        count += mask.visible(static_cast<Position>(i0), static_cast<Position>(j)) ? 1 : 0;
    }
  }
  return count;
}

/// A mask is asked as it is, a spec for the intersection of its masks.
template <class P>
auto bind_pairs(const P& p, const Place& place) {
  if constexpr (std::derived_from<P, spec_tag>)
    return p.template bind<double>(place);
  else
    return p.bind(place);
}

/// The shape of n queries and m keys under the heads and sequences of a mask or spec, checked by it.
template <class P>
Shape shape_of_pairs(const P& p, Index n, Index m) {
  if constexpr (std::derived_from<P, spec_tag>) {
    Index heads = 1, key_heads = 1;
    if constexpr (has_policy<P, layout_tag>) {
      heads = p.template find<layout_tag>()->heads;
      key_heads = p.template find<layout_tag>()->key_heads;
    }
    return make_shape(p, n, heads, m, key_heads, m, key_heads);
  } else {
    return make_shape(spec(p), n, 1, m, 1, m, 1);
  }
}

}  // namespace detail

/// Visible pairs of one sequence and head; as Shape::place() gives it, or made by hand. The mask is not
/// checked.
template <pattern P>
Index visible_pairs(const P& p, const Place& place) {
  if (place.queries == 0 || place.keys == 0) return 0;
  return detail::count_visible(detail::bind_pairs(p, place), place.keys, 0, place.queries, 0, place.keys);
}

/// Visible pairs of all sequences and query heads of a problem.
template <pattern P>
Index visible_pairs(const P& p, const Shape& shape) {
  Index count = 0;
  for (Index s = 0; s < shape.sequences; ++s)
    for (Index h = 0; h < shape.heads; ++h) count += visible_pairs(p, shape.place(s, h));
  return count;
}

/// Σ over sequences, query heads, i < n and j < m of [the mask shows (i, j)]: the number of pairs that a call
/// computes, each d + d_v multiply-adds forward. A mask is asked for one sequence and head, a spec
/// for its heads() and sequences(), with n rows of q and m of k over all sequences:
/// `visible_pairs(spec(heads(8), windows(w)), n, m)`. What does not fit is an std::invalid_argument. Terms
/// that hide pairs (a bias of -inf) do not count. Full stretches are counted
/// by their lengths: O(N) questions to causal() or a window, O(N·M) only where a mask has no key ranges.
template <pattern P>
Index visible_pairs(const P& p, Index n, Index m) {
  return visible_pairs(p, detail::shape_of_pairs(p, n, m));
}

}  // namespace heed::inline HEED_ABI

#endif
