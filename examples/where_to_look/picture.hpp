// SPDX-License-Identifier: MIT
#ifndef WHERE_TO_LOOK_PICTURE_HPP
#define WHERE_TO_LOOK_PICTURE_HPP

// Who looked where, as the text of an SVG file, which browsers open: the canvases one below the other, once
// as they are and once for each way of looking.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "canvas.hpp"
#include "reader.hpp"

namespace where_to_look {

/// A column of the picture.
template <class T>
struct Column {
  std::string title;
  Reading<T> reading;
};

/// The pixels of a canvas in eight greys, each of which is one path of horizontal dashes.
template <class T>
std::string pixel_paths(const Canvases<T>& canvases, Index canvas) {
  std::array<std::string, 8> dashes;
  for (Index y = 0; y < canvases.side * cell; ++y)
    for (Index x = 0; x < canvases.side * cell; ++x) {
      const Index patch = canvas * canvases.keys() + y / cell * canvases.side + x / cell;
      const double ink = static_cast<double>(canvases.patches(patch, y % cell * cell + x % cell));
      dashes[static_cast<std::size_t>(std::clamp(ink * 8, 0.0, 7.0))] +=
          "M" + std::to_string(x) + " " + std::to_string(y) + "h1";
    }
  std::string paths;
  for (std::size_t g = 0; g < dashes.size(); ++g) {
    const std::string grey = std::to_string(255 - 32 * g);
    // A little wider than a pixel, against seams.
    if (!dashes[g].empty())
      paths += "<path transform='translate(0 .5)' stroke-width='1.05' stroke='rgb(" + grey + "," + grey +
               "," + grey + ")' d='" + dashes[g] + "'/>\n";
  }
  return paths;
}

/// @param shown how many of the canvases, from the first on
template <class T>
std::string picture(const Canvases<T>& canvases, const std::vector<Column<T>>& columns, Index shown) {
  const Index size = canvases.side * cell, gap = 8, head = 10;
  const auto number = [](Index n) { return std::to_string(n); };
  const auto square = [&](Index patch, const std::string& style) {
    return "<rect x='" + number(patch % canvases.side * cell) + "' y='" +
           number(patch / canvases.side * cell) + "' width='" + number(cell) + "' height='" + number(cell) +
           "' " + style + "/>\n";
  };
  shown = std::min(shown, canvases.count());
  const Index width = gap + (size + gap) * static_cast<Index>(columns.size() + 1);
  const Index height = head + (size + gap) * shown;
  std::string svg =
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " + number(width) + " " + number(height) +
      "' width='" + number(4 * width) + "' height='" + number(4 * height) +
      "' font-family='sans-serif' font-size='5'>\n<rect width='100%' height='100%' fill='#fff'/>\n";
  const auto text = [&](Index x, Index y, const std::string& words) {
    svg += "<text x='" + number(x) + "' y='" + number(y) + "'>" + words + "</text>\n";
  };
  text(gap, head - 3, "the digit is framed");
  for (std::size_t w = 0; w < columns.size(); ++w)
    text(gap + (size + gap) * static_cast<Index>(w + 1), head - 3, columns[w].title);
  for (Index c = 0; c < shown; ++c) {
    const auto n = static_cast<std::size_t>(c);
    const std::string y = number(head + (size + gap) * c), id = "c" + number(c);
    const auto open = [&](Index column) {
      svg += "<g transform='translate(" + number(gap + (size + gap) * column) + " " + y + ")'>\n";
    };
    open(0);
    svg += "<g id='" + id + "'>\n" + pixel_paths(canvases, c) + "</g>\n";
    svg += square(canvases.places[n], "fill='none' stroke='#06c' stroke-width='.7'");
    text(0, size + 5, number(canvases.digits[n]));
    svg += "</g>\n";
    for (std::size_t w = 0; w < columns.size(); ++w) {
      const Reading<T>& reading = columns[w].reading;
      open(static_cast<Index>(w + 1));
      svg += "<use href='#" + id + "'/>\n";
      for (Index p = 0; p < canvases.keys(); ++p) {
        // What was not looked at is veiled; the square root shows small weights too.
        const double weight = static_cast<double>(reading.weights(c, p));
        const auto veil = static_cast<Index>(std::lround(85 * (1 - std::sqrt(weight))));
        svg += square(p, "fill='#fff' fill-opacity='" + number(veil) + "%'");
        if (weight > 0.05)
          svg += square(p, "fill='none' stroke='#d50' stroke-opacity='" +
                               number(static_cast<Index>(std::lround(100 * std::sqrt(weight)))) +
                               "%' stroke-width='.7'");
      }
      const bool right = reading.digits[n] == canvases.digits[n];
      text(0, size + 5, number(reading.digits[n]) + (right ? "" : ", wrong"));
      svg += "</g>\n";
    }
  }
  return svg + "</svg>\n";
}

}  // namespace where_to_look

#endif
