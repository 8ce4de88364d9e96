// SPDX-License-Identifier: MIT
/// @file
/// attention(): softmax(scale · q kᵀ) v and every variant of it, over Eigen matrices.
#ifndef HEED_ATTENTION_HPP
#define HEED_ATTENTION_HPP

#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/allow_only.hpp>
#include <heed/core/arrays.hpp>
#include <heed/core/fingerprint.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/saved.hpp>
#include <heed/core/scalars.hpp>
#include <heed/core/spec.hpp>
#include <heed/core/workspace.hpp>
#include <heed/engine/converted.hpp>
#include <heed/engine/run_by_class.hpp>
#include <heed/engine/run_forward.hpp>
#include <heed/reference/attention.hpp>

namespace heed::inline HEED_ABI {
namespace detail {

/// The matrix that attention() returns: rows of q, columns of v where one head leaves no choice, in the
/// storage order of q.
template <class Q, class V, class Spec>
struct ResultOf {
  static constexpr bool one_head =
      std::is_same_v<decltype(std::declval<const Spec&>().template find<layout_tag>()), std::nullptr_t>;
  static constexpr int rows = Q::RowsAtCompileTime;
  static constexpr int columns = one_head ? int(V::ColsAtCompileTime) : Eigen::Dynamic;
  static constexpr int order = (rows == 1 && columns != 1) || (Q::IsRowMajor && !(columns == 1 && rows != 1))
                                   ? Eigen::RowMajor
                                   : Eigen::ColMajor;
  using type = Eigen::Matrix<typename Q::Scalar, rows, columns, order>;
};

template <class Spec>
constexpr auto check_forward() {
  allow_only<call::attention, Spec, of_layout, mask_tag, of_scores, of_selection, of_execution, save_tag>();
}

template <class Q, class K, class V, class Spec>
constexpr void check_types() {
  static_assert(std::is_same_v<typename Q::Scalar, typename K::Scalar> &&
                    std::is_same_v<typename Q::Scalar, typename V::Scalar>,
                "heed: q, k and v have different scalars");
  check_fixed_sizes<ResultOf<Q, V, Spec>::one_head, Q, K, V>();
}

/// An output that shares elements with an input would be read after it is written.
template <class Out, class In>
void check_overlap(const char* out_name, Out& out, const char* name, const In& in) {
  using Scalar = typename Out::Scalar;
  if constexpr (directly_accessible<In>)
    if (overlap<Scalar>(operand_of<Scalar>(out), out.rows(), out.cols(), operand_of<const Scalar>(in),
                        in.rows(), in.cols()))
      fail(out_name, " shares elements with ", name);
}
template <class Out, class In>
void check_overlap(const char* name, Out& out, const In& in) {
  check_overlap("out", out, name, in);
}

/// Everything that a forward pass refuses beside sizes and what out is; save() changes size after it.
template <class Out, class Q, class K, class V, class Spec>
void check_before_writing(Out& out, const Q& q, const K& k, const V& v, const Spec& spec) {
  using Scalar = typename Q::Scalar;
  spec.template check_values<Accumulator<Scalar>>();
  if constexpr (has_policy<Spec, save_tag>) {
    static_assert(std::is_same_v<typename std::remove_cvref_t<decltype(*spec.save())>::scalar_type, Scalar>,
                  "heed: save() takes a Saved of the scalar of q, k and v");
    auto& lse = spec.save()->target->lse;
    check_overlap("saved.lse", lse, "q", q);
    check_overlap("saved.lse", lse, "k", k);
    check_overlap("saved.lse", lse, "v", v);
    check_overlap("saved.lse", lse, "out", out);
  }
}

/// The forward pass on the engine.
template <class T, class Spec>
void run_attention(const ForwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  if constexpr (Spec::selects_rows)
    run_rows(p, spec, workspace);
  else if constexpr (Listed<Spec>::possible)
    run_listed(p, spec, workspace);
  else if constexpr (Gaps<Spec>::one || Gaps<Spec>::two)
    run_forward_by_class(p, spec, workspace);
  else
    run_forward(p, spec, workspace);
}

template <class Out, class Q, class K, class V, class Spec>
void forward(Out& out, const Q& q_expression, const K& k_expression, const V& v_expression,
             const Shape& shape, const Spec& spec, Workspace* workspace) {
  using Scalar = typename Q::Scalar;
  constexpr bool saves = has_policy<Spec, save_tag>;
  InPlace<Q> q(q_expression);
  InPlace<K> k(k_expression);
  InPlace<V> v(v_expression);
  check_before_writing(out, q, k, v, spec);
  constexpr bool in_parts = on_engine<Scalar> && !Spec::selects_rows;
  const Accumulator<Scalar> factor = spec.template scale<Accumulator<Scalar>>(shape.d);
  if constexpr (saves) open_saved<in_parts>(*spec.save()->target, spec, shape, factor);
  if constexpr (through_engine<Scalar>) {
    using Number = Accumulator<Scalar>;
    Converted<Scalar, Spec> with(spec, workspace,
                                 q.size() + k.size() + v.size() + out.size() + shape.queries * shape.heads);
    ForwardProblem<Number> p{shape,        factor,
                             with.read(q), with.read(k),
                             with.read(v), with.write(out),
                             {}};
    if constexpr (saves && on_engine<Scalar>) {
      if constexpr (!in_parts) spec.save()->target->log_sum.resize(0, 0);  // no parts
      p.lse = log_sums_of<Scalar>(*spec.save()->target);
    } else if constexpr (saves) {
      const Operand<Number> lse = with.write(spec.save()->target->lse);
      p.lse = {lse.data, lse.row, lse.column};
    }
    run_attention(p, spec, workspace);
    with.finish();
  } else {
    (void)workspace, (void)factor;
    Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>* lse = nullptr;
    if constexpr (saves) lse = &spec.save()->target->lse;
    reference_forward<Accumulator<Scalar>>(spec, shape, q, k, v, out, lse);
  }
  if constexpr (saves && !in_parts) close_saved(*spec.save()->target);
}

/// attention_into(): `workspace` may be null.
template <class Output, class Q, class K, class V, class... P>
void attend_into(Output&& out, const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                 const Eigen::MatrixBase<V>& v, Workspace* workspace, P&&... policies) {
  using Out = std::remove_cvref_t<Output>;
  static_assert(std::is_base_of_v<Eigen::MatrixBase<Out>, Out>,
                "heed: out is not an Eigen matrix, block or map (for an Eigen::Array x write x.matrix())");
  static_assert(
      !(std::is_const_v<std::remove_reference_t<Output>> && std::is_same_v<Out, typename Out::PlainObject>),
      "heed: out is a const matrix");
  static_assert(directly_accessible<Out>, "heed: out has no memory to write to");
  static_assert((int(Out::Flags) & int(Eigen::LvalueBit)) != 0, "heed: out is read-only");
  static_assert(std::is_same_v<typename Out::Scalar, typename Q::Scalar>,
                "heed: out and q have different scalars");
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  check_forward<Bundle>();
  check_types<Q, K, V, Bundle>();
  constexpr int any = Eigen::Dynamic;
  static_assert(int(Out::RowsAtCompileTime) == any || int(Q::RowsAtCompileTime) == any ||
                    int(Out::RowsAtCompileTime) == int(Q::RowsAtCompileTime),
                "heed: out and q have different numbers of rows");
  const Shape shape = make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  if (out.rows() != shape.queries || out.cols() != shape.heads * shape.d_v)
    fail("out is ", out.rows(), " x ", out.cols(), ", it must be ", shape.queries, " x ",
         shape.heads * shape.d_v);
  // A const block or map of writable memory may be written through, as in Eigen.
  Out& target = const_cast<Out&>(out);
  check_overlap("q", target, q.derived());
  check_overlap("k", target, k.derived());
  check_overlap("v", target, v.derived());
  forward(target, q.derived(), k.derived(), v.derived(), shape, bundle,
          workspace != nullptr ? workspace : workspace_of(bundle));
}

}  // namespace detail

/// out = softmax(scale · q kᵀ + …) v, head by head: row i is the mean of the values, weighted by how well
/// their keys fit query i.
///
///     Eigen::MatrixXf y = heed::attention(q, k, v);
///     y = heed::attention(q, k, v, heed::heads(8, 2), heed::causal(), heed::alibi());
///
/// @param q N × (H·d) queries, heads side by side in columns; d ≥ 1
/// @param k M × (H_kv·d) keys; H_kv divides H, and query head h uses key head h / (H / H_kv)
/// @param v M × (H_kv·d_v) values
/// @param policies what makes the variant, in any order: `heads`, `sequences`, `scale`, masks (`causal`,
/// `window`, `sliding_window`, `lengths`,
///   `documents`, `dense_mask`, `mask_where`, the sparse patterns in mask/, and what `&`, `|`, `!` make of
///   them), scores other than dot products (`additive`), score terms (`softcap`, `alibi`, `bias`,
///   `score_with`), `softmax`, `sink`, `dropout`, `save`, `use(workspace)`, `on`, `when`, or a `spec` of
///   them. One that the call would ignore does not compile
/// @return N × (H·d_v) in the storage order of q. A query that sees no key gets zeros; keys and values that
/// nobody sees are not read.
/// @throws std::invalid_argument naming the argument and both sizes, before anything is written; whatever a
/// functor throws
///
/// Any dense expressions, either storage order, blocks, maps, fixed sizes: what has memory is read in place,
/// other expressions are evaluated once. float and double run on the vector kernels. half and bfloat16 do in
/// float: q, k and v are converted, whole, and the result is rounded once, which takes 4 bytes more for each
/// number of theirs, from the workspace where there is one. Other scalars run in plain loops. Cost: pairs ·
/// (d + d_v) multiply-adds a head over the visible pairs. Memory beyond the result: about 1 KB · (d + d_v +
/// 100) a thread, with gathered keys and values half as much again; nothing of size N × M. Sequences of at
/// most 8 queries and more than 4096 keys also take d_v + 32 numbers a query, head and 4096 keys. Error:
/// every element within [2δ + (7 + 5√M)·u]·Σ_j p_j|v_j|, δ = 5√d·u·scale·max_j Σ|q||k| + u(2 max|s| + 2), u
/// the unit roundoff (of float for half and bfloat16, whose results are then rounded), for values below the
/// largest number / (256 · 96): weights reach 2⁸ before they are divided by their sum. Threads: may be called
/// from many at once; results are bitwise equal for any number of threads within a call. Sources: 1706.03762;
/// one pass with a running softmax: 1805.02867, 2205.14135.
template <class Q, class K, class V, class... P>
auto attention(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k, const Eigen::MatrixBase<V>& v,
               P&&... policies) {
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  detail::check_forward<Bundle>();
  detail::check_types<Q, K, V, Bundle>();
  const Shape shape = detail::make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  typename detail::ResultOf<Q, V, Bundle>::type out(shape.queries, shape.heads * shape.d_v);
  detail::forward(out, q.derived(), k.derived(), v.derived(), shape, bundle, detail::workspace_of(bundle));
  return out;
}

/// The same into memory of the caller's: any writable matrix, block or map of N × (H·d_v). With float, double
/// and 16-bit scalars, in the calling thread or on OpenMP, it allocates nothing once the workspace has grown
/// to what the shape needs (and `save` has the right size), for inputs that have memory.
/// @throws std::invalid_argument also where out has another size or shares elements with an input
/// (interleaved blocks of one
///   matrix are fine)
template <class Output, class Q, class K, class V, class... P>
void attention_into(Output&& out, const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                    const Eigen::MatrixBase<V>& v, Workspace& workspace, P&&... policies) {
  detail::attend_into(std::forward<Output>(out), q, k, v, &workspace, std::forward<P>(policies)...);
}
/// The same with a workspace among the policies, as attention_backward() takes it, or none.
template <class Output, class Q, class K, class V, class... P>
void attention_into(Output&& out, const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                    const Eigen::MatrixBase<V>& v, P&&... policies) {
  detail::attend_into(std::forward<Output>(out), q, k, v, nullptr, std::forward<P>(policies)...);
}

/// Arrays are refused in words.
template <class Q, class K, class V, class... P>
  requires detail::some_array<Q, K, V>
auto attention(const Q&, const K&, const V&, P&&...) { return detail::refuse_arrays<Q, K, V>(); }
template <class Output, class Q, class K, class V, class... P>
  requires detail::some_array<Q, K, V>
void attention_into(Output&&, const Q&, const K&, const V&, P&&...) { detail::refuse_arrays<Q, K, V>(); }

}  // namespace heed::inline HEED_ABI

#endif
