// SPDX-License-Identifier: MIT
/// @file
/// attention_double_backward(): the gradient of attention_backward(), for losses that contain gradients.
#ifndef HEED_ATTENTION_DOUBLE_BACKWARD_HPP
#define HEED_ATTENTION_DOUBLE_BACKWARD_HPP

#include <type_traits>
#include <utility>

#include <heed/attention_backward.hpp>
#include <heed/attention_jvp.hpp>
#include <heed/config.hpp>
#include <heed/core/allow_only.hpp>
#include <heed/core/arrays.hpp>
#include <heed/core/differentiable.hpp>
#include <heed/engine/run_backward.hpp>

namespace heed::inline HEED_ABI {

/// What attention_double_backward() returns: the derivatives by what attention_backward() was given, in their
/// sizes and storage orders. lse_gradient is that by the incoming gradient of the log-sum-exp.
template <class DO, class Q, class K, class V, class Lse>
struct DoubleGradients {
  DO dout;
  Q q;
  K k;
  V v;
  Lse lse_gradient;
};

namespace detail {

/// `order`: in which rows of the output lie.
template <int order, class Spec, class DOut, class Q, class K, class V, class Out, class Scalar, class UQ,
          class UK, class UV, class To>
void double_backward(const Shape& shape, const Spec& spec, const DOut& dout_expression, const Q& q_expression,
                     const K& k_expression, const V& v_expression, const Out& out_expression,
                     const Saved<Scalar>& saved, const UQ& u_q_expression, const UK& u_k_expression,
                     const UV& u_v_expression, To& to) {
  using Wide = Accumulator<Scalar>;
  InPlace<DOut> dout(dout_expression);
  InPlace<Q> q(q_expression);
  InPlace<K> k(k_expression);
  InPlace<V> v(v_expression);
  InPlace<UQ> u_q(u_q_expression);
  InPlace<UK> u_k(u_k_expression);
  InPlace<UV> u_v(u_v_expression);
  // What the second pass reads of the first is not rounded to 16 bits in between.
  using Between = std::conditional_t<through_engine<Scalar>, Wide, Scalar>;
  using Matrix = Eigen::Matrix<Between, Eigen::Dynamic, Eigen::Dynamic, order>;
  Tangents<Matrix, Eigen::Matrix<Between, Eigen::Dynamic, Eigen::Dynamic>> moved;
  moved.out.resize(shape.queries, shape.heads * shape.d_v);
  moved.out_tangent.resizeLike(moved.out);
  moved.lse.resize(shape.queries, shape.heads);
  moved.lse_tangent.resizeLike(moved.lse);
  forward_with_tangents(shape, spec, q, k, v, u_q, u_k, u_v, moved);
  if constexpr (through_engine<Scalar>) {
    InPlace<Out> out(out_expression);
    const auto target = [](auto& m) { return Target<Scalar>::of(m); };
    Converted<Scalar, Spec> with(spec, workspace_of(spec),
                                 3 * (q.size() + k.size() + v.size()) + dout.size() + moved.lse.size());
    BackwardProblem<Wide> first = backward_problem(shape, spec, with, dout, q, k, v, out, saved, target(to.q),
                                                   target(to.k), target(to.v));
    if constexpr (!on_engine<Scalar>) {
      first.out = operand_of<const Wide>(moved.out);
      const Operand<const Wide> lse = operand_of<const Wide>(moved.lse);
      first.lse = {lse.data, lse.row, lse.column};
    }
    const SecondProblem<Wide> p{first,
                                with.read(u_q),
                                with.read(u_k),
                                with.read(u_v),
                                operand_of<const Wide>(moved.out_tangent),
                                operand_of<const Wide>(moved.lse_tangent)};
    run_second(p, spec, workspace_of(spec));
    with.finish();
  } else {
    // The plain loops of the backward pass, on dual numbers.
    (void)saved;
    (void)out_expression;
    using Dual = dual<Wide>;
    using Duals = Eigen::Matrix<Dual, Eigen::Dynamic, Eigen::Dynamic>;
    Duals gq(q.rows(), q.cols()), gk(k.rows(), k.cols()), gv(v.rows(), v.cols());
    const auto still = [&](Index r, Index c) { return Dual(static_cast<Wide>(dout(r, c))); };
    const auto run = [&](const auto* dlse) {
      reference_backward<false, Dual>(spec, shape, still, Moving<Wide, decltype(q), decltype(u_q)>{q, u_q},
                                      Moving<Wide, decltype(k), decltype(u_k)>{k, u_k},
                                      Moving<Wide, decltype(v), decltype(u_v)>{v, u_v}, dlse, gq, gk, gv,
                                      Nothing());
    };
    if constexpr (has_policy<Spec, lse_gradient_tag>) {
      const auto& incoming = *spec.template find<lse_gradient_tag>();
      const auto dlse = [&](Index r, Index c) { return Dual(static_cast<Wide>(*incoming.at.at(r, c).data)); };
      run(&dlse);
    } else {
      const Duals* none = nullptr;
      run(none);
    }
    const auto put = [](const Duals& from, auto& g) {
      for (Index r = 0; r < from.rows(); ++r)
        for (Index c = 0; c < from.cols(); ++c) g(r, c) = static_cast<Scalar>(from(r, c).tangent[0]);
    };
    put(gq, to.q);
    put(gk, to.k);
    put(gv, to.v);
  }
  to.dout = moved.out_tangent.template cast<Scalar>();
  to.lse_gradient = moved.lse_tangent.template cast<Scalar>();
}

}  // namespace detail

/// The gradients of a loss that depends on the gradients dq, dk, dv of attention_backward(), given its
/// gradients u_q, u_k, u_v by them (double backward: gradient penalties, meta-learning, Hessian-vector
/// products). With Ṡ = scale (u_q kᵀ + q u_kᵀ), R = rowsum(P ∘ Ṡ), Ṗ = P ∘ (Ṡ - R), Ȯ = Ṗ v + P u_v, Ḋ =
/// rowsum(dout ∘ Ȯ) and dṠ = Ṗ ∘ (dP - D) + P ∘ (dout u_vᵀ - Ḋ),
///
///     by dout: Ȯ        by q: scale (dṠ k + dS u_k)        by k: scale (dṠᵀ q + dSᵀ u_q)        by v: Ṗᵀ
///     dout
///
///     auto [g_dout, g_q, g_k, g_v, g_lse] =
///         heed::attention_double_backward(dout, q, k, v, out, saved, u_q, u_k, u_v, spec);
///
/// The same numbers are the derivatives of dq, dk and dv when q, k and v move along u_q, u_k and u_v.
/// @param dout, q, k, v, out, saved what attention_backward() was given
/// @param u_q, u_k, u_v in the sizes of q, k and v; any dense expressions
/// @param policies those of the forward pass. Terms of the score enter with their first and second
///   derivatives, exactly, by running them on dual numbers of dual numbers. Also: `lse_gradient(dl)` if
///   attention_backward() had it, `bias_tangent(u_b)` for the gradient by what bias_gradient() gave,
///   `use(workspace)`
/// @return DoubleGradients{dout, q, k, v, lse_gradient}
/// @throws std::invalid_argument naming the argument and both sizes; whatever a functor throws
///
/// One pass of attention_jvp() and one that computes the weights again: nothing of size N × M is stored.
/// Cost: pairs · 8 (d + d_v) multiply-adds a head (6 products forward, 10 backward), eight times the forward
/// pass and about ten times its time. Memory: the results, one more output, and scratch as in
/// attention_backward(), twice. Threads and bits as there. half and bfloat16 run in float, with copies of all
/// operands, and are rounded once, as there; other scalars than these, float and double in plain loops on
/// dual numbers.
template <class DO, class Q, class K, class V, class O, class Scalar, class UQ, class UK, class UV,
          class... P>
auto attention_double_backward(const Eigen::MatrixBase<DO>& dout, const Eigen::MatrixBase<Q>& q,
                               const Eigen::MatrixBase<K>& k, const Eigen::MatrixBase<V>& v,
                               const Eigen::MatrixBase<O>& out, const Saved<Scalar>& saved,
                               const Eigen::MatrixBase<UQ>& u_q, const Eigen::MatrixBase<UK>& u_k,
                               const Eigen::MatrixBase<UV>& u_v, P&&... policies) {
  using namespace detail;
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  check_types<Q, K, V, Bundle>();
  (void)check_differentiable<Bundle, Accumulator<Scalar>>();
  static_assert(
      !Bundle::selects_rows,
      "heed: attention_double_backward differentiates softmax; other selections have a backward pass only");
  static_assert(
      std::is_same_v<Scalar, typename Q::Scalar> && std::is_same_v<Scalar, typename DO::Scalar> &&
          std::is_same_v<Scalar, typename O::Scalar> && std::is_same_v<Scalar, typename UQ::Scalar> &&
          std::is_same_v<Scalar, typename UK::Scalar> && std::is_same_v<Scalar, typename UV::Scalar>,
      "heed: dout, q, out, saved and u_q, u_k, u_v have different scalars");
  static_assert(
      !has_policy<Bundle, score_tag>,
      "heed: attention_double_backward moves dot products only; additive() has first derivatives, by "
      "attention_backward");
  allow_only<call::attention_double_backward, Bundle, of_layout, mask_tag, of_scores, of_selection,
             of_execution, lse_gradient_tag, bias_tangent_tag>();
  const Shape shape = make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  bundle.template check_values<Accumulator<Scalar>>();
  check_variant("attention_double_backward", saved, bundle, shape,
                bundle.template scale<Accumulator<Scalar>>(shape.d));
  check_given("dout", dout, shape.queries, shape.heads * shape.d_v, "");
  check_given("out", out, shape.queries, shape.heads * shape.d_v, "");
  check_given("saved.lse", saved.lse, shape.queries, shape.heads,
              ": was it filled by save() in the forward pass?");
  check_own_lse<Scalar>("attention_double_backward", saved);
  check_given("u_q", u_q, q.rows(), q.cols(), "");
  check_given("u_k", u_k, k.rows(), k.cols(), "");
  check_given("u_v", u_v, v.rows(), v.cols(), "");
  DoubleGradients<typename DO::PlainObject, typename Q::PlainObject, typename K::PlainObject,
                  typename V::PlainObject, Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>>
      to;
  to.q.resize(q.rows(), q.cols());
  to.k.resize(k.rows(), k.cols());
  to.v.resize(v.rows(), v.cols());
  double_backward<Q::IsRowMajor ? Eigen::RowMajor : Eigen::ColMajor>(
      shape, bundle, dout.derived(), q.derived(), k.derived(), v.derived(), out.derived(), saved,
      u_q.derived(), u_k.derived(), u_v.derived(), to);
  return to;
}

/// Arrays are refused in words.
template <class DO, class Q, class K, class V, class O, class Scalar, class UQ, class UK, class UV,
          class... P>
  requires detail::some_array<DO, Q, K, V, O, UQ, UK, UV>
auto attention_double_backward(const DO&, const Q&, const K&, const V&, const O&, const Saved<Scalar>&,
                               const UQ&, const UK&, const UV&, P&&...) {
  return detail::refuse_arrays<DO, Q, K, V, O, UQ, UK, UV>();
}

}  // namespace heed::inline HEED_ABI

#endif
