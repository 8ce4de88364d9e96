// SPDX-License-Identifier: MIT
/// @file
/// merge(): attention over all keys, from attention over parts of them.
#ifndef HEED_MERGE_HPP
#define HEED_MERGE_HPP

#include <cmath>
#include <limits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/operand.hpp>

namespace heed::inline HEED_ABI {

/// A partial result: what attention gives for some of the keys, and how much those keys weigh.
template <class Scalar>
struct Partial {
  Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic> out;  ///< N x (H·d_v)
  Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic> lse;  ///< N x H, natural logarithm
};

namespace detail {

template <class Out, class Lse>
void check_partial(const char* name, const Out& out, const Lse& lse, Index rows, Index columns, Index heads) {
  if (out.rows() != rows) fail(name, " output has ", out.rows(), " rows, the first has ", rows);
  if (out.cols() != columns) fail(name, " output has ", out.cols(), " columns, the first has ", columns);
  if (lse.rows() != rows) fail(name, " log-sum-exp has ", lse.rows(), " rows, its output has ", rows);
  if (lse.cols() != heads) fail(name, " log-sum-exp has ", lse.cols(), " columns, the first has ", heads);
  if (heads == 0 ? columns != 0 : columns % heads != 0) {
    fail(name, " output has ", columns, " columns, not a multiple of the ", heads,
         " heads of its log-sum-exp");
  }
}

}  // namespace detail

/// Adds a partial result to another in place: (out, lse) <- merge of (out, lse) and (other_out, other_lse),
/// where
///
///     l = log(exp(l_a) + exp(l_b)),   o = exp(l_a - l) o_a + exp(l_b - l) o_b     (2112.05682, 2205.14135)
///
/// for every row and head. out: N x (H·d_v), lse: N x H, both dense and writable, may be blocks. A
/// log-sum-exp of -inf, which a query that sees no key has, is the identity: the other side stays as it is,
/// bit for bit, and its output is not read. The keys of the two sides must be disjoint. Merging is
/// commutative up to rounding and associative up to rounding, so fix the order where bits matter. Allocates
/// nothing; O(N·H·d_v). Wrong sizes are an std::invalid_argument.
template <class Out, class Lse, class OtherOut, class OtherLse>
void merge_into(const Eigen::MatrixBase<Out>& out_arg, const Eigen::MatrixBase<Lse>& lse_arg,
                const Eigen::MatrixBase<OtherOut>& other_out, const Eigen::MatrixBase<OtherLse>& other_lse) {
  // A temporary block binds to a const reference only; Eigen's manual writes through one this way.
  auto& out = const_cast<Eigen::MatrixBase<Out>&>(out_arg).derived();
  auto& lse = const_cast<Eigen::MatrixBase<Lse>&>(lse_arg).derived();
  using Scalar = typename Out::Scalar;
  using std::exp;
  using std::log;
  const Index heads = lse.cols();
  detail::check_partial("merge: the first", out, lse, out.rows(), out.cols(), heads);
  detail::check_partial("merge: the second", other_out, other_lse, out.rows(), out.cols(), heads);
  if (heads == 0) return;
  const Index d_v = out.cols() / heads;
  const Scalar none = Scalar(-std::numeric_limits<double>::infinity());

  for (Index h = 0; h < heads; ++h) {
    for (Index i = 0; i < out.rows(); ++i) {
      const Scalar a = lse(i, h), b = other_lse.coeff(i, h);
      if (b == none) continue;
      auto mine = detail::block_at(out, i, h * d_v, 1, d_v);
      const auto other = detail::block_at(other_out, i, h * d_v, 1, d_v);
      if (a == none) {
        mine = other;
        lse(i, h) = b;
        continue;
      }
      // The larger weight is taken as 1, so that nothing overflows.
      const Scalar top = a > b ? a : b;
      const Scalar weight_a = Scalar(exp(Scalar(a - top))), weight_b = Scalar(exp(Scalar(b - top)));
      const Scalar sum = weight_a + weight_b;
      const Scalar share_a = weight_a / sum, share_b = weight_b / sum;
      for (Index c = 0; c < d_v; ++c) mine(0, c) = share_a * mine(0, c) + share_b * other.coeff(0, c);
      lse(i, h) = top + Scalar(log(sum));
    }
  }
}

/// The same into new matrices: `auto [out, lse] = heed::merge(out_a, lse_a, out_b, lse_b)`.
template <class OutA, class LseA, class OutB, class LseB>
Partial<typename OutA::Scalar> merge(const Eigen::MatrixBase<OutA>& out_a,
                                     const Eigen::MatrixBase<LseA>& lse_a,
                                     const Eigen::MatrixBase<OutB>& out_b,
                                     const Eigen::MatrixBase<LseB>& lse_b) {
  Partial<typename OutA::Scalar> merged{out_a, lse_a};
  merge_into(merged.out, merged.lse, out_b, lse_b);
  return merged;
}

}  // namespace heed::inline HEED_ABI

#endif
