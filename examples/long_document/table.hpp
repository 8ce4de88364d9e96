// SPDX-License-Identifier: MIT
#ifndef LONG_DOCUMENT_TABLE_HPP
#define LONG_DOCUMENT_TABLE_HPP

// What each pattern costs, and its picture: lines on the terminal and one HTML file that needs nothing else.

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <heed/mask/pattern_picture.hpp>

#include "patterns.hpp"

namespace long_document {

/// One pattern. Pictures are those of pattern_text() and pattern_pgm().
struct Pattern {
  std::string name;
  Index pairs;      ///< visible ones
  std::string all;  ///< picture of all tokens
  double seconds;
  std::string near, text;  ///< pictures of the same pattern over few tokens
};

constexpr Index near_tokens = 1024;

/// @param seconds_of seconds_of(mask), over n tokens
template <class Seconds>
std::vector<Pattern> make_table(Index n, const Seconds& seconds_of) {
  std::vector<Pattern> table;
  for_each_pattern(n, [&](const char* name, const auto& mask) {
    table.push_back({name, heed::visible_pairs(mask, n, n), heed::pattern_pgm(mask, n, n, 128),
                     seconds_of(mask), "", ""});
  });
  std::size_t row = 0;
  for_each_pattern(near_tokens, [&](const char*, const auto& mask) {
    table[row].near = heed::pattern_pgm(mask, near_tokens, near_tokens, 128);
    table[row++].text = heed::pattern_text(mask, near_tokens, near_tokens, 16);
  });
  return table;
}

inline double nanoseconds_a_pair(const Pattern& p) { return p.seconds * 1e9 / static_cast<double>(p.pairs); }

/// Four pictures beside each other, their names above them.
inline void print_pictures(const std::vector<Pattern>& table) {
  constexpr std::size_t abreast = 4, column = 27;
  for (std::size_t begin = 0; begin < table.size(); begin += abreast) {
    const std::size_t end = begin + abreast < table.size() ? begin + abreast : table.size();
    std::string lines;
    for (std::size_t n = begin; n < end; ++n) {
      lines += table[n].name;
      lines.append(column - std::min(column, table[n].name.size()), ' ');
    }
    lines += '\n';
    const std::size_t width = table[begin].text.find('\n');
    for (std::size_t at = 0; at < table[begin].text.size(); at += width + 1) {
      for (std::size_t n = begin; n < end; ++n) {
        lines += table[n].text.substr(at, width);
        lines.append(column - width, ' ');
      }
      lines += '\n';
    }
    std::printf("\n%s", lines.c_str());
  }
}

inline void print_table(const std::vector<Pattern>& table) {
  std::printf("%-27s %12s %9s %9s %9s %9s\n", "pattern", "pairs", "of causal", "ms", "ns a pair",
              "of causal");
  for (const Pattern& p : table) {
    std::printf("%-27s %12lld %7.2f %% %9.2f %9.3f %7.2f %%\n", p.name.c_str(),
                static_cast<long long>(p.pairs),
                100 * static_cast<double>(p.pairs) / static_cast<double>(table.front().pairs),
                p.seconds * 1e3, nanoseconds_a_pair(p), 100 * p.seconds / table.front().seconds);
  }
}

/// A graymap as a canvas: its pixels as hexadecimal digits.
inline std::string canvas_of(const std::string& pgm) {
  const std::size_t size_begin = pgm.find('\n') + 1, size_end = pgm.find('\n', size_begin);
  const std::size_t pixels = pgm.find('\n', size_end + 1) + 1;
  std::string html = "<canvas data-size='" + pgm.substr(size_begin, size_end - size_begin) + "' data-grey='";
  const char* const digits = "0123456789abcdef";
  for (std::size_t n = pixels; n < pgm.size(); ++n) {
    const auto grey = static_cast<unsigned char>(pgm[n]);
    html += digits[grey >> 4];
    html += digits[grey & 15];
  }
  return html + "'></canvas>";
}

inline std::string escape(const std::string& s) {
  std::string out;
  for (const char c : s) out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : std::string(1, c);
  return out;
}

/// Throws std::runtime_error when the file cannot be written.
inline void write_html(const std::vector<Pattern>& table, Index n, const std::string& path) {
  std::ofstream html(path);
  html << "<!doctype html>\n<html lang='en'>\n<head><meta charset='utf-8'><title>Patterns and their "
          "cost</title>\n"
          "<style>body { font: 16px/1.4 system-ui, sans-serif; margin: 2rem; color: #222; background: #fff; "
          "}\n"
          "td, th { padding: .4rem .8rem; text-align: right; border-bottom: 1px solid #ddd; }\n"
          "td:first-child { text-align: left; } canvas { width: 256px; image-rendering: pixelated; }\n"
          ".bar { background: #1f6f8b; height: .7rem; margin-left: auto; }</style></head>\n"
          "<body>\n<h1>Patterns and their cost</h1>\n<p>"
       << n
       << " tokens, one head of 64, float. Rows of a picture are queries, columns are keys: the darker, the "
          "more of the pairs are visible. The second picture shows the same pattern over "
       << near_tokens
       << " tokens. A bar is the time beside that of the dense causal "
          "mask.</p>\n<table>\n<tr><th></th><th>all "
          "tokens</th><th>closer</th><th>visible pairs</th><th>ms</th><th>ns a pair</th><th>time, of "
          "causal</th></tr>\n";
  for (const Pattern& p : table) {
    const double share = 100 * p.seconds / table.front().seconds;
    html << "<tr><td>" << escape(p.name) << "</td><td>" << canvas_of(p.all) << "</td><td>"
         << canvas_of(p.near) << "</td><td>" << p.pairs;
    char cells[256];
    std::snprintf(cells, sizeof cells,
                  "</td><td>%.2f</td><td>%.3f</td><td>%.2f %%<div class='bar' style='width:%.2fpx'></div>",
                  p.seconds * 1e3, nanoseconds_a_pair(p), share, 1.5 * share);
    html << cells << "</td></tr>\n";
  }
  html << "</table>\n<script>\n"
          "for (const canvas of document.querySelectorAll('canvas')) {\n"
          "  const [width, height] = canvas.dataset.size.split(' ').map(Number);\n"
          "  canvas.width = width; canvas.height = height;\n"
          "  const context = canvas.getContext('2d'), image = context.createImageData(width, height);\n"
          "  for (let n = 0; n < width * height; ++n) {\n"
          "    const seen = parseInt(canvas.dataset.grey.substr(2 * n, 2), 16) / 255;\n"
          "    const x = seen > 0 ? 0.15 + 0.85 * Math.sqrt(seen) : 0;\n"
          "    image.data.set([255 - 224 * x, 255 - 144 * x, 255 - 116 * x, 255], 4 * n);\n"
          "  }\n"
          "  context.putImageData(image, 0, 0);\n"
          "}\n</script>\n</body>\n</html>\n";
  html.close();
  if (!html) throw std::runtime_error("cannot write " + path);
}

}  // namespace long_document

#endif
