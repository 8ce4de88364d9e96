// SPDX-License-Identifier: MIT
/// @file
/// monotonic_attention(): monotonic alignments on dot-product energies, soft for training and hard for
/// decoding, with the exact gradient.
#ifndef HEED_MONOTONIC_ATTENTION_HPP
#define HEED_MONOTONIC_ATTENTION_HPP

#include <cmath>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/attention.hpp>
#include <heed/attention_backward.hpp>
#include <heed/config.hpp>
#include <heed/core/allow_only.hpp>
#include <heed/core/operand.hpp>
#include <heed/dual.hpp>
#include <heed/select/monotonic.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

template <class Spec>
constexpr auto check_monotonic_spec() {
  static_assert(
      !has_policy<Spec, selection_tag> && !has_policy<Spec, sink_tag> && !has_policy<Spec, dropout_tag>,
      "heed: monotonic_attention() is a selection of its own: no softmax, sink() or dropout()");
  static_assert(!has_policy<Spec, score_tag>,
                "heed: monotonic_attention() scores by dot products: it takes no additive()");
  allow_only<call::monotonic_attention, Spec, of_layout, mask_tag, scale_tag, term_tag, executor_tag>();
}

/// One query head of one sequence: its operands in Wide, and a block of rows at a time of probabilities.
template <class Wide, class Rules>
class MonotonicHead {
 public:
  using Rows = Eigen::Matrix<Wide, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Columns = Eigen::Matrix<Wide, Eigen::Dynamic, Eigen::Dynamic>;
  using Seen = Eigen::Matrix<unsigned char, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  /// Pairs may be hidden (or operators may be expressions): pair by pair, and nothing else is touched.
  static constexpr bool guarded = Rules::has_mask || Rules::may_hide || !std::is_floating_point_v<Wide>;
  /// Keys at a time, so that sums stay short and blocks in cache.
  static constexpr Index chunk = 256;

  template <class Q, class K, class V>
  MonotonicHead(const Rules& rules, const Place& place, const Shape& shape, Wide scale,
                const Monotonic& options, const Q& q, const K& k, const V& v)
      : rules_(rules),
        scale_(std::move(scale)),
        options_(options),
        draws_(options.seed, place),
        keys_(place.keys) {
    const Index key_head = place.head / (shape.heads / shape.key_heads);
    q_ = block_at(q, place.query_begin, place.head * shape.d, place.queries, shape.d).template cast<Wide>();
    k_ = block_at(k, place.key_begin, key_head * shape.d, place.keys, shape.d).template cast<Wide>();
    v_ = block_at(v, place.key_begin, key_head * shape.d_v, place.keys, shape.d_v).template cast<Wide>();
  }

  Index queries() const { return q_.rows(); }
  Index keys() const { return keys_; }

  /// p of rows [i0, i0 + n), and, if wanted, its derivative by the dot product.
  void probabilities(Index i0, Index n, Rows& p, Rows* slope, Seen& seen) const {
    p.resize(n, keys_);
    if (slope != nullptr) slope->resize(n, keys_);
    if constexpr (guarded) {
      seen.resize(n, keys_);
    } else {
      // The keys column by column: packets of keys.
      for (Index j = 0; j < keys_; j += chunk) {
        const Index m = keys_ - j < chunk ? keys_ - j : chunk;
        p.middleCols(j, m) = q_.middleRows(i0, n).lazyProduct(k_.middleRows(j, m).transpose());
      }
    }
    for (Index r = 0; r < n; ++r)
      for (Index j = 0; j < keys_; ++j) {
        const auto i_at = static_cast<Position>(i0 + r), j_at = static_cast<Position>(j);
        if constexpr (guarded) {
          seen(r, j) = rules_.visible(i_at, j_at);
          p(r, j) = Wide(0);
          if (slope != nullptr) (*slope)(r, j) = Wide(0);
          if (!seen(r, j)) continue;
          for (Index c = 0; c < q_.cols(); ++c) p(r, j) += Wide(q_(i0 + r, c) * k_(j, c));
        }
        Wide score = Wide(scale_ * p(r, j)), chain = scale_;
        if constexpr (Rules::has_terms) {
          const auto moved = rules_.score(dual<Wide>(score, Wide(1)), i_at, j_at);
          score = moved.value;
          chain = Wide(chain * moved.tangent[0]);
          if (score == minus_infinity<Wide>()) {
            if constexpr (guarded) seen(r, j) = 0;
            p(r, j) = Wide(0);
            continue;
          }
        }
        double shift = options_.shift;
        if (options_.noise > 0) shift += options_.noise * normal_noise(draws_, i_at, j_at);
        const Wide x = Wide(score + Wide(shift));
        p(r, j) = logistic(x);
        // p (1 - p), without the cancellation of 1 - p.
        if (slope != nullptr) (*slope)(r, j) = Wide(Wide(p(r, j) * logistic(Wide(-x))) * chain);
      }
  }

