// SPDX-License-Identifier: MIT
/// @file
/// Rules: everything that a spec says about the pairs of one sequence and head. This is all that an engine
/// asks.
#ifndef HEED_CORE_RULES_HPP
#define HEED_CORE_RULES_HPP

#include <cstddef>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>

namespace heed::inline HEED_ABI::detail {

template <std::size_t I, class T>
struct Leaf {
  T value;
};
template <class Sequence, class... T>
struct PackOf;
template <std::size_t... I, class... T>
struct PackOf<std::index_sequence<I...>, T...> : Leaf<I, T>... {};

/// A tuple that is an aggregate, hence trivially copyable when its members are (std::tuple is not), and cheap
/// to compile.
template <class... T>
using Pack = PackOf<std::make_index_sequence<sizeof...(T)>, T...>;

template <std::size_t I, class T>
HEED_INLINE constexpr T& get(Leaf<I, T>& leaf) {
  return leaf.value;
}
template <std::size_t I, class T>
HEED_INLINE constexpr const T& get(const Leaf<I, T>& leaf) {
  return leaf.value;
}

/// The bound mask of a spec without masks.
struct Everything {
  Index keys;

  HEED_INLINE constexpr bool visible(Position, Position) const { return true; }
  HEED_INLINE constexpr KeyRange key_ranges(Index, Index, Index from) const {
    return clip(0, keys, from, keys);
  }
  HEED_INLINE constexpr KeyRange full_ranges(Index, Index, Index from) const {
    return clip(0, keys, from, keys);
  }
};

template <class Term>
constexpr int parameters_of() {
  if constexpr (requires { Term::parameters; })
    return Term::parameters;
  else
    return 0;
}

/// Does a bound term add a function of i - j alone, added(i, j), which may be asked about queries and keys
/// that do not exist?
template <class Term>
concept adds_by_distance = requires {
  requires Term::adds_by_distance;
};

/// Does a bound term add data[i · row_stride + j · col_stride], numbers of type T?
template <class Term, class T>
concept adds_from_memory = std::is_same_v<typename Term::adds_from_memory, T>;

/// Is a bound term c tanh(s / c), with c a number called `cap`?
template <class Term>
concept caps = requires {
  requires Term::caps;
};

/// The bound dropout of a spec without one.
struct NothingDropped {
  static constexpr bool drops = false;
};

/// One sequence and head: the intersection of its masks, its terms in the order in which they act, and which
/// weights are dropped. Trivially copyable; points into the spec it was bound from, which must outlive it. To
/// be copied, not assigned. T is the accumulator of the pass that asks.
template <class T, class Dropped, class BoundMask, class... BoundTerms>
struct Rules {
  using scalar_type = T;
  static constexpr bool has_mask = !std::is_same_v<BoundMask, Everything>;
  static constexpr bool has_terms = sizeof...(BoundTerms) > 0;
  /// A term may return -inf, which makes its pair invisible.
  static constexpr bool may_hide = (false || ... || BoundTerms::may_hide);
  static constexpr bool drops = Dropped::drops;
  /// All that the terms do is to add functions of i - j.
  static constexpr bool adds_by_distance = sizeof...(BoundTerms) > 0 &&
                                           (true && ... && detail::adds_by_distance<BoundTerms>);
  /// All that the terms do is to add one number of type S from memory.
  template <class S>
  static constexpr bool adds_from_memory = sizeof...(BoundTerms) == 1 &&
                                           (true && ... && detail::adds_from_memory<BoundTerms, S>);
  /// The one term is a softcap.
  static constexpr bool caps = sizeof...(BoundTerms) == 1 && (true && ... && detail::caps<BoundTerms>);
  /// Learnable numbers of the terms.
  static constexpr int parameters = (0 + ... + parameters_of<BoundTerms>());

  Index keys;
  Dropped dropped;
  BoundMask mask;
  Pack<BoundTerms...> terms;

  HEED_INLINE Rules<T, Dropped, BoundMask> without_terms() const { return {keys, dropped, mask, {}}; }

  HEED_INLINE bool visible(Position i, Position j) const { return mask.visible(i, j); }
  HEED_INLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    return detail::key_ranges(mask, keys, i0, i1, from);
  }
  HEED_INLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    return detail::full_ranges(mask, keys, i0, i1, from);
  }
  /// The final score, in natural units, from the scaled one. S: float, double, any scalar, a dual number.
  template <class S>
  HEED_INLINE S score(S scaled, Position i, Position j) const {
    return score_after_bias(score_through_bias(scaled, i, j), i, j);
  }
  /// What it adds to the scaled one, where all terms add functions of i - j; great numbers may overflow.
  template <class S>
  HEED_INLINE S added(Position i, Position j) const {
    return added_by<S>(i, j, std::index_sequence_for<BoundTerms...>{});
  }
  /// The first part of it: everything up to the biases, which are added here,
  template <class S>
  HEED_INLINE S score_through_bias(S scaled, Position i, Position j) const {
    return score_in_order<true>(scaled, i, j, std::index_sequence_for<BoundTerms...>{});
  }
  /// and the rest: functions of the score.
  template <class S>
  HEED_INLINE S score_after_bias(S sum, Position i, Position j) const {
    return score_in_order<false>(sum, i, j, std::index_sequence_for<BoundTerms...>{});
  }

  template <class S, std::size_t... I>
  HEED_INLINE S added_by(Position i, Position j, std::index_sequence<I...>) const {
    return (S(0) + ... + detail::get<I>(terms).template added<S>(i, j));
  }
  template <bool through_bias, class S, std::size_t... I>
  HEED_INLINE S score_in_order(S s, Position i, Position j, std::index_sequence<I...>) const {
    (void)i, (void)j;
    const auto apply = [&](const auto& term) {
      if constexpr ((std::remove_cvref_t<decltype(term)>::stage <= stage::bias) == through_bias)
        s = term(s, i, j);
    };
    (void)apply;
    (apply(detail::get<I>(terms)), ...);
    return s;
  }
};

}  // namespace heed::inline HEED_ABI::detail

#endif
