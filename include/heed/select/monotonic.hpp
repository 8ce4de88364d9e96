// SPDX-License-Identifier: MIT
/// @file
/// Monotonic attention: every query stops at a key no earlier than the one at which the query before it
/// stopped. A recurrence over rows, and therefore no selection of attention(): functions of its own.
#ifndef HEED_SELECT_MONOTONIC_HPP
#define HEED_SELECT_MONOTONIC_HPP

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <heed/attention_weights.hpp>
#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/scalars.hpp>
#include <heed/core/shape.hpp>
#include <heed/random.hpp>
#include <heed/train/noise.hpp>

namespace heed::inline HEED_ABI {

/// How energies become probabilities of stopping: p = σ(e + shift + noise · ε), ε normal and drawn anew for
/// every pair from the seed (1704.00784: a negative shift lets gradients flow through far keys at the start,
/// noise in training pushes probabilities to 0 and 1, so that hard inference loses little). Not a policy:
/// given first to monotonic_attention().
struct Monotonic {
  double shift = 0;
  double noise = 0;        ///< standard deviation; 0, as hard inference has it, draws nothing
  std::uint64_t seed = 0;  ///< another one for each step and layer

  /// Refused by spec(), with a message.
  static constexpr bool recurs_over_rows = true;
};

/// monotonic({.shift = -4, .noise = 1, .seed = step}).
inline Monotonic monotonic(const Monotonic& options = {}) { return options; }

namespace detail {

inline void check_monotonic(const Monotonic& m) {
  if (!std::isfinite(m.shift)) fail("monotonic: the shift is ", m.shift, ", it must be finite");
  if (!(m.noise >= 0) || !std::isfinite(m.noise))
    fail("monotonic: the noise is ", m.noise, ", it must be at least 0 and finite");
}

/// σ(x), without overflow.
template <class T>
T logistic(const T& x) {
  using std::exp;
  if (x >= T(0)) return T(T(1) / T(T(1) + T(exp(T(-x)))));
  const T y = T(exp(x));
  return T(y / T(T(1) + y));
}

/// One row: α <- the next row of α, given its probabilities p(j). q_j, the probability that the scan reaches
/// key j, is a sum of products of numbers that are not negative: nothing is divided and nothing cancels.
template <class Wide, class P>
void monotonic_row(std::vector<Wide>& alpha, const P& p) {
  Wide passed(0);  // (1 - p_{j-1}) q_{j-1}
  for (std::size_t j = 0; j < alpha.size(); ++j) {
    const Wide p_j = static_cast<Wide>(p(static_cast<Index>(j)));
    const Wide q = Wide(passed + alpha[j]);
    alpha[j] = Wide(p_j * q);
    passed = Wide(Wide(Wide(1) - p_j) * q);
  }
}

/// One row backward. Given dα of this row (what comes in plus what later rows sent), p, and α of the row
/// before: puts dp(j), and leaves in dalpha what this row sends to the one before, which is dq. `reached` is
/// scratch.
template <class Wide, class P, class Previous, class PutDp>
void monotonic_row_gradient(std::vector<Wide>& dalpha, std::vector<Wide>& reached, const P& p,
                            const Previous& previous, const PutDp& put_dp) {
  const std::size_t keys = dalpha.size();
  Wide passed(0);
  for (std::size_t j = 0; j < keys; ++j) {
    const Wide q = Wide(passed + static_cast<Wide>(previous(static_cast<Index>(j))));
    reached[j] = q;
    passed = Wide(Wide(Wide(1) - static_cast<Wide>(p(static_cast<Index>(j)))) * q);
  }
  Wide later(0);  // dq_{j+1}
  for (std::size_t j = keys; j-- > 0;) {
    const Wide p_j = static_cast<Wide>(p(static_cast<Index>(j)));
    const Wide gain = Wide(dalpha[j] - later);
    put_dp(static_cast<Index>(j), Wide(reached[j] * gain));
    later = Wide(later + Wide(p_j * gain));
    dalpha[j] = later;
  }
}

/// Before the first row the scan stands at the first key: α = e₁.
template <class Wide>
std::vector<Wide> monotonic_start(Index keys) {
  std::vector<Wide> alpha(static_cast<std::size_t>(keys), Wide(0));
  if (keys > 0) alpha[0] = Wide(1);
  return alpha;
}

}  // namespace detail

/// p_ij = σ(e_ij + shift + noise · ε_ij) for a matrix of energies of one sequence and head, in its size and
/// storage order. The draws depend on seed, sequence, head, i and j alone (random.hpp).
/// @throws std::invalid_argument for a shift or noise that is not finite, or negative noise
template <class E>
typename E::PlainObject monotonic_probabilities(const Eigen::MatrixBase<E>& energies,
                                                const Monotonic& options = {}, const Place& place = {}) {
  using Scalar = typename E::Scalar;
  using Wide = detail::Accumulator<Scalar>;
  detail::check_monotonic(options);
  detail::InPlace<E> e(energies.derived());
  const PairDraws draws(options.seed, place);
  typename E::PlainObject p(energies.rows(), energies.cols());
  for (Index i = 0; i < p.rows(); ++i)
    for (Index j = 0; j < p.cols(); ++j) {
      double moved = options.shift;
      if (options.noise > 0)
        moved += options.noise * normal_noise(draws, static_cast<Position>(i), static_cast<Position>(j));
      p.coeffRef(i, j) = static_cast<Scalar>(
          detail::logistic(Wide(static_cast<Wide>(e.coeff(i, j)) + static_cast<Wide>(moved))));
    }
  return p;
}

/// The expected monotonic alignment (1704.00784): with p_ij the probability that query i stops at key j when
/// its scan is there, and α of the row before the first one standing at the first key,
///
///     q_ij = (1 - p_i,j-1) q_i,j-1 + α_i-1,j        α_ij = p_ij q_ij
///
/// α_ij is the probability that query i stops at key j. A row's sum falls short of 1 by what ran past the
/// last key, which stays lost for later rows.
/// @param p N × M, in [0, 1]: any dense expression, either storage order
/// @return α, N × M, in the storage order of p
///
/// The recursion itself, in double for float: nothing is divided by cumulative products, which underflow, and
/// nothing cancels, so that the relative error is below (N + M) · 4u. O(N·M); one row of scratch.
template <class P>
typename P::PlainObject monotonic_weights(const Eigen::MatrixBase<P>& p) {
  using Scalar = typename P::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  detail::InPlace<P> values(p.derived());
  typename P::PlainObject alpha(p.rows(), p.cols());
  std::vector<Wide> row = detail::monotonic_start<Wide>(p.cols());
  for (Index i = 0; i < p.rows(); ++i) {
    detail::monotonic_row(row, [&](Index j) { return values.coeff(i, j); });
    for (Index j = 0; j < p.cols(); ++j)
      alpha.coeffRef(i, j) = static_cast<Scalar>(row[static_cast<std::size_t>(j)]);
  }
  return alpha;
}

/// The gradient of a loss by p, given its gradient by α = monotonic_weights(p), by the recursion backward:
/// with g_ij the whole derivative by α_ij, later rows included,
///
///     dq_ij = p_ij g_ij + (1 - p_ij) dq_i,j+1     dp_ij = q_ij (g_ij - dq_i,j+1)     g_i-1,j += dq_ij
///
/// @param dalpha, p, alpha N × M
/// @return dp, N × M, in the storage order of p
/// @throws std::invalid_argument for sizes that differ
///
/// Exact. O(N·M); two rows of scratch (in double for float).
template <class DA, class P, class A>
typename P::PlainObject monotonic_weights_gradient(const Eigen::MatrixBase<DA>& dalpha,
                                                   const Eigen::MatrixBase<P>& p,
                                                   const Eigen::MatrixBase<A>& alpha) {
  using Scalar = typename P::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  const auto check = [&](const char* name, Index rows, Index columns) {
    if (rows != p.rows() || columns != p.cols())
      detail::fail("monotonic_weights_gradient: ", name, " is ", rows, " x ", columns, ", p is ", p.rows(),
                   " x ", p.cols());
  };
  check("dalpha", dalpha.rows(), dalpha.cols());
  check("alpha", alpha.rows(), alpha.cols());
  detail::InPlace<DA> da(dalpha.derived());
  detail::InPlace<P> values(p.derived());
  detail::InPlace<A> weights(alpha.derived());
  typename P::PlainObject dp(p.rows(), p.cols());
  const auto keys = static_cast<std::size_t>(p.cols());
  std::vector<Wide> total(keys, Wide(0)), reached(keys, Wide(0));
  const std::vector<Wide> start = detail::monotonic_start<Wide>(p.cols());
  for (Index i = p.rows(); i-- > 0;) {
    for (Index j = 0; j < p.cols(); ++j)
      total[static_cast<std::size_t>(j)] += static_cast<Wide>(da.coeff(i, j));
    detail::monotonic_row_gradient(
        total, reached, [&](Index j) { return values.coeff(i, j); },
        [&](Index j) {
          return i > 0 ? static_cast<Wide>(weights.coeff(i - 1, j)) : start[static_cast<std::size_t>(j)];
        },
        [&](Index j, const Wide& x) { dp.coeffRef(i, j) = static_cast<Scalar>(x); });
  }
  return dp;
}

/// One step of hard monotonic inference (1704.00784), for decoding while keys arrive: the first key at or
/// after `from` whose probability of stopping is at least the threshold, or -1. `from` is the state between
/// rows, 0 at first: it becomes the key found, at which the next row begins, or, if there is none, the number
/// of keys looked at, so that keys that arrive later are looked at from there.
///
///     heed::Index from = 0;
///     while (…) if (const heed::Index j = heed::hard_monotonic_step(p_of_this_query, from); j >= 0) …
///
/// @param p the probabilities of one query for all keys so far, a row or a column; only what is looked at is
///   read. Given energies e instead, the threshold is -shift
/// @throws std::invalid_argument for a `from` that is negative
/// Cost: the keys that are looked at; over a whole sequence at most N + M.
template <class P>
Index hard_monotonic_step(const Eigen::MatrixBase<P>& p, Index& from, double threshold = 0.5) {
  static_assert(P::IsVectorAtCompileTime, "heed: hard_monotonic_step() takes the probabilities of one query");
  using Scalar = typename P::Scalar;
  if (from < 0) detail::fail("hard_monotonic_step: from is ", from, ", it must be at least 0");
  for (; from < p.size(); ++from)
    if (p.derived().coeff(from) >= static_cast<Scalar>(threshold)) return from;
  return -1;
}

/// Hard monotonic inference for whole rows: element i is the first key, from that of row i - 1 on, with
/// p_ij >= threshold, or -1, which stands for a row of zeros. After such a row the scan is past the last key,
/// and all later rows are -1 too: exactly monotonic_weights() of probabilities that are 0 and 1. (To look
/// again from the last key that was found, use hard_monotonic_step() and keep `from`.)
/// @param p N × M; energies with the threshold -shift do as well
template <class P>
std::vector<Index> hard_monotonic(const Eigen::MatrixBase<P>& p, double threshold = 0.5) {
  detail::InPlace<P> values(p.derived());
  std::vector<Index> chosen;
  chosen.reserve(static_cast<std::size_t>(p.rows()));
  Index from = 0;
  for (Index i = 0; i < p.rows(); ++i)
    chosen.push_back(hard_monotonic_step(detail::rows_at(values, i, 1).row(0), from, threshold));
  return chosen;
}

}  // namespace heed::inline HEED_ABI

#endif