  /// Rows of alpha from rows of p; `row` holds the row before and then the last one.
  static void align(const Rows& p, std::vector<Wide>& row, Rows& alpha) {
    alpha.resize(p.rows(), p.cols());
    for (Index r = 0; r < p.rows(); ++r) {
      monotonic_row(row, [&](Index j) -> const Wide& { return p(r, j); });
      for (Index j = 0; j < p.cols(); ++j) alpha(r, j) = row[static_cast<std::size_t>(j)];
    }
  }

  /// a b, for weights of pairs a and rows of keys b.
  static void mix(const Rows& a, const Seen& seen, const Rows& b, Rows& out) {
    out.setConstant(a.rows(), b.cols(), Wide(0));
    if constexpr (guarded) {
      for (Index r = 0; r < a.rows(); ++r)
        for (Index j = 0; j < a.cols(); ++j)
          if (seen(r, j))
            for (Index c = 0; c < b.cols(); ++c) out(r, c) += Wide(a(r, j) * b(j, c));
    } else {
      for (Index j = 0; j < a.cols(); j += chunk) {
        const Index m = a.cols() - j < chunk ? a.cols() - j : chunk;
        out += a.middleCols(j, m).lazyProduct(b.middleRows(j, m));
      }
    }
  }
  /// sums += aᵀ b, for weights of pairs a and rows of queries b.
  template <class B>
  static void scatter(const Rows& a, const Seen& seen, const B& b, Rows& sums) {
    if constexpr (guarded) {
      for (Index r = 0; r < a.rows(); ++r)
        for (Index j = 0; j < a.cols(); ++j)
          if (seen(r, j))
            for (Index c = 0; c < b.cols(); ++c) sums(j, c) += Wide(a(r, j) * b(r, c));
    } else {
      // By rows: Eigen multiplies a transposed left side number by number.
      const Rows turned = a.transpose();
      sums += turned.lazyProduct(b);
    }
  }

  /// out, a block of rows at a time: put(first row, rows).
  template <class Put>
  void forward(const Put& put) const {
    constexpr Index most = 16;
    std::vector<Wide> row = monotonic_start<Wide>(keys_);
    Rows p, alpha, out, values = v_;
    Seen seen;
    for (Index i0 = 0; i0 < queries(); i0 += most) {
      probabilities(i0, queries() - i0 < most ? queries() - i0 : most, p, nullptr, seen);
      align(p, row, alpha);
      mix(alpha, seen, values, out);
      put(i0, out);
    }
  }

  /// The key of each row, or -1, in one walk over queries and keys.
  template <class Put>
  void choose(const Put& put) const {
    Index j = 0;
    for (Index i = 0; i < queries(); ++i) {
      for (; j < keys_; ++j) {
        const auto i_at = static_cast<Position>(i), j_at = static_cast<Position>(j);
        if (!rules_.visible(i_at, j_at)) continue;
        Wide dot(0);
        for (Index c = 0; c < q_.cols(); ++c) dot += Wide(q_(i, c) * k_(j, c));
        if (Wide(rules_.score(Wide(scale_ * dot), i_at, j_at) + Wide(options_.shift)) >= Wide(0)) break;
      }
      put(i, j < keys_ ? j : -1);
    }
  }
  const Columns& values() const { return v_; }

