// SPDX-License-Identifier: MIT
/// @file
/// general(): bilinear scores qᵀ W k, by mapping the queries before attention().
#ifndef HEED_SCORE_GENERAL_HPP
#define HEED_SCORE_GENERAL_HPP

#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/operand.hpp>

namespace heed::inline HEED_ABI {

/// What general_gradient() returns.
template <class X, class W>
struct GeneralGradients {
  X dx;
  W dw;
};

namespace detail {

/// Head h of W: all of it where the heads share one, else its own rows.
template <class W>
auto matrix_of_head(const W& w, Index head, Index heads, Index d) {
  const bool shared = w.rows() == d;
  const Index rows = shared ? w.rows() : w.rows() / heads;
  return block_at(w, shared ? 0 : head * rows, 0, rows, w.cols());
}

inline void check_general(const char* name, Index x_cols, Index w_rows, Index w_cols, Index heads) {
  if (heads < 1) fail(name, ": ", heads, " heads, at least 1 is needed");
  if (x_cols % heads != 0 || x_cols == 0)
    fail(name, ": x has ", x_cols, " columns, not a positive multiple of ", heads, " heads");
  const Index d = x_cols / heads;
  if (w_rows != d && w_rows != x_cols)
    fail(name, ": w has ", w_rows, " rows, x has ", d, " columns a head: it must have ", d, " or ", x_cols);
  if (w_cols < 1) fail(name, ": w has 0 columns, keys need a dimension of at least 1");
}

}  // namespace detail

/// y_h = x_h W for every head h: the scores of attention(y, k, …) are then those of Luong's "general" form
/// (1508.04025),
///
///     s_ij = scale · x_iᵀ W k_j
///
///     auto y = heed::attention(heed::general(q, w), k, v, heed::scale(1));   // the paper has no 1/√d
///
/// @param x N × (H·d), heads side by side in columns
/// @param w d × d_k, for all heads; or (H·d) × d_k, a matrix for each, one below the other
/// @return N × (H·d_k), in the storage order of x
/// @throws std::invalid_argument for sizes that do not fit
///
/// Any dense expressions of one scalar. Eigen's own product, threads and rounding included: O(N·H·d·d_k);
/// allocates the result. The keys may be mapped instead by Wᵀ, whichever side has fewer rows.
template <class X, class W>
Eigen::Matrix<typename X::Scalar, Eigen::Dynamic, Eigen::Dynamic,
              X::IsRowMajor ? Eigen::RowMajor : Eigen::ColMajor>
general(const Eigen::MatrixBase<X>& x, const Eigen::MatrixBase<W>& w, Index heads = 1) {
  static_assert(std::is_same_v<typename X::Scalar, typename W::Scalar>,
                "heed: x and w have different scalars");
  detail::check_general("general", x.cols(), w.rows(), w.cols(), heads);
  const Index d = x.cols() / heads, d_k = w.cols();
  detail::InPlace<X> from(x.derived());
  detail::InPlace<W> by(w.derived());
  Eigen::Matrix<typename X::Scalar, Eigen::Dynamic, Eigen::Dynamic,
                X::IsRowMajor ? Eigen::RowMajor : Eigen::ColMajor>
      y(x.rows(), heads * d_k);
  for (Index h = 0; h < heads; ++h)
    detail::columns_at(y, h * d_k, d_k).noalias() =
        detail::columns_at(from, h * d, d) * detail::matrix_of_head(by, h, heads, d);
  return y;
}

/// The gradients by x and W, given dy, that by general(x, w, heads) (the dq of attention_backward()):
/// dx_h = dy_h Wᵀ, dW = Σ_h x_hᵀ dy_h, or each head's own where W has a matrix for each. In the sizes and
/// storage orders of x and w.
template <class DY, class X, class W>
auto general_gradient(const Eigen::MatrixBase<DY>& dy, const Eigen::MatrixBase<X>& x,
                      const Eigen::MatrixBase<W>& w, Index heads = 1) {
  static_assert(std::is_same_v<typename X::Scalar, typename W::Scalar> &&
                    std::is_same_v<typename X::Scalar, typename DY::Scalar>,
                "heed: dy, x and w have different scalars");
  detail::check_general("general_gradient", x.cols(), w.rows(), w.cols(), heads);
  const Index d = x.cols() / heads, d_k = w.cols();
  if (dy.rows() != x.rows() || dy.cols() != heads * d_k)
    detail::fail("general_gradient: dy is ", dy.rows(), " x ", dy.cols(), ", it must be ", x.rows(), " x ",
                 heads * d_k);
  detail::InPlace<DY> in(dy.derived());
  detail::InPlace<X> from(x.derived());
  detail::InPlace<W> by(w.derived());
  GeneralGradients<typename X::PlainObject, typename W::PlainObject> gradients;
  gradients.dx.resize(x.rows(), x.cols());
  gradients.dw.resize(w.rows(), w.cols());
  gradients.dw.setConstant(typename X::Scalar(0));
  const bool shared = w.rows() == d;
  for (Index h = 0; h < heads; ++h) {
    const auto dy_h = detail::columns_at(in, h * d_k, d_k);
    detail::columns_at(gradients.dx, h * d, d).noalias() =
        dy_h * detail::matrix_of_head(by, h, heads, d).transpose();
    detail::rows_at(gradients.dw, shared ? 0 : h * d, d).noalias() +=
        detail::columns_at(from, h * d, d).transpose() * dy_h;
  }
  return gradients;
}

}  // namespace heed::inline HEED_ABI

#endif
