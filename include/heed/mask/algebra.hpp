// SPDX-License-Identifier: MIT
/// @file
/// Masks form an algebra: a & b sees what both see, a | b what either sees, !a what a does not.
/// It is closed over key ranges and allocates nothing: & intersects both kinds of range, | unites both, and !
/// swaps the two kinds and complements each, because a key that not every query sees of a may be seen by some
/// query of !a.
#ifndef HEED_MASK_ALGEBRA_HPP
#define HEED_MASK_ALGEBRA_HPP

#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// A mask's keys or its full keys, as a callable that gives the first stretch at or after a key.
template <bool full, class Bound>
struct Stretches {
  const Bound& mask;
  Index keys, i0, i1;

  HEED_INLINE KeyRange operator()(Index from) const {
    if constexpr (full) {
      return full_ranges(mask, keys, i0, i1, from);
    } else {
      return key_ranges(mask, keys, i0, i1, from);
    }
  }
};

template <bool full, class Bound>
HEED_INLINE Stretches<full, Bound> stretches(const Bound& mask, Index keys, Index i0, Index i1) {
  return {mask, keys, i0, i1};
}

/// First stretch at or after `from` that lies in both.
template <class A, class B>
HEED_INLINE KeyRange intersection(const A& a, const B& b, Index keys, Index from) {
  KeyRange x = a(from), y = b(from);
  while (!x.empty() && !y.empty()) {
    if (x.end <= y.begin) {
      x = a(y.begin);
    } else if (y.end <= x.begin) {
      y = b(x.begin);
    } else {
      return {x.begin > y.begin ? x.begin : y.begin, x.end < y.end ? x.end : y.end};
    }
  }
  return {keys, keys};
}

/// First stretch at or after `from` that lies in either; stretches that touch become one.
template <class A, class B>
HEED_INLINE KeyRange unison(const A& a, const B& b, Index keys, Index from) {
  KeyRange x = a(from), y = b(from);
  if (x.empty() && y.empty()) return {keys, keys};
  KeyRange r = y.empty() || (!x.empty() && x.begin <= y.begin) ? x : y;
  for (;;) {
    if (!x.empty() && x.end <= r.end) x = a(r.end);
    if (!y.empty() && y.end <= r.end) y = b(r.end);
    if (!x.empty() && x.begin <= r.end) {
      r.end = x.end;
    } else if (!y.empty() && y.begin <= r.end) {
      r.end = y.end;
    } else {
      return r;
    }
  }
}

/// First stretch at or after `from` that lies outside.
template <class A>
HEED_INLINE KeyRange complement(const A& a, Index keys, Index from) {
  while (from < keys) {
    const KeyRange x = a(from);
    if (x.empty()) return {from, keys};
    if (x.begin > from) return {from, x.begin};
    from = x.end;
  }
  return {keys, keys};
}

/// Whether asking about a pair calls a user's functor. Such a mask is asked last, and only when the answer is
/// still open: `causal() & mask_where(f)` calls f on causal pairs alone, in either order. All others are
/// asked without branches, so that a loop over queries vectorises.
template <class Bound>
constexpr bool asks_user() {
  if constexpr (requires { Bound::asks_user; }) {
    return Bound::asks_user;
  } else {
    return false;
  }
}

template <class A, class B>
struct BoundAnd {
  static constexpr bool asks_user = detail::asks_user<A>() || detail::asks_user<B>();
  Index keys;
  A a;
  B b;

  HEED_INLINE bool visible(Position i, Position j) const {
    if constexpr (detail::asks_user<B>()) {
      return a.visible(i, j) && b.visible(i, j);
    } else if constexpr (detail::asks_user<A>()) {
      return b.visible(i, j) && a.visible(i, j);
    } else {
      return bool(int(a.visible(i, j)) & int(b.visible(i, j)));
    }
  }
  HEED_NOINLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    return intersection(stretches<false>(a, keys, i0, i1), stretches<false>(b, keys, i0, i1), keys, from);
  }
  HEED_NOINLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    return intersection(stretches<true>(a, keys, i0, i1), stretches<true>(b, keys, i0, i1), keys, from);
  }
};

template <class A, class B>
struct BoundOr {
  static constexpr bool asks_user = detail::asks_user<A>() || detail::asks_user<B>();
  Index keys;
  A a;
  B b;

