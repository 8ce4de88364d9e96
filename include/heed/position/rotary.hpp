// SPDX-License-Identifier: MIT
/// @file
/// rotary(): queries and keys are turned by angles that grow with their position, so that their products know
/// the distance.
#ifndef HEED_POSITION_ROTARY_HPP
#define HEED_POSITION_ROTARY_HPP

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <type_traits>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/quotient.hpp>
#include <heed/core/scalars.hpp>
#include <heed/core/stored.hpp>
#include <heed/gradients.hpp>
#include <heed/position/row_positions.hpp>

namespace heed::inline HEED_ABI {

/// What can be chosen about rotary positions. Queries and keys must agree on all but `heads` and `first`.
struct Rotary {
  Index heads = 1;  ///< heads side by side in the columns
  /// Which columns of a head turn together: interleaved in the paper and GPT-J, halves in GPT-NeoX and Llama's
  /// published weights.
  ColumnPairs pairs = ColumnPairs::interleaved;
  Index first = 0;      ///< position of the first row: the length of the cache, for queries behind one
  Index width = -1;     ///< w, the columns of each head that turn, its first ones; -1: all
  double base = 10000;  ///< pair p turns by base^{-2p/w} radians a position
};

namespace detail {

/// w, or what is wrong.
inline Index rotary_width(const Rotary& options, Index columns) {
  check_base("rotary", options.base);
  if (options.heads < 1) fail("rotary: ", options.heads, " heads, at least 1 is needed");
  if (columns % options.heads != 0)
    fail("rotary: x has ", columns, " columns, not a multiple of ", options.heads, " heads");
  const Index d = columns / options.heads;
  if (options.width == -1) {
    if (d % 2 != 0) fail("rotary: a head has ", d, " columns, they turn in pairs: give an even width");
    return d;
  }
  if (options.width < 0 || options.width > d || options.width % 2 != 0)
    fail("rotary: the width is ", options.width, ", it must be even and at most the ", d,
         " columns of a head");
  return options.width;
}

/// Cosines and sines of the angles position · frequency. Position 16 m + r is the turn by 16 m after the turn
/// by r: so few are computed from scratch, and what a position gets depends on nothing but the position.
class Angles {
 public:
  static constexpr Index together = 16;

  Angles(Index width, double base)
      : frequencies_(angular_frequencies(width, base)),
        steps_(frequencies_.size() * static_cast<std::size_t>(together)),
        start_(frequencies_.size()) {}

  Index pairs() const { return static_cast<Index>(frequencies_.size()); }

  /// To be called before positions [start, start + 16) are asked for, `start` a multiple of 16.
  void start_at(Index start) {
    if (started_ && start == at_) return;
    started_ = true;
    at_ = start;
    for (std::size_t p = 0; p < start_.size(); ++p) start_[p] = turn(static_cast<double>(start), p);
  }

  /// Calls f(p, cosine, sine) for every pair at position start + r.
  template <class F>
  void each(Index r, const F& f) {
    const auto pairs = static_cast<std::size_t>(this->pairs());
    Turn* const step = steps_.data() + static_cast<std::size_t>(r) * pairs;
    if (((known_ >> r) & 1u) == 0)
      for (std::size_t p = 0; p < pairs; ++p) step[p] = turn(static_cast<double>(r), p);
    known_ |= 1u << r;
    for (std::size_t p = 0; p < pairs; ++p) {
      const Turn a = start_[p], b = step[p];
      f(static_cast<Index>(p), a.cosine * b.cosine - a.sine * b.sine, a.sine * b.cosine + a.cosine * b.sine);
    }
  }

 private:
  struct Turn {
    double cosine = 1, sine = 0;
  };
  Turn turn(double position, std::size_t p) const {
    return {std::cos(position * frequencies_[p]), std::sin(position * frequencies_[p])};
  }

  std::vector<double> frequencies_;
  std::vector<Turn> steps_, start_;
  Index at_ = 0;  // start_ holds those by this, once started
  bool started_ = false;
  std::uint32_t known_ = 0;  // bit r: steps_ holds those by r
};

/// The same from tables of the caller's: row p has the cosines and sines of position p.
template <class C, class S>
class AngleTables {
 public:
  AngleTables(const C& cosines, const S& sines) : cosines_(cosines), sines_(sines) {}

  Index pairs() const { return cosines_.cols(); }
  void start_at(Index start) { at_ = start; }
  template <class F>
  void each(Index r, const F& f) const {
    for (Index p = 0; p < pairs(); ++p) f(p, cosines_(at_ + r, p), sines_(at_ + r, p));
  }

