// SPDX-License-Identifier: MIT
/// @file
/// sinusoidal(): positions as sines and cosines of falling frequency, to be added to the embeddings.
#ifndef HEED_POSITION_SINUSOIDAL_HPP
#define HEED_POSITION_SINUSOIDAL_HPP

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

/// What can be chosen about sinusoidal positions.
struct Sinusoidal {
  Index first = 0;      ///< position of the first row; may be negative
  double base = 10000;  ///< wavelengths grow from 2π towards 2π · base
  /// Where a sine has its cosine: beside it, or half the width further on.
  ColumnPairs pairs = ColumnPairs::interleaved;
  /// The frequencies f_i: base^{-2i/w} as in 1706.03762, whose last stops short of 1 / base, or
  /// base^{-i/(w/2 - 1)}, whose last is 1 / base (that paper's first implementation, and many after it).
  bool reaches_base = false;
};

namespace detail {

template <class M>
void add_sinusoids(M& x, const std::vector<PositionRun>& runs, const Sinusoidal& options) {
  using Scalar = typename M::Scalar;
  using Wide = Accumulator<Scalar>;
  // A column without a partner has a sine.
  const Index sines = (x.cols() + 1) / 2;
  const std::vector<double> frequencies = options.reaches_base ? frequencies_to_base(sines, options.base)
                                                               : angular_frequencies(2 * sines, options.base);
  const bool halves = options.pairs == ColumnPairs::halves;
  const auto add = [&](Index row, Index column, double position) {
    const bool is_sine = halves ? column < sines : column % 2 == 0;
    const Index i = halves ? (is_sine ? column : column - sines) : column / 2;
    const double angle = position * frequencies[static_cast<std::size_t>(i)];
    const double value = is_sine ? std::sin(angle) : std::cos(angle);
    Scalar& to = x.coeffRef(row, column);
    to = static_cast<Scalar>(Wide(static_cast<Wide>(to) + static_cast<Wide>(value)));
  };
  for (const PositionRun& run : runs) {
    const auto position = [&](Index row) { return static_cast<double>(run.first + (row - run.begin)); };
    if constexpr (M::IsRowMajor) {
      for (Index row = run.begin; row < run.end; ++row)
        for (Index c = 0; c < x.cols(); ++c) add(row, c, position(row));
    } else {
      for (Index c = 0; c < x.cols(); ++c)
        for (Index row = run.begin; row < run.end; ++row) add(row, c, position(row));
    }
  }
}

}  // namespace detail

/// x_{t,2i} += sin(p_t f_i), x_{t,2i+1} += cos(p_t f_i), f_i = base^{-2i/w}, p_t = first + t (1706.03762,
/// section 3.5). With `.pairs = ColumnPairs::halves` the sines fill the first half of the columns, and
/// cosines the second: x_{t,i} and x_{t,w/2+i}. With `.reaches_base = true`, f_i = base^{-i/(w/2 - 1)}.
/// @param x N × w, a writable matrix, block or map of either storage order and any scalar; if w is odd there
///   is one sine more than cosines
/// @throws std::invalid_argument for a base that is not positive and finite, before anything is written
///
/// Angles are taken in double and values rounded once: each is within 2^-51 · abs(p) of exact, which is the
/// accuracy of float up to positions of 10^8. Cost: a sine or cosine an element. Allocates w numbers.
template <class X>
void add_sinusoidal(X&& x, const Sinusoidal& options = {}) {
  detail::check_writable<X>();
  detail::check_base("sinusoidal", options.base);
  auto& to = const_cast<std::remove_cvref_t<X>&>(x);
  detail::add_sinusoids(to, {{0, to.rows(), options.first}}, options);
}
/// A ragged batch: sequence s is rows [offsets[s], offsets[s + 1]) and starts at position `first` again.
template <class X, detail::integer_list R>
void add_sinusoidal(X&& x, const Sinusoidal& options, const R& offsets) {
  detail::check_writable<X>();
  detail::check_base("sinusoidal", options.base);
  auto& to = const_cast<std::remove_cvref_t<X>&>(x);
  const auto runs =
      detail::position_runs("sinusoidal", to.rows(), detail::copy_list<Index>(offsets), options.first);
  detail::add_sinusoids(to, runs, options);
}

/// The same as a matrix of their own, count × width: row t is position first + t.
///
///     Eigen::MatrixXf table = heed::sinusoidal<Eigen::MatrixXf>(512, 64);
template <class M = Eigen::MatrixXd>
M sinusoidal(Index count, Index width, const Sinusoidal& options = {}) {
  if (count < 0 || width < 0) detail::fail("sinusoidal: ", count, " positions of ", width, " columns");
  M table(count, width);
  table.setZero();
  add_sinusoidal(table, options);
  return table;
}

}  // namespace heed::inline HEED_ABI

#endif