  /// Adds to dk and dv (in Wide), and gives dq a block of rows at a time.
  template <class DO, class Put>
  void backward(const DO& dout, Rows& dk, Rows& dv, const Put& put) const {
    Index block = 1;
    while (block * block < queries()) ++block;
    const Index blocks = queries() == 0 ? 0 : (queries() + block - 1) / block;
    Rows starts(blocks, keys_), p, alpha, slope, dalpha, dq, keys = k_;
    Seen seen;
    std::vector<Wide> row = monotonic_start<Wide>(keys_);
    const auto rows_of = [&](Index b) {
      return queries() - b * block < block ? queries() - b * block : block;
    };
    for (Index b = 0; b < blocks; ++b) {
      for (Index j = 0; j < keys_; ++j) starts(b, j) = row[static_cast<std::size_t>(j)];
      if (b + 1 == blocks) break;
      probabilities(b * block, rows_of(b), p, nullptr, seen);
      align(p, row, alpha);
    }
    std::vector<Wide> total(static_cast<std::size_t>(keys_), Wide(0)), reached = total;
    for (Index b = blocks; b-- > 0;) {
      const Index i0 = b * block, n = rows_of(b);
      probabilities(i0, n, p, &slope, seen);
      for (Index j = 0; j < keys_; ++j) row[static_cast<std::size_t>(j)] = starts(b, j);
      align(p, row, alpha);
      const Rows dout_rows = dout.middleRows(i0, n);
      scatter(alpha, seen, dout_rows, dv);
      dalpha.setConstant(n, keys_, Wide(0));
      if constexpr (guarded) {
        for (Index r = 0; r < n; ++r)
          for (Index j = 0; j < keys_; ++j)
            if (seen(r, j))
              for (Index c = 0; c < v_.cols(); ++c) dalpha(r, j) += Wide(dout_rows(r, c) * v_(j, c));
      } else if (v_.cols() > 0) {
        for (Index j = 0; j < keys_; j += chunk) {
          const Index m = keys_ - j < chunk ? keys_ - j : chunk;
          dalpha.middleCols(j, m) = dout_rows.lazyProduct(v_.middleRows(j, m).transpose());
        }
      }
      for (Index r = n; r-- > 0;) {
        for (Index j = 0; j < keys_; ++j) total[static_cast<std::size_t>(j)] += dalpha(r, j);
        monotonic_row_gradient(
            total, reached, [&](Index j) -> const Wide& { return p(r, j); },
            [&](Index j) -> const Wide& { return r > 0 ? alpha(r - 1, j) : starts(b, j); },
            [&](Index j, const Wide& dp) { dalpha(r, j) = Wide(dp * slope(r, j)); });
      }
      mix(dalpha, seen, keys, dq);
      put(i0, dq);
      scatter(dalpha, seen, Rows(q_.middleRows(i0, n)), dk);
    }
  }

 private:
  Rules rules_;
  Wide scale_;
  Monotonic options_;
  PairDraws draws_;
  Index keys_;
  Rows q_;
  Columns k_, v_;
};

/// Calls task(place, head) for every sequence and query head, those of one key head in order, in one thread.
template <class Wide, class Spec, class Q, class K, class V, class Task>
void monotonic_heads(const Spec& spec, const Shape& shape, const Monotonic& options, const Q& q, const K& k,
                     const V& v, const Task& task) {
  const Wide scale = spec.template scale<Wide>(shape.d);
  const Index group = shape.heads / shape.key_heads;
  const auto run = [&](Index t, int) {
    const Index sequence = t / shape.key_heads, key_head = t % shape.key_heads;
    task(shape.place(sequence, key_head * group), [&](const auto& each) {
      for (Index h = key_head * group; h < (key_head + 1) * group; ++h) {
        const Place place = shape.place(sequence, h);
        const auto rules = spec.template bind<Wide>(place);
        each(place, MonotonicHead<Wide, std::remove_const_t<decltype(rules)>>(rules, place, shape, scale,
                                                                              options, q, k, v));
      }
    });
  };
  const Index tasks = shape.sequences * shape.key_heads;
  const auto& executor = executor_of(spec);
  if (tasks == 1 || multiply_adds(shape) < worth_a_thread)
    for (Index t = 0; t < tasks; ++t) run(t, 0);
  else
    executor.run(tasks, run);
}

