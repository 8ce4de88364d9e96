// SPDX-License-Identifier: MIT
/// @file
/// LinearState: causal linear attention token by token, with a memory that does not grow.
#ifndef HEED_LINEAR_LINEAR_STATE_HPP
#define HEED_LINEAR_LINEAR_STATE_HPP

#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/linear/linear_forward.hpp>

namespace heed::inline HEED_ABI {

/// What a causal linear attention remembers of one sequence: for every key head Σ_j φ(k_j) [v_j, 1]ᵀ,
/// features × (d_v + 1) numbers whatever the number of tokens. Made by the first step, which fixes the sizes;
/// reset() forgets everything. Copying it forks the sequence. One call at a time.
template <class Scalar = float>
class LinearState {
  static_assert(detail::on_engine<Scalar>, "heed: a LinearState is of float or double");

 public:
  using scalar_type = Scalar;

  /// Tokens seen so far.
  Index tokens() const { return tokens_; }
  void reset() { *this = LinearState(); }

  /// linear_attention_step(*this, q, k, v, policies...).
  template <class Q, class K, class V, class... P>
  auto step(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k, const Eigen::MatrixBase<V>& v,
            P&&... policies);

  /// For linear_attention_step(): takes the sizes of the first call, and refuses others later.
  void fit(const Shape& shape, Index features) {
    if (tokens_ > 0 &&
        (shape.key_heads != key_heads_ || shape.d != d_ || shape.d_v != d_v_ || features != features_))
      detail::fail("the state has ", key_heads_, " key heads of ", d_, " columns, ", d_v_,
                   " value columns and ", features_, " features, this step ", shape.key_heads, ", ", shape.d,
                   ", ", shape.d_v, " and ", features);
    if (tokens_ > 0) return;
    key_heads_ = shape.key_heads;
    d_ = shape.d;
    d_v_ = shape.d_v;
    features_ = features;
    sums_.resize(static_cast<std::size_t>(key_heads_ * features_ * detail::in_sixteens(d_v_ + 1)));
    references_.assign(static_cast<std::size_t>(key_heads_), -std::numeric_limits<Scalar>::max());
  }
  void append(detail::LinearProblem<Scalar>& p) {
    p.state = sums_.data();
    p.references = references_.data();
    p.started = tokens_ > 0;
    tokens_ += p.shape.keys;
  }

 private:
  Index tokens_ = 0, key_heads_ = 0, d_ = 0, d_v_ = 0, features_ = 0;
  std::vector<Scalar> sums_, references_;
};

/// Appends tokens to a sequence and returns their outputs: what linear_attention(…, causal()) over the whole
/// sequence gives for them, to rounding.
///
///     heed::LinearState<float> state;
///     y = heed::linear_attention_step(state, prompt_q, prompt_k, prompt_v, heed::heads(8, 2));
///     y = heed::linear_attention_step(state, q, k, v, heed::heads(8, 2));     // the next token, or several
///
/// @param q N × (H·d): the queries of the last N of the new tokens; N ≤ M
/// @param k, v M × (H_kv·d) and M × (H_kv·d_v): all new tokens
/// @param policies `feature_map` or `performer` (the same, or a copy, in every step), `heads`, `scale`, `on`,
///   `use(workspace)`
/// @return N × (H·d_v)
/// @throws std::invalid_argument naming the argument and both sizes, before anything changes; what a feature
///   map throws leaves the state unusable until reset()
/// Cost of one token: 2 · features · d_v multiply-adds a head, whatever came before. Source: 2006.16236,
/// section 3.4.
template <class Scalar, class Q, class K, class V, class... P>
auto linear_attention_step(LinearState<Scalar>& state, const Eigen::MatrixBase<Q>& q,
                           const Eigen::MatrixBase<K>& k, const Eigen::MatrixBase<V>& v, P&&... policies) {
  using namespace detail;
  const auto given = spec(std::forward<P>(policies)...);
  check_linear<LinearPass::step>(given);
  const auto bundle = spec(given, causal());
  using Bundle = std::remove_const_t<decltype(bundle)>;
  check_types<Q, K, V, Bundle>();
  static_assert(std::is_same_v<Scalar, typename Q::Scalar>, "heed: q and the state have different scalars");
  const Shape shape = make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  if (q.rows() > k.rows())
    fail("q has ", q.rows(), " rows, k has ", k.rows(), ": a step takes a key for every query");
  check_linear_values<Scalar>(bundle, shape);
  const auto policy = features_of(bundle);
  state.fit(shape, policy.features(shape.d));
  typename ResultOf<Q, V, Bundle>::type out(shape.queries, shape.heads * shape.d_v);
  if (shape.keys == 0) return out;
  InPlace<Q> q_in_place(q.derived());
  InPlace<K> k_in_place(k.derived());
  InPlace<V> v_in_place(v.derived());
  LinearProblem<Scalar> p(shape, policy.features(shape.d));
  p.q = operand_of<const Scalar>(q_in_place);
  p.k = operand_of<const Scalar>(k_in_place);
  p.v = operand_of<const Scalar>(v_in_place);
  p.out = operand_of<Scalar>(out);
  state.append(p);
  run_linear(p, bundle, policy, workspace_of(bundle));
  return out;
}

template <class Scalar>
template <class Q, class K, class V, class... P>
auto LinearState<Scalar>::step(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                               const Eigen::MatrixBase<V>& v, P&&... policies) {
  return linear_attention_step(*this, q, k, v, std::forward<P>(policies)...);
}

}  // namespace heed::inline HEED_ABI

#endif
