// SPDX-License-Identifier: MIT
/// @file
/// Where operands of 16 bits meet the engine: converted in, computed in float, converted out.
#ifndef HEED_ENGINE_CONVERTED_HPP
#define HEED_ENGINE_CONVERTED_HPP

#include <cassert>
#include <cstddef>
#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/scalars.hpp>
#include <heed/core/workspace.hpp>
#include <heed/engine/run_forward.hpp>
#include <heed/lanes/sixteen_bits.hpp>

namespace heed::inline HEED_ABI::detail {

/// The operands of a call in the scalar that the engine computes: as they are for its own scalars.
///
///     Converted<Scalar, Spec> with(spec, workspace, numbers of all operands together);
///     problem.q = with.read(q);
///     problem.out = with.write(out);
///     run(problem);
///     with.finish();
template <class Scalar, class Spec, bool converts = !on_engine<Scalar>>
class Converted {
 public:
  using Number = Scalar;

  HEED_INLINE Converted(const Spec&, Workspace*, Index) {}
  template <class M>
  HEED_INLINE Operand<const Scalar> read(const M& m) {
    return operand_of<const Scalar>(m);
  }
  HEED_INLINE Operand<const Scalar> read(const Operand<const Scalar>& x, Index, Index) { return x; }
  template <class M>
  HEED_INLINE Operand<Scalar> write(M& m) {
    return operand_of<Scalar>(m);
  }
  HEED_INLINE Operand<Scalar> write(const Operand<Scalar>& x, Index, Index) { return x; }
  HEED_INLINE Operand<Scalar> update(const Operand<Scalar>& x, Index, Index) { return x; }
  HEED_INLINE void finish() {}
};

/// Of 16-bit numbers there are copies in float, in the order in which the originals lie in memory, 4 bytes a
/// number in the workspace: whole operands, because policies count rows and heads of the whole problem. What
/// a call writes is rounded once, by finish(), which is not reached when something is thrown. What has the
/// engine's scalar already is taken as it is.
template <class Scalar, class Spec>
class Converted<Scalar, Spec, true> {
 public:
  using Number = Accumulator<Scalar>;

  /// `numbers`: at most so many are copied, of at most 16 matrices.
  Converted(const Spec& spec, Workspace* workspace, Index numbers) : spec_(spec) {
    const std::size_t bytes =
        static_cast<std::size_t>(numbers) * sizeof(Number) + most * Workspace::alignment;
    free_ = reinterpret_cast<Number*>((workspace != nullptr ? *workspace : own_).copies(bytes));
    end_ = free_ + bytes / sizeof(Number);
  }
  Converted(const Converted&) = delete;
  Converted& operator=(const Converted&) = delete;

  /// A matrix that the call reads.
  template <class M>
  Operand<const Number> read(const M& m) {
    return read(operand_of<const typename M::Scalar>(m), m.rows(), m.cols());
  }
  template <class T>
  Operand<const Number> read(const Operand<const T>& x, Index rows, Index columns) {
    if constexpr (std::is_same_v<T, Number>) {
      return x;
    } else {
      const Operand<Number> copy = place(x, rows, columns);
      widen(x, copy, rows, columns);
      return {copy.data, copy.row, copy.column};
    }
  }
  /// One that it writes,
  template <class M>
  Operand<Number> write(M& m) {
    return write(operand_of<typename M::Scalar>(m), m.rows(), m.cols());
  }
  template <class T>
  Operand<Number> write(const Operand<T>& x, Index rows, Index columns) {
    if constexpr (std::is_same_v<T, Number>) {
      return x;
    } else {
      const Operand<Number> copy = place(x, rows, columns);
      written_[count_++] = {x, copy, rows, columns};
      return copy;
    }
  }
  /// and one that it adds to.
  template <class T>
  Operand<Number> update(const Operand<T>& x, Index rows, Index columns) {
    const Operand<Number> copy = write(x, rows, columns);
    if constexpr (!std::is_same_v<T, Number>)
      widen(Operand<const T>{x.data, x.row, x.column}, copy, rows, columns);
    return copy;
  }
  /// Memory for a matrix of the call's own, rows side by side.
  Operand<Number> own(Index rows, Index columns) { return {take(rows, columns), columns, 1}; }

