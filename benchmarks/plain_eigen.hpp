// SPDX-License-Identifier: MIT
#ifndef HEED_BENCHMARKS_PLAIN_EIGEN_HPP
#define HEED_BENCHMARKS_PLAIN_EIGEN_HPP

// Attention as a good plain Eigen program would have it: what Heed is compared with. Two versions, both
// without Heed: `attention` with whole matrices, the lines that everybody writes; `attention_in_blocks`, 64
// rows of queries at a time, which leaves out the keys that no query of the block sees. Single head; several
// heads are several calls on blocks of columns.

#include <Eigen/Core>
#include <algorithm>

namespace plain_eigen {

using Eigen::Index;

/// The keys [begin, end) that a query sees: all that the variants compared here need.
struct Keys {
  Index begin, end;
};

/// For each variant a function from a query to its keys.
inline auto all_keys(Index keys) {
  return [=](Index) { return Keys{0, keys}; };
}
inline auto causal_keys(Index queries, Index keys) {
  return [=](Index i) { return Keys{0, std::clamp<Index>(i + keys - queries + 1, 0, keys)}; };
}
/// left keys before the query's own place, itself, and right keys behind it.
inline auto window_keys(Index queries, Index keys, Index left, Index right) {
  return [=](Index i) {
    const Index own = i + keys - queries;
    const Index begin = std::clamp<Index>(own - left, 0, keys);
    return Keys{begin, std::clamp<Index>(own + right + 1, begin, keys)};
  };
}

/// Turns the scores of query i into weights, in place; `first` is the key of column 0. What it does not see
/// becomes 0.
template <class Row, class KeysOf>
void softmax_row(Row row, Index i, Index first, const KeysOf& keys_of) {
  const Keys keys = keys_of(i);
  const Index begin = keys.begin - first, size = keys.end - keys.begin;
  row.head(begin).setZero();
  row.tail(row.size() - begin - size).setZero();
  if (size == 0) return;
  auto seen = row.segment(begin, size).array();
  seen = (seen - seen.maxCoeff()).exp();
  seen /= seen.sum();
}

/// out = softmax(scale q k^T) v with whole matrices.
template <class Out, class Q, class K, class V, class KeysOf>
void attention(Out&& out, const Q& q, const K& k, const V& v, typename Q::Scalar scale,
               const KeysOf& keys_of) {
  // Row-major, since a softmax goes along rows.
  Eigen::Matrix<typename Q::Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> weights(q.rows(),
                                                                                             k.rows());
  weights.noalias() = scale * q * k.transpose();
  for (Index i = 0; i < q.rows(); ++i) softmax_row(weights.row(i), i, 0, keys_of);
  out.noalias() = weights * v;
}

/// The same, 64 rows of queries at a time, from the first key that one of them sees to the last.
template <class Out, class Q, class K, class V, class KeysOf>
void attention_in_blocks(Out&& out, const Q& q, const K& k, const V& v, typename Q::Scalar scale,
                         const KeysOf& keys_of) {
  Eigen::Matrix<typename Q::Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> weights;
  for (Index i0 = 0; i0 < q.rows(); i0 += 64) {
    const Index n = std::min<Index>(64, q.rows() - i0);
    Keys seen = keys_of(i0);
    for (Index i = i0 + 1; i < i0 + n; ++i) {
      seen = {std::min(seen.begin, keys_of(i).begin), std::max(seen.end, keys_of(i).end)};
    }
    const Index m = seen.end - seen.begin;
    weights.resize(n, m);
    weights.noalias() = scale * q.middleRows(i0, n) * k.middleRows(seen.begin, m).transpose();
    for (Index i = 0; i < n; ++i) softmax_row(weights.row(i), i0 + i, seen.begin, keys_of);
    out.middleRows(i0, n).noalias() = weights * v.middleRows(seen.begin, m);
  }
}

}  // namespace plain_eigen

#endif
