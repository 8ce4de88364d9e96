// SPDX-License-Identifier: MIT
/// @file
/// pooled_attention(): attention to means of neighbouring keys and values, at several scales at once.
#ifndef HEED_LINEAR_POOLED_ATTENTION_HPP
#define HEED_LINEAR_POOLED_ATTENTION_HPP

#include <concepts>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/attention.hpp>
#include <heed/attention_backward.hpp>
#include <heed/config.hpp>
#include <heed/core/allow_only.hpp>
#include <heed/linear/pool_rows.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/mask_where.hpp>

namespace heed::inline HEED_ABI {

/// How many neighbours each scale of pooled_attention() takes together: strides({1}) is attention() itself,
/// strides({4, 32}) has a fine and a coarse scale.
class Strides {
 public:
  explicit Strides(std::vector<Index> list) : list_(std::move(list)) {}
  const std::vector<Index>& list() const { return list_; }

 private:
  std::vector<Index> list_;
};
inline Strides strides(std::initializer_list<Index> list) { return Strides(std::vector<Index>(list)); }
inline Strides strides(std::vector<Index> list) { return Strides(std::move(list)); }

namespace detail {

template <class Function, class... More, class... P>
constexpr auto check_pooled(const Spec<P...>&) {
  static_assert((true && ... && (!std::derived_from<P, mask_tag> || std::is_same_v<P, Causal>)),
                "heed: pooled keys are means of several tokens: of the masks pooled_attention takes "
                "causal()");
  static_assert(!may_have<Spec<P...>, sequences_tag>, "heed: pooled_attention takes one sequence");
  static_assert(!may_have<Spec<P...>, position_tag>,
                "heed: pooled keys are means of several tokens: they have no relative positions, and "
                "pooled_attention takes no alibi() and no t5_bias()");
  allow_only<Function, Spec<P...>, layout_tag, mask_tag, of_scores, of_selection, of_execution, More...>();
}

/// Where the pooled keys of each scale lie.
struct PooledKeys {
  Index tokens, rows = 0;
  const std::vector<Index>& strides;

