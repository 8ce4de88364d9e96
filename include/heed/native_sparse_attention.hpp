// SPDX-License-Identifier: MIT
/// @file
/// native_sparse_attention(): compressed, selected and nearby keys, mixed by gates.
#ifndef HEED_NATIVE_SPARSE_ATTENTION_HPP
#define HEED_NATIVE_SPARSE_ATTENTION_HPP

#include <array>
#include <concepts>
#include <limits>
#include <type_traits>
#include <utility>

#include <heed/attention.hpp>
#include <heed/attention_backward.hpp>
#include <heed/block_top_k.hpp>
#include <heed/config.hpp>
#include <heed/core/allow_only.hpp>
#include <heed/core/operand.hpp>
#include <heed/layout/heads.hpp>
#include <heed/linear/pooled_attention.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/window.hpp>

namespace heed::inline HEED_ABI {

/// The three branches of native_sparse_attention().
struct NativeSparse {
  BlockTopK selection = {};  ///< of the selected branch; its heads are those of all branches
  Index stride = 0;          ///< tokens in a compressed one; 0 is selection.block
  Index window = 512;        ///< a query sees so many keys before its own position
};

/// What the backward pass of native_sparse_attention() needs: the choice, and each branch's output and
/// log-sum-exp, 3 (d_v + 3) numbers a token and head.
template <class Scalar>
struct NativeSparseSaved {
  BlockLists blocks;
  std::array<Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>, 3> out;
  std::array<Saved<Scalar>, 3> branch;
};

/// The gradients by q, k, v and gates.
template <class DQ, class DK, class DV, class DG>
struct NativeSparseGradients {
  DQ dq;
  DK dk;
  DV dv;
  DG dgates;
};

namespace detail {

inline NativeSparse resolved(NativeSparse o) {
  o.selection = resolved(o.selection);
  if (!o.selection.causal) fail("native_sparse_attention: the selection is not causal, it must be");
  if (o.stride == 0) o.stride = o.selection.block;
  check_stride(o.stride);
  if (o.window < 0) fail("native_sparse_attention: the window is ", o.window, ", at least 0 is needed");
  return o;
}

template <class G>
void check_gates(const G& gates, Index rows, Index heads) {
  if (gates.rows() != rows || gates.cols() != 3 * heads)
    fail("gates is ", gates.rows(), " x ", gates.cols(), ", it must be ", rows, " x ", 3 * heads);
}

/// Does row i of head h see anything in this branch?
template <class Scalar>
bool sees(const Saved<Scalar>& saved, Index i, Index h) {
  return !(saved.lse(i, h) == -std::numeric_limits<Scalar>::infinity());
}

}  // namespace detail

/// Native sparse attention (2502.11089): for every query and head
///
///     out = g_0 · compressed + g_1 · selected + g_2 · window,
///
/// where `compressed` is causal attention to the means of `stride` neighbouring keys and values, of those
/// groups that lie wholly in the past (pooled_attention()); `selected` is causal attention to the keys of the
/// blocks that block_top_k() keeps; and `window` is attention to the own position and `window` keys before.
///
///     Eigen::MatrixXf y = heed::native_sparse_attention(q, k, v, gates, {.selection = {.heads = 8}});
///
/// @param q N × (H·d), k M × (H_kv·d), v M × (H_kv·d_v), as attention() takes them; the last query stands at
///   the last key
/// @param gates N × (3·H): column c·H + h is g_c of head h. Any numbers; the paper takes a sigmoid of a
///   projection of the tokens, which is the caller's.
/// @param options NativeSparse, with the heads in its selection
/// @param saved what native_sparse_attention_backward() takes
/// @param policies `scale`, `on`, `use`
/// @return N × (H·d_v) in the storage order of q. A branch in which a row sees nothing gives it zeros,
///   whatever its gate.
/// @throws std::invalid_argument naming the argument and both sizes, before anything is written
///
/// Against the paper: means take the place of its learnt compression, and blocks are chosen for a tile of
/// queries and each head of its own by their means, not from the compressed branch's weights. float, double.
/// Selecting by routing or by hashing is out. Cost a head: N · (M / (2 stride) + count · block + window) ·
/// (d + d_v) multiply-adds and the selection's; memory: each branch's output. Bits do not depend on the
/// number of threads.
template <class Q, class K, class V, class G, std::floating_point Scalar, class... P>
  requires(policy<P>&&...)
auto native_sparse_attention(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                             const Eigen::MatrixBase<V>& v, const Eigen::MatrixBase<G>& gates,
                             const NativeSparse& options, NativeSparseSaved<Scalar>& saved,
                             const P&... policies) {
  using namespace detail;
  const auto bundle = spec(policies...);
  allow_only<call::native_sparse_attention, std::remove_const_t<decltype(bundle)>, scale_tag, of_execution>();
  static_assert(on_engine<Scalar>, "heed: native_sparse_attention takes float and double");
  static_assert(std::is_same_v<Scalar, typename Q::Scalar> && std::is_same_v<Scalar, typename G::Scalar>,
                "heed: q, gates and saved have different scalars");
  const NativeSparse o = resolved(options);
  const Index h_count = o.selection.heads;
  const Heads layout = heads(h_count, o.selection.key_heads);
  check_gates(gates, q.rows(), h_count);
  make_shape(spec(layout, bundle), q.rows(), q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  bundle.template check_values<Scalar>();
  const InPlace<Q> qs(q.derived());
  const InPlace<K> ks(k.derived());
  const InPlace<V> vs(v.derived());
  const InPlace<G> g(gates.derived());

  saved.blocks = block_top_k(qs, ks, o.selection);
  saved.out[0] =
      pooled_attention(qs, ks, vs, strides({o.stride}), layout, causal(), save(saved.branch[0]), bundle);
  saved.out[1] =
      attention(qs, ks, vs, layout, saved.blocks.mask(), causal(), save(saved.branch[1]), bundle);
  saved.out[2] = attention(qs, ks, vs, layout, window(o.window, 0), save(saved.branch[2]), bundle);

  const Index d_v = v.cols() / o.selection.key_heads;
  Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Q::IsRowMajor ? Eigen::RowMajor : Eigen::ColMajor>
      out(q.rows(), h_count * d_v);
  out.setZero();
  if (d_v == 0) return out;
  for (Index c = 0; c < 3; ++c)
    for (Index h = 0; h < h_count; ++h)
      for (Index i = 0; i < q.rows(); ++i) {
        const auto x = static_cast<std::size_t>(c);
        if (sees(saved.branch[x], i, h))
          out.row(i).segment(h * d_v, d_v) +=
              g.coeff(i, c * h_count + h) * saved.out[x].row(i).segment(h * d_v, d_v);
      }
  return out;
}
/// The same with nothing saved.
template <class Q, class K, class V, class G, class... P>
  requires(policy<P>&&...)
auto native_sparse_attention(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                             const Eigen::MatrixBase<V>& v, const Eigen::MatrixBase<G>& gates,
                             const NativeSparse& options = {}, const P&... policies) {
  NativeSparseSaved<typename Q::Scalar> saved;
  return native_sparse_attention(q, k, v, gates, options, saved, policies...);
}

/// The gradients of a loss by q, k, v and gates, given its gradient dout by the output of
/// native_sparse_attention(): exact through all three branches for the blocks that were kept. The choice
/// itself is piecewise constant and has no gradient.
/// @param saved what the call left there, with the same q, k, v, gates, options and policies
/// @return NativeSparseGradients{dq, dk, dv, dgates} in the sizes and storage orders of the inputs
/// @throws std::invalid_argument naming the argument and both sizes
template <class DO, class Q, class K, class V, class G, class Scalar, class... P>
  requires(policy<P>&&...)
auto native_sparse_attention_backward(const Eigen::MatrixBase<DO>& dout, const Eigen::MatrixBase<Q>& q,
                                      const Eigen::MatrixBase<K>& k, const Eigen::MatrixBase<V>& v,
                                      const Eigen::MatrixBase<G>& gates, const NativeSparse& options,
                                      const NativeSparseSaved<Scalar>& saved, const P&... policies) {
  using namespace detail;
  const auto bundle = spec(policies...);
  allow_only<call::native_sparse_attention, std::remove_const_t<decltype(bundle)>, scale_tag, of_execution>();
  using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic>;
  const NativeSparse o = resolved(options);
  const Index h_count = o.selection.heads, n = q.rows();
  const Heads layout = heads(h_count, o.selection.key_heads);
  check_gates(gates, n, h_count);
  const Shape shape = make_shape(spec(layout, bundle), n, q.cols(), k.rows(), k.cols(), v.rows(), v.cols());
  const Index d_v = shape.d_v;
  if (dout.rows() != n || dout.cols() != h_count * d_v)
    fail("dout is ", dout.rows(), " x ", dout.cols(), ", it must be ", n, " x ", h_count * d_v);
  for (std::size_t c = 0; c < 3; ++c)
    if (saved.out[c].rows() != n || saved.out[c].cols() != h_count * d_v || saved.branch[c].lse.rows() != n ||
        saved.branch[c].lse.cols() != h_count)
      fail("saved has an output of ", saved.out[c].rows(), " x ", saved.out[c].cols(), ", it must be ", n,
           " x ", h_count * d_v);
  const InPlace<Q> qs(q.derived());
  const InPlace<K> ks(k.derived());
  const InPlace<V> vs(v.derived());
  const InPlace<G> g(gates.derived());
  const InPlace<DO> d(dout.derived());

  typename G::PlainObject dgates;
  dgates.resize(n, 3 * h_count);
  dgates.setZero();
  Matrix dbranch(n, h_count * d_v);
  // The gradient by branch c's output, and its gates' on the way.
  const auto through_gate = [&](Index c) {
    const auto x = static_cast<std::size_t>(c);
    dbranch.setZero();
    if (d_v == 0) return;
    for (Index h = 0; h < h_count; ++h)
      for (Index i = 0; i < n; ++i) {
        if (!sees(saved.branch[x], i, h)) continue;
        const auto row = d.row(i).segment(h * d_v, d_v);
        dbranch.row(i).segment(h * d_v, d_v) = g.coeff(i, c * h_count + h) * row;
        dgates(i, c * h_count + h) = row.dot(saved.out[x].row(i).segment(h * d_v, d_v));
      }
  };
  through_gate(0);
  auto sum = pooled_attention_backward(dbranch, qs, ks, vs, strides({o.stride}), saved.out[0],
                                       saved.branch[0], layout, causal(), bundle);
  through_gate(1);
  attention_backward(dbranch, qs, ks, vs, saved.out[1], saved.branch[1], layout, saved.blocks.mask(),
                     causal(), into(sum.dq, sum.dk, sum.dv), accumulating, bundle);
  through_gate(2);
  attention_backward(dbranch, qs, ks, vs, saved.out[2], saved.branch[2], layout, window(o.window, 0),
                     into(sum.dq, sum.dk, sum.dv), accumulating, bundle);
  return NativeSparseGradients<typename Q::PlainObject, typename K::PlainObject, typename V::PlainObject,
                               typename G::PlainObject>{std::move(sum.dq), std::move(sum.dk),
                                                        std::move(sum.dv), std::move(dgates)};
}

}  // namespace heed::inline HEED_ABI

#endif
