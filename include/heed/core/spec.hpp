// SPDX-License-Identifier: MIT
/// @file
/// spec(policies...): one bundle that says everything about a variant, in any order.
#ifndef HEED_CORE_SPEC_HPP
#define HEED_CORE_SPEC_HPP

#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/rules.hpp>
#include <heed/core/shape.hpp>
#include <heed/mask/algebra.hpp>
#include <heed/select/row_selection.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

template <class Tag, class... P>
inline constexpr int count_of = (0 + ... + int(std::derived_from<P, Tag>));

/// Number of the first policy that derives from Tag, or sizeof...(P).
template <class Tag, class... P>
constexpr std::size_t first_of() {
  std::size_t n = 0;
  (void)((std::derived_from<P, Tag> ? true : (++n, false)) || ...);
  return n;
}

template <class P>
using bound_t = decltype(std::declval<const P&>().bind(std::declval<const Place&>()));

/// Which of P... are terms, in the order in which they act (stable by stage); which are masks, in the order
/// given.
template <std::size_t N>
struct Order {
  std::size_t at[N + 1] = {};
  std::size_t size = 0;
};

template <class P>
constexpr int stage_of() {
  if constexpr (term<P>) {
    return bound_t<P>::stage;
  } else {
    return -1;
  }
}

template <class... P>
constexpr auto term_order() {
  constexpr std::size_t n = sizeof...(P);
  const int stages[n + 1] = {stage_of<P>()..., -1};
  Order<n> order;
  for (std::size_t i = 0; i < n; ++i) {
    if (stages[i] < 0) continue;
    std::size_t at = order.size++;
    for (; at > 0 && stages[order.at[at - 1]] > stages[i]; --at) order.at[at] = order.at[at - 1];
    order.at[at] = i;
  }
  return order;
}

/// The places of those that are found, in the order given.
template <bool... found>
constexpr auto order_of() {
  constexpr std::size_t n = sizeof...(found);
  const bool all[n + 1] = {found..., false};
  Order<n> order;
  for (std::size_t i = 0; i < n; ++i)
    if (all[i]) order.at[order.size++] = i;
  return order;
}

HEED_INLINE Everything intersect_all(Index keys) { return {keys}; }
template <class A>
HEED_INLINE A intersect_all(Index, const A& a) {
  return a;
}
template <class A, class B, class... More>
HEED_INLINE auto intersect_all(Index keys, const A& a, const B& b, const More&... more) {
  return intersect_all(keys, BoundAnd<A, B>{keys, a, b}, more...);
}

template <class T, class Dropped, class Mask, class... Terms>
HEED_INLINE Rules<T, Dropped, Mask, Terms...> make_rules(Index keys, const Dropped& dropped, const Mask& mask,
                                                         const Terms&... terms) {
  return {keys, dropped, mask, {{terms}...}};
}

}  // namespace detail

/// The policies of one variant; itself a policy. Copying is cheap: what is owned is shared.
template <class... P>
class Spec : public spec_tag {
  static_assert(detail::count_of<selection_tag, P...> <= 1,
                "heed: two selections in one spec; a row of scores becomes weights in one way");
  static_assert(detail::count_of<layout_tag, P...> <= 1, "heed: two heads() in one spec");
  static_assert(detail::count_of<sequences_tag, P...> <= 1, "heed: two sequences() in one spec");
  static_assert(detail::count_of<score_tag, P...> <= 1,
                "heed: two scores in one spec; a query and a key make a score in one way");
  static_assert(detail::count_of<score_gradient_tag, P...> <= 1, "heed: two score_gradient() in one spec");
  static_assert(detail::count_of<scale_tag, P...> <= 1, "heed: two scales in one spec");
  static_assert(detail::count_of<sink_tag, P...> <= 1, "heed: two sink() in one spec");
  static_assert(detail::count_of<dropout_tag, P...> <= 1, "heed: two dropout() in one spec");
  static_assert(detail::count_of<save_tag, P...> <= 1, "heed: two save() in one spec");
  static_assert(detail::count_of<executor_tag, P...> <= 1, "heed: two executors in one spec");
  static_assert(detail::count_of<into_tag, P...> <= 1, "heed: two into() in one spec");
  static_assert(detail::count_of<bias_gradient_tag, P...> <= 1, "heed: two bias_gradient() in one spec");
  static_assert(detail::count_of<sink_gradient_tag, P...> <= 1, "heed: two sink_gradient() in one spec");
  static_assert(detail::count_of<parameter_gradient_tag, P...> <= 1,
                "heed: two parameter_gradient() in one spec");
  static_assert(detail::count_of<weight_function_tag, P...> <= 1, "heed: two weight_with() in one spec");
  static_assert(detail::count_of<weight_parameter_gradient_tag, P...> <= 1,
                "heed: two weight_parameter_gradient() in one spec");
  static_assert(detail::count_of<alpha_gradient_tag, P...> <= 1, "heed: two alpha_gradient() in one spec");
  static_assert(detail::count_of<relative_bias_tag, P...> <= 1, "heed: two t5_bias() in one spec");
  static_assert(detail::count_of<relative_bias_gradient_tag, P...> <= 1,
                "heed: two t5_bias_gradient() in one spec");
  static_assert(detail::count_of<lse_gradient_tag, P...> <= 1, "heed: two lse_gradient() in one spec");
  static_assert(detail::count_of<workspace_tag, P...> <= 1, "heed: two workspaces in one spec");

