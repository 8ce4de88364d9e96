// SPDX-License-Identifier: MIT
/// @file
/// A linear attention as the engine takes it: features instead of scores, bounds instead of masks.
#ifndef HEED_ENGINE_LINEAR_PROBLEM_HPP
#define HEED_ENGINE_LINEAR_PROBLEM_HPP

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/shape.hpp>

namespace heed::inline HEED_ABI::detail {

/// Rows of scratch are whole vectors of every instruction set.
HEED_INLINE constexpr Index in_sixteens(Index n) { return (n + 15) / 16 * 16; }

/// φ(x) = f(x), number by number: as many features as columns.
template <class Functor>
struct ElementwiseFeatures {
  static constexpr bool projects = false;
  Functor functor;
};

/// φ_f(x) = exp(ω_f · x - scale · |x|² / 2), ω with the root of the scale in it. Rows of both matrices are
/// whole sixteens, filled up with zeros.
template <class T>
struct ProjectedFeatures {
  static constexpr bool projects = true;
  const T* by_column = nullptr;   // [d][features], times log2 e
  const T* by_feature = nullptr;  // [features][d]
  T scale = T(0);
};

/// The pairs of one sequence: query i sees key j where j < keys and j - i <= offset.
struct LinearBounds {
  Index keys = 0;
  Index offset = 0;

  /// The first query that sees a key.
  HEED_INLINE Index first_query(Index queries) const {
    return offset >= 0 ? 0 : -offset < queries ? -offset : queries;
  }
  /// Keys that some query sees come before it.
  HEED_INLINE Index seen_keys(Index queries) const {
    const Index reach = queries == 0 || queries + offset < 0 ? 0 : queries + offset;
    return reach < keys ? reach : keys;
  }
};

/// Operands in the layout of the shape. What a pass does not use has no data.
template <class T>
struct LinearProblem {
  const Shape& shape;
  Index features;
  Operand<const T> q, k, v;
  Operand<T> out;
  Operand<const T> given, dout;  // the output of the forward pass and its gradient
  Operand<T> dq, dk, dv;
  bool accumulate = false;
  // Of a running call: for each key head [features][d_v + 1, in sixteens] sums of all keys so far, and what
  // their exponents are relative to.
  T* state = nullptr;
  T* references = nullptr;
  bool started = false;

  LinearProblem(const Shape& s, Index feature_count) : shape(s), features(feature_count) {}
  Index value_row() const { return in_sixteens(shape.d_v + 1); }
  Index state_size() const { return features * value_row(); }
};

/// c = a · b, or c += a · b: rows × terms times terms × columns.
template <class T>
struct ProductProblem {
  Operand<const T> a, b;
  Operand<T> c;
  Index rows = 0, terms = 0, columns = 0;
  bool add = false;
};

}  // namespace heed::inline HEED_ABI::detail

#endif
