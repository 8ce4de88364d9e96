// SPDX-License-Identifier: MIT
/// @file
/// when(flag, policy): a policy that is chosen at run time.
#ifndef HEED_CORE_WHEN_HPP
#define HEED_CORE_WHEN_HPP

#include <limits>
#include <memory>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/functions.hpp>
#include <heed/mask/algebra.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// A bound policy or none, still trivially copyable. What is not active is not even bound: its sizes may be
/// wrong.
template <class Bound>
union Perhaps {
  char nothing;
  Bound bound;

  constexpr Perhaps() : nothing(0) {
    if constexpr (std::is_default_constructible_v<Bound>) std::construct_at(&bound);
  }
  explicit constexpr Perhaps(const Bound& b) : bound(b) {}
};

template <class P>
auto bind_if(bool active, const P& p, const Place& place) {
  using Bound = std::remove_cvref_t<decltype(p.bind(place))>;
  return active ? Perhaps<Bound>(p.bind(place)) : Perhaps<Bound>();
}

template <class Bound>
struct BoundMaskWhen {
  static constexpr bool asks_user = detail::asks_user<Bound>();
  bool active;
  Perhaps<Bound> mask;
  Index keys;

  HEED_INLINE bool visible(Position i, Position j) const { return !active || mask.bound.visible(i, j); }
  HEED_INLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    return active ? detail::key_ranges(mask.bound, keys, i0, i1, from) : clip(0, keys, from, keys);
  }
  HEED_INLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    return active ? detail::full_ranges(mask.bound, keys, i0, i1, from) : clip(0, keys, from, keys);
  }
};

/// What a bound term asks of numbers of type S (core/differentiable.hpp), if it asks anything.
template <class Bound, class S>
struct MustTake {
  using type = char;
};
template <class Bound, class S>
  requires requires { typename Bound::template must_take<S>; }
struct MustTake<Bound, S> {
  using type = typename Bound::template must_take<S>;
};

template <class Bound>
struct BoundTermWhen {
  static constexpr int stage = Bound::stage;
  static constexpr bool may_hide = Bound::may_hide;
  bool active;
  Perhaps<Bound> term;

  template <class S>
  using must_take = typename MustTake<Bound, S>::type;

  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    // A term that may hide pairs reads memory or calls a functor, so it is asked only when active. The others
    // are arithmetic on their own numbers: asked in either case, so that a loop over lanes keeps no branch
    // and vectorises.
    if constexpr (!may_hide && (std::is_same_v<S, float> || std::is_same_v<S, double>)) {
      return blend(active, S(term.bound(s, i, j)), s);
    } else {
      if (!active) return s;
      return term.bound(s, i, j);
    }
  }
};

}  // namespace detail

/// A mask that hides nothing unless `active`.
template <mask P>
struct MaskWhen : mask_tag {
  using chosen = P;
  bool active;
  P policy;

  MaskWhen(bool flag, P p) : active(flag), policy(std::move(p)) {}
  void check(const Shape& shape) const {
    if (active) detail::check_policy(policy, shape);
  }
  auto bind(const Place& place) const {
    using Bound = std::remove_cvref_t<decltype(policy.bind(place))>;
    return detail::BoundMaskWhen<Bound>{active, detail::bind_if(active, policy, place), place.keys};
  }
};

/// A term that changes nothing unless `active`.
template <term P>
struct TermWhen : term_tag {
  using chosen = P;
  bool active;
  P policy;

  TermWhen(bool flag, P p) : active(flag), policy(std::move(p)) {}
  void check(const Shape& shape) const {
    if (active) detail::check_policy(policy, shape);
  }
  template <class T>
  void check_value() const {
    if constexpr (requires { policy.template check_value<T>(); })
      if (active) policy.template check_value<T>();
  }
  auto bind(const Place& place) const {
    using Bound = std::remove_cvref_t<decltype(policy.bind(place))>;
    return detail::BoundTermWhen<Bound>{active, detail::bind_if(active, policy, place)};
  }
};

/// A scale that leaves 1/sqrt(d) unless `active`.
template <scale_policy P>
struct ScaleWhen : scale_tag {
  using chosen = P;
  bool active;
  P policy;

  ScaleWhen(bool flag, P p) : active(flag), policy(std::move(p)) {}
  template <class T>
  void check_value() const {
    if constexpr (requires { policy.template check_value<T>(); })
      if (active) policy.template check_value<T>();
  }
  bool given() const { return active && policy.given(); }
  template <class T>
  T value() const {
    return policy.template value<T>();
  }
  void check(const Shape& shape) const {
    if (active) detail::check_policy(policy, shape);
  }
};

/// No sink unless `active`.
template <class P>
struct SinkWhen : sink_tag {
  using chosen = P;
  bool active;
  P policy;

  SinkWhen(bool flag, P p) : active(flag), policy(std::move(p)) {}
  void check(const Shape& shape) const {
    if (active) detail::check_policy(policy, shape);
  }
  template <class T>
  T value(Index head) const {
    return active ? policy.template value<T>(head) : T(-std::numeric_limits<double>::infinity());
  }
};

/// The policy if `flag` is true, else nothing: `when(decoder, causal())`. For masks, terms of the score,
/// scale(), sink() and dropout(). What is off is not checked either.
template <class P>
auto when(bool flag, P&& p) {
  using Policy = std::remove_cvref_t<P>;
  static_assert(mask<P> || term<P> || scale_policy<P> || sink_policy<P> || dropout_policy<P>,
                "heed: when() chooses masks, terms of the score (softcap, alibi, bias, score_with), scale(), "
                "sink() and dropout()");
  if constexpr (mask<P>) {
    return MaskWhen<Policy>(flag, std::forward<P>(p));
  } else if constexpr (term<P>) {
    return TermWhen<Policy>(flag, std::forward<P>(p));
  } else if constexpr (sink_policy<P>) {
    return SinkWhen<Policy>(flag, std::forward<P>(p));
  } else if constexpr (dropout_policy<P>) {
    return flag ? Policy(std::forward<P>(p)) : Policy(0, p.seed);
  } else {
    return ScaleWhen<Policy>(flag, std::forward<P>(p));
  }
}

}  // namespace heed::inline HEED_ABI

#endif
