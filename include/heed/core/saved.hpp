// SPDX-License-Identifier: MIT
/// @file
/// save(saved): what a forward pass leaves for the backward pass, three numbers a row and head.
#ifndef HEED_CORE_SAVED_HPP
#define HEED_CORE_SAVED_HPP

#include <cstdint>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

inline constexpr double log2_of_e = 1.4426950408889634074;

/// The natural log-sum-exp of a row from its parts in base 2: the one way in which it is put together, so
/// that it tells whether parts are still its own.
template <class T>
HEED_INLINE T join_log_sum(T maximum, T log_sum) {
  return (maximum + log_sum) / static_cast<T>(log2_of_e);
}

/// What tells one variant from another (fingerprint.hpp): sizes, the scale, and a number for each kind of
/// policy, 0 where there is none.
struct Fingerprint {
  enum Part { mask, terms, score, selection, weight_function, dropout, sink, sequence_rows, parts };

  bool taken = false;
  unsigned present = 0;  ///< bit n: is there a part n? The others have no number and no name
  Index queries = 0, keys = 0, heads = 0, key_heads = 0, d = 0, d_v = 0, sequences = 0;
  double scale = 0;
  std::uint64_t number[parts] = {};
  const char* name[parts] = {};  ///< of the first policy of that kind; it ends where an identifier does
};

}  // namespace detail

/// Resized by the call when its size differs. Memory: three scalars for each row and query head. `lse` is for
/// everyone: to be read, merged, or filled in by hand. The rest is kept for attention_backward():
///
/// - the log-sum-exp in two parts, so that what is subtracted from a great score loses nothing. A row whose
///   lse is not what the forward pass left there (merged since, filled in by hand) goes by lse alone;
/// - which variant this was. A backward pass with other policies, numbers, heads or sizes is refused, unless
///   some lse was changed.
template <class Scalar>
struct Saved {
  using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;

  /// Natural log-sum-exp of the scaled, capped, biased, masked scores: rows of q x query heads. -inf where a
  /// query sees no key, which is the identity of merge().
  Matrix lse;
  /// In base 2, lse = (maximum + log_sum) / log2 e: the greatest score of the row, or one not far below it,
  /// and the logarithm of Σ 2^(score - maximum). Empty where there are none (selections of whole rows;
  /// scalars without an engine).
  Matrix maximum, log_sum;
  detail::Fingerprint variant;
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
