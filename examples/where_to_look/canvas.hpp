// SPDX-License-Identifier: MIT
#ifndef WHERE_TO_LOOK_CANVAS_HPP
#define WHERE_TO_LOOK_CANVAS_HPP

// What there is to look at: canvases with one whole digit each, among strokes, parts of digits and noise.
// They are drawn here, as many as are wanted.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "../training/parameter.hpp"

namespace where_to_look {

using namespace training;

constexpr Index cell = 8;              // a patch is cell × cell pixels
constexpr Index pixels = cell * cell;  // of a patch

/// 0 … 9 in 5 × 7 dots, a row from the top in the five lower bits of each number, the left dot highest.
constexpr std::array<std::array<unsigned char, 7>, 10> font{{{14, 17, 19, 21, 25, 17, 14},
                                                             {4, 12, 4, 4, 4, 4, 14},
                                                             {14, 17, 1, 2, 4, 8, 31},
                                                             {14, 17, 1, 6, 1, 17, 14},
                                                             {2, 6, 10, 18, 31, 2, 2},
                                                             {31, 16, 30, 1, 1, 17, 14},
                                                             {6, 8, 16, 30, 17, 17, 14},
                                                             {31, 1, 2, 4, 8, 8, 8},
                                                             {14, 17, 17, 14, 17, 17, 14},
                                                             {14, 17, 17, 15, 1, 2, 12}}};

/// A batch of B canvases of side × side patches, M = side².
template <class T>
struct Canvases {
  Index side = 0;
  Matrix<T> patches;          // B·M × pixels from 0 to 1; canvas after canvas, patches row by row
  std::vector<int> digits;    // B: what is to be read
  std::vector<Index> places;  // B: the patch that it stands in, below M

  Index count() const { return static_cast<Index>(digits.size()); }
  Index keys() const { return side * side; }
};

/// Draws canvases from random numbers.
template <class T>
class Painter {
 public:
  Painter(Index side, std::uint64_t seed) : side_(side), random_(seed) {}

  Canvases<T> canvases(Index count) {
    Canvases<T> all{side_, Matrix<T>(count * side_ * side_, pixels), {}, {}};
    for (Index c = 0; c < count; ++c) {
      const int digit = static_cast<int>(below(10));
      const Index place = below(side_ * side_);
      draw(all.patches.middleRows(c * side_ * side_, side_ * side_), digit, place);
      all.digits.push_back(digit);
      all.places.push_back(place);
    }
    return all;
  }

 private:
  using Canvas = Eigen::Ref<Matrix<T>>;

  /// Uniform from 0 to n - 1.
  Index below(Index n) { return static_cast<Index>(random_() % static_cast<std::uint64_t>(n)); }
  T ink() { return static_cast<T>(0.6 + 0.004 * static_cast<double>(below(101))); }

  void draw(Canvas canvas, int digit, Index place) {
    for (Index i = 0; i < canvas.size();)  // noise: a byte for each pixel
      for (std::uint64_t bits = random_(), b = 0; b < 8 && i < canvas.size(); ++b, bits >>= 8)
        canvas.data()[i++] = static_cast<T>(0.3 / 255 * static_cast<double>(bits & 255));
    for (Index p = 0; p < side_ * side_; ++p)
      if (p == place)
        stamp(canvas.row(p), digit, 0, 7, 0, 5);
      else if (below(3) == 0)
        part(canvas.row(p));
      else if (below(2) == 0)
        for (Index n = 1 + below(3); n > 0; --n) stroke(canvas.row(p));
  }

  /// Rows [top, bottom) and columns [left, right) of a digit, somewhere in the patch.
  void stamp(Eigen::Ref<Eigen::Matrix<T, 1, Eigen::Dynamic>> patch, int digit, Index top, Index bottom,
             Index left, Index right) {
    const Index y0 = below(cell - 6), x0 = below(cell - 4);
    const T dark = ink();
    for (Index y = top; y < bottom; ++y)
      for (Index x = left; x < right; ++x)
        if ((font[static_cast<std::size_t>(digit)][static_cast<std::size_t>(y)] >> (4 - x) & 1) != 0)
          add(patch, x0 + x, y0 + y, dark);
  }

  /// The upper, lower, left or right part of a digit.
  void part(Eigen::Ref<Eigen::Matrix<T, 1, Eigen::Dynamic>> patch) {
    const Index which = below(4);
    stamp(patch, static_cast<int>(below(10)), which == 0 ? 3 : 0, which == 1 ? 4 : 7, which == 2 ? 2 : 0,
          which == 3 ? 3 : 5);
  }

  /// A line of a few pixels in one of eight directions.
  void stroke(Eigen::Ref<Eigen::Matrix<T, 1, Eigen::Dynamic>> patch) {
    Index x = below(cell), y = below(cell), dx = 0, dy = 0;
    while (dx == 0 && dy == 0) dx = below(3) - 1, dy = below(3) - 1;
    const T dark = ink();
    for (Index n = 3 + below(4); n > 0; --n, x += dx, y += dy)
      if (x >= 0 && x < cell && y >= 0 && y < cell) add(patch, x, y, dark);
  }

  static void add(Eigen::Ref<Eigen::Matrix<T, 1, Eigen::Dynamic>> patch, Index x, Index y, T dark) {
    T& pixel = patch(y * cell + x);
    pixel = std::min(T(1), pixel + dark);
  }

  Index side_;
  std::mt19937_64 random_;
};

}  // namespace where_to_look

#endif
