// SPDX-License-Identifier: MIT
#ifndef ATTEND_WORDS_REPORT_HPP
#define ATTEND_WORDS_REPORT_HPP

// What the demo shows: lines on the terminal and one HTML file that needs nothing else.

#include <string>
#include <utility>
#include <vector>

#include "words.hpp"

/// One line of the table.
struct Measured {
  std::string name;
  double seconds;         // Heed, one thread
  double gflops;          // counting visible pairs only
  double share;           // of the multiply-add peak
  double plain_seconds;   // plain Eigen, whole matrices
  double blocks_seconds;  // plain Eigen, 64 rows at a time, only keys that are seen
  long long memory;       // bytes beside inputs and output; -1 where that is not counted
  long long plain_memory;
  double difference;  // greatest, between Heed's result and plain Eigen's
};

/// Which words one word attends to.
struct Attends {
  std::string word;
  std::vector<std::pair<std::string, double>> to;  // strongest first
};

/// The weights of some queries over some keys.
struct HeatMap {
  std::string title, note;
  std::vector<std::string> queries, keys;
  Matrix weights;                // queries x keys
  std::vector<Attends> samples;  // from the whole rows
};

struct Report {
  std::string text;     // name of the file
  std::size_t words;    // how many of its words
  std::string machine;  // one line: instruction set, peak, Eigen
  std::vector<Measured> table;
  std::vector<HeatMap> maps;
};

void print(const Report& report);

/// Throws std::runtime_error when the file cannot be written.
void write_html(const Report& report, const std::string& path);

#endif
