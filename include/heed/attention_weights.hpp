// SPDX-License-Identifier: MIT
/// @file
/// attention_weights() and attention_scores(): who attends to whom, and why, for chosen rows and heads.
#ifndef HEED_ATTENTION_WEIGHTS_HPP
#define HEED_ATTENTION_WEIGHTS_HPP

#include <cmath>
#include <concepts>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/allow_only.hpp>
#include <heed/core/arrays.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/scalars.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/spec.hpp>
#include <heed/core/stored.hpp>
#include <heed/reference/attention.hpp>

namespace heed::inline HEED_ABI {

/// What attention_weights() is to show; no policies, because they say nothing about the attention itself.
struct view_tag {};
/// Made by rows().
struct Rows : view_tag {
  std::vector<Index> chosen;
  explicit Rows(std::vector<Index> r) : chosen(std::move(r)) {}
};
/// Made by head().
struct HeadsShown : view_tag {
  std::vector<Index> chosen;
  explicit HeadsShown(std::vector<Index> h) : chosen(std::move(h)) {}
};

/// Rows of q to show, in this order; all of them unless given.
inline Rows rows(std::initializer_list<Index> r) { return Rows(std::vector<Index>(r)); }
template <detail::integer_list R>
Rows rows(const R& r) {
  return Rows(detail::copy_list<Index>(r));
}
/// One row of q.
inline Rows rows(Index r) { return Rows({r}); }
/// Rows [begin, end) of q.
inline Rows rows(Index begin, Index end) {
  if (end < begin) detail::fail("rows(", begin, ", ", end, ") ends before it begins; rows({a, b}) is a list");
  std::vector<Index> list;
  for (Index r = begin; r < end; ++r) list.push_back(r);
  return Rows(std::move(list));
}

/// Query heads to show, in this order; all of them unless given.
inline HeadsShown head(Index h) { return HeadsShown({h}); }
inline HeadsShown head(std::initializer_list<Index> h) { return HeadsShown(std::vector<Index>(h)); }
template <detail::integer_list R>
HeadsShown head(const R& h) {
  return HeadsShown(detail::copy_list<Index>(h));
}

namespace detail {

template <class A>
concept view = std::derived_from<std::remove_cvref_t<A>, view_tag>;

/// The policies among the arguments as one spec.
template <class A>
decltype(auto) policy_part(A&& a) {
  if constexpr (view<A>) {
    return Spec<>(Pack<>{});
  } else {
    require_policy<A>();
    return std::forward<A>(a);
  }
}

template <class View, class A>
void take_chosen(std::vector<Index>& list, bool& given, const A& argument) {
  if constexpr (std::is_same_v<A, View>) {
    list = argument.chosen;
    given = true;
  }
}

template <class View, class... A>
std::vector<Index> chosen(Index all, const A&... arguments) {
  static_assert((0 + ... + int(std::is_same_v<std::remove_cvref_t<A>, View>)) <= 1,
                "heed: rows and heads can be chosen once");
  std::vector<Index> list;
  bool given = false;
  (take_chosen<View>(list, given, arguments), ...);
  if (!given) {
    for (Index n = 0; n < all; ++n) list.push_back(n);
  }
  return list;
}

inline void check_chosen(const char* name, const std::vector<Index>& list, Index count) {
  for (const Index n : list) {
    if (n < 0 || n >= count) fail(name, " ", n, " was chosen, there are ", count);
  }
}

/// The sequence that a row of q belongs to: the last one that begins at or before it and is not empty.
inline Index sequence_of(const Shape& shape, Index token) {
  if (shape.query_offsets == nullptr) return 0;
  Index low = 0, high = shape.sequences;
  while (high - low > 1) {
    const Index middle = low + (high - low) / 2;
    (shape.query_offsets[middle] <= token ? low : high) = middle;
  }
  return low;
}

/// What weights are computed in: wider than single precision, since they are few and are looked at.
template <class Scalar>
using WeightsType = std::conditional_t<std::is_same_v<Scalar, float>, double, Accumulator<Scalar>>;

/// A row for each chosen row of q and, side by side, for each chosen head as many columns as the longest
/// sequence has keys that a chosen row is of. fill(spec, place, i, scores, put) is asked for each row i of a
/// sequence, with the scores of the keys that it sees, and says put(key, number); the rest is `nothing`.
template <class Function, class Q, class K, class Fill, class... Arguments>
Eigen::Matrix<typename Q::Scalar, Eigen::Dynamic, Eigen::Dynamic> of_chosen_rows(
    const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k, const typename Q::Scalar& nothing,
    const Fill& fill, Arguments&&... arguments) {
  using Scalar = typename Q::Scalar;
  using Wide = WeightsType<Scalar>;
  static_assert(std::is_same_v<Scalar, typename K::Scalar>, "heed: q and k have different scalars");

  const auto bundle = spec(policy_part(std::forward<Arguments>(arguments))...);
  using Bundle = std::remove_const_t<decltype(bundle)>;
  allow_only<Function, Bundle, of_layout, mask_tag, of_scores, of_selection, of_execution>();
  const Shape shape = make_shape(bundle, q.rows(), q.cols(), k.rows(), k.cols(), k.rows(), k.cols());
  bundle.template check_values<Accumulator<Scalar>>();
  const std::vector<Index> chosen_rows = chosen<Rows>(shape.queries, arguments...);
  const std::vector<Index> chosen_heads = chosen<HeadsShown>(shape.heads, arguments...);
  check_chosen("row", chosen_rows, shape.queries);
  check_chosen("head", chosen_heads, shape.heads);
  Index width = chosen_rows.empty() ? shape.longest : 0;
  for (const Index token : chosen_rows) {
    const Index keys = shape.place(sequence_of(shape, token), 0).keys;
    if (keys > width) width = keys;
  }

  // Expressions are evaluated once, everything else is read where it lies.
  InPlace<Q> q_values(q.derived());
  InPlace<K> k_values(k.derived());
  const Wide scale = bundle.template scale<Wide>(shape.d);
  const Index row_count = static_cast<Index>(chosen_rows.size()),
              head_count = static_cast<Index>(chosen_heads.size());
  Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic> numbers(row_count, head_count * width);
  numbers.setConstant(nothing);
  std::vector<Weight<Wide>> row;
  for (Index n = 0; n < row_count; ++n) {
    const Index token = chosen_rows[static_cast<std::size_t>(n)];
    const Index sequence = sequence_of(shape, token);
    for (Index m = 0; m < head_count; ++m) {
      const Place place = shape.place(sequence, chosen_heads[static_cast<std::size_t>(m)]);
      const auto rules = bundle.template bind<Wide>(place);
      const Index i = token - place.query_begin;
      score_row<Scalar>(bundle, rules, shape, place, scale, i, q_values, k_values, row);
      fill(bundle, place, i, row, [&](Index key, const Wide& x) {
        numbers(n, m * width + key) = static_cast<Scalar>(x);
      });
    }
  }
  return numbers;
}

/// A number as Scalar, the greatest one where it is too great: finite scores stay finite.
template <class Scalar, class Wide>
Wide within_range(const Wide& x) {
  if constexpr (std::is_floating_point_v<Wide>) {
    const Wide most = static_cast<Wide>(std::numeric_limits<Scalar>::max());
    if (std::isfinite(x)) return x > most ? most : x < -most ? -most : x;
  }
  return x;
}

}  // namespace detail

/// The weights with which the chosen rows of q attend to the keys, each in [0, 1], summing to 1 over the keys
/// of a row and head (0 where a query sees no key) unless a sink or weight_with() says otherwise, before
/// dropout:
///
///     heed::attention_weights(q, k, heed::causal())                                       N x M
///     heed::attention_weights(q, k, spec, heed::rows({4, 7}), heed::head(1))              2 x M
///     heed::attention_weights(q, k, heed::heads(8, 2), heed::rows(0, 16))                 16 x 8·M, heads
///     side by side
///
/// q is N x (H·d), k is M x (H_kv·d), any dense expressions; the arguments after them are the policies of
/// attention() but save(), in any order (on() and use() change nothing), and at most one rows() and one
/// head(). The result has one row for each chosen row and, for each chosen head, as many columns as the
/// longest of their sequences has keys: those of its own sequence for rows of one. Columns count keys inside
/// the row's own sequence, and those past its end are 0. Computed in double for float and in float for half
/// and bfloat16, in plain loops for all scalars: O(rows · heads · M · d). Allocates the result. Throws what
/// attention() throws, and std::invalid_argument for rows and heads that do not exist.
template <class Q, class K, class... Arguments>
Eigen::Matrix<typename Q::Scalar, Eigen::Dynamic, Eigen::Dynamic> attention_weights(
    const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k, Arguments&&... arguments) {
  return detail::of_chosen_rows<detail::call::attention_weights>(
      q, k, typename Q::Scalar(0),
      [](const auto& bundle, const Place& place, Index i, auto& row, const auto& put) {
        detail::select_row<typename Q::Scalar>(bundle, place, i, row);
        for (const auto& w : row) put(w.key, detail::changed_weight(bundle, place, i, w));
      },
      std::forward<Arguments>(arguments)...);
}

/// The final scores from which the weights are made, in natural units: scaled, capped, with positions, biases
/// and functors, and -inf for pairs that are hidden, or past the end of a row's sequence.
///
///     heed::attention_scores(q, k, heed::causal(), heed::softcap(30.0), heed::rows(3))    1 x M
///
/// Arguments, sizes, cost and errors are those of attention_weights(); a selection, sink(), weight_with() and
/// dropout() come after and change nothing, but for the noise and the temperature of a gumbel_softmax().
/// Finite scores stay finite: beyond 2.3·10³⁸ (double: 1.2·10³⁰⁸; half: its greatest number) they are that
/// number.
template <class Q, class K, class... Arguments>
Eigen::Matrix<typename Q::Scalar, Eigen::Dynamic, Eigen::Dynamic> attention_scores(
    const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k, Arguments&&... arguments) {
  using Scalar = typename Q::Scalar;
  return detail::of_chosen_rows<detail::call::attention_scores>(
      q, k, Scalar(-std::numeric_limits<double>::infinity()),
      [](const auto&, const Place&, Index, const auto& row, const auto& put) {
        for (const auto& s : row) put(s.key, detail::within_range<Scalar>(s.value));
      },
      std::forward<Arguments>(arguments)...);
}

/// Arrays are refused in words.
template <class Q, class K, class... P>
  requires detail::some_array<Q, K>
auto attention_weights(const Q&, const K&, P&&...) { return detail::refuse_arrays<Q, K>(); }
template <class Q, class K, class... P>
  requires detail::some_array<Q, K>
auto attention_scores(const Q&, const K&, P&&...) { return detail::refuse_arrays<Q, K>(); }

}  // namespace heed::inline HEED_ABI

#endif