 private:
  InPlace<C> cosines_;
  InPlace<S> sines_;
  Index at_ = 0;
};

/// Numbers that are turned together.
inline constexpr Index turned_together = 8;

/// (a, b) <- (a c - b s, a s + b c), each an array of n numbers, n a multiple of 8.
template <class T>
HEED_NOINLINE void turn_arrays_of_eights(T* a, T* b, const T* c, const T* s, Index n) {
  using Eight = Eigen::Array<T, turned_together, 1>;
  for (Index i = 0; i < n; i += turned_together) {
    Eigen::Map<Eight> x(a + i), y(b + i);
    const Eigen::Map<const Eight> cosine(c + i), sine(s + i);
    const Eight before = x;
    x = before * cosine - y * sine;
    y = before * sine + y * cosine;
  }
}
/// The same where a and b take turns in memory, as c and s do: complex numbers. An array of these is one of
/// real and imaginary parts in turn.
template <class T>
HEED_NOINLINE void turn_complex_of_eights(T* x, const T* turns, Index n) {
  using Eight = Eigen::Array<std::complex<T>, turned_together, 1>;
  for (Index i = 0; i < n; i += turned_together) {
    Eigen::Map<Eight> y(reinterpret_cast<std::complex<T>*>(x) + i);
    y *= Eigen::Map<const Eight>(reinterpret_cast<const std::complex<T>*>(turns) + i);
  }
}

/// Any n. What is left over goes through the same loop, so that a number is turned into the same bits
/// wherever it stands.
template <class T>
void turn_arrays(T* a, T* b, const T* c, const T* s, Index n) {
  const Index whole = n / turned_together * turned_together, left = n - whole;
  turn_arrays_of_eights(a, b, c, s, whole);
  if (left == 0) return;
  T of[4][turned_together] = {};
  T* const at[] = {a + whole, b + whole};
  std::copy_n(at[0], left, of[0]), std::copy_n(at[1], left, of[1]);
  std::copy_n(c + whole, left, of[2]), std::copy_n(s + whole, left, of[3]);
  turn_arrays_of_eights(of[0], of[1], of[2], of[3], turned_together);
  std::copy_n(of[0], left, at[0]), std::copy_n(of[1], left, at[1]);
}
template <class T>
void turn_complex(T* x, const T* turns, Index n) {
  const Index whole = n / turned_together * turned_together, left = n - whole;
  turn_complex_of_eights(x, turns, whole);
  if (left == 0) return;
  T of[2][2 * turned_together] = {};
  std::copy_n(x + 2 * whole, 2 * left, of[0]), std::copy_n(turns + 2 * whole, 2 * left, of[1]);
  turn_complex_of_eights(of[0], of[1], turned_together);
  std::copy_n(of[0], 2 * left, x + 2 * whole);
}

/// Turns every head of some rows by the angles of their positions, or back.
template <class M, class Source>
void rotate_rows(M& x, const Rotary& options, Source& angles, bool back,
                 const std::vector<PositionRun>& runs) {
  using Scalar = typename M::Scalar;
  using Wide = Accumulator<Scalar>;
  constexpr Index together = Angles::together;
  constexpr bool in_memory = on_engine<Scalar> && directly_accessible<M>;
  const bool interleaved = options.pairs == ColumnPairs::interleaved;
  const Index pairs = angles.pairs(), d = x.cols() / options.heads;
  if (pairs == 0) return;
  const Index step = interleaved ? 2 : 1, apart = interleaved ? 1 : pairs;
  // Cosines and sines as the numbers lie that they turn: rows × pairs, a pair's two side by side where the
  // columns are, or pairs × rows.
  const bool side_by_side = M::IsRowMajor && interleaved;
  const Index next = side_by_side ? 2 : 1, to_sines = side_by_side ? 1 : pairs * together;
  std::vector<Wide> turns(static_cast<std::size_t>(2 * pairs * together), Wide(0));
  const auto at = [&](Index row, Index p) {
    return turns.data() + (M::IsRowMajor ? row * pairs + p : p * together + row) * next;
  };
  for (const PositionRun& run : runs) {
    for (Index begin = run.begin; begin < run.end;) {
      const Index position = run.first + (begin - run.begin);
      const Index start = floor_quotient(position, together) * together;
      const Index left = together - (position - start);
      const Index count = run.end - begin < left ? run.end - begin : left;
      angles.start_at(start);
      for (Index r = 0; r < count; ++r)
        angles.each(position - start + r, [&](Index p, const auto& cosine, const auto& sine) {
          Wide* const turn = at(r, p);
          turn[0] = static_cast<Wide>(cosine);
          turn[to_sines] = static_cast<Wide>(back ? -sine : sine);
        });
      // Along memory: row by row where rows lie in one piece, column by column elsewhere.
      const Index rows_apart = M::IsRowMajor ? 1 : count;
      for (Index r = 0; r < count; r += rows_apart)
        for (Index head = 0; head < options.heads; ++head) {
          const auto number = [&](Index row, Index column) -> Scalar& {
            return x.coeffRef(begin + row, head * d + column);
          };
          if constexpr (in_memory) {
            if (x.innerStride() == 1) {
              if (side_by_side)
                turn_complex(&number(r, 0), at(r, 0), pairs);
              else if (M::IsRowMajor)
                turn_arrays(&number(r, 0), &number(r, pairs), at(r, 0), at(r, 0) + to_sines, pairs);
              else
                for (Index p = 0; p < pairs; ++p)
                  turn_arrays(&number(r, p * step), &number(r, p * step + apart), at(r, p),
                              at(r, p) + to_sines, count);
              continue;
            }
          }
          for (Index row = r; row < r + rows_apart; ++row)
            for (Index p = 0; p < pairs; ++p) {
              Scalar& first = number(row, p * step);
              Scalar& second = number(row, p * step + apart);
              const Wide a = static_cast<Wide>(first), b = static_cast<Wide>(second);
              const Wide c = *at(row, p), s = at(row, p)[to_sines];
              first = static_cast<Scalar>(Wide(a * c - b * s));
              second = static_cast<Scalar>(Wide(a * s + b * c));
            }
        }
      begin += count;
    }
  }
}

template <class X, class MakeRuns>
void rotate(X& x, const Rotary& options, bool back, const MakeRuns& runs) {
  check_writable<X>();
  auto& to = const_cast<std::remove_cv_t<X>&>(x);
  const Index width = rotary_width(options, to.cols());
  const std::vector<PositionRun> where = runs(to.rows());
  constexpr Index most = Index{1} << 53;
  for (const PositionRun& run : where)
    if (run.first > most || run.first < -most)
      fail("rotary: the first position is ", run.first, ", a double counts to ", most, " either way");
  Angles angles(width, options.base);
  rotate_rows(to, options, angles, back, where);
}

/// By tables. What does not fit is refused before anything is written.
template <class X, class C, class S, class MakeRuns>
void rotate_by_tables(X& x, const Eigen::DenseBase<C>& cosines, const Eigen::DenseBase<S>& sines,
                      const Rotary& options, bool back, const MakeRuns& runs) {
  check_writable<X>();
  auto& to = const_cast<std::remove_cv_t<X>&>(x);
  const Index width = rotary_width(options, to.cols());
  if (cosines.rows() != sines.rows() || cosines.cols() != sines.cols())
    fail("rotary: the table of cosines is ", cosines.rows(), " x ", cosines.cols(), ", that of sines ",
         sines.rows(), " x ", sines.cols());
  if (cosines.cols() != width / 2)
    fail("rotary: the tables have ", cosines.cols(), " columns, there are ", width / 2, " pairs in the ",
         width, " columns of a head that turn");
  const std::vector<PositionRun> where = runs(to.rows());
  for (const PositionRun& run : where)
    if (run.begin < run.end && (run.first < 0 || run.first > cosines.rows() - (run.end - run.begin)))
      fail("rotary: positions ", run.first, " to ", run.first + (run.end - run.begin) - 1,
           " are needed, the tables have ", cosines.rows(), " rows");
  AngleTables<C, S> angles(cosines.derived(), sines.derived());
  rotate_rows(to, options, angles, back, where);
}

/// The runs of one sequence, of many, and of many with a first position each.
inline auto rotary_runs(const Rotary& options) {
  return [first = options.first](Index rows) { return std::vector<PositionRun>{{0, rows, first}}; };
}
template <class R>
auto rotary_runs(const Rotary& options, const R& offsets) {
  return [list = copy_list<Index>(offsets), first = options.first](Index rows) {
    return position_runs("rotary", rows, list, first);
  };
}
template <class R, class S>
auto rotary_runs(const Rotary&, const R& offsets, const S& firsts) {
  return [list = copy_list<Index>(offsets), begins = copy_list<Index>(firsts)](Index rows) {
    return position_runs("rotary", rows, list, begins);
  };
}

}  // namespace detail

/// Turns every pair of columns of every head in place: with θ = (first + t) · base^{-2p/w} for row t and pair
/// p,
///
///     (a, b) <- (a cos θ - b sin θ, a sin θ + b cos θ)
///
/// (2104.09864). Given to queries and keys before attention(), their products depend on the difference of
/// their positions alone. Values stay as they are.
///
///     heed::rotary(q, {.heads = 8, .first = cached});   // behind a cache of `cached` keys
///     heed::rotary(k, {.heads = 2, .first = cached});
///
/// @param x N × (H·d): a writable matrix, block or map, either storage order, any scalar. Columns of a head
///   beyond the width are not touched
/// @throws std::invalid_argument naming what does not fit, before anything is written
///
/// Angles, cosines and sines are taken in double and rounded once to what the turn is computed in (float for
/// half): the angle is within 2^-51 · max(16, abs(position)) of exact, cosine and sine within 2^-51 of the
/// angle's. What a row gets depends on its position alone, not on the rows beside it. Cost: a sine and a
/// cosine a pair for every 16 rows and for up to 16 rows more, shared by all heads, and 4 multiplications a
/// pair and row. Allocates 34 w numbers.
template <class X>
void rotary(X&& x, const Rotary& options = {}) {
  detail::rotate(x, options, false, detail::rotary_runs(options));
}
/// A ragged batch: sequence s is rows [offsets[s], offsets[s + 1]) and starts at position `first` again. Any
/// contiguous list of integers, as sequences() takes it.
template <class X, detail::integer_list R>
void rotary(X&& x, const Rotary& options, const R& offsets) {
  detail::rotate(x, options, false, detail::rotary_runs(options, offsets));
}
/// The same where every sequence starts at a position of its own, firsts[s], in place of options.first: the
/// lengths of the caches.
template <class X, detail::integer_list R, detail::integer_list S>
void rotary(X&& x, const Rotary& options, const R& offsets, const S& firsts) {
  detail::rotate(x, options, false, detail::rotary_runs(options, offsets, firsts));
}

/// Turns back, in place: the inverse of rotary() with the same arguments and, rotations being orthogonal, its
/// transpose. Given the gradient by what rotary() has made, it leaves the gradient by what rotary() was
/// given.
template <class X>
void rotary_gradient(X&& dx, const Rotary& options = {}) {
  detail::rotate(dx, options, true, detail::rotary_runs(options));
}
template <class X, detail::integer_list R>
void rotary_gradient(X&& dx, const Rotary& options, const R& offsets) {
  detail::rotate(dx, options, true, detail::rotary_runs(options, offsets));
}
template <class X, detail::integer_list R, detail::integer_list S>
void rotary_gradient(X&& dx, const Rotary& options, const R& offsets, const S& firsts) {
  detail::rotate(dx, options, true, detail::rotary_runs(options, offsets, firsts));
}

/// The same with cosines and sines of the caller's (scaled, stretched or learnt angles, tables that belong
/// to published weights): a row at position t, counted as above, and pair p take cosines(t, p) and sines(t,
/// p) for cos θ and sin θ. `options.base` does not matter.
///
///     heed::rotary(q, cosines, sines, {.heads = 8, .pairs = heed::ColumnPairs::halves});
///
/// @param cosines, sines positions × w/2: a column for each pair, not for each column of a head. Any dense
///   expression of numbers
/// @throws std::invalid_argument, before anything is written, also for tables of another number of columns,
///   or without a row for some position
template <class X, class C, class S>
void rotary(X&& x, const Eigen::DenseBase<C>& cosines, const Eigen::DenseBase<S>& sines,
            const Rotary& options = {}) {
  detail::rotate_by_tables(x, cosines, sines, options, false, detail::rotary_runs(options));
}
template <class X, class C, class S, detail::integer_list R>
void rotary(X&& x, const Eigen::DenseBase<C>& cosines, const Eigen::DenseBase<S>& sines,
            const Rotary& options, const R& offsets) {
  detail::rotate_by_tables(x, cosines, sines, options, false, detail::rotary_runs(options, offsets));
}
template <class X, class C, class S, detail::integer_list R, detail::integer_list F>
void rotary(X&& x, const Eigen::DenseBase<C>& cosines, const Eigen::DenseBase<S>& sines,
            const Rotary& options, const R& offsets, const F& firsts) {
  detail::rotate_by_tables(x, cosines, sines, options, false, detail::rotary_runs(options, offsets, firsts));
}
/// Its transpose, which takes the gradient by what came out to the gradient by what went in, whatever the
/// tables hold. (It turns back only where cosines² + sines² = 1.)
template <class X, class C, class S>
void rotary_gradient(X&& dx, const Eigen::DenseBase<C>& cosines, const Eigen::DenseBase<S>& sines,
                     const Rotary& options = {}) {
  detail::rotate_by_tables(dx, cosines, sines, options, true, detail::rotary_runs(options));
}
template <class X, class C, class S, detail::integer_list R>
void rotary_gradient(X&& dx, const Eigen::DenseBase<C>& cosines, const Eigen::DenseBase<S>& sines,
                     const Rotary& options, const R& offsets) {
  detail::rotate_by_tables(dx, cosines, sines, options, true, detail::rotary_runs(options, offsets));
}
template <class X, class C, class S, detail::integer_list R, detail::integer_list F>
void rotary_gradient(X&& dx, const Eigen::DenseBase<C>& cosines, const Eigen::DenseBase<S>& sines,
                     const Rotary& options, const R& offsets, const F& firsts) {
  detail::rotate_by_tables(dx, cosines, sines, options, true, detail::rotary_runs(options, offsets, firsts));
}

}  // namespace heed::inline HEED_ABI

#endif