  HEED_INLINE bool visible(Position i, Position j) const {
    if constexpr (detail::asks_user<B>()) {
      return a.visible(i, j) || b.visible(i, j);
    } else if constexpr (detail::asks_user<A>()) {
      return b.visible(i, j) || a.visible(i, j);
    } else {
      return bool(int(a.visible(i, j)) | int(b.visible(i, j)));
    }
  }
  HEED_NOINLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    return unison(stretches<false>(a, keys, i0, i1), stretches<false>(b, keys, i0, i1), keys, from);
  }
  HEED_NOINLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    return unison(stretches<true>(a, keys, i0, i1), stretches<true>(b, keys, i0, i1), keys, from);
  }
};

template <class A>
struct BoundNot {
  static constexpr bool asks_user = detail::asks_user<A>();
  Index keys;
  A a;

  HEED_INLINE bool visible(Position i, Position j) const { return !a.visible(i, j); }
  HEED_NOINLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    return complement(stretches<true>(a, keys, i0, i1), keys, from);
  }
  HEED_NOINLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    return complement(stretches<false>(a, keys, i0, i1), keys, from);
  }
};

template <class P>
HEED_INLINE void check_policy(const P& p, const Shape& shape) {
  if constexpr (requires { p.check(shape); }) p.check(shape);
}

}  // namespace detail

/// a & b: the pairs that both masks show.
template <mask A, mask B>
struct AndMask : mask_tag {
  A a;
  B b;
  AndMask(A a_, B b_) : a(std::move(a_)), b(std::move(b_)) {}
  void check(const Shape& shape) const { detail::check_policy(a, shape), detail::check_policy(b, shape); }
  auto bind(const Place& place) const {
    return detail::BoundAnd<decltype(a.bind(place)), decltype(b.bind(place))>{place.keys, a.bind(place),
                                                                              b.bind(place)};
  }
};

/// a | b: the pairs that at least one mask shows.
template <mask A, mask B>
struct OrMask : mask_tag {
  A a;
  B b;
  OrMask(A a_, B b_) : a(std::move(a_)), b(std::move(b_)) {}
  void check(const Shape& shape) const { detail::check_policy(a, shape), detail::check_policy(b, shape); }
  auto bind(const Place& place) const {
    return detail::BoundOr<decltype(a.bind(place)), decltype(b.bind(place))>{place.keys, a.bind(place),
                                                                             b.bind(place)};
  }
};

/// !a: the pairs that the mask does not show.
template <mask A>
struct NotMask : mask_tag {
  A a;
  explicit NotMask(A a_) : a(std::move(a_)) {}
  void check(const Shape& shape) const { detail::check_policy(a, shape); }
  auto bind(const Place& place) const {
    return detail::BoundNot<decltype(a.bind(place))>{place.keys, a.bind(place)};
  }
};

namespace detail {

/// The mask of type Wanted of an intersection; `found` is false where there is none, or two.
template <class Wanted, class M>
struct ConjunctOf {
  static constexpr bool found = std::is_same_v<Wanted, M>;
  static const Wanted& of(const M& m) { return m; }
};
template <class Wanted, class A, class B>
struct ConjunctOf<Wanted, AndMask<A, B>> {
  static constexpr bool found = ConjunctOf<Wanted, A>::found != ConjunctOf<Wanted, B>::found;
  static const Wanted& of(const AndMask<A, B>& m) {
    if constexpr (ConjunctOf<Wanted, A>::found)
      return ConjunctOf<Wanted, A>::of(m.a);
    else
      return ConjunctOf<Wanted, B>::of(m.b);
  }
};

}  // namespace detail

/// The pairs that both masks show. Cost of a pair: both masks'.
template <mask A, mask B>
auto operator&(A&& a, B&& b) {
  return AndMask<std::remove_cvref_t<A>, std::remove_cvref_t<B>>(std::forward<A>(a), std::forward<B>(b));
}
/// The pairs that either mask shows.
template <mask A, mask B>
auto operator|(A&& a, B&& b) {
  return OrMask<std::remove_cvref_t<A>, std::remove_cvref_t<B>>(std::forward<A>(a), std::forward<B>(b));
}
/// The pairs that the mask hides.
template <mask A>
auto operator!(A&& a) {
  return NotMask<std::remove_cvref_t<A>>(std::forward<A>(a));
}

}  // namespace heed::inline HEED_ABI

#endif
