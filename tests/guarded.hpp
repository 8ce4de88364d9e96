// SPDX-License-Identifier: MIT
// Matrices in awkward memory: every storage order and stride that Eigen can express, between canaries.
#ifndef HEED_TESTS_GUARDED_HPP
#define HEED_TESTS_GUARDED_HPP

#include <bit>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <Eigen/Core>

namespace heed_test {

using Index = Eigen::Index;
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
using RowMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Strides = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
template <class T>
using View = Eigen::Map<Matrix<T>, Eigen::Unaligned, Strides>;
template <class T>
using ConstView = Eigen::Map<const Matrix<T>, Eigen::Unaligned, Strides>;

enum class Layout {
  rows,            // row-major, and not one element more than needed: AddressSanitizer sees what lies beside
  columns,         // column-major, likewise
  padded_rows,     // a block of a larger row-major matrix at a misaligned base
  padded_columns,  // a block of a larger column-major matrix at a misaligned base
  spread,          // every second column of every second row
  wide_rows,       // rows a power of two apart
  upside_down,     // rows from the last to the first
  right_to_left,   // columns from the last to the first
};
inline constexpr int layouts = 8;

/// A quiet NaN that arithmetic is unlikely to make.
template <class T>
T canary() {
  if constexpr (sizeof(T) == 4)
    return std::bit_cast<T>(std::uint32_t{0x7fc5a5a5u});
  else
    return std::bit_cast<T>(std::uint64_t{0x7ff85a5a5a5a5a5au});
}

/// A rows x columns matrix whose surroundings and gaps hold canaries: to read one makes a NaN, to write one
/// is noticed.
template <class T>
class Guarded {
 public:
  Guarded(Index rows, Index columns, Layout layout) : rows_(rows), columns_(columns) {
    Index before = 37, after = 41;
    column_ = 1;
    row_ = columns;
    switch (layout) {
      case Layout::rows:
        before = after = 0;
        break;
      case Layout::columns:
        before = after = 0;
        row_ = 1;
        column_ = rows;
        break;
      case Layout::padded_rows:
        row_ = columns + 5;
        break;
      case Layout::padded_columns:
        row_ = 1;
        column_ = rows + 3;
        break;
      case Layout::spread:
        column_ = 2;
        row_ = 4 * columns + 1;
        break;
      case Layout::wide_rows:
        row_ = 128;
        while (row_ < columns) row_ *= 2;
        break;
      case Layout::upside_down:
        row_ = -(columns + 1);
        break;
      case Layout::right_to_left:
        column_ = -1;
        row_ = columns + 2;
        break;
    }
    const Index r = rows > 0 ? (rows - 1) * row_ : 0, c = columns > 0 ? (columns - 1) * column_ : 0;
    const Index low = (r < 0 ? r : 0) + (c < 0 ? c : 0), high = (r > 0 ? r : 0) + (c > 0 ? c : 0);
    first_ = before - low;
    const bool empty = rows == 0 || columns == 0;
    memory_.assign(static_cast<std::size_t>(before + (empty ? 0 : high - low + 1) + after), canary<T>());
    owned_.assign(memory_.size(), false);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j)
        owned_[static_cast<std::size_t>(first_ + i * row_ + j * column_)] = true;
  }
  template <class D>
  Guarded(const Eigen::MatrixBase<D>& values, Layout layout) : Guarded(values.rows(), values.cols(), layout) {
    view() = values;
  }

  View<T> view() { return View<T>(memory_.data() + first_, rows_, columns_, Strides(column_, row_)); }
  ConstView<T> view() const {
    return ConstView<T>(memory_.data() + first_, rows_, columns_, Strides(column_, row_));
  }

  /// Does everything outside of the matrix still hold its canary?
  bool intact() const {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    for (std::size_t i = 0; i < memory_.size(); ++i)
      if (!owned_[i] && std::bit_cast<Bits>(memory_[i]) != std::bit_cast<Bits>(canary<T>())) return false;
    return true;
  }

 private:
  std::vector<T> memory_;
  std::vector<bool> owned_;
  Index rows_, columns_, row_ = 0, column_ = 0, first_ = 0;
};

}  // namespace heed_test

#endif