  /// Rounds what was written.
  void finish() {
    for (int n = 0; n < count_; ++n) {
      const Written& w = written_[n];
      for_each_run(w.to, w.copy, w.rows, w.columns,
                   [](Scalar* to, Index apart, const Number* from, Index length, bool vectors) {
                     if (apart == 1) return round_run(from, to, length, vectors);
                     for (Index t = 0; t < length; ++t) to[t * apart] = static_cast<Scalar>(from[t]);
                   });
    }
  }

 private:
  static constexpr int most = 16;

  struct Written {
    Operand<Scalar> to;
    Operand<Number> copy;
    Index rows = 0, columns = 0;
  };

  Number* take(Index rows, Index columns) {
    constexpr Index line = static_cast<Index>(Workspace::alignment / sizeof(Number));
    Number* const at = free_;
    free_ += (rows * columns + line - 1) / line * line;
    assert(free_ <= end_ && "more numbers than were announced");
    return at;
  }
  template <class T>
  static bool by_row(const Operand<T>& x, Index rows, Index columns) {
    if (rows == 1 || columns == 1) return rows == 1;
    const Index row = x.row < 0 ? -x.row : x.row, column = x.column < 0 ? -x.column : x.column;
    return row >= column;
  }
  template <class T>
  Operand<Number> place(const Operand<T>& x, Index rows, Index columns) {
    if (rows == 0 || columns == 0) return {free_, 0, 0};
    Number* const at = take(rows, columns);
    return by_row(x, rows, columns) ? Operand<Number>{at, columns, 1} : Operand<Number>{at, 1, rows};
  }
  template <class T>
  void widen(const Operand<const T>& x, const Operand<Number>& copy, Index rows, Index columns) const {
    for_each_run(x, copy, rows, columns,
                 [](const T* from, Index apart, Number* to, Index length, bool vectors) {
                   if constexpr (std::is_same_v<T, Scalar>)
                     if (apart == 1) return widen_run(from, to, length, vectors);
                   for (Index t = 0; t < length; ++t) to[t] = static_cast<Number>(from[t * apart]);
                 });
  }

  /// f(first of the original, how far apart its numbers lie, first of the copy, numbers, may AVX2 be used)
  /// for every row, or column, whichever lies together; a run for all where they follow each other.
  template <class T, class F>
  void for_each_run(const Operand<T>& x, const Operand<Number>& copy, Index rows, Index columns,
                    const F& f) const {
    if (rows == 0 || columns == 0) return;
    const bool rows_run = by_row(x, rows, columns), vectors = instruction_set() != InstructionSet::generic;
    Index runs = rows_run ? rows : columns, length = rows_run ? columns : rows;
    const Index next = rows_run ? x.row : x.column, apart = rows_run ? x.column : x.row;
    // Tasks of about so many numbers, which take longer than to hand them out.
    constexpr Index enough = 32768;
    if (apart == 1 && next == length) length *= runs, runs = 1;
    const Index pieces = runs > 1 ? 1 : (length + enough - 1) / enough;
    const Index piece = ((length + pieces - 1) / pieces + 15) / 16 * 16;
    const Index together = length < enough ? (enough + length - 1) / length : 1;
    const Index tasks = (runs * pieces + together - 1) / together;
    const auto task = [&](Index t, const void*) {
      for (Index n = t * together; n < (t + 1) * together && n < runs * pieces; ++n) {
        const Index run = n / pieces, begin = n % pieces * piece;
        const Index some = length - begin < piece ? length - begin : piece;
        if (some > 0)
          f(x.data + run * next + begin * apart, apart, copy.data + run * length + begin, some, vectors);
      }
    };
    const double work = static_cast<double>(rows) * static_cast<double>(columns);
    run_workers<Number>(tasks, work, 0, spec_, nullptr, task);
  }

  const Spec& spec_;
  Workspace own_;
  Number *free_ = nullptr, *end_ = nullptr;
  Written written_[most] = {};
  int count_ = 0;
};

}  // namespace heed::inline HEED_ABI::detail

#endif
