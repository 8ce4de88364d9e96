// SPDX-License-Identifier: MIT
/// @file
/// allow_only(): which policies a function takes. One that it would ignore does not compile.
#ifndef HEED_CORE_ALLOW_ONLY_HPP
#define HEED_CORE_ALLOW_ONLY_HPP

#include <concepts>
#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/spec.hpp>

namespace heed::inline HEED_ABI::detail {

/// The functions that take policies, as compilers are to name them.
namespace call {
struct attention;
struct attention_backward;
struct attention_double_backward;
struct attention_jvp;
struct attention_scores;
struct attention_weights;
struct linear_attention;
struct linear_attention_backward;
struct linear_attention_step;
struct linformer_attention;
struct linformer_backward;
struct monotonic_attention;
struct native_sparse_attention;
struct pooled_attention;
struct pooled_attention_backward;
struct shaw_attention;
struct shaw_attention_backward;
}  // namespace call

/// Policies that mostly go together.
template <class... Tags>
struct Together {};
using of_layout = Together<layout_tag, sequences_tag>;
using of_scores = Together<score_tag, scale_tag, term_tag>;
using of_selection = Together<selection_tag, weight_function_tag, sink_tag, dropout_tag>;
using of_execution = Together<workspace_tag, executor_tag>;
/// What attention_backward() writes beside the gradients of q, k and v, and what it takes beside that of out.
using of_gradients = Together<bias_gradient_tag, relative_bias_gradient_tag, parameter_gradient_tag,
                              score_gradient_tag, sink_gradient_tag, alpha_gradient_tag,
                              weight_parameter_gradient_tag, lse_gradient_tag>;

/// What a policy does once it is active: that of when(flag, policy) is the policy's.
template <class P>
struct ActiveOf {
  using type = P;
};
template <class P>
  requires requires { typename P::chosen; }
struct ActiveOf<P> : ActiveOf<typename P::chosen> {};

/// A bias_tangent() acts like a term of the score, but on dual numbers alone: it is allowed by its own name.
template <class P, class Tag>
struct IsOf
    : std::bool_constant<std::derived_from<P, Tag> && (!std::derived_from<P, bias_tangent_tag> ||
                                                       std::same_as<Tag, bias_tangent_tag>)> {};
template <class P, class... Tags>
struct IsOf<P, Together<Tags...>> : std::bool_constant<(IsOf<P, Tags>::value || ...)> {};

/// Says what the function does not take. The compiler names the function, and the policy's type, beside it.
/// Return types here are deduced, which makes compilers look at once, before what follows from a wrong
/// policy.
template <class Function, class P>
constexpr auto refuse_policy() {
  static_assert(!std::derived_from<P, save_tag>, "heed: this function takes no save()");
  static_assert(!std::derived_from<P, into_tag>,
                "heed: this function takes no into(): it returns what it makes, or is no backward pass");
  static_assert(!std::derived_from<P, accumulate_tag>,
                "heed: this function takes no accumulating: it belongs to backward passes with into()");
  static_assert(!std::derived_from<P, bias_gradient_tag>,
                "heed: this function takes no bias_gradient(): it belongs to attention_backward");
  static_assert(!std::derived_from<P, relative_bias_gradient_tag>,
                "heed: this function takes no t5_bias_gradient(): it belongs to attention_backward");
  static_assert(!std::derived_from<P, parameter_gradient_tag>,
                "heed: this function takes no parameter_gradient(): it belongs to attention_backward");
  static_assert(!std::derived_from<P, score_gradient_tag>,
                "heed: this function takes no score_gradient(): it belongs to attention_backward");
  static_assert(!std::derived_from<P, sink_gradient_tag>,
                "heed: this function takes no sink_gradient(): it belongs to attention_backward");
  static_assert(!std::derived_from<P, alpha_gradient_tag>,
                "heed: this function takes no alpha_gradient(): it belongs to attention_backward");
  static_assert(!std::derived_from<P, weight_parameter_gradient_tag>,
                "heed: this function takes no weight_parameter_gradient(): it belongs to attention_backward");
  static_assert(!std::derived_from<P, lse_gradient_tag>,
                "heed: this function takes no lse_gradient(): it belongs to attention_backward and "
                "attention_double_backward");
  static_assert(!std::derived_from<P, bias_tangent_tag>,
                "heed: this function takes no bias_tangent(): it belongs to attention_jvp and "
                "attention_double_backward");
  static_assert(!std::derived_from<P, feature_tag>,
                "heed: this function takes no feature_map() and no performer(): they belong to "
                "linear_attention");
  static_assert(!std::derived_from<P, projection_tag>,
                "heed: this function takes no per_head: it belongs to linformer_attention");
  static_assert(!std::derived_from<P, mask_tag>, "heed: this function takes no masks");
  static_assert(!std::derived_from<P, term_tag> || std::derived_from<P, bias_tangent_tag>,
                "heed: this function takes no terms of the score (softcap, alibi, t5_bias, bias, "
                "score_with)");
  static_assert(!std::derived_from<P, score_tag>,
                "heed: this function takes no additive(): its scores are dot products");
  static_assert(!std::derived_from<P, scale_tag>, "heed: this function takes no scale()");
  static_assert(!std::derived_from<P, layout_tag>, "heed: this function takes no heads()");
  static_assert(!std::derived_from<P, sequences_tag>, "heed: this function takes no sequences()");
  static_assert(!std::derived_from<P, selection_tag>,
                "heed: this function takes no selection (softmax, sparsemax, top_k, ...)");
  static_assert(!std::derived_from<P, weight_function_tag>,
                "heed: this function takes no weight_with() and no local_p()");
  static_assert(!std::derived_from<P, sink_tag>, "heed: this function takes no sink()");
  static_assert(!std::derived_from<P, dropout_tag>, "heed: this function takes no dropout()");
  static_assert(!std::derived_from<P, workspace_tag>,
                "heed: this function takes no workspace: it makes no use of one");
  static_assert(!std::derived_from<P, executor_tag>,
                "heed: this function takes no on(): it runs in the calling thread");
}

template <class Function, class P, class... Allowed>
constexpr auto allow_policy() {
  if constexpr (!(IsOf<P, Allowed>::value || ...)) refuse_policy<Function, P>();
}

template <class Spec>
struct PoliciesOf;
template <class... P>
struct PoliciesOf<Spec<P...>> {
  template <class Function, class... Allowed>
  static constexpr auto allow_only() {
    (allow_policy<Function, typename ActiveOf<P>::type, Allowed...>(), ...);
  }
  template <class Tag>
  static constexpr bool any = (false || ... || std::derived_from<typename ActiveOf<P>::type, Tag>);
};

/// Refuses, at compile time, every policy of a spec that is not among Allowed: tags, or Together of them.
template <class Function, class Spec, class... Allowed>
constexpr auto allow_only() {
  PoliciesOf<Spec>::template allow_only<Function, Allowed...>();
}

/// Does a spec have a policy of this kind, be it inside when()?
template <class Spec, class Tag>
inline constexpr bool may_have = PoliciesOf<Spec>::template any<Tag>;

}  // namespace heed::inline HEED_ABI::detail

#endif
