// SPDX-License-Identifier: MIT
/// @file
/// sparsemax(): weights that are exactly 0 for all but the best keys.
#ifndef HEED_SELECT_SPARSEMAX_HPP
#define HEED_SELECT_SPARSEMAX_HPP

#include <heed/config.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/select/row_selection.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// With z = s - max s and τ' = τ - max s + 1, in [0, 1).
struct BoundSparsemax {
  static constexpr SelectionKind kind = SelectionKind::threshold;
  static constexpr Slopes slopes = Slopes::kept;

  HEED_INLINE double alpha() const { return 2; }
  template <class S>
  HEED_INLINE WeightAndSlope<S> at(const S& z, const S& tau) const {
    const S base = S(S(1) + S(z - tau));
    return {base > S(0) ? base : S(0), base > S(0) ? S(1) : S(0)};
  }
};

}  // namespace detail

/// The policy made by sparsemax().
struct Sparsemax : row_selection_tag {
  detail::BoundSparsemax bind_selection(const Place&) const { return {}; }
};

/// p_j = max(s_j - τ, 0), τ such that they sum to 1: the point of the simplex nearest to the scores
/// (1602.02068). A key whose score lies 1 or more below the best has weight exactly 0, and its value is not
/// read. The gradient goes to the kept keys alone: ds_j = dp_j - mean of dp over them. `save` keeps τ in
/// place of the log-sum-exp; a sink competes like a key. Cost: about that of softmax, values of dropped keys
/// are not multiplied. Memory: a row of M scores for each query of a tile, M · 256 bytes a thread with
/// AVX-512 (three times that backward).
inline Sparsemax sparsemax() { return {}; }

}  // namespace heed::inline HEED_ABI

#endif
