// SPDX-License-Identifier: MIT
/// @file
/// linformer_attention(): softmax attention over a few mixtures of the keys instead of all of them.
#ifndef HEED_LINEAR_LINFORMER_HPP
#define HEED_LINEAR_LINFORMER_HPP

#include <type_traits>
#include <utility>

#include <heed/attention.hpp>
#include <heed/attention_backward.hpp>
#include <heed/config.hpp>
#include <heed/core/allow_only.hpp>
#include <heed/linear/project_rows.hpp>

namespace heed::inline HEED_ABI {

/// The policy `per_head`.
struct PerHead : projection_tag {};
/// linformer_attention() has a projection for each key head, one below the other, instead of one for all.
inline constexpr PerHead per_head{};

/// The derivatives of a loss by everything that linformer_attention() is given.
template <class DQ, class DK, class DV, class DE, class DF>
struct LinformerGradients {
  DQ dq;
  DK dk;
  DV dv;
  DE de;
  DF df;
};

namespace detail {

template <class Function, class Spec, class... More>
constexpr auto check_linformer() {
  static_assert(!may_have<Spec, mask_tag>,
                "heed: Linformer's keys are mixtures of all tokens: no mask can hide a token from a query");
  static_assert(!may_have<Spec, sequences_tag>,
                "heed: Linformer's projections have a column for each token of one sequence: no sequences()");
  static_assert(!may_have<Spec, position_tag>,
                "heed: Linformer's keys are mixtures of all tokens: they have no relative positions, and it "
                "takes no alibi() and no t5_bias()");
  allow_only<Function, Spec, layout_tag, projection_tag, of_scores, of_selection, of_execution, More...>();
}

/// Sizes of a call, checked.
struct LinformerShape {
  Index key_heads = 1, rank = 0, d = 0, d_v = 0;
  bool per_head = false;

  template <class Spec, class K, class V, class E, class F>
  LinformerShape(const Spec& spec, const K& k, const V& v, const E& e, const F& f) {
    if constexpr (has_policy<Spec, layout_tag>) key_heads = find<layout_tag>(spec)->key_heads;
    per_head = has_policy<Spec, projection_tag>;
    if (key_heads < 1) fail("heads: ", key_heads, " key heads, at least 1 is needed");
    if (v.rows() != k.rows()) fail("v has ", v.rows(), " rows, k has ", k.rows());
    if (e.cols() != k.rows()) fail("e has ", e.cols(), " columns, k has ", k.rows(), " rows");
    if (f.cols() != v.rows()) fail("f has ", f.cols(), " columns, v has ", v.rows(), " rows");
    if (f.rows() != e.rows()) fail("f has ", f.rows(), " rows, e has ", e.rows());
    if (per_head && e.rows() % key_heads != 0)
      fail("e has ", e.rows(), " rows, not a multiple of ", key_heads, " key heads");
    if (k.cols() % key_heads != 0)
      fail("k has ", k.cols(), " columns, not a multiple of ", key_heads, " key heads");
    if (v.cols() % key_heads != 0)
      fail("v has ", v.cols(), " columns, not a multiple of ", key_heads, " key heads");
    rank = per_head ? e.rows() / key_heads : e.rows();
    d = k.cols() / key_heads;
    d_v = v.cols() / key_heads;
  }