  PooledKeys(const Strides& scales, Index m) : tokens(m), strides(scales.list()) {
    if (strides.empty()) fail("strides: 0 scales, at least 1 is needed");
    for (Index s : strides) {
      check_stride(s);
      rows += pooled_rows(tokens, s);
    }
  }
  template <class F>
  void each(const F& f) const {
    Index begin = 0;
    for (Index s : strides) {
      f(s, begin, pooled_rows(tokens, s));
      begin += pooled_rows(tokens, s);
    }
  }
  /// The means at all scales, one below the other.
  template <class X>
  auto pool(const X& x) const {
    Eigen::Matrix<typename X::Scalar, Eigen::Dynamic, Eigen::Dynamic,
                  X::IsRowMajor ? Eigen::RowMajor : Eigen::ColMajor>
        all(rows, x.cols());
    each([&](Index stride, Index begin, Index count) { pool_into(x, stride, rows_at(all, begin, count)); });
    return all;
  }
  template <class X, class D>
  typename X::PlainObject gradient(const D& dall) const {
    typename X::PlainObject dx;
    dx.resize(tokens, dall.cols());
    dx.setConstant(typename X::Scalar(0));
    each([&](Index stride, Index begin, Index count) {
      add_pooled_gradient(rows_at(dall, begin, count), stride, dx);
    });
    return dx;
  }
  /// The last token that each mean is of.
  std::vector<Position> last_tokens() const {
    std::vector<Position> last;
    each([&](Index stride, Index, Index count) {
      for (Index b = 0; b < count; ++b)
        last.push_back(static_cast<Position>(b * stride + pooled_count(tokens, stride, b) - 1));
    });
    return last;
  }
};

/// A policy as it applies to pooled keys.
template <class P>
auto pooled_policy(const P& policy, const PooledKeys& keys, Index queries) {
  (void)queries;
  if constexpr (std::is_same_v<P, Causal>) {
    const Position offset = clamp_position(policy.alignment.resolve(queries, keys.tokens));
    return mask_where([last = keys.last_tokens(), offset](auto i, auto j) {
      return last[static_cast<std::size_t>(j)] - i <= offset;
    });
  } else {
    return policy;
  }
}
template <class... P, std::size_t... I>
auto pooled_spec(const Spec<P...>& all, const PooledKeys& keys, Index queries, std::index_sequence<I...>) {
  (void)queries;
  return spec(pooled_policy(detail::get<I>(all.parts()), keys, queries)...);
}
template <class... P>
auto pooled_spec(const Spec<P...>& all, const PooledKeys& keys, Index queries) {
  check_length(queries, keys.tokens);
  return pooled_spec(all, keys, queries, std::index_sequence_for<P...>{});
}

}  // namespace detail

/// Multi-scale attention: for every stride s, keys and values are replaced by the means of s neighbours, and
/// queries attend to the means of all scales at once,
///
///     out = softmax(scale · q [pool(k, s_1); pool(k, s_2); …]ᵀ) [pool(v, s_1); pool(v, s_2); …]
///
///     Eigen::MatrixXf y = heed::pooled_attention(q, k, v, heed::strides({4, 32}), heed::heads(8));
///
/// @param q N × (H·d), k M × (H_kv·d), v M × (H_kv·d_v), as attention() takes them
/// @param scales at least one stride, each at least 1
/// @param policies those of attention(), but for `sequences`, `alibi`, `t5_bias` and masks other than
/// causal(),
///   which are compile errors. With causal() a query sees a mean when it may see all of its tokens. Positions
///   j in functors count means.
/// @return N × (H·d_v) in the storage order of q. With causal() the first queries may see no mean: zeros.
/// @throws std::invalid_argument naming the argument and both sizes, before anything is written
///
/// Error against attention(), with one stride: none for keys and values that are constant within each group
/// of neighbours; for smooth ones it grows with stride · slope: with up to 2.5 waves over 512 tokens and a
/// noise of 0.05 it is 0.06 %, 0.7 %, 11 % and 53 % of the output at strides of 4, 16, 64 and 128
/// (tests/linear_error_test.cpp). (A window for each head
/// is the other multi-scale form: windows().) Cost: N · Σ_s M / s · (d + d_v) multiply-adds a head. Memory
/// beyond the result: the means, and that of attention(). Source: 2104.11227.
template <class Q, class K, class V, class... P>
auto pooled_attention(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                      const Eigen::MatrixBase<V>& v, const Strides& scales, P&&... policies) {
  using namespace detail;
  const auto bundle = spec(std::forward<P>(policies)...);
  check_pooled<call::pooled_attention, save_tag>(bundle);
  if (v.rows() != k.rows()) fail("v has ", v.rows(), " rows, k has ", k.rows());
  const PooledKeys pooled(scales, k.rows());
  const InPlace<K> keys(k.derived());
  const InPlace<V> values(v.derived());
  return attention(q, pooled.pool(keys), pooled.pool(values), pooled_spec(bundle, pooled, q.rows()));
}

/// The gradients of a loss by q, k and v, given its gradient dout by the output of pooled_attention().
/// @param out, saved what it returned and, with `save(saved)`, saved
/// @param policies the same as it had; also the gradients that attention_backward() writes, but not `into`
/// @return Gradients{dq, dk, dv} in the sizes and storage orders of q, k and v; every token gets its share of
///   each scale's
/// @throws std::invalid_argument naming the argument and both sizes, before anything is written
template <class DO, class Q, class K, class V, class O, class Scalar, class... P>
auto pooled_attention_backward(const Eigen::MatrixBase<DO>& dout, const Eigen::MatrixBase<Q>& q,
                               const Eigen::MatrixBase<K>& k, const Eigen::MatrixBase<V>& v,
                               const Strides& scales, const Eigen::MatrixBase<O>& out,
                               const Saved<Scalar>& saved, P&&... policies) {
  using namespace detail;
  const auto bundle = spec(std::forward<P>(policies)...);
  check_pooled<call::pooled_attention_backward, of_gradients>(bundle);
  if (v.rows() != k.rows()) fail("v has ", v.rows(), " rows, k has ", k.rows());
  const PooledKeys pooled(scales, k.rows());
  const InPlace<K> keys(k.derived());
  const InPlace<V> values(v.derived());
  auto inner = attention_backward(dout, q, pooled.pool(keys), pooled.pool(values), out, saved,
                                  pooled_spec(bundle, pooled, q.rows()));
  return Gradients<typename Q::PlainObject, typename K::PlainObject, typename V::PlainObject>{
      std::move(inner.dq), pooled.template gradient<K>(inner.dk), pooled.template gradient<V>(inner.dv)};
}

}  // namespace heed::inline HEED_ABI

#endif
