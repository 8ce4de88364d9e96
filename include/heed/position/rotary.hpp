// SPDX-License-Identifier: MIT
/// @file
/// rotary(): queries and keys are turned by angles that grow with their position, so that their products know
/// the distance.
#ifndef HEED_POSITION_ROTARY_HPP
#define HEED_POSITION_ROTARY_HPP

#include <cmath>
#include <type_traits>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/scalars.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/stored.hpp>
#include <heed/gradients.hpp>
#include <heed/position/row_positions.hpp>

namespace heed::inline HEED_ABI {

/// Which columns of a head turn together.
enum class RotaryPairs {
  interleaved,  ///< (0, 1), (2, 3), ...: the paper, GPT-J
  halves,       ///< (0, w/2), (1, w/2 + 1), ...: GPT-NeoX, Llama's published weights
};

/// What can be chosen about rotary positions. Queries and keys must agree on all but `heads` and `first`.
struct Rotary {
  Index heads = 1;  ///< heads side by side in the columns
  RotaryPairs pairs = RotaryPairs::interleaved;
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

/// Cosines and sines of some rows, each an array of pairs × rows or rows × pairs, then the turns. `sign` is
/// -1 to turn back.
template <class M>
void rotate_rows(M& x, const Rotary& options, Index width, double sign,
                 const std::vector<PositionRun>& runs) {
  using Scalar = typename M::Scalar;
  using Wide = Accumulator<Scalar>;
  // Few enough for the angles to stay in cache while every head of the rows goes by.
  constexpr Index most_rows = 16;
  const Index pairs = width / 2, d = x.cols() / options.heads;
  const Index step = options.pairs == RotaryPairs::interleaved ? 2 : 1;
  const Index apart = options.pairs == RotaryPairs::interleaved ? 1 : pairs;
  const std::vector<double> frequencies = angular_frequencies(width, options.base);
  const auto room = static_cast<std::size_t>(pairs * most_rows);
  std::vector<Wide> cosines(room, Wide(0)), sines(room, Wide(0));
  const auto at = [pairs](Index row, Index p) {
    return static_cast<std::size_t>(M::IsRowMajor ? row * pairs + p : p * most_rows + row);
  };
  for (const PositionRun& run : runs) {
    for (Index begin = run.begin; begin < run.end; begin += most_rows) {
      const Index count = run.end - begin < most_rows ? run.end - begin : most_rows;
      for (Index r = 0; r < count; ++r) {
        const auto position = static_cast<double>(run.first + (begin - run.begin) + r);
        for (Index p = 0; p < pairs; ++p) {
          const double angle = position * frequencies[static_cast<std::size_t>(p)];
          cosines[at(r, p)] = static_cast<Wide>(std::cos(angle));
          sines[at(r, p)] = static_cast<Wide>(sign * std::sin(angle));
        }
      }
      for (Index head = 0; head < options.heads; ++head) {
        const auto turn = [&](Index r, Index p) {
          Scalar& first = x.coeffRef(begin + r, head * d + p * step);
          Scalar& second = x.coeffRef(begin + r, head * d + p * step + apart);
          const Wide a = static_cast<Wide>(first), b = static_cast<Wide>(second);
          const Wide& c = cosines[at(r, p)];
          const Wide& s = sines[at(r, p)];
          first = static_cast<Scalar>(Wide(a * c - b * s));
          second = static_cast<Scalar>(Wide(a * s + b * c));
        };
        if constexpr (M::IsRowMajor) {
          for (Index r = 0; r < count; ++r)
            for (Index p = 0; p < pairs; ++p) turn(r, p);
        } else {
          for (Index p = 0; p < pairs; ++p)
            for (Index r = 0; r < count; ++r) turn(r, p);
        }
      }
    }
  }
}

template <class X, class MakeRuns>
void rotate(X& x, const Rotary& options, double sign, const MakeRuns& runs) {
  check_writable<X>();
  auto& to = const_cast<std::remove_cv_t<X>&>(x);
  const Index width = rotary_width(options, to.cols());
  rotate_rows(to, options, width, sign, runs(to.rows()));
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
/// half): the angle is within 2^-51 · abs(position) of exact. Cost: a sine and a cosine a row and pair,
/// shared by all heads, and 4 multiplications a pair. Allocates 17 w numbers.
template <class X>
void rotary(X&& x, const Rotary& options = {}) {
  detail::rotate(x, options, 1, detail::rotary_runs(options));
}
/// A ragged batch: sequence s is rows [offsets[s], offsets[s + 1]) and starts at position `first` again. Any
/// contiguous list of integers, as sequences() takes it.
template <class X, detail::integer_list R>
void rotary(X&& x, const Rotary& options, const R& offsets) {
  detail::rotate(x, options, 1, detail::rotary_runs(options, offsets));
}
/// The same where every sequence starts at a position of its own, firsts[s], in place of options.first: the
/// lengths of the caches.
template <class X, detail::integer_list R, detail::integer_list S>
void rotary(X&& x, const Rotary& options, const R& offsets, const S& firsts) {
  detail::rotate(x, options, 1, detail::rotary_runs(options, offsets, firsts));
}

/// Turns back, in place: the inverse of rotary() with the same arguments and, rotations being orthogonal, its
/// transpose. Given the gradient by what rotary() has made, it leaves the gradient by what rotary() was
/// given.
template <class X>
void rotary_gradient(X&& dx, const Rotary& options = {}) {
  detail::rotate(dx, options, -1, detail::rotary_runs(options));
}
template <class X, detail::integer_list R>
void rotary_gradient(X&& dx, const Rotary& options, const R& offsets) {
  detail::rotate(dx, options, -1, detail::rotary_runs(options, offsets));
}
template <class X, detail::integer_list R, detail::integer_list S>
void rotary_gradient(X&& dx, const Rotary& options, const R& offsets, const S& firsts) {
  detail::rotate(dx, options, -1, detail::rotary_runs(options, offsets, firsts));
}

}  // namespace heed::inline HEED_ABI

#endif
