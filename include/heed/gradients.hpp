// SPDX-License-Identifier: MIT
/// @file
/// What a backward pass takes and gives beside q, k and v: where gradients go, the gradient of a bias, the
/// incoming gradient of the log-sum-exp.
#ifndef HEED_GRADIENTS_HPP
#define HEED_GRADIENTS_HPP

#include <array>
#include <cstddef>
#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/engine/problem.hpp>
#include <heed/mask/dense.hpp>

namespace heed::inline HEED_ABI {

/// dq, dk, dv: the derivatives of a loss by q, k and v, in their sizes and storage orders.
template <class DQ, class DK, class DV>
struct Gradients {
  DQ dq;
  DK dk;
  DV dv;
};

namespace detail {

/// A const block or map of writable memory may be written through, as in Eigen; a const matrix may not.
template <class M>
constexpr void check_writable() {
  using Plain = std::remove_cvref_t<M>;
  static_assert(
      std::is_base_of_v<Eigen::MatrixBase<Plain>, Plain>,
      "heed: a gradient is not an Eigen matrix, block or map (for an Eigen::Array x write x.matrix())");
  static_assert(
      !(std::is_const_v<std::remove_reference_t<M>> && std::is_same_v<Plain, typename Plain::PlainObject>),
      "heed: a gradient is to be written to a const matrix");
  static_assert(directly_accessible<Plain>, "heed: a gradient has no memory to write to");
  static_assert((int(Plain::Flags) & int(Eigen::LvalueBit)) != 0, "heed: a gradient is read-only");
}

/// A writable matrix in the caller's hands.
template <class Scalar_>
struct Target {
  using Scalar = Scalar_;
  Operand<Scalar> at;
  Index rows = 0, columns = 0;

  template <class M>
  static Target of(M& m) {
    auto& plain = const_cast<std::remove_const_t<M>&>(m);
    return {operand_of<Scalar>(plain), m.rows(), m.cols()};
  }
};

}  // namespace detail

/// The policy made by into().
template <class Scalar>
struct Into : into_tag {
  detail::Target<Scalar> dq, dk, dv;
};

/// Where attention_backward writes the gradients: any writable matrices, blocks or maps of the sizes of q, k
/// and v, which are referred to and must not share elements with each other or with an input. Interleaved
/// blocks of one matrix are fine.
template <class DQ, class DK, class DV>
auto into(DQ&& dq, DK&& dk, DV&& dv) {
  detail::check_writable<DQ>();
  detail::check_writable<DK>();
  detail::check_writable<DV>();
  using Scalar = typename std::remove_cvref_t<DQ>::Scalar;
  static_assert(std::is_same_v<Scalar, typename std::remove_cvref_t<DK>::Scalar> &&
                    std::is_same_v<Scalar, typename std::remove_cvref_t<DV>::Scalar>,
                "heed: dq, dk and dv have different scalars");
  Into<Scalar> policy;
  policy.dq = detail::Target<Scalar>::of(dq);
  policy.dk = detail::Target<Scalar>::of(dk);
  policy.dv = detail::Target<Scalar>::of(dv);
  return policy;
}

struct Accumulating : accumulate_tag {};
/// All gradients are added to what their matrices hold, instead of overwriting it. Needs into().
inline constexpr Accumulating accumulating{};

/// The policy made by bias_gradient().
template <class Scalar>
struct BiasGradient : bias_gradient_tag {
  detail::Target<Scalar> target;

  detail::MatrixView<Scalar> view() const {
    return {target.at.data, target.rows, target.columns, target.at.row, target.at.column};
  }
  void check(const Shape& shape) const { detail::check_pairs("bias_gradient", view(), shape, true); }
  /// Do several heads, or several sequences, add to the same elements?
  bool heads_share(const Shape& shape) const {
    return target.columns == 1 || (target.columns == shape.longest && shape.heads > 1);
  }
  bool sequences_share(const Shape& shape) const { return target.rows == 1 && shape.sequences > 1; }
  detail::PairGradient<Scalar> bind(const Place& place) const {
    const auto m = detail::pairs_of(view(), place);
    return {const_cast<Scalar*>(m.data), m.row_stride, m.col_stride};
  }
};

/// Writes the derivative by what bias() adds: db may have any of the shapes that bias() takes, and holds the
/// sum over the axes along which that shape is broadcast. Referred to; overwritten unless `accumulating` is
/// given. The forward pass need not have had a bias: this is then the derivative at bias 0.
template <class DB>
auto bias_gradient(DB&& db) {
  detail::check_writable<DB>();
  using Scalar = typename std::remove_cvref_t<DB>::Scalar;
  BiasGradient<Scalar> policy;
  policy.target = detail::Target<Scalar>::of(db);
  return policy;
}

/// The policy made by sink_gradient().
template <class Scalar>
struct SinkGradient : sink_gradient_tag {
  detail::Target<Scalar> target;

