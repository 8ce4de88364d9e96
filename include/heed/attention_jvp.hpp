// SPDX-License-Identifier: MIT
/// @file
/// attention_jvp(): attention and its derivative along one direction, in one pass (forward mode).
#ifndef HEED_ATTENTION_JVP_HPP
#define HEED_ATTENTION_JVP_HPP

#include <type_traits>
#include <utility>

#include <heed/attention.hpp>
#include <heed/config.hpp>
#include <heed/core/allow_only.hpp>
#include <heed/core/arrays.hpp>
#include <heed/core/differentiable.hpp>
#include <heed/dual.hpp>
#include <heed/engine/run_tangents.hpp>
#include <heed/tangents.hpp>

namespace heed::inline HEED_ABI {
namespace detail {

/// Element (r, c) of a matrix and of its tangent as one dual number.
template <class Wide, class M, class Tangent>
struct Moving {
  const M& value;
  const Tangent& tangent;
  dual<Wide> operator()(Index r, Index c) const {
    return dual<Wide>(static_cast<Wide>(value(r, c)), static_cast<Wide>(tangent(r, c)));
  }
};

/// The sizes of a tangent are those of what moves.
template <class M, class Tangent>
void check_tangent(const char* name, const M& m, const Tangent& tangent) {
  if (tangent.rows() != m.rows() || tangent.cols() != m.cols())
    fail(name, "_tangent is ", tangent.rows(), " x ", tangent.cols(), ", ", name, " is ", m.rows(), " x ",
         m.cols());
}

template <class Spec, class Q, class K, class V, class QT, class KT, class VT, class Out, class Lse>
void forward_with_tangents(const Shape& shape, const Spec& spec, const Q& q_expression, const K& k_expression,
                           const V& v_expression, const QT& q_tangent_expression,
                           const KT& k_tangent_expression, const VT& v_tangent_expression,
                           Tangents<Out, Lse>& to) {
  using Scalar = typename Q::Scalar;
  using Wide = Accumulator<Scalar>;
  InPlace<Q> q(q_expression);
  InPlace<K> k(k_expression);
  InPlace<V> v(v_expression);
  InPlace<QT> q_tangent(q_tangent_expression);
  InPlace<KT> k_tangent(k_tangent_expression);
  InPlace<VT> v_tangent(v_tangent_expression);
  if constexpr (through_engine<Scalar>) {
    Converted<Scalar, Spec> with(spec, workspace_of(spec),
                                 2 * (q.size() + k.size() + v.size() + to.out.size() + to.lse.size()));
    const TangentProblem<Wide> p{shape,
                                 spec.template scale<Wide>(shape.d),
                                 with.read(q),
                                 with.read(k),
                                 with.read(v),
                                 with.read(q_tangent),
                                 with.read(k_tangent),
                                 with.read(v_tangent),
                                 with.write(to.out),
                                 with.write(to.lse),
                                 with.write(to.out_tangent),
                                 with.write(to.lse_tangent)};
    run_tangents(p, spec, workspace_of(spec));
    with.finish();
  } else {
    // The plain loops on dual numbers.
    using Dual = dual<Wide>;
    Eigen::Matrix<Dual, Eigen::Dynamic, Eigen::Dynamic> out(to.out.rows(), to.out.cols()),
        lse(to.lse.rows(), to.lse.cols());
    reference_forward<Dual>(spec, shape, Moving<Wide, decltype(q), decltype(q_tangent)>{q, q_tangent},
                            Moving<Wide, decltype(k), decltype(k_tangent)>{k, k_tangent},
                            Moving<Wide, decltype(v), decltype(v_tangent)>{v, v_tangent}, out, &lse);
    const auto split = [](const auto& from, auto& value, auto& tangent) {
      for (Index r = 0; r < from.rows(); ++r)
        for (Index c = 0; c < from.cols(); ++c) {
          value(r, c) = static_cast<Scalar>(from(r, c).value);
          tangent(r, c) = static_cast<Scalar>(from(r, c).tangent[0]);
        }
    };
    split(out, to.out, to.out_tangent);
    split(lse, to.lse, to.lse_tangent);
  }
}

}  // namespace detail

/// The derivative of attention() along a direction: how the output moves when q, k and v move along
/// q_tangent, k_tangent and v_tangent (a Jacobian-vector product). With Ṡ the derivative of the scores and R
/// = rowsum(P ∘ Ṡ),
///
///     Ṡ = scale (q̇ kᵀ + q k̇ᵀ)        out_tangent = (P ∘ Ṡ) v + P v̇ - R ∘ out        lse_tangent = R
///
///     auto [out, out_tangent, lse, lse_tangent] =
///         heed::attention_jvp(q, k, v, q_tangent, k_tangent, v_tangent, heed::causal());
///
/// @param q, k, v as for attention()
/// @param q_tangent, k_tangent, v_tangent in the sizes of q, k and v; any dense expressions
/// @param policies those of attention(), in any order, without save(). Terms of the score are differentiated
///   exactly, by running them on dual numbers. Also: `bias_tangent(b)`, the direction of a bias
/// @return Tangents{out, out_tangent, lse, lse_tangent}. A query that sees no key has zeros in all but lse,
///   which is -inf (with a sink: the sink).
/// @throws std::invalid_argument naming the argument and both sizes; whatever a functor throws
///
/// One pass with a running softmax; nothing of size N × M. Cost: pairs · 3 (d + d_v) multiply-adds a head,
/// three times the forward pass. Memory beyond the results: about 1.2 KB · (2 d + 2 d_v + 200) a thread.
/// Threads and bits as for attention(). half and bfloat16 run in float, with copies of all operands, and are
/// rounded once; other scalars than these, float and double in plain loops on dual numbers.
template <class Q, class K, class V, class QT, class KT, class VT, class... P>
auto attention_jvp(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                   const Eigen::MatrixBase<V>& v, const Eigen::MatrixBase<QT>& q_tangent,
                   const Eigen::MatrixBase<KT>& k_tangent, const Eigen::MatrixBase<VT>& v_tangent,
                   P&&... policies) {
  using namespace detail;
  using Scalar = typename Q::Scalar;
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  check_types<Q, K, V, Bundle>();
  (void)check_differentiable<Bundle, Accumulator<Scalar>>();
  static_assert(!Bundle::selects_rows,
                "heed: attention_jvp differentiates softmax; other selections have a backward pass only");
  static_assert(!has_policy<Bundle, score_tag>,
                "heed: attention_jvp moves dot products only; additive() has first derivatives, by "
                "attention_backward");
  allow_only<call::attention_jvp, Bundle, of_layout, mask_tag, of_scores, of_selection, of_execution,
             bias_tangent_tag>();
  static_assert(std::is_same_v<Scalar, typename QT::Scalar> && std::is_same_v<Scalar, typename KT::Scalar> &&
                    std::is_same_v<Scalar, typename VT::Scalar>,
                "heed: tangents have another scalar than q, k and v");
  const Shape shape = make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  bundle.template check_values<Accumulator<Scalar>>();
  check_tangent("q", q, q_tangent);
  check_tangent("k", k, k_tangent);
  check_tangent("v", v, v_tangent);
  Tangents<typename ResultOf<Q, V, Bundle>::type, Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>> to;
  to.out.resize(shape.queries, shape.heads * shape.d_v);
  to.out_tangent.resize(shape.queries, shape.heads * shape.d_v);
  to.lse.resize(shape.queries, shape.heads);
  to.lse_tangent.resize(shape.queries, shape.heads);
  forward_with_tangents(shape, bundle, q.derived(), k.derived(), v.derived(), q_tangent.derived(),
                        k_tangent.derived(), v_tangent.derived(), to);
  return to;
}

/// Arrays are refused in words.
template <class Q, class K, class V, class QT, class KT, class VT, class... P>
  requires detail::some_array<Q, K, V, QT, KT, VT>
auto attention_jvp(const Q&, const K&, const V&, const QT&, const KT&, const VT&, P&&...) {
  return detail::refuse_arrays<Q, K, V, QT, KT, VT>();
}

}  // namespace heed::inline HEED_ABI

#endif
