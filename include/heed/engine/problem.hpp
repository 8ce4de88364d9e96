// SPDX-License-Identifier: MIT
/// @file
/// A forward problem as the engine takes it: strided views, a checked shape, a scale.
#ifndef HEED_ENGINE_PROBLEM_HPP
#define HEED_ENGINE_PROBLEM_HPP

#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>

#include <heed/core/operand.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/saved.hpp>
#include <heed/core/shape.hpp>

namespace heed::inline HEED_ABI::detail {

/// What a row's scores in base 2 lose before they are exponentiated, one after the other:
/// 2^((score - maximum) + minus_log_sum) is a weight. Of a row that saw nothing all weights are 0.
template <class T>
struct RowNorm {
  T maximum, minus_log_sum;
  HEED_INLINE bool lives() const { return minus_log_sum != -std::numeric_limits<T>::infinity(); }
};

/// The log-sum-exps of rows: natural logarithms and, unless the pointers are null, their parts in base 2
/// (core/saved.hpp). Element (r, c) of each is at r · row + c · column.
template <class T>
struct LogSums {
  T* data = nullptr;
  Index row = 0, column = 0;
  T* maximum = nullptr;
  T* log_sum = nullptr;

  HEED_INLINE LogSums at(Index r, Index c) const {
    const Index there = r * row + c * column;
    if (maximum == nullptr) return {data + there, row, column, nullptr, nullptr};
    return {data + there, row, column, maximum + there, log_sum + there};
  }
  /// The element that lies `there`, from what was subtracted and the sum of the powers.
  HEED_INLINE void put(Index there, T most, T sum) const {
    const bool nothing = sum == T(0);
    const T logarithm = nothing ? T(0) : std::log2(sum);
    data[there] = nothing ? -std::numeric_limits<T>::infinity() : join_log_sum(most, logarithm);
    if (maximum == nullptr) return;
    maximum[there] = nothing ? T(0) : most;
    log_sum[there] = logarithm;
  }
  /// Of element (0, 0). In a row whose log-sum-exp was changed since, the parts mean nothing.
  HEED_INLINE RowNorm<std::remove_const_t<T>> norm() const {
    using Number = std::remove_const_t<T>;
    constexpr Number infinity = std::numeric_limits<Number>::infinity();
    constexpr Number most = std::numeric_limits<Number>::max();
    const Number lse = *data;
    if (lse == -infinity) return {Number(0), -infinity};
    if (maximum != nullptr && join_log_sum<Number>(*maximum, *log_sum) == lse) return {*maximum, -*log_sum};
    const Number base = lse * static_cast<Number>(log2_of_e);
    if (lse < infinity && base > most) return {most, Number(0)};
    return {base < -most ? -most : base, Number(0)};
  }
};

template <class T, class Saved>
LogSums<T> log_sums_of(Saved& saved) {
  const Operand<T> lse = operand_of<T>(saved.lse);
  const auto matches = [&](const auto& m) {
    return m.rows() == saved.lse.rows() && m.cols() == saved.lse.cols();
  };
  if (!matches(saved.maximum) || !matches(saved.log_sum)) return {lse.data, lse.row, lse.column};
  return {lse.data, lse.row, lse.column, saved.maximum.data(), saved.log_sum.data()};
}

/// q, k, v and out in the layout of the shape, which is referred to (copying it would cost a tiny problem a
/// fifth of its time); lse is queries × heads, or has no data.
template <class T>
struct ForwardProblem {
  const Shape& shape;
  T scale;
  Operand<const T> q, k, v;
  Operand<T> out;
  LogSums<T> lse;
  bool continues = false;  // out and lse hold the result for other keys, which these are added to
};

/// A forward problem and the tangents of its inputs; lse and tangents are written always.
template <class T>
struct TangentProblem {
  const Shape& shape;
  T scale;
  Operand<const T> q, k, v, q_tangent, k_tangent, v_tangent;
  Operand<T> out, lse, out_tangent, lse_tangent;
};

/// The tasks of a problem, and the memory that they need: scratch for each worker, and the partial results of
/// streamed sequences.
struct ForwardPlan {
  Index tiled_tasks = 0, streamed_tasks = 0;
  Index streamed_queries = 0;  // the most of any streamed sequence
  Index copied_keys = 0;       // what each worker keeps copies of (copied_keys.inl)
  bool heads_inside = false;  // tasks go through all heads for each group of queries, not the other way round
  std::size_t worker_bytes = 0, partial_bytes = 0;