/// Checks everything, and calls then(spec, shape, q, k, v) with matrices that have memory.
template <class Q, class K, class V, class Then, class... P>
void with_monotonic(const Monotonic& options, const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                    const Eigen::MatrixBase<V>& v, const Then& then, P&&... policies) {
  const auto bundle = spec(std::forward<P>(policies)...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  check_types<Q, K, V, Bundle>();
  check_monotonic_spec<Bundle>();
  check_monotonic(options);
  const Shape shape = make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  bundle.template check_values<Accumulator<typename Q::Scalar>>();
  InPlace<Q> q_values(q.derived());
  InPlace<K> k_values(k.derived());
  InPlace<V> v_values(v.derived());
  then(bundle, shape, q_values, k_values, v_values);
}

template <class Q, class V, class... P>
using MonotonicResult =
    typename ResultOf<Q, V, std::remove_cvref_t<decltype(spec(std::declval<P>()...))>>::type;

}  // namespace detail

/// Soft monotonic attention, for training (1704.00784): with energies e_ij the scores that attention() would
/// take a softmax of, p = σ(e + shift + noise · ε) and α = monotonic_weights(p), out = α v.
///
///     y = heed::monotonic_attention(q, k, v, heed::monotonic({.shift = -2, .noise = 1, .seed = step}),
///                                   heed::heads(4), heed::scale(0.1));
///
/// @param q, k, v as attention() takes them
/// @param policies `heads`, `sequences`, `scale`, masks, score terms, `on`. A hidden pair has p = 0: the scan
///   passes it by
/// @return N × (H·d_v). A row's weights sum to less than 1 by what ran past the last key; a query that sees
///   nothing gets zeros, and so do all later ones
/// @throws std::invalid_argument naming the argument and both sizes, before anything is written
///
/// Rows depend on each other, so one task is a sequence and key head; bits are equal for any number of
/// threads. Computed in double for float, with Eigen's products (in the instruction set that the program is
/// compiled for); with masks or functors pair by pair. Cost: O(N·M·(d + d_v)) a head and one exponential a
/// pair. Memory a task: 32 rows of M numbers, and copies of its queries, keys and values.
template <class Q, class K, class V, class... P>
auto monotonic_attention(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                         const Eigen::MatrixBase<V>& v, const Monotonic& options, P&&... policies) {
  using Scalar = typename Q::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  detail::MonotonicResult<Q, V, P...> out;
  detail::with_monotonic(
      options, q, k, v,
      [&](const auto& bundle, const Shape& shape, const auto& queries, const auto& keys, const auto& values) {
        out.resize(shape.queries, shape.heads * shape.d_v);
        detail::monotonic_heads<Wide>(
            bundle, shape, options, queries, keys, values, [&](const Place&, const auto& for_each_head) {
              for_each_head([&](const Place& place, const auto& head) {
                head.forward([&](Index i0, const auto& rows) {
                  detail::block_at(out, place.query_begin + i0, place.head * shape.d_v, rows.rows(),
                                   shape.d_v) = rows.template cast<Scalar>();
                });
              });
            });
      },
      std::forward<P>(policies)...);
  return out;
}