  void check(const Shape& shape) const {
    const Index count = target.rows * target.columns;
    if ((target.rows != 1 && target.columns != 1) || (count != 1 && count != shape.heads))
      detail::fail("sink_gradient is ", target.rows, " x ", target.columns, ", it must be a vector of ",
                   shape.heads, ", one for each head, or of 1");
  }
  Scalar& operator()(Index head) const {
    const Index n = target.rows * target.columns == 1 ? 0 : head;
    return *(target.columns == 1 ? target.at.at(n, 0) : target.at.at(0, n)).data;
  }
};

/// Writes the derivative by the sinks: a vector of as many as there are heads, or one number, the sum over
/// heads. Referred to; overwritten unless `accumulating` is given.
template <class DS>
auto sink_gradient(DS&& ds) {
  detail::check_writable<DS>();
  using Scalar = typename std::remove_cvref_t<DS>::Scalar;
  SinkGradient<Scalar> policy;
  policy.target = detail::Target<Scalar>::of(ds);
  return policy;
}

/// The policy made by alpha_gradient().
template <class Scalar>
struct AlphaGradient : alpha_gradient_tag {
  detail::Target<Scalar> target;

  void check(const Shape& shape) const {
    const Index count = target.rows * target.columns;
    if ((target.rows != 1 && target.columns != 1) || (count != 1 && count != shape.heads))
      detail::fail("alpha_gradient is ", target.rows, " x ", target.columns, ", it must be a vector of ",
                   shape.heads, ", one for each head, or of 1");
  }
  Scalar& operator()(Index head) const {
    const Index n = target.rows * target.columns == 1 ? 0 : head;
    return *(target.columns == 1 ? target.at.at(n, 0) : target.at.at(0, n)).data;
  }
};

/// Writes the derivative by the α of entmax(α) (1909.00015): a vector of as many as there are heads, or one
/// number, the sum over heads. Referred to; overwritten unless `accumulating` is given. Sums are taken in
/// double.
template <class DA>
auto alpha_gradient(DA&& da) {
  detail::check_writable<DA>();
  using Scalar = typename std::remove_cvref_t<DA>::Scalar;
  AlphaGradient<Scalar> policy;
  policy.target = detail::Target<Scalar>::of(da);
  return policy;
}

/// The policy made by weight_parameter_gradient().
template <class Scalar>
struct WeightParameterGradient : weight_parameter_gradient_tag {
  detail::Target<Scalar> target;

  void check(const Shape& shape) const {
    if (target.rows != shape.queries || target.columns != shape.heads)
      detail::fail("weight_parameter_gradient is ", target.rows, " x ", target.columns, ", it must be ",
                   shape.queries, " x ", shape.heads);
  }
  Scalar& operator()(Index row, Index head) const { return *target.at.at(row, head).data; }
};

/// Writes the derivative by the numbers of weight_with(f, x), N × H. Referred to; overwritten unless
/// `accumulating` is given.
template <class DX>
auto weight_parameter_gradient(DX&& dx) {
  detail::check_writable<DX>();
  using Scalar = typename std::remove_cvref_t<DX>::Scalar;
  WeightParameterGradient<Scalar> policy;
  policy.target = detail::Target<Scalar>::of(dx);
  return policy;
}

/// The policy made by parameter_gradient().
template <class Scalar>
struct ParameterGradient : parameter_gradient_tag {
  detail::Target<Scalar> target;
  bool vector = false;  // of fixed size: the sum over heads

