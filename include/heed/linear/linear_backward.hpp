// SPDX-License-Identifier: MIT
/// @file
/// linear_attention_backward(): the exact gradient of linear_attention().
#ifndef HEED_LINEAR_LINEAR_BACKWARD_HPP
#define HEED_LINEAR_LINEAR_BACKWARD_HPP

#include <type_traits>
#include <utility>

#include <heed/attention_backward.hpp>
#include <heed/config.hpp>
#include <heed/core/arrays.hpp>
#include <heed/core/differentiable.hpp>
#include <heed/gradients.hpp>
#include <heed/linear/linear_forward.hpp>

namespace heed::inline HEED_ABI {
namespace detail {

template <bool adds, class Spec, class DO, class Q, class K, class V, class O, class Scalar>
void linear_backward(const Shape& shape, const Spec& spec, const DO& dout_expression, const Q& q_expression,
                     const K& k_expression, const V& v_expression, const O& out_expression,
                     const Target<Scalar>& dq, const Target<Scalar>& dk, const Target<Scalar>& dv) {
  InPlace<DO> dout(dout_expression);
  InPlace<Q> q(q_expression);
  InPlace<K> k(k_expression);
  InPlace<V> v(v_expression);
  const auto policy = features_of(spec);
  if constexpr (through_engine<Scalar>) {
    using Number = Accumulator<Scalar>;
    InPlace<O> out(out_expression);
    Converted<Scalar, Spec> with(spec, workspace_of(spec),
                                 2 * (q.size() + k.size() + v.size() + dout.size()));
    const auto gradient = [&](const Target<Scalar>& g) {
      return adds ? with.update(g.at, g.rows, g.columns) : with.write(g.at, g.rows, g.columns);
    };
    LinearProblem<Number> p(shape, policy.features(shape.d));
    p.q = with.read(q);
    p.k = with.read(k);
    p.v = with.read(v);
    if constexpr (on_engine<Scalar>) {
      p.given = with.read(out);
    } else {
      // The output in 16 bits has lost what gradients need.
      p.out = with.own(shape.queries, shape.heads * shape.d_v);
      if (shape.queries > 0 && shape.d_v > 0) run_linear(p, spec, policy, workspace_of(spec));
      p.given = {p.out.data, p.out.row, p.out.column};
      p.out = {};
    }
    p.dout = with.read(dout);
    p.dq = gradient(dq);
    p.dk = gradient(dk);
    p.dv = gradient(dv);
    p.accumulate = adds;
    run_linear_backward(p, spec, policy, workspace_of(spec));
    with.finish();
  } else {
    (void)out_expression;
    const auto at = [](const Target<Scalar>& target) {
      if constexpr (!adds)
        for (Index r = 0; r < target.rows; ++r)
          for (Index c = 0; c < target.columns; ++c) *target.at.at(r, c).data = Scalar(0);
      return [&target](Index r, Index c) -> Scalar& { return *target.at.at(r, c).data; };
    };
    const auto to_dq = at(dq), to_dk = at(dk), to_dv = at(dv);
    reference_linear_backward<Accumulator<Scalar>>(spec, policy, shape, dout, q, k, v, to_dq, to_dk, to_dv);
  }
}

}  // namespace detail

/// The gradients of a loss by q, k and v, given its gradient dout by the output of linear_attention(). With
/// w_i = φ(q_i) · Σ_j φ(k_j), g_i = dout_i / w_i and e_i = -dout_i · out_i / w_i,
///
///     dφ(q_i) = Σ_j (g_i · v_j + e_i) φ(k_j)      dφ(k_j) = Σ_i (g_i · v_j + e_i) φ(q_i)
///     dv_j    = Σ_i (φ(q_i) · φ(k_j)) g_i
///
/// and from there through the derivative of φ: of a feature_map() by running it on dual numbers, of a
/// performer() through its exponentials.
///
///     auto out = heed::linear_attention(q, k, v, spec);
///     auto [dq, dk, dv] = heed::linear_attention_backward(dout, q, k, v, out, spec);
///
/// @param dout N × (H·d_v), the incoming gradient
/// @param q, k, v, out what linear_attention() was given and returned
/// @param policies the same as it had, in any order. Also: `into(dq, dk, dv)` to write to matrices of the
///   caller's (the call then returns nothing), and `accumulating` to add to them
/// @return Gradients{dq, dk, dv} in the sizes and storage orders of q, k and v. Key heads get the sum over
///   their query heads. A query that sees no key, and a key that no query sees, get exact zeros.
/// @throws std::invalid_argument naming the argument and both sizes, before anything is written; whatever a
///   feature map throws
///
/// A forward sweep with the running state of the keys gives dq, one in reverse with that of the queries dk
/// and dv: no state is stored for a token, only a number. Cost: about five forward passes. Memory beyond the
/// result: that of a forward pass twice, and N · H / H_kv + 3 M numbers a thread. Threads: as forward;
/// results are bitwise equal for any number of threads. For half and bfloat16 the output is computed again,
/// in float. Source: 2006.16236.
template <class DO, class Q, class K, class V, class O, class... P>
auto linear_attention_backward(const Eigen::MatrixBase<DO>& dout, const Eigen::MatrixBase<Q>& q,
                               const Eigen::MatrixBase<K>& k, const Eigen::MatrixBase<V>& v,
                               const Eigen::MatrixBase<O>& out, P&&... policies) {
  using namespace detail;
  using Scalar = typename Q::Scalar;
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  check_linear<LinearPass::backward>(bundle);
  check_types<Q, K, V, Bundle>();
  if constexpr (has_policy<Bundle, feature_tag>)
    (void)must_take<dual<Accumulator<Scalar>>>(bundle.template find<feature_tag>());
  static_assert(std::is_same_v<Scalar, typename DO::Scalar> && std::is_same_v<Scalar, typename O::Scalar>,
                "heed: dout, q and out have different scalars");
  constexpr bool given = has_policy<Bundle, into_tag>, adds = has_policy<Bundle, accumulate_tag>;
  static_assert(given || !adds, "heed: accumulating needs into(dq, dk, dv)");
  const Shape shape = make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  check_linear_values<Accumulator<Scalar>>(bundle, shape);
  check_given("dout", dout, shape.queries, shape.heads * shape.d_v, "");
  check_given("out", out, shape.queries, shape.heads * shape.d_v, "");

  const auto run = [&](const Target<Scalar>& dq, const Target<Scalar>& dk, const Target<Scalar>& dv) {
    linear_backward<adds>(shape, bundle, dout.derived(), q.derived(), k.derived(), v.derived(), out.derived(),
                          dq, dk, dv);
  };
  if constexpr (given) {
    const auto& to = *bundle.template find<into_tag>();
    static_assert(std::is_same_v<std::remove_cvref_t<decltype(to.dq)>, Target<Scalar>>,
                  "heed: into() takes matrices of the scalar of q, k and v");
    check_target("dq", to.dq, "q", q.rows(), q.cols());
    check_target("dk", to.dk, "k", k.rows(), k.cols());
    check_target("dv", to.dv, "v", v.rows(), v.cols());
    const auto apart = [&](const char* name, const Target<Scalar>& target) {
      check_apart(name, target, "dout", dout.derived());
      check_apart(name, target, "q", q.derived());
      check_apart(name, target, "k", k.derived());
      check_apart(name, target, "v", v.derived());
      check_apart(name, target, "out", out.derived());
    };
    apart("dq", to.dq);
    apart("dk", to.dk);
    apart("dv", to.dv);
    check_apart("dk", to.dk, "dq", to.dq);
    check_apart("dv", to.dv, "dq", to.dq);
    check_apart("dv", to.dv, "dk", to.dk);
    run(to.dq, to.dk, to.dv);
  } else {
    Gradients<typename Q::PlainObject, typename K::PlainObject, typename V::PlainObject> gradients;
    gradients.dq.resize(q.rows(), q.cols());
    gradients.dk.resize(k.rows(), k.cols());
    gradients.dv.resize(v.rows(), v.cols());
    run(Target<Scalar>::of(gradients.dq), Target<Scalar>::of(gradients.dk), Target<Scalar>::of(gradients.dv));
    return gradients;
  }
}

/// Arrays are refused in words.
template <class DO, class Q, class K, class V, class O, class... P>
  requires detail::some_array<DO, Q, K, V, O>
auto linear_attention_backward(const DO&, const Q&, const K&, const V&, const O&, P&&...) {
  return detail::refuse_arrays<DO, Q, K, V, O>();
}

}  // namespace heed::inline HEED_ABI

#endif
