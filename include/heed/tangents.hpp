// SPDX-License-Identifier: MIT
/// @file
/// What forward mode takes and gives beside q, k and v: the tangent of a bias, outputs with their tangents.
#ifndef HEED_TANGENTS_HPP
#define HEED_TANGENTS_HPP

#include <utility>

#include <heed/config.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/stored.hpp>
#include <heed/dual.hpp>
#include <heed/score/bias.hpp>

namespace heed::inline HEED_ABI {

/// What attention_jvp() returns: the output and the log-sum-exp (rows of q x query heads), and how both move.
template <class Out, class Lse>
struct Tangents {
  Out out;
  Out out_tangent;
  Lse lse;
  Lse lse_tangent;
};

namespace detail {

/// Adds to the direction of a dual number, be it the score's own or, for derivatives of derivatives, its
/// value's.
template <class S, class B>
HEED_INLINE void add_tangent(S&, const B&) {}
template <class T, class B>
HEED_INLINE void add_tangent(dual<T>& s, const B& b) {
  s.tangent[0] += static_cast<T>(b);
}
template <class T, class B>
HEED_INLINE void add_tangent(dual<dual<T>>& s, const B& b) {
  s.value.tangent[0] += static_cast<T>(b);
}

template <class Scalar>
struct BoundBiasTangent {
  static constexpr int stage = heed::stage::bias;
  static constexpr bool may_hide = true;
  const Scalar* data;
  Index row_stride, col_stride;

  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    add_tangent(s, data[i * row_stride + j * col_stride]);
    return s;
  }
};

}  // namespace detail

/// The policy made by bias_tangent().
template <class Matrix>
using BiasTangent = detail::PairTerm<bias_tangent_tag, detail::BoundBiasTangent, Matrix>;

/// The direction in which what bias() adds moves, in any of the shapes that bias() takes, for attention_jvp()
/// and attention_double_backward(). There need not be a bias(): this is then the direction at bias 0.
template <class B>
auto bias_tangent(B&& b) {
  auto matrix = detail::store_matrix(std::forward<B>(b));
  return BiasTangent<decltype(matrix)>("bias_tangent", std::move(matrix));
}

}  // namespace heed::inline HEED_ABI

#endif
