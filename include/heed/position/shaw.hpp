// SPDX-License-Identifier: MIT
/// @file
/// shaw_attention(): a learnt vector for each relative position is added to keys and to values.
#ifndef HEED_POSITION_SHAW_HPP
#define HEED_POSITION_SHAW_HPP

#include <cmath>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/attention.hpp>
#include <heed/attention_backward.hpp>
#include <heed/attention_weights.hpp>
#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/saved.hpp>
#include <heed/core/spec.hpp>
#include <heed/mask/window.hpp>
#include <heed/merge.hpp>
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

/// The policies of a spec without those that derive from one of Tags.
template <class... Tags, class Part>
auto unless_tagged(const Part& part) {
  if constexpr ((false || ... || std::derived_from<Part, Tags>))
    return Pack<>{};
  else
    return Pack<Part>{{part}};
}
inline Pack<> join_all() { return {}; }
template <class First, class... More>
auto join_all(First first, More... more) {
  return join(std::move(first), join_all(std::move(more)...));
}
template <class... Tags, std::size_t... I, class... P>
auto without(const PackOf<std::index_sequence<I...>, P...>& parts) {
  return spec_of(join_all(unless_tagged<Tags...>(detail::get<I>(parts))...));
}

/// The tables of one call. What pairs see falls into three parts, by the relative position r = j - i - off:
///
/// - r <= -R and r >= R: every pair takes the same row of the tables, so these are plain attention over
///   k + a_K and v + a_V;
/// - the 2R - 1 positions between, the band: keys are extended by the unit vector e_{j mod (2R - 1)}, queries
///   by their products with the table, q_i · a_K, each in the column that the key of its position has. Values
///   are extended alike, and what arrives in those columns are the weights that the rows of a_V get.
///
/// Every part is a call of attention() under a window, with the scale of the whole; merge() puts them
/// together. So all masks and terms act on the scores as the formula has them, and nothing is stored but
/// rows of q, k and v, longer by 2R - 1.
template <class Scalar, class Spec>
class ShawParts {
 public:
  using Rows = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  ShawParts(const Shape& shape, const Spec& spec, Rows key_table, Rows value_table)
      : shape_(shape), spec_(&spec), key_table_(std::move(key_table)), value_table_(std::move(value_table)) {
    check("key_table", key_table_, shape.d);
    check("value_table", value_table_, shape.d_v);
    const Index keys = key_table_.rows(), values = value_table_.rows();
    if (keys == 0 && values == 0)
      fail("shaw_attention: key_table and value_table have 0 rows, one must have some");
    if (keys != 0 && values != 0 && keys != values)
      fail("shaw_attention: key_table has ", keys, " rows, value_table has ", values);
    reach_ = ((keys != 0 ? keys : values) - 1) / 2;
  }

  /// R.
  Index reach() const { return reach_; }
  Index band() const { return reach_ > 0 ? 2 * reach_ - 1 : 0; }
  bool has_keys() const { return key_table_.rows() > 0; }
  bool has_values() const { return value_table_.rows() > 0; }
  /// Columns that the band adds to a head of q and k, and of v.
  Index key_columns() const { return has_keys() ? band() : 0; }
  Index value_columns() const { return has_values() ? band() : 0; }

  /// m with row n of a table added to every row; a table without rows adds nothing.
  template <class M>
  Rows moved(const M& m, const Rows& table, Index width, Index n) const {
    Rows sum = m;
    if (table.rows() > 0)
      for (Index c = 0; c < sum.cols(); ++c) sum.col(c).array() += table(n, column(table, c, width));
    return sum;
  }
  template <class K>
  Rows moved_keys(const K& k, Index n) const {
    return moved(k, key_table_, shape_.d, n);
  }
  template <class V>
  Rows moved_values(const V& v, Index n) const {
    return moved(v, value_table_, shape_.d_v, n);
  }

  /// Keys or values of the band: each head followed by unit vectors.
  template <class M>
  Rows with_units(const M& m, Index width, Index more) const {
    Rows sum = Rows::Constant(m.rows(), shape_.key_heads * (width + more), Scalar(0));
    for (Index g = 0; g < shape_.key_heads; ++g)
      sum.middleCols(g * (width + more), width) = m.middleCols(g * width, width);
    if (more == 0) return sum;
    for (Index s = 0; s < shape_.sequences; ++s) {
      const Place place = shape_.place(s, 0);
      for (Index j = 0; j < place.keys; ++j)
        for (Index g = 0; g < shape_.key_heads; ++g)
          sum(place.key_begin + j, g * (width + more) + width + j % band()) = Scalar(1);
    }
    return sum;
  }

  /// Calls visit(row of q, head, row of the table, column of the band) for every visible pair of the band.
  /// (What stands in a table for pairs that nobody sees must not meet the zeros of the other columns.)
  template <class Visit>
  void each(const Visit& visit) const {
    for (Index s = 0; s < shape_.sequences; ++s)
      for (Index h = 0; h < shape_.heads; ++h) {
        const Place place = shape_.place(s, h);
        const auto rules = spec_->template bind<Scalar>(place);
        const Index off = place.keys - place.queries;
        for (Index i = 0; i < place.queries; ++i)
          for (Index r = 1 - reach_; r < reach_; ++r) {
            const Index j = i + off + r;
            if (j >= 0 && j < place.keys && rules.visible(static_cast<Position>(i), static_cast<Position>(j)))
              visit(place.query_begin + i, h, r + reach_, j % band());
          }
      }
  }

