// SPDX-License-Identifier: MIT
/// @file
/// pattern_text() and pattern_pgm(): what a mask looks like.
#ifndef HEED_MASK_PATTERN_PICTURE_HPP
#define HEED_MASK_PATTERN_PICTURE_HPP

#include <string>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/mask/visible_pairs.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// Square cells, as few keys each as fit into so many columns.
struct PictureGrid {
  Index cell = 1, rows = 0, columns = 0;

  PictureGrid(const char* name, const Place& place, Index most_columns) {
    if (most_columns < 1) fail(name, ": ", most_columns, " columns, at least 1 is needed");
    if (place.keys > most_columns) cell = (place.keys + most_columns - 1) / most_columns;
    rows = (place.queries + cell - 1) / cell;
    columns = (place.keys + cell - 1) / cell;
  }
};

/// draw(row, visible, pairs) for every cell, row by row.
template <class P, class Draw>
void draw_cells(const P& p, const Place& place, const PictureGrid& grid, const Draw& draw) {
  if (grid.rows == 0 || grid.columns == 0) return;
  const auto bound = bind_pairs(p, place);
  const auto bounded = [](Index x, Index most) { return x < most ? x : most; };
  for (Index r = 0; r < grid.rows; ++r) {
    const Index i0 = r * grid.cell, i1 = bounded(i0 + grid.cell, place.queries);
    for (Index c = 0; c < grid.columns; ++c) {
      const Index begin = c * grid.cell, end = bounded(begin + grid.cell, place.keys);
      draw(r, count_visible(bound, place.keys, i0, i1, begin, end), (i1 - i0) * (end - begin));
    }
  }
}

}  // namespace detail

/// The pattern of one sequence and head as text: a line for each row of cells, a character for each cell of
/// equally many queries and keys, by the share of its pairs that are visible: `.` none, `-` less than a
/// third, `+` less than two thirds, `*` less than all, `#` all. At most `columns` characters a line.
template <pattern P>
std::string pattern_text(const P& p, const Place& place, Index columns = 64) {
  const detail::PictureGrid grid("pattern_text", place, columns);
  std::string text;
  Index line = 0;
  detail::draw_cells(p, place, grid, [&](Index row, Index visible, Index pairs) {
    if (row != line) text += '\n', line = row;
    text += visible == 0              ? '.'
            : visible == pairs        ? '#'
            : 3 * visible < pairs     ? '-'
            : 3 * visible < 2 * pairs ? '+'
                                      : '*';
  });
  if (!text.empty()) text += '\n';
  return text;
}
/// The same for n queries and m keys: the first sequence and head of a spec.
template <pattern P>
std::string pattern_text(const P& p, Index n, Index m, Index columns = 64) {
  return pattern_text(p, detail::shape_of_pairs(p, n, m).place(0, 0), columns);
}

/// The same picture as the bytes of a binary portable graymap file (PGM), which image viewers open: white
/// where all pairs of a cell are visible, black where none is. At most `columns` pixels wide.
template <pattern P>
std::string pattern_pgm(const P& p, const Place& place, Index columns = 512) {
  const detail::PictureGrid grid("pattern_pgm", place, columns);
  std::string file;
  for (const Index size : {grid.columns, grid.rows})
    file += (file.empty() ? "P5\n" : " ") + std::to_string(size);
  file += "\n255\n";
  detail::draw_cells(p, place, grid, [&](Index, Index visible, Index pairs) {
    // Black and white are kept for none and all.
    Index grey = 255 * visible / pairs;
    if (grey == 0 && visible > 0) grey = 1;
    file += static_cast<char>(static_cast<unsigned char>(grey));
  });
  return file;
}
/// The same for n queries and m keys: the first sequence and head of a spec.
template <pattern P>
std::string pattern_pgm(const P& p, Index n, Index m, Index columns = 512) {
  return pattern_pgm(p, detail::shape_of_pairs(p, n, m).place(0, 0), columns);
}

}  // namespace heed::inline HEED_ABI

#endif