  static constexpr auto terms_ = detail::term_order<P...>();
  static constexpr auto masks_ = detail::order_of<mask<P>...>();

 public:
  static constexpr bool has_mask = masks_.size > 0;
  static constexpr bool has_terms = terms_.size > 0;

  explicit constexpr Spec(detail::Pack<P...> parts) : parts_(std::move(parts)) {}

  const detail::Pack<P...>& parts() const& { return parts_; }
  detail::Pack<P...>&& parts() && { return std::move(parts_); }

  /// The first policy that derives from Tag, or nullptr (of type std::nullptr_t).
  template <class Tag>
  auto find() const {
    constexpr std::size_t at = detail::first_of<Tag, P...>();
    if constexpr (at < sizeof...(P)) {
      return &detail::get<at>(parts_);
    } else {
      return nullptr;
    }
  }
  auto executor() const { return find<executor_tag>(); }
  auto save() const { return find<save_tag>(); }

  /// The rules of one sequence and head. They point into this spec.
  template <class T>
  auto bind(const Place& place) const {
    return bind_parts<T>(place, std::make_index_sequence<masks_.size>{},
                         std::make_index_sequence<terms_.size>{});
  }

  /// The factor of scores: scale(x) if given, else 1/sqrt(d) for dot products of length d and 1 for others.
  template <class T>
  T scale(Index d) const {
    if constexpr (detail::count_of < scale_tag, P... >> 0) {
      if (find<scale_tag>()->given()) return find<scale_tag>()->template value<T>();
    }
    using std::sqrt;
    if constexpr (detail::count_of<score_tag, P...> == 1) {
      return T(1);
    } else if constexpr (std::is_floating_point_v<T>) {
      return T(1) / sqrt(static_cast<T>(d));
    } else {
      return T(1) / T(sqrt(T(static_cast<double>(d))));
    }
  }

  /// The sink of a query head, in natural units; -inf where there is none.
  template <class T>
  T sink(Index head) const {
    if constexpr (detail::count_of<sink_tag, P...> == 1)
      return find<sink_tag>()->template value<T>(head);
    else
      return T(-std::numeric_limits<double>::infinity());
  }

  /// Does a function change weights after the selection?
  static constexpr bool changes_weights = detail::count_of<weight_function_tag, P...> == 1;
  /// Are whole rows of scores needed before any weight is known?
  static constexpr bool selects_rows = changes_weights || detail::count_of<row_selection_tag, P...> == 1;
  /// How a row of one sequence and head becomes weights, where whole rows are needed.
  auto bind_selection(const Place& place) const {
    if constexpr (detail::count_of<row_selection_tag, P...> == 1)
      return find<row_selection_tag>()->bind_selection(place);
    else
      return (void)place, detail::BoundRank();
  }
  /// What then changes the weights, or nullptr.
  auto bind_weight_function(const Place& place) const {
    if constexpr (changes_weights)
      return find<weight_function_tag>()->bind_weights(place);
    else
      return (void)place, nullptr;
  }

  /// Asks every policy with a number of its own whether it still makes sense in T, the accumulator of the
  /// pass.
  template <class T>
  void check_values() const {
    check_values_of<T>(std::index_sequence_for<P...>{});
  }

  /// Asks every policy that has an opinion about the shape; throws std::invalid_argument for the first that
  /// objects.
  void check(const Shape& shape) const { check_parts(shape, std::index_sequence_for<P...>{}); }

 private:
  HEED_INLINE auto bind_dropout(const Place& place) const {
    (void)place;
    if constexpr (detail::count_of<dropout_tag, P...> == 1)
      return find<dropout_tag>()->bind(place);
    else
      return detail::NothingDropped{};
  }
  template <class T, std::size_t... M, std::size_t... K>
  HEED_INLINE auto bind_parts(const Place& place, std::index_sequence<M...>,
                              std::index_sequence<K...>) const {
    return detail::make_rules<T>(
        place.keys, bind_dropout(place),
        detail::intersect_all(place.keys, detail::get<masks_.at[M]>(parts_).bind(place)...),
        detail::get<terms_.at[K]>(parts_).bind(place)...);
  }