  /// Rows of q (or dout), each head followed by its products with the rows of a table, where the band wants
  /// them.
  template <class M>
  Rows with_products(const M& m, const Rows& table, Index width, Index more) const {
    Rows sum = Rows::Constant(m.rows(), shape_.heads * (width + more), Scalar(0));
    for (Index h = 0; h < shape_.heads; ++h)
      sum.middleCols(h * (width + more), width) = m.middleCols(h * width, width);
    if (more > 0)
      each([&](Index i, Index h, Index n, Index at) {
        Scalar dot(0);
        for (Index c = 0; c < width; ++c)
          dot += m(i, h * width + c) * table(n, head_column(table, h, c, width));
        sum(i, h * (width + more) + width + at) = dot;
      });
    return sum;
  }
  template <class Q>
  Rows band_queries(const Q& q) const {
    return with_products(q, key_table_, shape_.d, key_columns());
  }
  template <class DO>
  Rows band_dout(const DO& dout) const {
    return with_products(dout, value_table_, shape_.d_v, value_columns());
  }
  /// The output of the whole, as the band's backward pass is to see it: its row sums with band_dout() are
  /// those of the whole.
  template <class O>
  Rows band_output(const O& out) const {
    Rows sum = Rows::Constant(out.rows(), shape_.heads * (shape_.d_v + value_columns()), Scalar(0));
    for (Index h = 0; h < shape_.heads; ++h)
      sum.middleCols(h * (shape_.d_v + value_columns()), shape_.d_v) =
          out.middleCols(h * shape_.d_v, shape_.d_v);
    return sum;
  }

  /// The band's output without its extra columns: their weights have become rows of a_V.
  Rows mixed(const Rows& extended) const {
    const Index width = shape_.d_v, more = value_columns();
    Rows out(extended.rows(), shape_.heads * width);
    for (Index h = 0; h < shape_.heads; ++h)
      out.middleCols(h * width, width) = extended.middleCols(h * (width + more), width);
    if (more > 0)
      each([&](Index i, Index h, Index n, Index at) {
        const Scalar weight = extended(i, h * (width + more) + width + at);
        if (weight == Scalar(0)) return;
        for (Index c = 0; c < width; ++c)
          out(i, h * width + c) += weight * value_table_(n, head_column(value_table_, h, c, width));
      });
    return out;
  }

  /// From the gradient by band_queries(): adds to that by q and by the key table.
  template <class Q, class DQ, class Sums>
  void add_query_gradient(const Rows& extended, const Q& q, DQ& dq, Sums& dtable) const {
    const Index width = shape_.d, more = key_columns();
    for (Index h = 0; h < shape_.heads; ++h)
      dq.middleCols(h * width, width) += extended.middleCols(h * (width + more), width);
    if (more > 0)
      each([&](Index i, Index h, Index n, Index at) {
        const Scalar x = extended(i, h * (width + more) + width + at);
        if (x == Scalar(0)) return;
        for (Index c = 0; c < width; ++c) {
          const Index from = head_column(key_table_, h, c, width);
          dq(i, h * width + c) += x * key_table_(n, from);
          add(dtable, n, from, x * q(i, h * width + c));
        }
      });
  }
  /// From the gradient by keys or values of the band to that by k or v; that by unit vectors is dropped.
  template <class To>
  void add_key_gradient(const Rows& extended, Index width, Index more, To& to) const {
    for (Index g = 0; g < shape_.key_heads; ++g)
      to.middleCols(g * width, width) += extended.middleCols(g * (width + more), width);
  }
  /// Unit vectors alone, for the weights of the band.
  Rows units() const { return with_units(Rows(shape_.keys, 0), 0, value_columns()); }
  /// Rows of the value table get dout, by the weights of the band, which are here relative to its own
  /// log-sum-exp.
  template <class Lse, class DO, class Sums>
  void add_value_table_gradient(const Rows& weights, const Lse& own, const Lse& whole, const DO& dout,
                                Sums& dtable) const {
    using std::exp;
    const Index width = shape_.d_v, more = value_columns();
    each([&](Index i, Index h, Index n, Index at) {
      if (weights(i, h * more + at) == Scalar(0)) return;
      const Scalar weight = Scalar(weights(i, h * more + at) * Scalar(exp(Scalar(own(i, h) - whole(i, h)))));
      for (Index c = 0; c < width; ++c)
        add(dtable, n, head_column(value_table_, h, c, width), weight * dout(i, h * width + c));
    });
  }
  /// Row n of a table gets the sum of what moved keys or values got.
  template <class Sums>
  void add_moved_gradient(const Rows& dmoved, Index width, const Rows& table, Index n, Sums& dtable) const {
    if (table.rows() == 0) return;
    for (Index j = 0; j < dmoved.rows(); ++j)
      for (Index c = 0; c < dmoved.cols(); ++c) add(dtable, n, column(table, c, width), dmoved(j, c));
  }

