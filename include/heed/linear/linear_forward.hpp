// SPDX-License-Identifier: MIT
/// @file
/// linear_attention(): attention whose cost grows with the number of tokens, not with its square.
#ifndef HEED_LINEAR_LINEAR_FORWARD_HPP
#define HEED_LINEAR_LINEAR_FORWARD_HPP

#include <type_traits>
#include <utility>

#include <heed/attention.hpp>
#include <heed/config.hpp>
#include <heed/core/arrays.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/scalars.hpp>
#include <heed/core/spec.hpp>
#include <heed/core/workspace.hpp>
#include <heed/engine/converted.hpp>
#include <heed/engine/run_linear.hpp>
#include <heed/linear/linear_spec.hpp>
#include <heed/reference/linear_attention.hpp>

namespace heed::inline HEED_ABI {
namespace detail {

template <class Out, class Q, class K, class V, class Spec>
void linear_forward(Out& out, const Q& q_expression, const K& k_expression, const V& v_expression,
                    const Shape& shape, const Spec& spec, Workspace* workspace) {
  using Scalar = typename Q::Scalar;
  InPlace<Q> q(q_expression);
  InPlace<K> k(k_expression);
  InPlace<V> v(v_expression);
  const auto policy = features_of(spec);
  check_linear_values<Accumulator<Scalar>>(spec, shape);
  if constexpr (through_engine<Scalar>) {
    Converted<Scalar, Spec> with(spec, workspace, q.size() + k.size() + v.size() + out.size());
    LinearProblem<Accumulator<Scalar>> p(shape, policy.features(shape.d));
    p.q = with.read(q);
    p.k = with.read(k);
    p.v = with.read(v);
    p.out = with.write(out);
    if (shape.queries > 0 && shape.d_v > 0) run_linear(p, spec, policy, workspace);
    with.finish();
  } else {
    (void)workspace;
    reference_linear<Accumulator<Scalar>>(spec, policy, shape, q, k, v, out);
  }
}

/// Checks what a call writes to, and gives it in its own type.
template <class Q, class Output>
auto& checked_output(Output& out, Index rows, Index columns) {
  using Out = std::remove_cv_t<Output>;
  static_assert(std::is_base_of_v<Eigen::MatrixBase<Out>, Out>,
                "heed: out is not an Eigen matrix, block or map");
  static_assert(!(std::is_const_v<Output> && std::is_same_v<Out, typename Out::PlainObject>),
                "heed: out is a const matrix");
  static_assert(directly_accessible<Out>, "heed: out has no memory to write to");
  static_assert((int(Out::Flags) & int(Eigen::LvalueBit)) != 0, "heed: out is read-only");
  static_assert(std::is_same_v<typename Out::Scalar, typename Q::Scalar>,
                "heed: out and q have different scalars");
  if (out.rows() != rows || out.cols() != columns)
    fail("out is ", out.rows(), " x ", out.cols(), ", it must be ", rows, " x ", columns);
  return const_cast<Out&>(out);
}

}  // namespace detail

/// Linear attention: features φ instead of the exponential of a product, so that the sum over keys is taken
/// once for all queries,
///
///     out_i = φ(q_i)ᵀ Σ_j φ(k_j) v_jᵀ / φ(q_i)ᵀ Σ_j φ(k_j)
///
///     Eigen::MatrixXf y = heed::linear_attention(q, k, v, heed::causal());
///     auto p = heed::performer(128, 7);
///     y = heed::linear_attention(q, k, v, heed::heads(8, 2), p);          // an estimate of attention(q, k,
///     v)
///
/// @param q N × (H·d) queries, heads side by side in columns; d ≥ 1
/// @param k M × (H_kv·d) keys
/// @param v M × (H_kv·d_v) values
/// @param policies in any order: `feature_map(f)` (elu + 1 without it) or `performer(features, seed)`, the
///   latter with `scale(x)`, x > 0; `causal` in all its forms, `lengths`; `heads`, `sequences`; `on`,
///   `use(workspace)`. Whatever needs scores is a compile error: they are never formed.
/// @return N × (H·d_v) in the storage order of q. A query that sees no key, or whose weights sum to exactly
///   0, gets zeros; keys and values that nobody sees are not read.
/// @throws std::invalid_argument naming the argument and both sizes, before anything is written; whatever a
///   feature map throws
///
/// Error against exact attention: elu + 1 makes another attention than softmax does, no approximation of it;
/// for performer() see there. Rounding: sums of M positive numbers by chunks of 64, so that every element is
/// within about (M / 64 + 2 √features + 64) · u · Σ_j w_j |v_j|, w the weights, u the unit roundoff; feature
/// maps of both signs lose what cancels in their denominators. Cost: tokens · features · d_v multiply-adds a
/// head for the keys and as many for the queries; with causal() chunks of 64 tokens are multiplied out, which
/// costs up to 64 · (features + d_v) more a token. Memory beyond the result: about 4 · (features · d_v + 64 ·
/// (2 d + 3 features + 2 d_v + 64)) bytes a thread in float. Threads: a task for each sequence and key head;
/// results are bitwise equal for any number of threads. half and bfloat16 run in float, with copies of q, k,
/// v and the result, which is rounded once; other scalars than these, float and double in plain loops.
/// Source: 2006.16236.
template <class Q, class K, class V, class... P>
auto linear_attention(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                      const Eigen::MatrixBase<V>& v, P&&... policies) {
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  detail::check_linear<detail::LinearPass::forward>(bundle);
  detail::check_types<Q, K, V, Bundle>();
  const Shape shape = detail::make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  typename detail::ResultOf<Q, V, Bundle>::type out(shape.queries, shape.heads * shape.d_v);
  detail::linear_forward(out, q.derived(), k.derived(), v.derived(), shape, bundle,
                         detail::workspace_of(bundle));
  return out;
}

/// The same into memory of the caller's: any writable matrix, block or map of N × (H·d_v). With float and
/// double and `use(workspace)`, in the calling thread or on OpenMP, it allocates nothing once the workspace
/// has grown to what the shape needs, for inputs that have memory (and a performer() that has been used
/// before).
/// @throws std::invalid_argument also where out has another size or shares elements with an input
template <class Output, class Q, class K, class V, class... P>
void linear_attention_into(Output&& out, const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                           const Eigen::MatrixBase<V>& v, P&&... policies) {
  using namespace detail;
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  check_linear<LinearPass::forward>(bundle);
  check_types<Q, K, V, Bundle>();
  const Shape shape = make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  auto& target = checked_output<Q>(out, shape.queries, shape.heads * shape.d_v);
  check_overlap("q", target, q.derived());
  check_overlap("k", target, k.derived());
  check_overlap("v", target, v.derived());
  linear_forward(target, q.derived(), k.derived(), v.derived(), shape, bundle, workspace_of(bundle));
}

/// Arrays are refused in words.
template <class Q, class K, class V, class... P>
  requires detail::some_array<Q, K, V>
auto linear_attention(const Q&, const K&, const V&, P&&...) { return detail::refuse_arrays<Q, K, V>(); }
template <class Output, class Q, class K, class V, class... P>
  requires detail::some_array<Q, K, V>
void linear_attention_into(Output&&, const Q&, const K&, const V&, P&&...) {
  detail::refuse_arrays<Q, K, V>();
}

}  // namespace heed::inline HEED_ABI

#endif