  /// Calls f(first row of the projection, first column, columns) for what is multiplied at once.
  template <class Call>
  void each(Index columns_of_head, const Call& call) const {
    if (!per_head) return call(Index(0), Index(0), key_heads * columns_of_head);
    for (Index h = 0; h < key_heads; ++h) call(h * rank, h * columns_of_head, columns_of_head);
  }
};

template <class Scalar>
using RowMajor = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// e · x, head by head.
template <class Scalar, class E, class X, class Spec>
RowMajor<Scalar> project_rows(const LinformerShape& s, const E& e, const X& x, Index width,
                              const Spec& spec) {
  RowMajor<Scalar> to(s.rank, s.key_heads * width);
  const auto from = operand_of<const Scalar>(x), by = operand_of<const Scalar>(e);
  const auto out = operand_of<Scalar>(to);
  s.each(width, [&](Index row, Index column, Index columns) {
    multiply_into<Scalar>(out.at(0, column), by.at(row, 0), from.at(0, column), s.rank, x.rows(), columns,
                          false, spec);
  });
  return to;
}

/// dx = eᵀ · dy and de = dy · xᵀ, head by head.
template <class Scalar, class E, class X, class DX, class DE, class Spec>
void project_rows_gradient(const LinformerShape& s, const E& e, const X& x, const RowMajor<Scalar>& dy,
                           Index width, DX& dx, DE& de, const Spec& spec) {
  dx.resize(x.rows(), x.cols());
  de.resize(e.rows(), e.cols());
  const auto from = operand_of<const Scalar>(x), by = operand_of<const Scalar>(e),
             gradient = operand_of<const Scalar>(dy);
  const auto to_x = operand_of<Scalar>(dx), to_e = operand_of<Scalar>(de);
  s.each(width, [&](Index row, Index column, Index columns) {
    multiply_into<Scalar>(to_x.at(0, column), transposed(by.at(row, 0)), gradient.at(0, column), x.rows(),
                          s.rank, columns, false, spec);
    multiply_into<Scalar>(to_e.at(row, 0), gradient.at(0, column), transposed(from.at(0, column)), s.rank,
                          columns, x.rows(), false, spec);
  });
}

template <class Scalar, class... M>
constexpr void check_scalars() {
  static_assert((std::is_same_v<Scalar, typename M::Scalar> && ...),
                "heed: the matrices of a call have different scalars");
}

}  // namespace detail

/// Linformer: keys and values are mixed into r rows each before they are attended to,
///
///     out = softmax(scale · q (e k)ᵀ) (f v)
///
///     Eigen::MatrixXf y = heed::linformer_attention(q, k, v, e, f, heed::heads(8));
///
/// @param q N × (H·d), k M × (H_kv·d), v M × (H_kv·d_v), as attention() takes them
/// @param e, f r × M projections of keys and values, for all heads; with the policy `per_head` one for each
///   key head, one below the other: (H_kv·r) × M
/// @param policies those of attention(), but for masks, `sequences`, `alibi` and `t5_bias`, which are compile
///   errors: every projected key holds something of every token. Positions j count projected keys. `save` as
///   there.
/// @return N × (H·d_v) in the storage order of q
/// @throws std::invalid_argument naming the argument and both sizes, before anything is written
///
/// Error against attention() without projections: none where groups of tokens share key and value and e = f
/// takes the means of equally large groups; none either for a permutation e = f of rank M. Else it falls as
/// the rank grows, with what mixtures of r tokens leave out of the keys and values: with keys and values of
/// rank 6 (up to 2.5 waves over 512 tokens), a noise of 0.05 and e = f the means of groups it is 41 %, 11
/// %, 2.7 %, 0.7 % and 0.2 % of the output at ranks of 4, 8, 16, 32 and 64 (tests/linear_error_test.cpp).
/// Rounding: that of attention(), and √M · u · Σ|e||k|, √M · u · Σ|f||v|. Cost: r · M · (d + d_v)
/// multiply-adds a key head to project, N · r · (d + d_v) a head to attend: linear in both lengths. Memory
/// beyond the result: the projected keys and values, and that of attention(). Threads: bitwise equal results
/// for any number. Source: 2006.04768.
template <class Q, class K, class V, class E, class F, class... P>
auto linformer_attention(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                         const Eigen::MatrixBase<V>& v, const Eigen::MatrixBase<E>& e,
                         const Eigen::MatrixBase<F>& f, P&&... policies) {
  using namespace detail;
  using Scalar = typename Q::Scalar;
  check_scalars<Scalar, K, V, E, F>();
  const auto bundle = spec(std::forward<P>(policies)...);
  check_linformer<call::linformer_attention, std::remove_const_t<decltype(bundle)>, save_tag>();
  const LinformerShape shape(bundle, k, v, e, f);
  make_shape(bundle, q.rows(), q.cols(), shape.rank, k.cols(), shape.rank, v.cols());
  const InPlace<K> keys(k.derived());
  const InPlace<V> values(v.derived());
  const InPlace<E> of_keys(e.derived());
  const InPlace<F> of_values(f.derived());
  return attention(q, project_rows<Scalar>(shape, of_keys, keys, shape.d, bundle),
                   project_rows<Scalar>(shape, of_values, values, shape.d_v, bundle),
                   without<projection_tag>(bundle.parts()));
}

/// The gradients of a loss by q, k, v, e and f, given its gradient dout by the output: with K' = e k and V' =
/// f v, attention_backward() gives dq, dK' and dV', and
///
///     dk = eᵀ dK'        de = dK' kᵀ        dv = fᵀ dV'        df = dV' vᵀ
///
/// Projections that heads share get the sum over heads.
/// @param out, saved what linformer_attention() returned and, with `save(saved)`, saved
/// @param policies the same as it had; also the gradients that attention_backward() writes, but not `into`
/// @return LinformerGradients{dq, dk, dv, de, df} in the sizes and storage orders of q, k, v, e and f
/// @throws std::invalid_argument naming the argument and both sizes, before anything is written
/// The projected keys and values are computed again. Cost: about 2.5 times the forward pass.
template <class DO, class Q, class K, class V, class E, class F, class O, class Scalar, class... P>
auto linformer_backward(const Eigen::MatrixBase<DO>& dout, const Eigen::MatrixBase<Q>& q,
                        const Eigen::MatrixBase<K>& k, const Eigen::MatrixBase<V>& v,
                        const Eigen::MatrixBase<E>& e, const Eigen::MatrixBase<F>& f,
                        const Eigen::MatrixBase<O>& out, const Saved<Scalar>& saved, P&&... policies) {
  using namespace detail;
  check_scalars<Scalar, Q, K, V, E, F, O, DO>();
  const auto bundle = spec(std::forward<P>(policies)...);
  check_linformer<call::linformer_backward, std::remove_const_t<decltype(bundle)>, of_gradients>();
  const LinformerShape shape(bundle, k, v, e, f);
  make_shape(bundle, q.rows(), q.cols(), shape.rank, k.cols(), shape.rank, v.cols());
  const InPlace<K> keys(k.derived());
  const InPlace<V> values(v.derived());
  const InPlace<E> of_keys(e.derived());
  const InPlace<F> of_values(f.derived());
  auto inner = attention_backward(dout, q, project_rows<Scalar>(shape, of_keys, keys, shape.d, bundle),
                                  project_rows<Scalar>(shape, of_values, values, shape.d_v, bundle), out,
                                  saved, without<projection_tag>(bundle.parts()));
  LinformerGradients<typename Q::PlainObject, typename K::PlainObject, typename V::PlainObject,
                     typename E::PlainObject, typename F::PlainObject>
      gradients;
  gradients.dq = std::move(inner.dq);
  project_rows_gradient<Scalar>(shape, of_keys, keys, inner.dk, shape.d, gradients.dk, gradients.de, bundle);
  project_rows_gradient<Scalar>(shape, of_values, values, inner.dv, shape.d_v, gradients.dv, gradients.df,
                                bundle);
  return gradients;
}

}  // namespace heed::inline HEED_ABI

#endif
