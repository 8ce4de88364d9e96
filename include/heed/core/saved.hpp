// SPDX-License-Identifier: MIT
/// @file
/// save(saved): what a forward pass leaves for the backward pass, one number a row and head.
#ifndef HEED_CORE_SAVED_HPP
#define HEED_CORE_SAVED_HPP

#include <heed/config.hpp>
#include <heed/core/policy.hpp>

namespace heed::inline HEED_ABI {

/// Resized by the call when its size differs. Memory: one scalar for each row and query head.
template <class Scalar>
struct Saved {
  /// Natural log-sum-exp of the scaled, capped, biased, masked scores: rows of q x query heads. -inf where a
  /// query sees no key, which is the identity of merge().
  Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic> lse;
};

/// The policy made by save().
template <class Scalar>
struct Save : save_tag {
  using scalar_type = Scalar;
  Saved<Scalar>* target;

  explicit Save(Saved<Scalar>& saved) : target(&saved) {}
};

/// Writes what attention_backward needs into `saved`, which is referred to. Scalar is that of the output.
template <class Scalar>
Save<Scalar> save(Saved<Scalar>& saved) {
  return Save<Scalar>(saved);
}

}  // namespace heed::inline HEED_ABI

#endif
