// SPDX-License-Identifier: MIT
/// @file
/// in_heads(first, last, mask): a mask for some of the heads.
#ifndef HEED_MASK_IN_HEADS_HPP
#define HEED_MASK_IN_HEADS_HPP

#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/when.hpp>
#include <heed/mask/algebra.hpp>

namespace heed::inline HEED_ABI {

/// The policy made by in_heads().
template <mask P>
struct InHeads : mask_tag {
  Index first;
  Index last;
  P policy;

  InHeads(Index f, Index l, P p) : first(f), last(l), policy(std::move(p)) {}

  void check(const Shape& shape) const {
    if (first < 0 || last < first || last > shape.heads)
      detail::fail("in_heads: heads ", first, " to ", last, " of ", shape.heads);
    detail::check_policy(policy, shape);
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(first, last, policy);
  }
  auto bind(const Place& place) const {
    using Bound = std::remove_cvref_t<decltype(policy.bind(place))>;
    const bool active = first <= place.head && place.head < last;
    return detail::BoundMaskWhen<Bound>{active, detail::bind_if(active, policy, place), place.keys};
  }
};

/// The mask in query heads first <= h < last; the others see everything. Heads of different patterns are an
/// intersection: `in_heads(0, 4, strided_local(l)) & in_heads(4, 8, strided_column(l))`. Heads that do not
/// exist are an std::invalid_argument.
template <mask P>
auto in_heads(Index first, Index last, P&& p) {
  return InHeads<std::remove_cvref_t<P>>(first, last, std::forward<P>(p));
}

}  // namespace heed::inline HEED_ABI

#endif