  template <class Part>
  static void check_part(const Part& part, const Shape& shape) {
    if constexpr (requires { part.check(shape); }) part.check(shape);
  }
  template <class T, std::size_t... I>
  void check_values_of(std::index_sequence<I...>) const {
    (check_value<T>(detail::get<I>(parts_)), ...);
  }
  template <class T, class Part>
  static void check_value(const Part& part) {
    if constexpr (requires { part.template check_value<T>(); }) part.template check_value<T>();
  }
  template <std::size_t... I>
  void check_parts(const Shape& shape, std::index_sequence<I...>) const {
    (void)shape;
    (check_part(detail::get<I>(parts_), shape), ...);
  }

  detail::Pack<P...> parts_;

 public:
  static constexpr bool may_hide =
      decltype(std::declval<const Spec&>().template bind<double>(Place{}))::may_hide;
};

namespace detail {

/// The compiler prints `require_policy<T>` with the type of the argument that is refused.
template <class Argument>
constexpr void require_policy() {
  static_assert(
      !requires { std::remove_cvref_t<Argument>::recurs_over_rows; },
      "heed: monotonic() is no selection of attention(): each of its rows depends on the row before; "
      "call monotonic_attention(q, k, v, monotonic(), policies...)");
  static_assert(policy<Argument>,
                "heed: this argument is not a policy; a policy is what causal(), heads(8), bias(b), "
                "score_with(f), ... return");
}

template <class P>
constexpr Pack<std::remove_cvref_t<P>> as_pack(P&& p) {
  return {{std::forward<P>(p)}};
}
template <class P>
  requires std::derived_from<std::remove_cvref_t<P>, spec_tag>
constexpr decltype(auto) as_pack(P&& p) { return std::forward<P>(p).parts(); }

template <std::size_t... A, class... TA, std::size_t... B, class... TB>
constexpr Pack<TA..., TB...> join([[maybe_unused]] PackOf<std::index_sequence<A...>, TA...> a,
                                  [[maybe_unused]] PackOf<std::index_sequence<B...>, TB...> b) {
  return {{std::move(get<A>(a))}..., {std::move(get<B>(b))}...};
}
constexpr Pack<> flatten() { return {}; }
template <class P, class... More>
constexpr auto flatten(P&& p, More&&... more) {
  return join(as_pack(std::forward<P>(p)), flatten(std::forward<More>(more)...));
}

template <std::size_t... I, class... P>
constexpr Spec<P...> spec_of(PackOf<std::index_sequence<I...>, P...> parts) {
  return Spec<P...>(std::move(parts));
}

template <class Spec, class Tag>
inline constexpr bool has_policy =
    !std::is_same_v<decltype(std::declval<const Spec&>().template find<Tag>()), std::nullptr_t>;

/// The policies of a spec without those that derive from one of Tags.
template <class... Tags, class Part>
auto unless_tagged(const Part& part) {
  if constexpr ((false || ... || std::derived_from<Part, Tags>))
    return Pack<>{};
  else
    return Pack<Part>{{part}};
}
inline Pack<> join_all() { return {}; }
template <class First, class... More>
auto join_all(First first, More... more) {
  return join(std::move(first), join_all(std::move(more)...));
}
template <class... Tags, std::size_t... I, class... P>
auto without(const PackOf<std::index_sequence<I...>, P...>& parts) {
  return spec_of(join_all(unless_tagged<Tags...>(detail::get<I>(parts))...));
}

/// find<Tag>(spec): the first policy that derives from Tag, or nullptr.
template <class Tag, class... P>
auto find(const Spec<P...>& spec) {
  return spec.template find<Tag>();
}

}  // namespace detail

/// Bundles policies, in any order; specs among them are flattened. Two selections, layouts, scales, saves or
/// executors are a compile error. Policies given as lvalues are copied, which is cheap, and still refer to
/// what they refer to.
template <class... P>
constexpr auto spec(P&&... policies) {
  (detail::require_policy<P>(), ...);
  if constexpr ((false || ... || std::derived_from<std::remove_cvref_t<P>, spec_tag>)) {
    return detail::spec_of(detail::flatten(std::forward<P>(policies)...));
  } else {
    return Spec<std::remove_cvref_t<P>...>(
        detail::Pack<std::remove_cvref_t<P>...>{{std::forward<P>(policies)}...});
  }
}

namespace detail {

/// Puts the sizes together and checks all of them, before anything is written.
template <class... P>
Shape make_shape(const Spec<P...>& spec, Index q_rows, Index q_cols, Index k_rows, Index k_cols, Index v_rows,
                 Index v_cols) {
  Shape shape;
  if constexpr (count_of < layout_tag, P... >> 0) {
    const auto* heads = spec.template find<layout_tag>();
    shape.heads = heads->heads;
    shape.key_heads = heads->key_heads;
  }
  complete_shape(shape, q_rows, q_cols, k_rows, k_cols, v_rows, v_cols);
  if constexpr (count_of < sequences_tag, P... >> 0) {
    spec.template find<sequences_tag>()->lay_out(shape);
  } else {
    one_sequence(shape);
  }
  spec.check(shape);
  return shape;
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI

#endif
