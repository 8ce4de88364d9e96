// SPDX-License-Identifier: MIT
/// @file
/// Which position every row of a matrix stands at: rows count up, and start again with every sequence.
#ifndef HEED_POSITION_ROW_POSITIONS_HPP
#define HEED_POSITION_ROW_POSITIONS_HPP

#include <cmath>
#include <cstddef>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

/// Which two of w columns belong together: those that rotary() turns, the sine and cosine of sinusoidal().
enum class ColumnPairs {
  interleaved,  ///< (0, 1), (2, 3), ...
  halves,       ///< (0, w/2), (1, w/2 + 1), ...
};

namespace detail {

/// Rows [begin, end) are at positions first, first + 1, ...
struct PositionRun {
  Index begin, end, first;
};

/// Sequence s is rows [offsets[s], offsets[s + 1]) and begins at position firsts[s]; all of it is checked
/// before any row is touched.
inline std::vector<PositionRun> position_runs(const char* name, Index rows, const std::vector<Index>& offsets,
                                              const std::vector<Index>& firsts) {
  if (offsets.empty()) fail(name, ": 0 offsets, at least 1 is needed");
  const Index count = static_cast<Index>(offsets.size()) - 1;
  if (offsets.front() != 0)
    fail(name, ": the first offset is ", offsets.front(), ", it must be 0: offsets are wanted, not lengths");
  if (offsets.back() != rows)
    fail(name, ": the last offset is ", offsets.back(), ", there are ", rows, " rows");
  if (static_cast<Index>(firsts.size()) != count)
    fail(name, ": ", firsts.size(), " first positions for ", count, " sequences");
  std::vector<PositionRun> runs;
  for (std::size_t s = 0; s < firsts.size(); ++s) {
    if (offsets[s + 1] < offsets[s])
      fail(name, ": offset ", s + 1, " is ", offsets[s + 1], ", less than ", offsets[s], " before it");
    runs.push_back({offsets[s], offsets[s + 1], firsts[s]});
  }
  return runs;
}
/// All sequences begin at the same position.
inline std::vector<PositionRun> position_runs(const char* name, Index rows, const std::vector<Index>& offsets,
                                              Index first) {
  return position_runs(name, rows, offsets,
                       std::vector<Index>(offsets.empty() ? 0 : offsets.size() - 1, first));
}

/// base^(-2p / width) for p < width / 2: radians a position. In double, good to 2 ulp of 1 at any p, so that
/// the angle of position x is within x · 2^-51.
inline std::vector<double> angular_frequencies(Index width, double base) {
  std::vector<double> frequencies(static_cast<std::size_t>(width / 2));
  for (Index p = 0; p < width / 2; ++p)
    frequencies[static_cast<std::size_t>(p)] =
        std::pow(base, -static_cast<double>(2 * p) / static_cast<double>(width));
  return frequencies;
}

/// base^(-p / (pairs - 1)): from 1 to 1 / base, both reached.
inline std::vector<double> frequencies_to_base(Index pairs, double base) {
  std::vector<double> frequencies(static_cast<std::size_t>(pairs), 1.0);
  for (Index p = 1; p < pairs; ++p)
    frequencies[static_cast<std::size_t>(p)] =
        std::pow(base, -static_cast<double>(p) / static_cast<double>(pairs - 1));
  return frequencies;
}

inline void check_base(const char* name, double base) {
  if (!(base > 0) || !std::isfinite(base))
    fail(name, ": the base is ", base, ", it must be positive and finite");
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI

#endif
