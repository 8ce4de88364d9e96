// SPDX-License-Identifier: MIT
#ifndef TRANSLATE_DATES_PICTURE_HPP
#define TRANSLATE_DATES_PICTURE_HPP

// What the model looked at: source characters from left to right, target characters from top to bottom, as in
// figure 3 of 1409.0473.

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace translate_dates {

struct Alignment {
  std::string source, target;
  Eigen::MatrixXf weights;  // target × source characters, rows sum to 1
};

/// A line for each target character, a sign for each weight: a space up to 0.05, then . - + * up to 0.2, 0.4,
/// 0.6 and 0.8, and # above.
inline std::string text_picture(const Alignment& a) {
  std::string text = "    " + a.source + "\n";
  for (Eigen::Index i = 0; i < a.weights.rows(); ++i) {
    text += std::string("  ") + a.target[static_cast<std::size_t>(i)] + " ";
    for (Eigen::Index j = 0; j < a.weights.cols(); ++j) {
      const float w = a.weights(i, j);
      text += w <= 0.05f ? ' ' : w <= 0.2f ? '.' : w <= 0.4f ? '-' : w <= 0.6f ? '+' : w <= 0.8f ? '*' : '#';
    }
    text += '\n';
  }
  return text;
}

/// An SVG file, the alignments one under the other: black is 0, white is 1.
inline std::string svg_picture(const std::vector<Alignment>& alignments) {
  const int cell = 16, margin = 24, title = 44;
  const auto number = [](Eigen::Index n) { return std::to_string(n); };
  const auto letter = [&](Eigen::Index x, Eigen::Index y, char c) {
    const std::string shown = c == ' ' ? "␣" : c == '&' ? "&amp;" : c == '<' ? "&lt;" : std::string(1, c);
    return "<text x='" + number(x) + "' y='" + number(y) + "'>" + shown + "</text>";
  };
  const auto box = [&](Eigen::Index x, Eigen::Index y, Eigen::Index w, Eigen::Index h, long level) {
    const std::string l = std::to_string(level);
    return "<rect x='" + number(x) + "' y='" + number(y) + "' width='" + number(w) + "' height='" +
           number(h) + "' fill='rgb(" + l + "," + l + "," + l + ")'/>";
  };
  std::string body;
  Eigen::Index width = 0, y = 0;
  for (const Alignment& a : alignments) {
    const Eigen::Index rows = a.weights.rows(), columns = a.weights.cols(), top = y + title;
    for (Eigen::Index j = 0; j < columns; ++j)
      body += letter(margin + cell * j + cell / 2, top - 5, a.source[static_cast<std::size_t>(j)]);
    body += "\n" + box(margin, top, cell * columns, cell * rows, 0) + "\n";
    for (Eigen::Index i = 0; i < rows; ++i) {
      body += letter(margin - 9, top + cell * i + 12, a.target[static_cast<std::size_t>(i)]);
      for (Eigen::Index j = 0; j < columns; ++j)
        if (const long level = std::lround(255 * std::clamp(a.weights(i, j), 0.0f, 1.0f)); level > 0)
          body += box(margin + cell * j, top + cell * i, cell, cell, level);
      body += "\n";
    }
    width = std::max(width, margin + cell * columns + margin);
    y = top + cell * rows;
  }
  const std::string right = number(width), bottom = number(y + margin);
  return "<svg xmlns='http://www.w3.org/2000/svg' width='" + right + "' height='" + bottom +
         "' font-family='monospace' font-size='13' text-anchor='middle'>\n" +
         box(0, 0, width, y + margin, 255) + "\n" + body + "</svg>\n";
}

/// Throws std::runtime_error where the file cannot be written.
inline void write_file(const std::string& path, const std::string& contents) {
  std::ofstream file(path, std::ios::binary);
  file << contents;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

}  // namespace translate_dates

#endif
