// SPDX-License-Identifier: MIT
/// @file
/// The sizes of a problem, made and checked once a call, and the place of one sequence and head in it.
#ifndef HEED_CORE_SHAPE_HPP
#define HEED_CORE_SHAPE_HPP

#include <limits>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>

namespace heed::inline HEED_ABI {

/// One sequence and query head of a problem, as a policy sees it when it is bound.
struct Place {
  Index queries = 0;      ///< N of this sequence
  Index keys = 0;         ///< M of this sequence
  Index head = 0;         ///< query head, from 0
  Index sequence = 0;     ///< sequence, from 0
  Index heads = 1;        ///< query heads
  Index key_heads = 1;    ///< key heads; query head h uses key head h / (heads / key_heads)
  Index query_begin = 0;  ///< first row of this sequence in q and out
  Index key_begin = 0;    ///< first row of this sequence in k and v
  Index longest = 0;  ///< largest M of any sequence of the problem: the columns that a bias has for each head
};

/// The whole problem: q is queries x (heads * d), k is keys x (key_heads * d), v is keys x (key_heads * d_v),
/// out is queries x (heads * d_v). Sequences lie one after the other in rows.
struct Shape {
  Index queries = 0;
  Index keys = 0;
  Index heads = 1;
  Index key_heads = 1;
  Index d = 0;
  Index d_v = 0;
  Index sequences = 1;
  const Index* query_offsets =
      nullptr;  ///< sequences + 1 row numbers, or null when one sequence takes all rows
  const Index* key_offsets = nullptr;
  Index longest = 0;  ///< largest number of keys of any sequence

  HEED_INLINE Place place(Index sequence, Index head) const {
    Place p{queries, keys, head, sequence, heads, key_heads, 0, 0, longest};
    if (query_offsets != nullptr) {
      p.query_begin = query_offsets[sequence];
      p.key_begin = key_offsets[sequence];
      p.queries = query_offsets[sequence + 1] - p.query_begin;
      p.keys = key_offsets[sequence + 1] - p.key_begin;
    }
    return p;
  }
};

/// Which key stands at a query's own position: query i is at key position i + off.
struct Alignment {
  bool from_end = true;  ///< off = M - N: the last query is at the last key (decoding, FlashAttention)
  Index offset = 0;      ///< off otherwise

  HEED_INLINE constexpr Index resolve(Index queries, Index keys) const {
    return from_end ? keys - queries : offset;
  }
};

/// off = 0: query 0 is at key 0, also where N and M differ.
struct top_left_t {};
inline constexpr top_left_t top_left{};

namespace detail {

/// Queries and keys of a sequence, at most. Kernels ask about whole tiles, whose last rows and keys may lie
/// past the end: their positions, and differences of these, must be Positions too.
inline constexpr Index longest_sequence = std::numeric_limits<Position>::max() - 1024;

/// Bounds off so that comparisons in Position cannot overflow. Beyond [-N, M] every offset means the same to
/// a mask.
HEED_INLINE constexpr Position clamp_position(Index x) {
  constexpr Index most = std::numeric_limits<Position>::max();
  return static_cast<Position>(x < -most ? -most : x > most ? most : x);
}

/// i - j + off must stay a Position.
inline void check_offset(const char* name, const Alignment& alignment, const Shape& shape) {
  const Index longest = shape.queries > shape.keys ? shape.queries : shape.keys;
  const Index most = longest_sequence - longest;
  if (!alignment.from_end && (alignment.offset > most || alignment.offset < -most)) {
    fail(name, ": the offset is ", alignment.offset, ", with ", longest, " tokens it may be ", most,
         " at most");
  }
}

inline void check_length(Index queries, Index keys) {
  if (queries > longest_sequence || keys > longest_sequence) {
    fail("a sequence has ", queries, " queries and ", keys, " keys; at most ", longest_sequence,
         " are possible");
  }
}

inline void one_sequence(Shape& shape) {
  shape.longest = shape.keys;
  check_length(shape.queries, shape.keys);
}

HEED_INLINE constexpr bool divides(Index b, Index a) { return b == 1 || a % b == 0; }

/// Fills in d, d_v and the row counts of a shape that knows its heads.
inline void complete_shape(Shape& shape, Index q_rows, Index q_cols, Index k_rows, Index k_cols, Index v_rows,
                           Index v_cols) {
  const Index h = shape.heads, g = shape.key_heads;
  if (h < 1) fail("heads: ", h, " query heads, at least 1 is needed");
  if (g < 1) fail("heads: ", g, " key heads, at least 1 is needed");
  if (!divides(g, h)) fail("heads: ", h, " query heads are not a multiple of ", g, " key heads");
  if (!divides(h, q_cols)) fail("q has ", q_cols, " columns, not a multiple of ", h, " query heads");
  if (!divides(g, k_cols)) fail("k has ", k_cols, " columns, not a multiple of ", g, " key heads");
  if (!divides(g, v_cols)) fail("v has ", v_cols, " columns, not a multiple of ", g, " key heads");
  if (quotient(q_cols, h) != quotient(k_cols, g)) {
    if (h == 1 && g == 1 && k_cols > 0 && q_cols % k_cols == 0)
      fail("k has ", k_cols, " columns, q has ", q_cols,
           "; for grouped heads give heads(query heads, key heads)");
    if (h == 1 && g == 1) fail("k has ", k_cols, " columns, q has ", q_cols);
    fail("k has ", k_cols, " columns, ", k_cols / g, " for each of ", g, " heads; q has ", q_cols, ", ",
         q_cols / h, " for each of ", h);
  }
  if (q_cols == 0)
    fail("q has 0 columns and k has ", k_cols, ": queries and keys need a dimension of at least 1");
  if (v_rows != k_rows) fail("v has ", v_rows, " rows, k has ", k_rows);
  shape.queries = q_rows;
  shape.keys = k_rows;
  shape.d = quotient(q_cols, h);
  shape.d_v = quotient(v_cols, g);
}

/// Sizes that Eigen's types fix fail at compile time. Columns are comparable only where heads are as many
/// (one each).
template <bool one_head, class Q, class K, class V>
constexpr void check_fixed_sizes() {
  constexpr int any = Eigen::Dynamic;
  constexpr int k_rows = K::RowsAtCompileTime, v_rows = V::RowsAtCompileTime;
  constexpr int q_cols = Q::ColsAtCompileTime, k_cols = K::ColsAtCompileTime;
  static_assert(k_rows == any || v_rows == any || k_rows == v_rows,
                "heed: k and v have different numbers of rows");
  static_assert(!one_head || q_cols == any || k_cols == any || q_cols == k_cols,
                "heed: q and k have different numbers of columns");
  static_assert(q_cols != 0 && k_cols != 0, "heed: queries and keys need a dimension of at least 1");
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI

#endif