/// Hard monotonic attention, for decoding (1704.00784): row i is v_j for the first key j, from that of row
/// i - 1 on, with e_ij + shift >= 0, which is p >= 1/2; zeros once the scan has passed the last key. The
/// noise of the options is not used. Cost: at most N + M energies a head, instead of N·M. Otherwise as
/// monotonic_attention().
template <class Q, class K, class V, class... P>
auto hard_monotonic_attention(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                              const Eigen::MatrixBase<V>& v, const Monotonic& options, P&&... policies) {
  using Scalar = typename Q::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  detail::MonotonicResult<Q, V, P...> out;
  detail::with_monotonic(
      options, q, k, v,
      [&](const auto& bundle, const Shape& shape, const auto& queries, const auto& keys, const auto& values) {
        out.resize(shape.queries, shape.heads * shape.d_v);
        detail::monotonic_heads<Wide>(
            bundle, shape, options, queries, keys, values, [&](const Place&, const auto& for_each_head) {
              for_each_head([&](const Place& place, const auto& head) {
                head.choose([&](Index i, Index j) {
                  for (Index c = 0; c < shape.d_v; ++c)
                    out(place.query_begin + i, place.head * shape.d_v + c) =
                        j < 0 ? Scalar(0) : static_cast<Scalar>(head.values()(j, c));
                });
              });
            });
      },
      std::forward<P>(policies)...);
  return out;
}

/// The gradients of a loss by q, k and v, given its gradient dout by monotonic_attention() of the same
/// arguments:
///
///     dv = αᵀ dout     dα = dout vᵀ     dp = monotonic_weights_gradient(dα)     de = dp ∘ p ∘ (1 - p)
///
/// and from there as in attention_backward(); score terms are differentiated by dual numbers.
/// @param dout N × (H·d_v)
/// @return Gradients{dq, dk, dv} in the sizes and storage orders of q, k and v
///
/// Exact. Rows must be gone through backward, and nothing of size N × M is stored: a pass over the energies
/// keeps α before every √N-th row, and each block of √N rows is computed again from there (1604.06174).
/// Memory a task: 5 √N rows of M numbers, and copies of its operands and gradients. Cost: twice the energies,
/// and O(N·M·(3 d + 2 d_v)) a head in all.
template <class DO, class Q, class K, class V, class... P>
auto monotonic_attention_backward(const Eigen::MatrixBase<DO>& dout, const Eigen::MatrixBase<Q>& q,
                                  const Eigen::MatrixBase<K>& k, const Eigen::MatrixBase<V>& v,
                                  const Monotonic& options, P&&... policies) {
  using Scalar = typename Q::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  static_assert(std::is_same_v<Scalar, typename DO::Scalar>, "heed: dout and q have different scalars");
  Gradients<typename Q::PlainObject, typename K::PlainObject, typename V::PlainObject> gradients;
  detail::with_monotonic(
      options, q, k, v,
      [&](const auto& bundle, const Shape& shape, const auto& queries, const auto& keys, const auto& values) {
        detail::check_given("dout", dout, shape.queries, shape.heads * shape.d_v, "");
        detail::InPlace<DO> incoming(dout.derived());
        gradients.dq.resize(q.rows(), q.cols());
        gradients.dk.resize(k.rows(), k.cols());
        gradients.dv.resize(v.rows(), v.cols());
        detail::monotonic_heads<Wide>(
            bundle, shape, options, queries, keys, values,
            [&](const Place& first, const auto& for_each_head) {
              using Sums = Eigen::Matrix<Wide, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
              Sums dk = Sums::Constant(first.keys, shape.d, Wide(0)),
                   dv = Sums::Constant(first.keys, shape.d_v, Wide(0));
              const Index key_head = first.head / (shape.heads / shape.key_heads);
              for_each_head([&](const Place& place, const auto& head) {
                const auto rows = [&](const auto& m, Index width) {
                  return detail::block_at(m, place.query_begin, place.head * width, place.queries, width);
                };
                head.backward(
                    rows(incoming, shape.d_v).template cast<Wide>(), dk, dv, [&](Index i0, const auto& dq) {
                      detail::block_at(gradients.dq, place.query_begin + i0, place.head * shape.d, dq.rows(),
                                       shape.d) = dq.template cast<Scalar>();
                    });
              });
              detail::block_at(gradients.dk, first.key_begin, key_head * shape.d, first.keys, shape.d) =
                  dk.template cast<Scalar>();
              detail::block_at(gradients.dv, first.key_begin, key_head * shape.d_v, first.keys, shape.d_v) =
                  dv.template cast<Scalar>();
            });
      },
      std::forward<P>(policies)...);
  return gradients;
}

}  // namespace heed::inline HEED_ABI

#endif
