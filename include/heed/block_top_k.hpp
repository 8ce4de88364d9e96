// SPDX-License-Identifier: MIT
/// @file
/// block_top_k(): the blocks of keys that fit a tile of queries best, as a pattern for block_sparse().
#ifndef HEED_BLOCK_TOP_K_HPP
#define HEED_BLOCK_TOP_K_HPP

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/scalars.hpp>
#include <heed/linear/pool_rows.hpp>
#include <heed/mask/block_sparse.hpp>

namespace heed::inline HEED_ABI {

/// What block_top_k() keeps.
struct BlockTopK {
  Index block = 64;         ///< keys in a block
  Index count = 16;         ///< blocks for each tile and head, the two below among them
  Index tile = 0;           ///< queries that share a choice, a multiple of `block`; 0 is `block`
  Index heads = 1;          ///< query heads
  Index key_heads = 0;      ///< key heads; 0 is `heads`
  bool causal = true;       ///< only blocks that begin at or before the tile's last position
  bool own_block = true;    ///< always the blocks in which the tile's own positions lie
  bool first_block = true;  ///< always block 0
};

/// What block_top_k() found: row r of head h, number h·⌈N / block⌉ + r of all, has the blocks
/// columns[row_offsets[n]] < ... < columns[row_offsets[n + 1] - 1], as block_sparse() takes them.
struct BlockLists {
  Index block = 1;
  Index heads = 1;
  std::vector<Index> row_offsets;
  std::vector<Index> columns;

  /// The mask, with its own copy of the lists.
  BlockSparse mask() const {
    return BlockSparse(block, detail::IndexList::copy(row_offsets), detail::IndexList::copy(columns), heads);
  }
};

namespace detail {

inline BlockTopK resolved(BlockTopK o) {
  if (o.block < 1) fail("block_top_k: the block is ", o.block, ", at least 1 is needed");
  if (o.count < 0) fail("block_top_k: the count is ", o.count, ", at least 0 is needed");
  if (o.tile == 0) o.tile = o.block;
  if (o.tile < 0 || o.tile % o.block != 0)
    fail("block_top_k: the tile is ", o.tile, ", it must be a multiple of the block, ", o.block);
  if (o.key_heads == 0) o.key_heads = o.heads;
  if (o.heads < 1 || o.key_heads < 1 || o.heads % o.key_heads != 0)
    fail("block_top_k: ", o.heads, " heads are no multiple of ", o.key_heads, " key heads");
  return o;
}

/// The blocks of one tile: `list` gets at most `count` of the blocks below `end`, the ones in `own` and block
/// 0 first where they are asked for, then those of the best scores. NaN is the worst score.
template <class Scores>
void best_blocks(const Scores& scores, const BlockTopK& o, KeyRange own, Index end,
                 std::vector<Index>& list) {
  list.clear();
  const auto kept = [&](Index b) {
    return (o.own_block && own.begin <= b && b < own.end) || (o.first_block && b == 0);
  };
  for (Index b = 0; b < end; ++b) list.push_back(b);
  const auto fixed = std::stable_partition(list.begin(), list.end(), kept) - list.begin();
  const Index take = std::min(end, std::max(static_cast<Index>(fixed), o.count));
  // A strict order: NaN after every number, equal scores by index.
  const auto better = [&](Index a, Index b) {
    const auto x = scores(a), y = scores(b);
    if (x != x || y != y) return x == x ? true : y == y ? false : a < b;
    return x > y || (!(x < y) && a < b);
  };
  if (take > static_cast<Index>(fixed) && take < end)
    std::nth_element(list.begin() + fixed, list.begin() + take, list.end(), better);
  list.resize(static_cast<std::size_t>(take));
  std::sort(list.begin(), list.end());
}

}  // namespace detail

/// For each tile of queries and each head, the `count` blocks of keys of the greatest scores
///
///     score(tile, block) = mean of the tile's queries · mean of the block's keys,
///
/// ties going to the lower block: the selection of native sparse attention (2502.11089) with means for its
/// learnt compression, one choice for `tile` queries, and one for each head.
///
///     const auto blocks = heed::block_top_k(q, k, {.block = 64, .count = 16, .heads = 8});
///     y = heed::attention(q, k, v, heed::heads(8), blocks.mask(), heed::causal());
///
/// @param q N × (heads·d) queries, k M × (key_heads·d) keys, in any dense expression and storage order; the
///   last query stands at the last key, as with causal()
/// @param options BlockTopK: fixed blocks count among `count`, and all of them are kept where they are more
/// @return the lists as block_sparse() takes them. They keep whole blocks: a causal result also needs
///   causal() beside the mask, as above.
/// @throws std::invalid_argument naming the argument and both sizes
///
/// A choice is piecewise constant: it has no gradient. Blocks that `causal` leaves out have no part in it,
/// but a tile's queries decide together, so that a query's blocks depend on later queries of its tile; and
/// where `own_block` is off a block that is partly in the future competes with the mean of all its keys. NaN
/// scores rank last. Choosing blocks by content through a router or through hashes is another matter, and
/// not done here. Cost: (N + M) · d + ⌈N / tile⌉ · ⌈M / block⌉ · d a head, in the calling thread; memory:
/// the pooled tokens and one head's ⌈N / tile⌉ × ⌈M / block⌉ scores, then ⌈N / block⌉ · count numbers a head.
template <class Q, class K>
BlockLists block_top_k(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& k,
                       const BlockTopK& options = {}) {
  using namespace detail;
  static_assert(std::is_same_v<typename Q::Scalar, typename K::Scalar>,
                "heed: q and k have different scalars");
  using Wide = Accumulator<typename Q::Scalar>;
  using PooledRows = Eigen::Matrix<Wide, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const BlockTopK o = resolved(options);
  if (q.cols() % o.heads != 0) fail("q has ", q.cols(), " columns, there are ", o.heads, " heads");
  const Index d = q.cols() / o.heads, n = q.rows(), m = k.rows();
  if (k.cols() != d * o.key_heads)
    fail("k has ", k.cols(), " columns, ", o.key_heads, " key heads of ", d, " have ", d * o.key_heads);
  const PooledRows tiles = pool_rows(q.derived(), o.tile).template cast<Wide>();
  const PooledRows means = pool_rows(k.derived(), o.block).template cast<Wide>();

  BlockLists lists{o.block, o.heads, {0}, {}};
  PooledRows scores(tiles.rows(), means.rows());
  std::vector<Index> list;
  for (Index h = 0; h < o.heads; ++h) {
    const Index kh = h / (o.heads / o.key_heads);
    scores.noalias() = columns_at(tiles, h * d, d) * columns_at(means, kh * d, d).transpose();
    for (Index t = 0; t < tiles.rows(); ++t) {
      const Index begin = t * o.tile, rows = pooled_count(n, o.tile, t);
      const Index first = begin + m - n, last = first + rows - 1;  // positions among the keys
      const Index end = !o.causal ? means.rows() : last < 0 ? 0 : std::min(means.rows(), last / o.block + 1);
      const KeyRange own =
          last < 0 ? KeyRange{} : KeyRange{std::max(first, Index(0)) / o.block, last / o.block + 1};
      best_blocks([&](Index b) { return scores(t, b); }, o, own, end, list);
      for (Index r = 0; r < pooled_rows(rows, o.block); ++r) {
        lists.columns.insert(lists.columns.end(), list.begin(), list.end());
        lists.row_offsets.push_back(static_cast<Index>(lists.columns.size()));
      }
    }
  }
  return lists;
}

}  // namespace heed::inline HEED_ABI

#endif