  /// Parameters: n of each head.
  void check_size(const Shape& shape, Index n) const {
    const bool fits =
        vector ? target.rows * target.columns == n : target.rows == shape.heads && target.columns == n;
    if (!fits)
      detail::fail("parameter_gradient is ", target.rows, " x ", target.columns, ", there are ", n,
                   " parameters for each of ", shape.heads, " heads: it must be a vector of ", n, ", or ",
                   shape.heads, " x ", n);
  }
  Scalar& operator()(Index head, Index k) const {
    if (!vector) return *target.at.at(head, k).data;
    return *(target.columns == 1 ? target.at.at(k, 0) : target.at.at(0, k)).data;
  }
};

/// Writes the derivative by the parameters of score_with(f, theta): a vector of n, which gets the sum over
/// heads, or a matrix of H × n, a row for each head. Referred to; overwritten unless `accumulating` is given.
/// Sums are taken in double. An std::array or a number (n = 1) is a vector too.
template <class D>
auto parameter_gradient(D&& dtheta) {
  detail::check_writable<D>();
  using Plain = std::remove_cvref_t<D>;
  ParameterGradient<typename Plain::Scalar> policy;
  policy.target = detail::Target<typename Plain::Scalar>::of(dtheta);
  policy.vector = bool(Plain::IsVectorAtCompileTime);
  return policy;
}
template <class X, std::size_t n>
auto parameter_gradient(std::array<X, n>& dtheta) {
  return ParameterGradient<X>{{}, {{dtheta.data(), 1, 1}, static_cast<Index>(n), 1}, true};
}
template <class X>
  requires std::is_floating_point_v<X>
auto parameter_gradient(X& dtheta) { return ParameterGradient<X>{{}, {{&dtheta, 1, 1}, 1, 1}, true}; }

/// The policy made by score_gradient().
template <class Scalar>
struct ScoreGradient : score_gradient_tag {
  detail::Target<Scalar> target;
  bool vector = false;  // the sum over heads

  void check(const Shape& shape) const {
    const bool fits = vector ? target.rows * target.columns == shape.d
                             : target.rows == shape.heads && target.columns == shape.d;
    if (!fits)
      detail::fail("score_gradient is ", target.rows, " x ", target.columns, ", there are ", shape.d,
                   " weights for each of ", shape.heads, " heads: it must be a vector of ", shape.d, ", or ",
                   shape.heads, " x ", shape.d);
  }
  Scalar& operator()(Index head, Index a) const {
    if (!vector) return *target.at.at(head, a).data;
    return *(target.columns == 1 ? target.at.at(a, 0) : target.at.at(0, a)).data;
  }
};

/// Writes the derivative by the weights of additive(w): a vector of A, which gets the sum over heads, or a
/// matrix of H × A, a row for each head. Referred to; overwritten unless `accumulating` is given. Each head
/// of each sequence adds up in double, and these sums are added in order: bits do not depend on threads.
template <class D>
auto score_gradient(D&& dw) {
  detail::check_writable<D>();
  using Plain = std::remove_cvref_t<D>;
  ScoreGradient<typename Plain::Scalar> policy;
  policy.target = detail::Target<typename Plain::Scalar>::of(dw);
  policy.vector = bool(Plain::IsVectorAtCompileTime);
  return policy;
}

/// The policy made by lse_gradient().
template <class Scalar>
struct LseGradient : lse_gradient_tag {
  detail::Operand<const Scalar> at;
  Index rows = 0, columns = 0;

  void check(const Shape& shape) const {
    if (rows != shape.queries || columns != shape.heads)
      detail::fail("lse_gradient is ", rows, " x ", columns, ", it must be ", shape.queries, " x ",
                   shape.heads);
  }
};

/// The incoming gradient of the log-sum-exp, rows of q x query heads, where a loss depends on it (z-loss,
/// merged parts). Referred to.
template <class DL>
auto lse_gradient(const Eigen::MatrixBase<DL>& dl) {
  static_assert(detail::directly_accessible<DL>, "heed: lse_gradient needs a matrix, block or map");
  LseGradient<typename DL::Scalar> policy;
  policy.at = detail::operand_of<const typename DL::Scalar>(dl.derived());
  policy.rows = dl.rows();
  policy.columns = dl.cols();
  return policy;
}

}  // namespace heed::inline HEED_ABI

#endif
