// SPDX-License-Identifier: MIT
/// @file
/// shaw_attention(): a learnt vector for each relative position is added to keys and to values.
#ifndef HEED_POSITION_SHAW_HPP
#define HEED_POSITION_SHAW_HPP

#include <type_traits>
#include <utility>

#include <heed/attention.hpp>
#include <heed/attention_backward.hpp>
#include <heed/attention_weights.hpp>
#include <heed/config.hpp>
#include <heed/core/allow_only.hpp>
#include <heed/core/saved.hpp>
#include <heed/core/spec.hpp>
#include <heed/mask/window.hpp>
#include <heed/merge.hpp>
#include <heed/position/shaw_parts.hpp>
#include <heed/score/scale.hpp>

namespace heed::inline HEED_ABI {

/// The gradients of shaw_attention().
template <class DQ, class DK, class DV, class DKeyTable, class DValueTable>
struct ShawGradients {
  DQ dq;
  DK dk;
  DV dv;
  DKeyTable dkey_table;
  DValueTable dvalue_table;
};

namespace detail {

template <class Function, class Spec, class... More>
constexpr auto check_shaw_spec() {
  static_assert(!Spec::selects_rows,
                "heed: shaw_attention() merges softmaxes over parts of the keys: it takes no other selection "
                "and no weight_with(), which would need all keys at once");
  static_assert(!has_policy<Spec, score_tag>,
                "heed: shaw_attention() is made of dot products with tables: it takes no additive()");
  static_assert(!has_policy<Spec, sink_tag>,
                "heed: shaw_attention() merges parts, and each would have the sink(): it takes none");
  allow_only<Function, Spec, of_layout, mask_tag, scale_tag, term_tag, selection_tag, dropout_tag,
             of_execution, More...>();
}

}  // namespace detail

/// Attention with relative positions in keys and values (1803.02155): with r = clip(j - i - off, -R, R) and
/// off = M - N,
///
///     e_ij = scale · q_i · (k_j + a^K_r)      z_i = Σ_j α_ij (v_j + a^V_r)
///
///     y = heed::shaw_attention(q, k, v, key_table, value_table, heed::heads(8), heed::causal());
///
/// @param q, k, v as attention() takes them
/// @param key_table, value_table (2R + 1) × d and (2R + 1) × d_v, row R + r for relative position r, shared
/// by
///   all heads; or with H_kv·d and H_kv·d_v columns, a table for each key head. One of them may have 0 rows:
///   it adds nothing
/// @param policies those of attention(), save(saved) among them, and dropout; of selections softmax() and
///   gumbel_softmax(t, seed), without weight_with(), sink() or additive()
/// @return N × (H·d_v)
/// @throws std::invalid_argument naming the argument and both sizes, before anything is written
///
/// Rows of the tables that no visible pair uses reach nothing. An infinity in one that a query uses makes
/// that query's output NaN, -∞ too: to hide pairs is what masks are for.
///
/// Exact, for every mask and score term. Three calls of attention() on disjoint windows, merged: keys that
/// lie R or more positions away take one row of the tables each way, and in the band between, 2R - 1 columns
/// more for a head of q, k and v carry products with the tables forward and weights back. Cost: that of
/// attention(), and about N · (8 R² + 4 R (d + d_v)) multiply-adds a head more: meant for R of some dozens,
/// as in the paper. Memory beyond the result: copies of q, k, v and out with 2R - 1 columns more a head, O((N
/// + M) · H · (d + d_v + R)), and never a matrix of N × M. Bits are equal for any number of threads.
template <class Q, class K, class V, class KT, class VT, class... P>
auto shaw_attention(const Eigen::MatrixBase<Q>& q_argument, const Eigen::MatrixBase<K>& k_argument,
                    const Eigen::MatrixBase<V>& v_argument, const Eigen::MatrixBase<KT>& key_table,
                    const Eigen::MatrixBase<VT>& value_table, P&&... policies) {
  using Scalar = typename Q::Scalar;
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  using Parts = detail::ShawParts<Scalar, Bundle>;
  using ByRow = typename Parts::Rows;
  detail::check_types<Q, K, V, Bundle>();
  detail::check_shaw_spec<detail::call::shaw_attention, Bundle, save_tag>();
  const Shape shape = detail::make_shape(bundle, q_argument.rows(), q_argument.cols(), k_argument.rows(),
                                         k_argument.cols(), v_argument.rows(), v_argument.cols());
  detail::InPlace<Q> q(q_argument.derived());
  detail::InPlace<K> k(k_argument.derived());
  detail::InPlace<V> v(v_argument.derived());
  const Parts parts(shape, bundle, key_table, value_table);
  const auto rest = detail::without<save_tag, scale_tag>(bundle.parts());
  const auto factor = scale(bundle.template scale<detail::Accumulator<Scalar>>(shape.d));

  Partial<Scalar> whole;
  bool first = true;
  for (const detail::ShawPart& part : detail::shaw_parts(parts.reach())) {
    const bool band = part.row < 0;
    const ByRow q_part = band ? parts.band_queries(q) : ByRow(q);
    const ByRow k_part =
        band ? parts.with_units(k, shape.d, parts.key_columns()) : parts.moved_keys(k, part.row);
    const ByRow v_part =
        band ? parts.with_units(v, shape.d_v, parts.value_columns()) : parts.moved_values(v, part.row);
    Saved<Scalar> saved;
    ByRow out = attention(q_part, k_part, v_part, rest, factor, window(part.left, part.right), save(saved));
    if (band) out = parts.mixed(out);
    if (first)
      whole = {out, saved.lse};
    else
      merge_into(whole.out, whole.lse, out, saved.lse);
    first = false;
  }
  if constexpr (detail::has_policy<Bundle, save_tag>) {
    Saved<Scalar>& saved = *bundle.save()->target;
    detail::open_saved<false>(saved, bundle, shape,
                              bundle.template scale<detail::Accumulator<Scalar>>(shape.d));
    saved.lse = whole.lse;
    detail::close_saved(saved);
  }
  return typename detail::ResultOf<Q, V, Bundle>::type(whole.out);
}

/// The gradients of a loss by q, k, v and both tables, given its gradient dout by shaw_attention(): each part
/// of the forward pass is gone back through with the log-sum-exp and the output of the whole, which makes its
/// weights those of the whole; what the moved keys and values of a far part get is summed for the table's
/// row.
///
///     heed::Saved<float> saved;
///     auto y = heed::shaw_attention(q, k, v, key_table, value_table, spec, heed::save(saved));
///     auto [dq, dk, dv, dkey_table, dvalue_table] =
///         heed::shaw_attention_backward(dy, q, k, v, key_table, value_table, y, saved, spec);
///
/// @return ShawGradients in the sizes and storage orders of q, k, v and the tables
/// Cost: that of attention_backward(), and about N · 30 R² multiply-adds a head more, the band's forward pass
/// among them. Memory as shaw_attention(), twice. Tables are summed in double for float. half and bfloat16
/// are copied to float, in which the forward pass is done again; other scalars are refused.
template <class DO, class Q, class K, class V, class KT, class VT, class O, class Scalar, class... P>
  requires detail::on_engine<Scalar>
auto shaw_attention_backward(const Eigen::MatrixBase<DO>& dout_argument,
                             const Eigen::MatrixBase<Q>& q_argument, const Eigen::MatrixBase<K>& k_argument,
                             const Eigen::MatrixBase<V>& v_argument, const Eigen::MatrixBase<KT>& key_table,
                             const Eigen::MatrixBase<VT>& value_table,
                             const Eigen::MatrixBase<O>& out_argument, const Saved<Scalar>& saved,
                             P&&... policies) {
  using Wide = detail::WeightsType<Scalar>;
  using Sums = Eigen::Matrix<Wide, Eigen::Dynamic, Eigen::Dynamic>;
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  using Parts = detail::ShawParts<Scalar, Bundle>;
  using ByRow = typename Parts::Rows;
  detail::check_types<Q, K, V, Bundle>();
  detail::check_shaw_spec<detail::call::shaw_attention_backward, Bundle>();
  const Shape shape = detail::make_shape(bundle, q_argument.rows(), q_argument.cols(), k_argument.rows(),
                                         k_argument.cols(), v_argument.rows(), v_argument.cols());
  detail::check_variant("shaw_attention_backward", saved, bundle, shape,
                        bundle.template scale<detail::Accumulator<Scalar>>(shape.d));
  detail::check_given("dout", dout_argument, shape.queries, shape.heads * shape.d_v, "");
  detail::check_given("out", out_argument, shape.queries, shape.heads * shape.d_v, "");
  detail::check_given("saved.lse", saved.lse, shape.queries, shape.heads,
                      ": was it filled by save() in the forward pass?");
  detail::InPlace<Q> q(q_argument.derived());
  detail::InPlace<K> k(k_argument.derived());
  detail::InPlace<V> v(v_argument.derived());
  detail::InPlace<DO> dout(dout_argument.derived());
  detail::InPlace<O> out(out_argument.derived());
  const Parts parts(shape, bundle, key_table, value_table);
  const auto rest = detail::without<scale_tag>(bundle.parts());
  Saved<Scalar> of_whole;  // of another variant than each part
  of_whole.lse = saved.lse;
  const auto factor = scale(bundle.template scale<detail::Accumulator<Scalar>>(shape.d));

  ByRow dq = ByRow::Constant(q.rows(), q.cols(), Scalar(0)),
        dk = ByRow::Constant(k.rows(), k.cols(), Scalar(0)),
        dv = ByRow::Constant(v.rows(), v.cols(), Scalar(0));
  Sums dkey_table = Sums::Constant(key_table.rows(), key_table.cols(), Wide(0)),
       dvalue_table = Sums::Constant(value_table.rows(), value_table.cols(), Wide(0));
  for (const detail::ShawPart& part : detail::shaw_parts(parts.reach())) {
    const bool band = part.row < 0;
    const auto mask = window(part.left, part.right);
    const ByRow q_part = band ? parts.band_queries(q) : ByRow(q);
    const ByRow k_part =
        band ? parts.with_units(k, shape.d, parts.key_columns()) : parts.moved_keys(k, part.row);
    const ByRow v_part =
        band ? parts.with_units(v, shape.d_v, parts.value_columns()) : parts.moved_values(v, part.row);
    const ByRow dout_part = band ? parts.band_dout(dout) : ByRow(dout);
    const ByRow out_part = band ? parts.band_output(out) : ByRow(out);
    const auto back =
        attention_backward(dout_part, q_part, k_part, v_part, out_part, of_whole, rest, factor, mask);
    if (band) {
      parts.add_query_gradient(back.dq, q, dq, dkey_table);
      parts.add_key_gradient(back.dk, shape.d, parts.key_columns(), dk);
      parts.add_key_gradient(back.dv, shape.d_v, parts.value_columns(), dv);
      if (parts.value_columns() > 0) {
        Saved<Scalar> own;
        const ByRow weights = attention(q_part, k_part, parts.units(), rest, factor, mask, save(own));
        parts.add_value_table_gradient(weights, own.lse, saved.lse, dout, dvalue_table);
      }
    } else {
      dq += back.dq;
      dk += back.dk;
      dv += back.dv;
      parts.add_moved_gradient(back.dk, parts.key_table(), part.row, dkey_table);
      parts.add_moved_gradient(back.dv, parts.value_table(), part.row, dvalue_table);
    }
  }
  ShawGradients<typename Q::PlainObject, typename K::PlainObject, typename V::PlainObject,
                typename KT::PlainObject, typename VT::PlainObject>
      gradients{dq, dk, dv, dkey_table.template cast<Scalar>(), dvalue_table.template cast<Scalar>()};
  return gradients;
}
template <class DO, class Q, class K, class V, class KT, class VT, class O, class Scalar, class... P>
  requires(!detail::on_engine<Scalar>)
auto shaw_attention_backward(const Eigen::MatrixBase<DO>& dout, const Eigen::MatrixBase<Q>& q,
                             const Eigen::MatrixBase<K>& k, const Eigen::MatrixBase<V>& v,
                             const Eigen::MatrixBase<KT>& key_table, const Eigen::MatrixBase<VT>& value_table,
                             const Eigen::MatrixBase<O>& out, const Saved<Scalar>& saved, P&&... policies) {
  static_assert(detail::through_engine<Scalar>,
                "heed: shaw_attention_backward takes float, double, half and bfloat16: plain loops do not go "
                "by the log-sum-exp of the whole");
  using Number = detail::Accumulator<Scalar>;
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  detail::check_types<Q, K, V, Bundle>();
  detail::check_shaw_spec<detail::call::shaw_attention_backward, Bundle>();
  const Shape shape = detail::make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  detail::check_variant("shaw_attention_backward", saved, bundle, shape,
                        bundle.template scale<Number>(shape.d));
  detail::check_given("out", out, shape.queries, shape.heads * shape.d_v, "");
  detail::check_given("saved.lse", saved.lse, shape.queries, shape.heads,
                      ": was it filled by save() in the forward pass?");
  detail::check_own_lse<Scalar>("shaw_attention_backward", saved);
  const auto in_float = []<class M>(const Eigen::MatrixBase<M>& m) {
    constexpr int order = M::IsRowMajor ? Eigen::RowMajor : Eigen::ColMajor;
    return Eigen::Matrix<Number, Eigen::Dynamic, Eigen::Dynamic, order>(m.template cast<Number>());
  };
  const auto wide_q = in_float(q), wide_k = in_float(k), wide_v = in_float(v);
  const auto wide_keys = in_float(key_table), wide_values = in_float(value_table);
  Saved<Number> again;
  const auto wide_out = shaw_attention(wide_q, wide_k, wide_v, wide_keys, wide_values, bundle, save(again));
  const auto wide = shaw_attention_backward(in_float(dout), wide_q, wide_k, wide_v, wide_keys, wide_values,
                                            wide_out, again, bundle);
  return ShawGradients<typename Q::PlainObject, typename K::PlainObject, typename V::PlainObject,
                       typename KT::PlainObject, typename VT::PlainObject>{
      wide.dq.template cast<Scalar>(), wide.dk.template cast<Scalar>(), wide.dv.template cast<Scalar>(),
      wide.dkey_table.template cast<Scalar>(), wide.dvalue_table.template cast<Scalar>()};
}

}  // namespace heed::inline HEED_ABI

#endif
