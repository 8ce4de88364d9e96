// SPDX-License-Identifier: MIT
/// @file
/// What a policy is: a small value that derives from one of these tags, and thereby says which question it
/// answers.
#ifndef HEED_CORE_POLICY_HPP
#define HEED_CORE_POLICY_HPP

#include <concepts>
#include <type_traits>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI {

/// Root of every policy.
struct policy_tag {};
/// Which pairs exist: causal, window, lengths, documents, dense_mask, mask_where and what `&`, `|`, `!` make
/// of them.
struct mask_tag : policy_tag {};
/// A change of one score: softcap, alibi, bias, score_with.
struct term_tag : policy_tag {};
/// One that depends on where a query and a key stand: alibi, t5_bias, adaptive_span.
struct position_tag : term_tag {};
/// A bias looked up by relative position.
struct relative_bias_tag : position_tag {};
/// The tangent of a bias, in forward mode.
struct bias_tangent_tag : term_tag {};
/// How a query and a key make a score, instead of by their dot product.
struct score_tag : policy_tag {};
/// The factor of scores.
struct scale_tag : policy_tag {};
/// How heads lie in columns.
struct layout_tag : policy_tag {};
/// How sequences lie in rows.
struct sequences_tag : policy_tag {};
/// How a row of scores becomes weights.
struct selection_tag : policy_tag {};
/// One that needs a whole row of scores before it knows any weight.
struct row_selection_tag : selection_tag {};
/// A change of one weight, after the selection.
struct weight_function_tag : policy_tag {};
/// A logit that takes weight and gives no value.
struct sink_tag : policy_tag {};
/// Weights that are left out at random.
struct dropout_tag : policy_tag {};
/// Something more to write than the output.
struct output_tag : policy_tag {};
/// The output that a backward pass needs.
struct save_tag : output_tag {};
/// Where a backward pass writes the gradients of q, k and v.
struct into_tag : output_tag {};
/// Gradients are added to what is there.
struct accumulate_tag : output_tag {};
/// The gradient of the sinks.
struct sink_gradient_tag : output_tag {};
/// The gradient of a score function's parameters.
struct parameter_gradient_tag : output_tag {};
/// The gradient of the row parameter of a weight function.
struct weight_parameter_gradient_tag : output_tag {};
/// The gradient of a selection's sharpness.
struct alpha_gradient_tag : output_tag {};
/// The gradient of the weights of a score.
struct score_gradient_tag : output_tag {};
/// The gradient of an additive bias.
struct bias_gradient_tag : output_tag {};
/// The gradient of the table of a bias looked up by relative position.
struct relative_bias_gradient_tag : output_tag {};
/// The incoming gradient of the log-sum-exp.
struct lse_gradient_tag : policy_tag {};
/// Features whose products take the place of exponentiated scores.
struct feature_tag : policy_tag {};
/// How projections of keys and values belong to heads.
struct projection_tag : policy_tag {};
/// Scratch memory of the caller's.
struct workspace_tag : policy_tag {};
/// Who runs the tasks.
struct executor_tag : policy_tag {};
/// A bundle of policies.
struct spec_tag : policy_tag {};

template <class P>
concept policy = std::derived_from<std::remove_cvref_t<P>, policy_tag>;
template <class P>
concept mask = std::derived_from<std::remove_cvref_t<P>, mask_tag>;
template <class P>
concept term = std::derived_from<std::remove_cvref_t<P>, term_tag>;
template <class P>
concept scale_policy = std::derived_from<std::remove_cvref_t<P>, scale_tag>;
template <class P>
concept layout = std::derived_from<std::remove_cvref_t<P>, layout_tag>;
template <class P>
concept sequence_layout = std::derived_from<std::remove_cvref_t<P>, sequences_tag>;
template <class P>
concept selection = std::derived_from<std::remove_cvref_t<P>, selection_tag>;
template <class P>
concept sink_policy = std::derived_from<std::remove_cvref_t<P>, sink_tag>;
template <class P>
concept dropout_policy = std::derived_from<std::remove_cvref_t<P>, dropout_tag>;
template <class P>
concept output = std::derived_from<std::remove_cvref_t<P>, output_tag>;
template <class P>
concept executor_policy = std::derived_from<std::remove_cvref_t<P>, executor_tag>;

/// The order in which terms change a score, whatever the order of the arguments. A bound term names its own
/// as `static constexpr int stage`; terms of one stage act in the order given.
namespace stage {
inline constexpr int softcap = 1;
inline constexpr int position = 2;
inline constexpr int bias = 3;
inline constexpr int functor = 4;
inline constexpr int noise = 5;        // of a random selection
inline constexpr int temperature = 6;  // of a selection
}  // namespace stage

}  // namespace heed::inline HEED_ABI

#endif
