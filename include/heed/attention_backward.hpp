// SPDX-License-Identifier: MIT
/// @file
/// attention_backward(): the exact gradient of attention(), for every variant of it.
#ifndef HEED_ATTENTION_BACKWARD_HPP
#define HEED_ATTENTION_BACKWARD_HPP

#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include <heed/attention.hpp>
#include <heed/config.hpp>
#include <heed/core/allow_only.hpp>
#include <heed/core/arrays.hpp>
#include <heed/core/differentiable.hpp>
#include <heed/core/fingerprint.hpp>
#include <heed/engine/run_backward.hpp>
#include <heed/gradients.hpp>
#include <heed/reference/attention_backward.hpp>

namespace heed::inline HEED_ABI {
namespace detail {

template <class Scalar>
void check_target(const char* name, const Target<Scalar>& target, const char* of, Index rows, Index columns) {
  if (target.rows != rows || target.columns != columns)
    fail(name, " is ", target.rows, " x ", target.columns, ", ", of, " is ", rows, " x ", columns);
}

template <class Scalar, class In>
void check_apart(const char* name, const Target<Scalar>& target, const char* other, const In& in) {
  if constexpr (directly_accessible<In> && std::is_same_v<typename In::Scalar, Scalar>)
    if (overlap<Scalar>(target.at, target.rows, target.columns, operand_of<const Scalar>(in), in.rows(),
                        in.cols()))
      fail(name, " shares elements with ", other);
}

template <class Scalar, class Other>
void check_apart(const char* name, const Target<Scalar>& target, const char* other, const Target<Other>& b) {
  if constexpr (std::is_same_v<Scalar, Other>)
    if (overlap<Scalar>(target.at, target.rows, target.columns, {b.at.data, b.at.row, b.at.column}, b.rows,
                        b.columns))
      fail(name, " shares elements with ", other);
}

/// f(name, target) for everything beside dq, dk and dv that a backward pass writes.
template <class Spec, class F>
void each_other_target(const Spec& spec, const F& f) {
  const auto visit = [&]<class Tag>(std::type_identity<Tag>, const char* name) {
    if constexpr (has_policy<Spec, Tag>) f(name, spec.template find<Tag>()->target);
    (void)name;
  };
  visit(std::type_identity<bias_gradient_tag>{}, "bias_gradient");
  visit(std::type_identity<relative_bias_gradient_tag>{}, "t5_bias_gradient");
  visit(std::type_identity<parameter_gradient_tag>{}, "parameter_gradient");
  visit(std::type_identity<score_gradient_tag>{}, "score_gradient");
  visit(std::type_identity<sink_gradient_tag>{}, "sink_gradient");
  visit(std::type_identity<alpha_gradient_tag>{}, "alpha_gradient");
  visit(std::type_identity<weight_parameter_gradient_tag>{}, "weight_parameter_gradient");
}

template <class M, class Shared>
void check_given(const char* name, const M& m, Index rows, Index columns, const Shared& of) {
  if (m.rows() != rows || m.cols() != columns)
    fail(name, " is ", m.rows(), " x ", m.cols(), ", it must be ", rows, " x ", columns, of);
}

/// dsink += Σ_i exp(sink - lse_i)(dlse_i - D_i), D_i = dout_i · out_i: once through the rows, in order. The
/// sink in base 2 as the forward pass had it.
template <class T, class Spec>
void add_sink_gradients(const BackwardProblem<T>& p, const Spec& spec) {
  const auto& gradient = *spec.template find<sink_gradient_tag>();
  for (Index h = 0; h < p.shape.heads; ++h) {
    const T natural = spec.template sink<T>(h);
    const double sink = static_cast<double>(saturated(natural) * static_cast<T>(log2_of_e));
    double sum = 0;
    for (Index i = 0; i < p.shape.queries; ++i) {
      const RowNorm<T> norm = p.lse.at(i, h).norm();
      if (!norm.lives()) continue;
      const Operand<const T> out = p.out.at(i, h * p.shape.d_v), dout = p.dout.at(i, h * p.shape.d_v);
      double d = p.dlse.data == nullptr ? 0 : -static_cast<double>(*p.dlse.at(i, h).data);
      for (Index c = 0; c < p.shape.d_v; ++c)
        d += static_cast<double>(out.data[c * out.column]) * static_cast<double>(dout.data[c * dout.column]);
      const double power =
          (sink - static_cast<double>(norm.maximum)) + static_cast<double>(norm.minus_log_sum);
      sum -= std::exp2(power > 0 ? 0 : power) * d;
    }
    auto& x = gradient(h);
    x = static_cast<std::remove_cvref_t<decltype(x)>>(static_cast<double>(x) + sum);
  }
}

/// The problem as the engine takes it, from matrices that have memory. Output and log-sum-exp in 16 bits have
/// lost what gradients need: they are left to the caller.
template <bool adds = false, class Scalar, class Spec, class DO, class Q, class K, class V, class O>
BackwardProblem<Accumulator<Scalar>> backward_problem(const Shape& shape, const Spec& spec,
                                                      Converted<Scalar, Spec>& with, const DO& dout,
                                                      const Q& q, const K& k, const V& v, const O& out,
                                                      const Saved<Scalar>& saved, const Target<Scalar>& dq,
                                                      const Target<Scalar>& dk, const Target<Scalar>& dv) {
  using Number = Accumulator<Scalar>;
  const auto gradient = [&](const Target<Scalar>& g) {
    return adds ? with.update(g.at, g.rows, g.columns) : with.write(g.at, g.rows, g.columns);
  };
  BackwardProblem<Number> p{shape,
                            spec.template scale<Number>(shape.d),
                            with.read(q),
                            with.read(k),
                            with.read(v),
                            {},
                            with.read(dout),
                            {},
                            {},
                            gradient(dq),
                            gradient(dk),
                            gradient(dv)};
  if constexpr (on_engine<Scalar>) {
    p.out = with.read(out);
    p.lse = log_sums_of<const Scalar>(saved);
  }
  if constexpr (has_policy<Spec, lse_gradient_tag>)
    p.dlse = with.read(spec.template find<lse_gradient_tag>()->at, shape.queries, shape.heads);
  return p;
}

/// The spec with a bias's gradient of Scalar, if there is one, replaced by one in the accumulator that is
/// written back when `with` finishes.
template <class Scalar, class Whole, class... P>
auto with_bias_gradient(const Spec<P...>& spec, Converted<Scalar, Whole>& with) {
  constexpr std::size_t at = first_of<bias_gradient_tag, P...>();
  using Number = Accumulator<Scalar>;
  const auto& target = detail::get<at>(spec.parts()).target;
  BiasGradient<Number> gradient;
  gradient.target = {with.update(target.at, target.rows, target.columns), target.rows, target.columns};
  return with_mask<at>(spec, gradient);
}

template <class Scalar, class Spec>
constexpr bool rounds_bias_gradient() {
  if constexpr (!on_engine<Scalar> && has_policy<Spec, bias_gradient_tag>)
    return std::is_same_v<typename decltype(std::declval<const Spec&>()
                                                .template find<bias_gradient_tag>()
                                                ->target)::Scalar,
                          Scalar>;
  else
    return false;
}

template <class T, class Spec>
void run_gradients(BackwardProblem<T>& p, const Spec& spec) {
  if constexpr (has_policy<Spec, bias_gradient_tag>) {
    const auto& bias = *spec.template find<bias_gradient_tag>();
    p.heads_together = bias.heads_share(p.shape);
    p.all_together = bias.sequences_share(p.shape);
  }
  if constexpr (Listed<Spec>::possible)
    run_backward_listed(p, spec, workspace_of(spec));
  else if constexpr (Gaps<Spec>::one || Gaps<Spec>::two)
    run_backward_by_class(p, spec, workspace_of(spec));
  else
    run_backward(p, spec, workspace_of(spec));
  if constexpr (has_policy<Spec, sink_gradient_tag> && !Spec::selects_rows) add_sink_gradients(p, spec);
}

template <bool adds, class Spec, class DO, class Q, class K, class V, class O, class Scalar>
void backward(const Shape& shape, const Spec& spec, const DO& dout_expression, const Q& q_expression,
              const K& k_expression, const V& v_expression, const O& out_expression,
              const Saved<Scalar>& saved, const Target<Scalar>& dq, const Target<Scalar>& dk,
              const Target<Scalar>& dv) {
  InPlace<DO> dout(dout_expression);
  InPlace<Q> q(q_expression);
  InPlace<K> k(k_expression);
  InPlace<V> v(v_expression);
  if constexpr (through_engine<Scalar>) {
    InPlace<O> out(out_expression);
    constexpr bool rounds_bias = rounds_bias_gradient<Scalar, Spec>();
    Index numbers = 2 * (q.size() + k.size() + v.size() + dout.size()) + 4 * shape.queries * shape.heads;
    if constexpr (rounds_bias) {
      const auto& db = spec.template find<bias_gradient_tag>()->target;
      numbers += db.rows * db.columns;
    }
    Converted<Scalar, Spec> with(spec, workspace_of(spec), numbers);
    auto p = backward_problem<adds>(shape, spec, with, dout, q, k, v, out, saved, dq, dk, dv);
    p.accumulate = adds;
    if constexpr (!on_engine<Scalar>) {
      using Number = Accumulator<Scalar>;
      const auto own = [&] { return with.own(shape.queries, shape.heads); };
      const auto again = with.own(shape.queries, shape.heads * shape.d_v), lse = own();
      LogSums<Number> sums{lse.data, lse.row, lse.column};
      if constexpr (!Spec::selects_rows) sums.maximum = own().data, sums.log_sum = own().data;
      run_attention(ForwardProblem<Number>{shape, p.scale, p.q, p.k, p.v, again, sums}, spec,
                    workspace_of(spec));
      p.out = {again.data, again.row, again.column};
      p.lse = {sums.data, sums.row, sums.column, sums.maximum, sums.log_sum};
    }
    if constexpr (rounds_bias)
      run_gradients(p, with_bias_gradient(spec, with));
    else
      run_gradients(p, spec);
    with.finish();
  } else {
    (void)saved;
    (void)out_expression;
    using Wide = Accumulator<Scalar>;
    const auto at = [](const Target<Scalar>& target) {
      return [&target](Index r, Index c) -> Scalar& { return *target.at.at(r, c).data; };
    };
    const auto to_dq = at(dq), to_dk = at(dk), to_dv = at(dv);
    const auto add_bias = [&](const Place& place, Index i, Index j, const Wide& ds) {
      if constexpr (has_policy<Spec, bias_gradient_tag>) {
        const auto db = bias_gradient_of(spec, place);
        auto& x = db.data[i * db.row + j * db.column];
        x = static_cast<std::remove_cvref_t<decltype(x)>>(Wide(static_cast<Wide>(x) + ds));
      }
      if constexpr (has_policy<Spec, relative_bias_gradient_tag>) {
        const auto bucket = spec.template find<relative_bias_tag>()->bind_buckets(place);
        auto& x = (*spec.template find<relative_bias_gradient_tag>())(
            place.head, bucket(static_cast<Position>(i), static_cast<Position>(j)));
        x = static_cast<std::remove_cvref_t<decltype(x)>>(Wide(static_cast<Wide>(x) + ds));
      }
    };
    const auto add_sink = [&](Index head, const Wide& ds) {
      if constexpr (has_policy<Spec, sink_gradient_tag>) {
        auto& x = (*spec.template find<sink_gradient_tag>())(head);
        x = static_cast<std::remove_cvref_t<decltype(x)>>(Wide(static_cast<Wide>(x) + ds));
      }
    };
    const auto add_score = [&](Index head, Index a, const Wide& d) {
      if constexpr (has_policy<Spec, score_gradient_tag>) {
        auto& x = (*spec.template find<score_gradient_tag>())(head, a);
        x = static_cast<std::remove_cvref_t<decltype(x)>>(Wide(static_cast<Wide>(x) + d));
      }
    };
    const auto run = [&](const auto* dlse, const auto& add_parameter) {
      reference_backward<adds, Wide>(spec, shape, dout, q, k, v, dlse, to_dq, to_dk, to_dv, add_bias,
                                     add_sink, add_parameter, add_score);
    };
    const auto with_parameters = [&](const auto* dlse) {
      if constexpr (has_policy<Spec, parameter_gradient_tag>)
        run(dlse, [&](Index head, Index n, const Wide& d) {
          auto& x = (*spec.template find<parameter_gradient_tag>())(head, n);
          x = static_cast<std::remove_cvref_t<decltype(x)>>(Wide(static_cast<Wide>(x) + d));
        });
      else
        run(dlse, Nothing());
    };
    if constexpr (has_policy<Spec, lse_gradient_tag>) {
      const auto& incoming = *spec.template find<lse_gradient_tag>();
      const auto dlse = [&incoming](Index r, Index c) { return *incoming.at.at(r, c).data; };
      with_parameters(&dlse);
    } else {
      const Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>* none = nullptr;
      with_parameters(none);
    }
  }
}

}  // namespace detail

/// The gradients of a loss by q, k and v, given its gradient dout by the output of attention(): with
/// P = exp(S - lse), D = rowsum(dout ∘ out) and dS = P ∘ (dout vᵀ - D),
///
///     dv = Pᵀ dout        dq = scale · dS k        dk = scale · dSᵀ q
///
///     heed::Saved<float> saved;
///     auto out = heed::attention(q, k, v, spec, heed::save(saved));
///     auto [dq, dk, dv] = heed::attention_backward(dout, q, k, v, out, saved, spec);
///
/// @param dout N × (H·d_v), the incoming gradient
/// @param q, k, v, out, saved what attention() was given and what it returned and saved
/// @param policies the same as attention() had, in any order. Terms of the score are differentiated exactly,
///   by running them on dual numbers. Also: `into(dq, dk, dv)` to write to matrices of the caller's (the call
///   then returns nothing), `accumulating` to add to them, `bias_gradient(db)`,
///   `sink_gradient(ds)`, `parameter_gradient(dtheta)`, `t5_bias_gradient(dtable)`, `score_gradient(dw)`,
///   `lse_gradient(dl)`,
///   `use(workspace)`
/// @return Gradients{dq, dk, dv} in the sizes and storage orders of q, k and v. Key heads get the sum over
///   their query heads. A query that sees no key, and a key that no query sees, get exact zeros.
/// @throws std::invalid_argument naming the argument and both sizes, or what another variant differs in from
///   the one that was saved, before anything is written; whatever a functor throws
///
/// A variant is told by its masks, terms, selection, dropout, scale, sinks, heads, sequences and sizes, with
/// the numbers of each; of functions only that there is one and how many parameters it has, of matrices only
/// the size. Order and nesting do not matter, nor policies that when(false, ·) leaves out; masks that mean
/// the same in other words are refused, but for causal() and window(unbounded, 0), and `a & b` for both
/// given. A `saved` whose lse was filled in by hand or has changed since, as by merge_into(), is taken as it
/// is.
///
/// Weights are computed again from the log-sum-exp, block by block: nothing of size N × M is stored, and all
/// a forward pass must keep is its output and three numbers a row and head (recomputation as 1604.06174 wants
/// it). They are at most 1, whatever the scores, so that finite ones give finite gradients; where scale · q · k
/// alone leaves the scalar's range (2.3·10³⁸ in float) these are not the gradients of the saturated scores that
/// the forward pass makes of it, for weights of keys that share a row are not shared again. Products are
/// added up in the order of the forward pass: a key that has all the weight of its row there has it here too,
/// at any size of scores. Where keys share it, weights of both passes differ by a factor of
/// exp(±5√d·u·scale·Σ|q||k|) at most, which is what the forward pass itself is exact to. So they do, times
/// exp(±4u·|s|), where terms of the score are more than functions of i - j, since they run on dual numbers
/// here; with additive() for at most 8 queries; with key_lists() and a gradient of biases or parameters; and
/// in rows that go by lse alone. Cost: pairs · (3 d + 2 d_v) multiply-adds a head, 2.5 times the forward pass
/// (of additive scores up to 2.8). Memory beyond the result: about 1.3 KB · (d + d_v + 100) a thread, and M ·
/// (d + d_v) numbers for each of: keys and values whose rows lie far apart or are columns, and gradients of
/// keys and values of which the same holds or whose d is not a multiple of the vector's width. Threads: one
/// task for each sequence and key head (all heads of a sequence where they share a bias's gradient); results
/// are bitwise equal for any number of threads. half and bfloat16 run in float, 4 bytes more for each number
/// of what is read and written, and gradients are rounded once; output and log-sum-exp are computed again
/// from q, k and v, because 16 bits of them are too few (the numbers in `out` and `saved` are not used), and
/// the cost is 3.5 times the forward pass. Other scalars run in plain loops, which also compute the weights
/// afresh. What computes them afresh refuses a `saved` whose lse was merged, or filled in by hand: these
/// would be other weights. Sources: 2205.14135, 2307.08691.
template <class DO, class Q, class K, class V, class O, class Scalar, class... P>
auto attention_backward(const Eigen::MatrixBase<DO>& dout, const Eigen::MatrixBase<Q>& q,
                        const Eigen::MatrixBase<K>& k, const Eigen::MatrixBase<V>& v,
                        const Eigen::MatrixBase<O>& out, const Saved<Scalar>& saved, P&&... policies) {
  using namespace detail;
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  allow_only<call::attention_backward, Bundle, of_layout, mask_tag, of_scores, of_selection, of_execution,
             of_gradients, into_tag, accumulate_tag>();
  check_types<Q, K, V, Bundle>();
  (void)check_differentiable<Bundle, Accumulator<Scalar>>();
  static_assert(std::is_same_v<Scalar, typename Q::Scalar> && std::is_same_v<Scalar, typename DO::Scalar> &&
                    std::is_same_v<Scalar, typename O::Scalar>,
                "heed: dout, q, out and saved have different scalars");
  constexpr bool given = has_policy<Bundle, into_tag>;
  static_assert(given || !has_policy<Bundle, accumulate_tag>, "heed: accumulating needs into(dq, dk, dv)");
  static_assert(!(Bundle::selects_rows && has_policy<Bundle, lse_gradient_tag>),
                "heed: lse_gradient() is for softmax: other selections have no log-sum-exp that a loss uses");
  const Shape shape = make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  bundle.template check_values<Accumulator<Scalar>>();
  check_variant("attention_backward", saved, bundle, shape,
                bundle.template scale<Accumulator<Scalar>>(shape.d));
  check_given("dout", dout, shape.queries, shape.heads * shape.d_v, "");
  check_given("out", out, shape.queries, shape.heads * shape.d_v, "");
  check_given("saved.lse", saved.lse, shape.queries, shape.heads,
              ": was it filled by save() in the forward pass?");
  check_own_lse<Scalar>("attention_backward", saved);

  if constexpr (has_policy<Bundle, relative_bias_gradient_tag>) {
    static_assert(has_policy<Bundle, relative_bias_tag>, "heed: t5_bias_gradient() without a t5_bias()");
    bundle.template find<relative_bias_gradient_tag>()->check_size(
        shape, bundle.template find<relative_bias_tag>()->buckets());
  }

  if constexpr (has_policy<Bundle, parameter_gradient_tag>) {
    constexpr int n = std::remove_cvref_t<decltype(bundle.template bind<Scalar>(Place{}))>::parameters;
    static_assert(n > 0, "heed: parameter_gradient() without a score_with() that has parameters");
    bundle.template find<parameter_gradient_tag>()->check_size(shape, n);
  }
  const auto apart = [&](const char* name, const auto& target) {
    check_apart(name, target, "dout", dout.derived());
    check_apart(name, target, "q", q.derived());
    check_apart(name, target, "k", k.derived());
    check_apart(name, target, "v", v.derived());
    check_apart(name, target, "out", out.derived());
    check_apart(name, target, "saved.lse", saved.lse);
  };
  each_other_target(bundle, apart);
  each_other_target(bundle, [&](const char* name, const auto& target) {
    bool before = true;
    each_other_target(bundle, [&](const char* other, const auto& b) {
      before = before && static_cast<const void*>(&target) != static_cast<const void*>(&b);
      if (before) check_apart(name, target, other, b);
    });
  });

  const auto run = [&](const Target<Scalar>& dq, const Target<Scalar>& dk, const Target<Scalar>& dv) {
    constexpr bool adds = has_policy<Bundle, accumulate_tag>;
    if constexpr (has_policy<Bundle, bias_gradient_tag>) {
      const auto& db = bundle.template find<bias_gradient_tag>()->target;
      if (!adds)
        for (Index i = 0; i < db.rows; ++i)
          for (Index j = 0; j < db.columns; ++j) *db.at.at(i, j).data = {};
    }
    if constexpr (has_policy<Bundle, parameter_gradient_tag>) {
      constexpr int n = std::remove_cvref_t<decltype(bundle.template bind<Scalar>(Place{}))>::parameters;
      const auto& gradient = *bundle.template find<parameter_gradient_tag>();
      if (!adds)
        for (Index h = 0; h < shape.heads; ++h)
          for (Index t = 0; t < n; ++t) gradient(h, t) = {};
    }
    if constexpr (has_policy<Bundle, relative_bias_gradient_tag>) {
      const auto& gradient = *bundle.template find<relative_bias_gradient_tag>();
      if (!adds)
        for (Index h = 0; h < shape.heads; ++h)
          for (Index b = 0; b < bundle.template find<relative_bias_tag>()->buckets(); ++b)
            gradient(h, b) = {};
    }
    if constexpr (has_policy<Bundle, weight_parameter_gradient_tag>) {
      static_assert(
          Bundle::changes_weights && through_engine<Scalar>,
          "heed: weight_parameter_gradient() without a weight_with(f, x), or for a scalar without an "
          "engine");
      const auto& gradient = *bundle.template find<weight_parameter_gradient_tag>();
      if (!adds)
        for (Index i = 0; i < shape.queries; ++i)
          for (Index h = 0; h < shape.heads; ++h) gradient(i, h) = {};
    }
    if constexpr (has_policy<Bundle, alpha_gradient_tag>) {
      static_assert(!Bundle::changes_weights, "heed: alpha_gradient() together with weight_with()");
      static_assert(Bundle::selects_rows && through_engine<Scalar>,
                    "heed: alpha_gradient() without an entmax(alpha), or for a scalar without an engine");
      const auto& gradient = *bundle.template find<alpha_gradient_tag>();
      if (!adds)
        for (Index h = 0; h < shape.heads; ++h) gradient(h) = {};
    }
    if constexpr (has_policy<Bundle, score_gradient_tag>) {
      static_assert(has_policy<Bundle, score_tag>, "heed: score_gradient() without an additive()");
      const auto& gradient = *bundle.template find<score_gradient_tag>();
      if (!adds)
        for (Index h = 0; h < shape.heads; ++h)
          for (Index a = 0; a < shape.d; ++a) gradient(h, a) = {};
    }
    if constexpr (has_policy<Bundle, sink_gradient_tag>) {
      static_assert(has_policy<Bundle, sink_tag>, "heed: sink_gradient() without a sink()");
      const auto& gradient = *bundle.template find<sink_gradient_tag>();
      if (!adds)
        for (Index h = 0; h < shape.heads; ++h) gradient(h) = {};
    }
    backward<adds>(shape, bundle, dout.derived(), q.derived(), k.derived(), v.derived(), out.derived(), saved,
                   dq, dk, dv);
  };
  if constexpr (given) {
    const auto& to = *bundle.template find<into_tag>();
    static_assert(std::is_same_v<decltype(to.dq), const Target<Scalar>> ||
                      std::is_same_v<std::remove_cvref_t<decltype(to.dq)>, Target<Scalar>>,
                  "heed: into() takes matrices of the scalar of q, k and v");
    check_target("dq", to.dq, "q", q.rows(), q.cols());
    check_target("dk", to.dk, "k", k.rows(), k.cols());
    check_target("dv", to.dv, "v", v.rows(), v.cols());
    apart("dq", to.dq);
    apart("dk", to.dk);
    apart("dv", to.dv);
    check_apart("dk", to.dk, "dq", to.dq);
    check_apart("dv", to.dv, "dq", to.dq);
    check_apart("dv", to.dv, "dk", to.dk);
    each_other_target(bundle, [&](const char* name, const auto& target) {
      check_apart(name, target, "dq", to.dq);
      check_apart(name, target, "dk", to.dk);
      check_apart(name, target, "dv", to.dv);
    });
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
auto attention_backward(const DO&, const Q&, const K&, const V&, const O&, P&&...) {
  return detail::refuse_arrays<DO, Q, K, V, O>();
}

}  // namespace heed::inline HEED_ABI

#endif