  std::size_t bytes(int workers) const {
    return worker_bytes * static_cast<std::size_t>(workers) + partial_bytes;
  }
};

/// A bias's gradient, in the layout of the bias: element (i, j) of a sequence and head lies at
/// data[first + i · row + j · column]. A stride of 0 sums.
template <class T>
struct PairGradient {
  T* data = nullptr;
  Index row = 0, column = 0;
};

/// q, k, v, dout, out, lse of a forward pass and the incoming gradients; dq, dk, dv to be written. dlse may
/// have no data.
template <class T>
struct BackwardProblem {
  const Shape& shape;
  T scale;
  Operand<const T> q, k, v, out, dout;
  LogSums<const T> lse;
  Operand<const T> dlse;
  Operand<T> dq, dk, dv;
  bool accumulate = false;      // add to dq, dk, dv instead of overwriting them
  bool continues = false;       // the forward pass went on from a result for other keys
  bool heads_together = false;  // one task for all heads of a sequence, because they share a bias's gradient
  bool all_together = false;    // one task, because sequences do
  // [sequence][head][parameter]: gradients of the score function's parameters; null where nobody asks.
  double* parameter_sums = nullptr;
  // [sequence][head][bucket]: gradients of a bias looked up by relative position; null where nobody asks.
  double* bucket_sums = nullptr;
  // [sequence][head]: gradients of sinks, and of a selection's own parameter, where those take part in a
  // choice of rows; null where nobody asks.
  double* sink_sums = nullptr;
  double* alpha_sums = nullptr;
  // [sequence][head][d]: gradients of an additive score's weights; null where nobody asks.
  double* score_sums = nullptr;
  // Where few tasks have many keys, each is cut in so many pieces of keys, with a dq of its own each.
  Index pieces = 1;
  T* dq_parts = nullptr;  // [piece][query][head · d], already scaled

  std::size_t part_bytes() const {
    return pieces == 1 ? 0
                       : static_cast<std::size_t>(pieces * shape.queries * shape.heads * shape.d) * sizeof(T);
  }
  Operand<T> dq_part(Index piece) const {
    const Index row = shape.heads * shape.d;
    return pieces == 1 ? dq : Operand<T>{dq_parts + piece * shape.queries * row, row, 1};
  }
};

/// A backward problem, the direction in which q, k and v move, and how output and log-sum-exp then move; its
/// dq, dk and dv take the second derivatives.
template <class T>
struct SecondProblem {
  BackwardProblem<T> first;
  Operand<const T> q_tangent, k_tangent, v_tangent, out_tangent, lse_tangent;
};

/// The bias gradient of a spec, bound, or nullptr.
template <class Spec>
auto bias_gradient_of(const Spec& spec, const Place& place) {
  const auto policy = spec.template find<bias_gradient_tag>();
  if constexpr (std::is_same_v<std::remove_cv_t<decltype(policy)>, std::nullptr_t>)
    return nullptr;
  else
    return policy->bind(place);
}

/// The gradient of a bias looked up by relative position, of one sequence and head: pair (i, j) belongs to
/// sums[bucket(i, j)].
template <class Buckets>
struct BucketGradient {
  double* sums;
  Buckets bucket;
};

/// The same of a spec, bound, or nullptr.
template <class T, class Spec>
auto bucket_gradient_of(const BackwardProblem<T>& p, const Spec& spec, const Place& place) {
  const auto gradient = spec.template find<relative_bias_gradient_tag>();
  if constexpr (std::is_same_v<std::remove_cv_t<decltype(gradient)>, std::nullptr_t>) {
    return nullptr;
  } else {
    const auto& bias = *spec.template find<relative_bias_tag>();
    double* const sums = p.bucket_sums + (place.sequence * place.heads + place.head) * bias.buckets();
    return BucketGradient<decltype(bias.bind_buckets(place))>{sums, bias.bind_buckets(place)};
  }
}

/// Tiles of one sequence take consecutive slots from begin / lanes + sequence on: room for all without
/// counting them first.
inline Index first_slot(const Shape& shape, Index sequence, Index lanes) {
  return shape.query_offsets == nullptr ? 0 : shape.query_offsets[sequence] / lanes + sequence;
}

/// Number of slots; some stay empty.
inline Index slot_count(const Shape& shape, Index lanes) { return shape.queries / lanes + shape.sequences; }

/// The sequence that owns a slot.
inline Index sequence_of_slot(const Shape& shape, Index slot, Index lanes) {
  Index low = 0, high = shape.sequences;
  while (high - low > 1) {
    const Index middle = (low + high) / 2;
    if (first_slot(shape, middle, lanes) <= slot)
      low = middle;
    else
      high = middle;
  }
  return low;
}

}  // namespace heed::inline HEED_ABI::detail

#endif
