// SPDX-License-Identifier: MIT
/// @file
/// Matrices as the engine sees them: a pointer and two strides. Any directly accessible Eigen expression
/// becomes one in place; any other is evaluated once.
#ifndef HEED_CORE_OPERAND_HPP
#define HEED_CORE_OPERAND_HPP

#include <cstdint>
#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>

namespace heed::inline HEED_ABI::detail {

/// Element (r, c) is data[r · row + c · column].
template <class T>
struct Operand {
  T* data = nullptr;
  Index row = 0;
  Index column = 0;

  HEED_INLINE Operand at(Index r, Index c) const { return {data + r * row + c * column, row, column}; }
};

template <class T>
void set_to_zero(const Operand<T>& x, Index rows, Index columns) {
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) *x.at(r, c).data = T(0);
}

template <class D>
inline constexpr bool directly_accessible = (int(D::Flags) & int(Eigen::DirectAccessBit)) != 0;

/// An empty matrix may have no memory at all: its strides are 0, so that no address is computed from it.
template <class T, class D>
HEED_INLINE Operand<T> operand_of(D& m) {
  if (m.size() == 0) return {m.data(), 0, 0};
  if constexpr (D::IsRowMajor)
    return {m.data(), m.outerStride(), m.innerStride()};
  else
    return {m.data(), m.innerStride(), m.outerStride()};
}

/// m.block(row, column, rows, columns), also of an empty matrix: Eigen would add an offset to its null
/// pointer.
template <class M>
auto block_at(M&& m, Index row, Index column, Index rows, Index columns) {
  const bool empty = m.size() == 0;
  return m.block(empty ? 0 : row, empty ? 0 : column, rows, columns);
}
template <class M>
auto columns_at(M&& m, Index column, Index columns) {
  return block_at(m, 0, column, m.rows(), columns);
}
template <class M>
auto rows_at(M&& m, Index row, Index rows) {
  return block_at(m, row, 0, rows, m.cols());
}

/// The expression itself where its memory can be read in place, otherwise its value.
template <class D>
using InPlace = std::conditional_t<directly_accessible<D>, const D&, const typename D::PlainObject>;

/// The elements of an operand in memory order: `count` runs, `outer` apart, of `inner_count` elements,
/// `inner` apart, all positive.
template <class T>
struct Lattice {
  const T* begin;
  Index outer, count, inner, inner_count;

  Lattice(const T* data, Index row, Index column, Index rows, Index columns) : begin(data) {
    if (row < 0) begin += (rows - 1) * row, row = -row;
    if (column < 0) begin += (columns - 1) * column, column = -column;
    const bool by_row = row >= column;
    outer = by_row ? row : column, count = by_row ? rows : columns;
    inner = by_row ? column : row, inner_count = by_row ? columns : rows;
  }
  const T* last() const { return begin + (count - 1) * outer + (inner_count - 1) * inner; }
  bool contains(Index offset) const {
    if (offset < 0) return false;
    const Index o = outer == 0 ? 0 : offset / outer < count ? offset / outer : count - 1;
    const Index rest = offset - o * outer;
    return inner == 0 ? rest == 0 : rest % inner == 0 && rest / inner < inner_count;
  }
};

/// Do the elements of an output and of an input share memory? Interleaved blocks of one matrix do not, and
/// are told apart at once; only operands that cross with different strides are looked at element by element.
template <class T>
bool overlap(const Operand<T>& out, Index rows, Index columns, const Operand<const T>& in, Index in_rows,
             Index in_columns) {
  if (rows == 0 || columns == 0 || in_rows == 0 || in_columns == 0) return false;
  const Lattice<T> a(out.data, out.row, out.column, rows, columns),
      b(in.data, in.row, in.column, in_rows, in_columns);
  const auto address = [](const T* p) { return reinterpret_cast<std::uintptr_t>(p); };
  if (address(a.last()) < address(b.begin) || address(a.begin) > address(b.last())) return false;
  const Index offset = a.begin - b.begin;
  if (a.outer == b.outer && a.inner == b.inner && a.inner > 0 && a.inner * a.inner_count <= a.outer &&
      b.inner * b.inner_count <= b.outer) {
    // Element (o, r) of the output lies at (o + runs, r + rest) of the input's grid, or one run further where
    // that passes the end.
    Index runs = offset / a.outer;
    Index rest = offset - runs * a.outer;
    if (rest < 0) rest += a.outer, runs -= 1;
    for (int step = 0; step < 2; ++step, runs += 1, rest -= a.outer)
      if (rest % a.inner == 0 && rest < b.inner * b.inner_count && rest + a.inner * a.inner_count > 0 &&
          runs < b.count && runs + a.count > 0)
        return true;
    return false;
  }
  for (Index o = 0; o < a.count; ++o)
    for (Index i = 0; i < a.inner_count; ++i)
      if (b.contains(offset + o * a.outer + i * a.inner)) return true;
  return false;
}

}  // namespace heed::inline HEED_ABI::detail

#endif
