// SPDX-License-Identifier: MIT
/// @file
/// Matrices as the engine sees them: a pointer and two strides. Any directly accessible Eigen expression becomes one in
/// place; any other is evaluated once.
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

template <class D>
inline constexpr bool directly_accessible = (int(D::Flags) & int(Eigen::DirectAccessBit)) != 0;

template <class T, class D>
HEED_INLINE Operand<T> operand_of(D& m) {
  if constexpr (D::IsRowMajor)
    return {m.data(), m.outerStride(), m.innerStride()};
  else
    return {m.data(), m.innerStride(), m.outerStride()};
}

/// The expression itself where its memory can be read in place, otherwise its value.
template <class D>
using InPlace = std::conditional_t<directly_accessible<D>, const D&, const typename D::PlainObject>;

/// Do the elements of an output and of an input share memory? Interleaved blocks of one matrix do not. Only operands whose address
/// ranges cross are looked at element by element.
template <class T>
bool overlap(const Operand<T>& out, Index rows, Index columns, const Operand<const T>& in, Index in_rows, Index in_columns) {
  if (rows == 0 || columns == 0 || in_rows == 0 || in_columns == 0) return false;
  const auto address = [](const T* p) { return reinterpret_cast<std::uintptr_t>(p); };
  const Index down = (rows - 1) * out.row, across = (columns - 1) * out.column;
  const Index in_down = (in_rows - 1) * in.row, in_across = (in_columns - 1) * in.column;
  const auto least = [](Index a, Index b) { return (a < 0 ? a : 0) + (b < 0 ? b : 0); };
  const auto most = [](Index a, Index b) { return (a > 0 ? a : 0) + (b > 0 ? b : 0); };
  if (address(out.data + most(down, across)) < address(in.data + least(in_down, in_across)) ||
      address(out.data + least(down, across)) > address(in.data + most(in_down, in_across)))
    return false;
  // Is p an element of `in`? With the greater stride first, its quotient is one coordinate and the rest the other.
  const bool row_outer = (in.row < 0 ? -in.row : in.row) >= (in.column < 0 ? -in.column : in.column);
  const Index outer = row_outer ? in.row : in.column, inner = row_outer ? in.column : in.row;
  const Index outer_count = row_outer ? in_rows : in_columns, inner_count = row_outer ? in_columns : in_rows;
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) {
      const Index offset = &out.data[r * out.row + c * out.column] - in.data;
      Index o = outer == 0 ? 0 : offset / outer;
      Index rest = offset - o * outer;
      for (int step = 0; step < 2; ++step) {  // negative strides leave the rest on either side
        const bool inside = o >= 0 && o < outer_count &&
                            (inner == 0 ? rest == 0 : rest % inner == 0 && rest / inner >= 0 && rest / inner < inner_count);
        if (inside) return true;
        o -= 1;
        rest += outer;
      }
    }
  return false;
}

}  // namespace heed::inline HEED_ABI::detail

#endif