  const Rows& key_table() const { return key_table_; }
  const Rows& value_table() const { return value_table_; }

 private:
  static void check(const char* name, const Rows& table, Index width, Index key_heads) {
    if (table.rows() == 0) return;
    if (table.rows() % 2 == 0)
      fail("shaw_attention: ", name, " has ", table.rows(), " rows, it must have 2R + 1, an odd number");
    if (table.cols() != width && table.cols() != width * key_heads)
      fail("shaw_attention: ", name, " has ", table.cols(), " columns, it must have ", width, ", for all ",
           key_heads, " key heads, or ", width * key_heads);
  }
  void check(const char* name, const Rows& table, Index width) const {
    check(name, table, width, shape_.key_heads);
  }
  /// The column of a table that belongs to a column of k or v,
  static Index column(const Rows& table, Index c, Index width) {
    return table.cols() == width ? c % width : c;
  }
  /// or to column c of a query head.
  Index head_column(const Rows& table, Index h, Index c, Index width) const {
    return table.cols() == width ? c : h / (shape_.heads / shape_.key_heads) * width + c;
  }
  template <class Sums>
  static void add(Sums& sums, Index r, Index c, const Scalar& x) {
    sums(r, c) += static_cast<typename Sums::Scalar>(x);
  }

  Shape shape_;
  const Spec* spec_;
  Rows key_table_, value_table_;
  Index reach_ = 0;
};

template <class Spec>
constexpr void check_shaw_spec() {
  static_assert(!has_policy<Spec, sink_tag> && !has_policy<Spec, lse_gradient_tag> &&
                    !has_policy<Spec, into_tag> && !has_policy<Spec, accumulate_tag> &&
                    !has_policy<Spec, bias_gradient_tag> && !has_policy<Spec, sink_gradient_tag> &&
                    !has_policy<Spec, parameter_gradient_tag> &&
                    !has_policy<Spec, relative_bias_gradient_tag>,
                "heed: shaw_attention() is put together from parts: no sink(), into(), accumulate, "
                "lse_gradient() or gradients of other policies");
}

/// The window of each part, and the row of the tables that it takes, -1 for the band.
struct ShawPart {
  Index left, right, row;
};
inline std::vector<ShawPart> shaw_parts(Index reach) {
  if (reach == 0) return {{unbounded, unbounded, 0}};
  return {{unbounded, -reach, 0}, {reach - 1, reach - 1, -1}, {-reach, unbounded, 2 * reach}};
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
/// @param policies those of attention(), save(saved) among them; dropout too, but no sink()
/// @return N × (H·d_v)
/// @throws std::invalid_argument naming the argument and both sizes, before anything is written
///
/// Exact, for every mask and score term. Three calls of attention() on disjoint windows, merged: keys that
/// lie R or more positions away take one row of the tables each way, and in the band between, 2R - 1 columns
/// more for a head of q, k and v carry products with the tables forward and weights back. Cost: that of
/// attention(), and N · (2R)² multiply-adds a head more; meant for R of some dozens, as in the paper (about
/// d/2 is where the band's own columns cost as much as its heads). Memory beyond the result: copies of q, k,
/// v and out with 2R - 1 columns more a head, O((N + M) · H · (d + d_v + R)), and never a matrix of N × M.
/// Bits are equal for any number of threads.
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
  detail::check_shaw_spec<Bundle>();
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
  if constexpr (detail::has_policy<Bundle, save_tag>) bundle.save()->target->lse = whole.lse;
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
/// Cost: that of attention_backward(), and about N · 5 (2R)² multiply-adds a head more, plus the band's
/// forward pass. Memory as shaw_attention(), twice. Tables are summed in double for float.
template <class DO, class Q, class K, class V, class KT, class VT, class O, class Scalar, class... P>
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
  detail::check_shaw_spec<Bundle>();
  static_assert(!detail::has_policy<Bundle, save_tag>, "heed: save() belongs to the forward pass");
  const Shape shape = detail::make_shape(bundle, q_argument.rows(), q_argument.cols(), k_argument.rows(),
                                         k_argument.cols(), v_argument.rows(), v_argument.cols());
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
        attention_backward(dout_part, q_part, k_part, v_part, out_part, saved, rest, factor, mask);
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
      parts.add_moved_gradient(back.dk, shape.d, parts.key_table(), part.row, dkey_table);
      parts.add_moved_gradient(back.dv, shape.d_v, parts.value_table(), part.row, dvalue_table);
    }
  }
  ShawGradients<typename Q::PlainObject, typename K::PlainObject, typename V::PlainObject,
                typename KT::PlainObject, typename VT::PlainObject>
      gradients{dq, dk, dv, dkey_table.template cast<Scalar>(), dvalue_table.template cast<Scalar>()};
  return gradients;
}

}  // namespace heed::inline HEED_ABI

#endif
