// SPDX-License-Identifier: MIT
#include "report.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <stdexcept>

namespace {

template <class... Arguments>
std::string format(const char* pattern, Arguments... arguments) {
  char line[256];
  std::snprintf(line, sizeof line, pattern, arguments...);
  return line;
}

std::string bytes(long long n) {
  if (n < 0) return "?";
  if (n < 10'000'000) return format("%.0f KB", static_cast<double>(n) * 1e-3);
  return format("%.0f MB", static_cast<double>(n) * 1e-6);
}

std::string sentence(const Attends& attends) {
  std::string line = attends.word + " →";
  for (const auto& [word, weight] : attends.to) line += format(" %s %.0f %%,", word.c_str(), 100 * weight);
  line.pop_back();
  return line;
}

std::string escape(const std::string& s) {
  std::string out;
  for (const char c : s) {
    if (c == '&') {
      out += "&amp;";
    } else if (c == '<') {
      out += "&lt;";
    } else if (c == '>') {
      out += "&gt;";
    } else if (c == '"') {
      out += "&quot;";
    } else {
      out += c;
    }
  }
  return out;
}

std::string joined(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += escape(word) + " ";
  return line;
}

/// Two hexadecimal digits a weight: the square root of its share of the greatest, so that small ones are seen
/// too.
std::string hexadecimal(const Matrix& weights) {
  const float most = std::max(weights.size() > 0 ? weights.maxCoeff() : 0.0f, 1e-9f);
  std::string digits;
  for (Eigen::Index i = 0; i < weights.size(); ++i) {
    digits += format("%02x", static_cast<unsigned>(std::lround(255 * std::sqrt(weights.data()[i] / most))));
  }
  return digits;
}

/// Horizontal bars: for each variant Heed's time and the two plain ones', the slowest of the three being the
/// whole width.
std::string chart(const std::vector<Measured>& table) {
  std::string svg = format("<svg viewBox='0 0 860 %zu' role='img' aria-label='Times relative to Heed'>",
                           table.size() * 70 + 10);
  double y = 10;
  for (const Measured& m : table) {
    svg += format("<text x='0' y='%.0f'>", y + 28) + escape(m.name) + "</text>";
    const struct {
      const char* colour;
      double seconds;
    } bars[] = {{"#1f6f8b", m.seconds}, {"#c9a227", m.blocks_seconds}, {"#b5532f", m.plain_seconds}};
    for (const auto& bar : bars) {
      const double width = 560 * bar.seconds / std::max({m.seconds, m.blocks_seconds, m.plain_seconds});
      svg += format("<rect x='150' y='%.0f' width='%.1f' height='15' fill='%s'/>", y, width, bar.colour);
      svg += format("<text x='%.1f' y='%.0f' class='small'>%.2f ms, %.1f ×</text>", 156 + width, y + 12,
                    bar.seconds * 1e3, bar.seconds / m.seconds);
      y += 18;
    }
    y += 16;
  }
  return svg + "</svg>";
}

const char* const style = R"(
body { font: 16px/1.5 system-ui, sans-serif; max-width: 61rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
table { border-collapse: collapse; } th, td { padding: .25rem .6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th:first-child, td:first-child { text-align: left; } svg { width: 100%; } .small { font-size: 12px; } .note { color: #555; }
.maps { display: flex; flex-wrap: wrap; gap: 2rem; } figure { margin: 0; width: 29rem; } canvas { max-width: 100%; }
output { display: block; min-height: 1.5em; } ul { padding-left: 1.2rem; } b.heed { color: #1f6f8b; }
b.blocks { color: #9a7a10; } b.plain { color: #b5532f; }
)";

const char* const script = R"(
const cell = 12, margin = 84;  // pixels; words stand along both margins
for (const figure of document.querySelectorAll('figure')) {
  const canvas = figure.querySelector('canvas'), out = figure.querySelector('output');
  const queries = canvas.dataset.queries.trim().split(' '), keys = canvas.dataset.keys.trim().split(' ');
  const most = Number(canvas.dataset.most), digits = canvas.dataset.weights;
  const level = (i, j) => parseInt(digits.substr(2 * (i * keys.length + j), 2), 16) / 255;
  const width = margin + cell * keys.length, height = margin + cell * queries.length;
  canvas.width = 2 * width; canvas.height = 2 * height; canvas.style.width = width + 'px';
  const context = canvas.getContext('2d');
  context.scale(2, 2);
  context.font = '10px system-ui, sans-serif';
  context.fillStyle = '#555';
  queries.forEach((word, i) => { context.textAlign = 'right'; context.fillText(word, margin - 4, margin + cell * i + 9, margin - 6); });
  keys.forEach((word, j) => {
    context.save(); context.translate(margin + cell * j + 9, margin - 4); context.rotate(-Math.PI / 2);
    context.textAlign = 'left'; context.fillText(word, 0, 0, margin - 6); context.restore();
  });
  queries.forEach((_, i) => keys.forEach((_, j) => {
    const x = level(i, j);
    context.fillStyle = `rgb(${255 - 224 * x}, ${255 - 144 * x}, ${255 - 116 * x})`;
    context.fillRect(margin + cell * j, margin + cell * i, cell, cell);
  }));
  context.strokeStyle = '#ccc';
  context.strokeRect(margin, margin, width - margin, height - margin);
  canvas.addEventListener('mousemove', event => {
    const box = canvas.getBoundingClientRect();
    const i = Math.floor(((event.clientY - box.top) / box.height * height - margin) / cell);
    const j = Math.floor(((event.clientX - box.left) / box.width * width - margin) / cell);
    if (queries[i] && keys[j]) out.textContent = `${queries[i]} → ${keys[j]}: ${(100 * most * level(i, j) ** 2).toFixed(1)} %`;
  });
}
)";

}  // namespace

void print(const Report& report) {
  std::printf("%zu words of %s\n%s\n", report.words, report.text.c_str(), report.machine.c_str());
  for (const HeatMap& map : report.maps) {
    std::printf("\n%s: %s\n", map.title.c_str(), map.note.c_str());
    for (const Attends& attends : map.samples) std::printf("  %s\n", sentence(attends).c_str());
  }
  std::printf("\n%-12s %9s %8s %6s %8s | %11s %7s %8s | %11s %7s\n", "one thread", "Heed", "GFLOP/s", "peak",
              "memory", "plain Eigen", "ratio", "memory", "in blocks", "ratio");
  for (const Measured& m : report.table) {
    std::printf("%-12s %6.2f ms %8.1f %4.0f %% %8s | %8.2f ms %5.1f x %8s | %8.2f ms %5.1f x\n",
                m.name.c_str(), m.seconds * 1e3, m.gflops, 100 * m.share, bytes(m.memory).c_str(),
                m.plain_seconds * 1e3, m.plain_seconds / m.seconds, bytes(m.plain_memory).c_str(),
                m.blocks_seconds * 1e3, m.blocks_seconds / m.seconds);
  }
}

void write_html(const Report& report, const std::string& path) {
  std::ofstream html(path);
  html << "<!doctype html>\n<html lang='en'>\n<head><meta charset='utf-8'><title>Which words attend to "
          "which</title>\n<style>"
       << style << "</style></head>\n<body>\n<h1>Which words attend to which</h1>\n<p>" << report.words
       << " words of " << escape(report.text)
       << ". Rows are queries, columns are keys; point at a cell to read it. A word's row of numbers is made "
          "of the hashes of "
       << "its character n-grams and of its place: nothing is learnt, and words attend to words that look "
          "alike and stand near.</p>\n";

  html << "<div class='maps'>\n";
  for (const HeatMap& map : report.maps) {
    const float most = map.weights.size() > 0 ? map.weights.maxCoeff() : 0.0f;
    html << "<figure><h2>" << escape(map.title) << "</h2><p class='note'>" << escape(map.note)
         << "</p>\n<canvas data-most='" << most << "' data-queries=\"" << joined(map.queries)
         << "\" data-keys=\"" << joined(map.keys) << "\" data-weights='" << hexadecimal(map.weights)
         << "'></canvas><output></output>\n<ul>";
    for (const Attends& attends : map.samples) html << "<li>" << escape(sentence(attends)) << "</li>";
    html << "</ul></figure>\n";
  }
  html << "</div>\n";

  html << "<h2>What it takes</h2>\n<p>" << escape(report.machine)
       << "</p>\n<table>\n<tr><th>one thread</th><th>Heed</th><th>GFLOP/s</th>"
       << "<th>of peak</th><th>extra memory</th><th>plain Eigen</th><th>its memory</th><th>plain Eigen in "
          "blocks</th></tr>\n";
  for (const Measured& m : report.table) {
    html << "<tr><td>" << escape(m.name)
         << format("</td><td>%.2f ms</td><td>%.1f</td><td>%.0f %%</td><td>", m.seconds * 1e3, m.gflops,
                   100 * m.share)
         << bytes(m.memory) << format("</td><td>%.2f ms</td><td>", m.plain_seconds * 1e3)
         << bytes(m.plain_memory) << format("</td><td>%.2f ms</td></tr>\n", m.blocks_seconds * 1e3);
  }
  html << "</table>\n<p>Time, <b class='heed'>Heed</b> = 1, <b class='blocks'>plain Eigen in blocks of 64 "
          "rows, leaving out keys that nobody "
       << "sees</b>, <b class='plain'>plain Eigen with whole matrices</b>; every group "
       << "to its own scale:</p>\n"
       << chart(report.table) << "\n<script>" << script << "</script>\n</body>\n</html>\n";
  html.close();
  if (!html) throw std::runtime_error("cannot write " + path);
}
