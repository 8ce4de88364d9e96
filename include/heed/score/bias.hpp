// SPDX-License-Identifier: MIT
/// @file
/// bias(b): a matrix is added to the scores.
#ifndef HEED_SCORE_BIAS_HPP
#define HEED_SCORE_BIAS_HPP

#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/saturate.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/mask/dense.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

template <class Scalar>
struct BoundBias {
  static constexpr int stage = heed::stage::bias;
  static constexpr bool may_hide = true;
  using adds_from_memory = Scalar;
  const Scalar* data;
  Index row_stride, col_stride;

  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    return add_to_score(s, narrowed<S>(data[i * row_stride + j * col_stride]));
  }
};

/// A term that looks up its pair in a matrix; Bound<Scalar>{data, row stride, column stride} applies it.
template <class Tag, template <class> class Bound, class Matrix>
class PairTerm : public Tag {
 public:
  static constexpr const char* made_by = "bias";

  PairTerm(const char* name, Matrix matrix) : name_(name), matrix_(std::move(matrix)) {}

  void check(const Shape& shape) const { check_pairs(name_, matrix_.view(), shape, true); }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(matrix_.view().rows, matrix_.view().cols);
  }
  auto bind(const Place& place) const {
    const auto m = pairs_of(matrix_.view(), place);
    return Bound<std::remove_cvref_t<decltype(*m.data)>>{m.data, m.row_stride, m.col_stride};
  }

 private:
  const char* name_;
  Matrix matrix_;
};

}  // namespace detail

/// The policy made by bias().
template <class Matrix>
using Bias = detail::PairTerm<term_tag, detail::BoundBias, Matrix>;

/// s_ij <- s_ij + b_ij, after scale and softcap (1706.03762's mask, 1910.10683's relative bias). b is
/// - N x M, shared by all heads, or N x (H·M) with the heads side by side, M columns each;
/// - 1 x M or 1 x (H·M): the same for every query;
/// - N x 1: the same for every key (it moves the log-sum-exp alone).
/// With several sequences N counts all rows of q, and columns count keys inside the sequence: as many for
/// each head as the longest sequence has keys. -inf hides the pair, whatever its key and
/// value hold. Finite numbers never do: final scores beyond 2.36e38 in float (1.25e308 in double) count as
/// that much, so that a row of nothing but `lowest()` has equal weights. Any dense expression of any scalar:
/// plain lvalues are referred to, rvalues owned, views kept as views. Other shapes are an
/// std::invalid_argument.
template <class B>
auto bias(B&& b) {
  static_assert(std::is_base_of_v<Eigen::DenseBase<std::remove_cvref_t<B>>, std::remove_cvref_t<B>>,
                "heed: bias() takes a dense Eigen expression of N x M, N x (H·M), one row or one column; a "
                "constant for "
                "all pairs changes no weight");
  auto matrix = detail::store_matrix(std::forward<B>(b));
  return Bias<decltype(matrix)>("bias", std::move(matrix));
}

}  // namespace heed::inline HEED_ABI

#endif
