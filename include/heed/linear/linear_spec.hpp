// SPDX-License-Identifier: MIT
/// @file
/// Which policies a linear attention takes, and what its masks come down to.
#ifndef HEED_LINEAR_LINEAR_SPEC_HPP
#define HEED_LINEAR_LINEAR_SPEC_HPP

#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/allow_only.hpp>
#include <heed/core/spec.hpp>
#include <heed/engine/linear_problem.hpp>
#include <heed/linear/feature_map.hpp>
#include <heed/linear/performer.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/lengths.hpp>

namespace heed::inline HEED_ABI::detail {

template <class P>
inline constexpr bool is_linear_mask = std::is_same_v<P, Causal>;
template <class Holder>
inline constexpr bool is_linear_mask<Lengths<Holder>> = true;

enum class LinearPass { forward, backward, step };

/// Refuses, at compile time, what makes no sense without scores.
template <LinearPass pass, class P>
constexpr void check_linear_policy() {
  static_assert(!std::derived_from<P, term_tag>,
                "heed: a linear attention never forms scores: it takes no softcap(), alibi(), bias(), "
                "t5_bias() or score_with()");
  static_assert(!std::derived_from<P, mask_tag> || is_linear_mask<P>,
                "heed: a linear attention never forms scores: of the masks it takes causal() and lengths()");
  static_assert(pass != LinearPass::step || !std::derived_from<P, mask_tag>,
                "heed: a step of a linear attention is causal, and takes no mask");
  static_assert(pass != LinearPass::step || !std::derived_from<P, sequences_tag>,
                "heed: a LinearState belongs to one sequence");
  static_assert(!std::derived_from<P, selection_tag> && !std::derived_from<P, sink_tag> &&
                    !std::derived_from<P, dropout_tag>,
                "heed: a linear attention never forms scores: it takes no selection, sink() or dropout()");
  static_assert(!std::derived_from<P, save_tag> && !std::derived_from<P, lse_gradient_tag>,
                "heed: a linear attention has no log-sum-exp: it takes no save() and no lse_gradient()");
}

template <LinearPass pass, class... P>
constexpr auto check_linear(const Spec<P...>&) {
  (check_linear_policy<pass, P>(), ...);
  if constexpr (pass == LinearPass::forward)
    allow_only<call::linear_attention, Spec<P...>, of_layout, mask_tag, scale_tag, feature_tag,
               of_execution>();
  else if constexpr (pass == LinearPass::backward)
    allow_only<call::linear_attention_backward, Spec<P...>, of_layout, mask_tag, scale_tag, feature_tag,
               of_execution, into_tag, accumulate_tag>();
  else
    allow_only<call::linear_attention_step, Spec<P...>, layout_tag, scale_tag, feature_tag, of_execution>();
  static_assert(count_of<feature_tag, P...> <= 1, "heed: two feature maps in one spec");
  static_assert(count_of<scale_tag, P...> == 0 || count_of<Performer, P...> == 1,
                "heed: a linear attention never forms scores: it takes scale() with performer() only");
}

/// The features that a spec names; elu + 1 where it names none.
template <class Spec>
auto features_of(const Spec& spec) {
  if constexpr (has_policy<Spec, feature_tag>)
    return *find<feature_tag>(spec);
  else
    return feature_map(EluPlusOne{});
}

template <class P>
void narrow(LinearBounds& bounds, const P& policy, const Place& place) {
  if constexpr (std::is_same_v<P, Causal>) {
    const Index offset = policy.bind(place).offset;
    if (offset < bounds.offset) bounds.offset = offset;
  } else if constexpr (is_linear_mask<P>) {
    const Index length = policy.bind(place).length;
    if (length < bounds.keys) bounds.keys = length;
  }
}

template <class... P, std::size_t... I>
LinearBounds bounds_of(const Spec<P...>& spec, const Place& place, std::index_sequence<I...>) {
  LinearBounds bounds{place.keys, place.keys};
  (narrow(bounds, detail::get<I>(spec.parts()), place), ...);
  return bounds;
}

/// Without causal() every query sees every key.
template <class... P>
LinearBounds bounds_of(const Spec<P...>& spec, const Place& place) {
  return bounds_of(spec, place, std::index_sequence_for<P...>{});
}

/// The factor of q·k that a Performer estimates the exponential of.
template <class T, class Spec>
T performer_scale(const Spec& spec, Index d) {
  const double scale = spec.template scale<double>(d);
  if (!(scale > 0)) fail("scale is ", scale, ", with performer() it must be greater than 0");
  return spec.template scale<T>(d);
}

/// What is refused beside sizes, before anything is written.
template <class T, class Spec>
void check_linear_values(const Spec& spec, const Shape& shape) {
  spec.template check_values<T>();
  if constexpr (std::remove_cvref_t<decltype(features_of(spec))>::projects)
    performer_scale<T>(spec, shape.d);
}

}  // namespace heed::inline HEED_ABI::detail

#endif
