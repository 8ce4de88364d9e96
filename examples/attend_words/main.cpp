// SPDX-License-Identifier: MIT
// attend_words [text-file [html-file]]
// Splits a text into words, lets each word attend to the others under five variants of attention, prints
// which words attend to which and what every variant costs beside plain Eigen code, and draws heat maps into
// one HTML file.

#include <heed/heed.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <peak.hpp>

#include "compare.hpp"
#include "report.hpp"
#include "words.hpp"

namespace {

using Eigen::Index;

constexpr std::size_t most_words = 2048;  // plain Eigen, head by head with whole matrices, takes its time
constexpr Index d = 64;                   // columns of one head
constexpr Index shown = 32;               // words along each side of a heat map

std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read " + path);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// The keys that take most of one row of weights; keys that are the same word count together.
Attends strongest(const std::string& word, const Eigen::RowVectorXf& weights,
                  const std::vector<std::string>& keys) {
  std::map<std::string, double> sums;
  for (Index j = 0; j < weights.size(); ++j)
    sums[keys[static_cast<std::size_t>(j)]] += static_cast<double>(weights[j]);
  Attends attends{word, {sums.begin(), sums.end()}};
  std::stable_sort(attends.to.begin(), attends.to.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  while (attends.to.size() > 5 || (attends.to.size() > 1 && attends.to.back().second < 0.005))
    attends.to.pop_back();
  return attends;
}

/// Up to three long words, as an example each: their numbers.
std::vector<Index> examples(const std::vector<std::string>& words, Index begin, Index end) {
  std::vector<Index> rows;
  for (Index part = 0; part < 3; ++part) {
    Index longest = -1;
    for (Index i = begin + (end - begin) * part / 3; i < begin + (end - begin) * (part + 1) / 3; ++i) {
      const auto size = [&](Index w) { return words[static_cast<std::size_t>(w)].size(); };
      if (longest < 0 || size(i) > size(longest)) longest = i;
    }
    if (longest >= 0) rows.push_back(longest);
  }
  return rows;
}

std::vector<std::string> slice(const std::vector<std::string>& words, Index begin, Index size) {
  return {words.begin() + begin, words.begin() + begin + size};
}

/// The weights of one head as a heat map of `shown` queries and keys from the given ones on, and its
/// strongest words.
template <class... Policies>
HeatMap look(const std::string& title, const std::string& note, const Matrix& q,
             const std::vector<std::string>& queries, Index first_query, const Matrix& k,
             const std::vector<std::string>& keys, Index first_key, Index head, const Policies&... policies) {
  const Index rows = std::min(shown, q.rows() - first_query), columns = std::min(shown, k.rows() - first_key);
  HeatMap map{
      title, note, slice(queries, first_query, rows), slice(keys, first_key, columns), Matrix(rows, columns),
      {}};
  const Matrix weights = heed::attention_weights(q, k, heed::rows(first_query, first_query + rows),
                                                 heed::head(head), policies...);
  map.weights = weights.middleCols(first_key, columns);
  for (const Index i : examples(queries, first_query, first_query + rows)) {
    map.samples.push_back(
        strongest(queries[static_cast<std::size_t>(i)], weights.row(i - first_query), keys));
  }
  return map;
}

Report attend(const std::string& path) {
  const std::vector<std::string> words = split_words(read(path), most_words);
  if (words.size() < 4) throw std::runtime_error(path + " has fewer than 4 words");
  const auto n = static_cast<Index>(words.size());

  const Matrix x = embed(words, d, View::all_of_it);
  Matrix four(n, 4 * d);  // four heads, side by side in columns
  four << x, embed(words, d, View::beginning), embed(words, d, View::ending), embed(words, d, View::place);
  const Index half = n / 2;
  const Matrix first_half = x.topRows(half), second_half = x.bottomRows(n - half);
  const std::vector<std::string> first_words = slice(words, 0, half),
                                 second_words = slice(words, half, n - half);

  Eigen::setNbThreads(1);
  const double peak = measure::peak_gflops<float>();
  Report report{std::filesystem::path(path).filename().string(), words.size(), "", {}, {}};
  report.machine = std::string("Heed runs on ") + heed::name(heed::instruction_set()) +
                   ", whose multiply-adds reach " + std::to_string(static_cast<int>(peak)) +
                   " GFLOP/s on one core; Eigen was compiled for " + Eigen::SimdInstructionSetsInUse() +
                   " (add -march=native to compare like with like)";

  const auto add = [&](const auto&... arguments) { report.table.push_back(compare(arguments...)); };
  using namespace plain_eigen;
  add("full", peak, x, x, x, 1, all_keys(n));
  add("causal", peak, x, x, x, 1, causal_keys(n, n), heed::causal());
  add("window", peak, x, x, x, 1, window_keys(n, n, 16, 16), heed::window(16, 16));
  add("four heads", peak, four, four, four, 4, all_keys(n));
  add("cross", peak, second_half, first_half, first_half, 1, all_keys(half));

  const Index from = std::max<Index>(0, std::min(n / 3, n - shown));
  const auto self = [&](const char* title, const char* note, const Matrix& rows, Index head,
                        const auto&... policies) {
    report.maps.push_back(look(title, note, rows, words, from, rows, words, from, head, policies...));
  };
  self("full", "every word attends to all words", x, 0);
  self("causal", "a word attends to itself and what comes before it", x, 0, heed::causal());
  self("window", "a word attends to 16 words on either side", x, 0, heed::window(16, 16));
  self("four heads: beginnings", "the second head looks at the first letters only", four, 1, heed::heads(4));
  self("four heads: endings", "the third at the last ones", four, 2, heed::heads(4));
  self("four heads: places", "the fourth only at where the words stand", four, 3, heed::heads(4));
  report.maps.push_back(look("cross", "the text's second half (rows) attends to its first (columns)",
                             second_half, second_words, 0, first_half, first_words, 0, 0));
  return report;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const std::string text = argc > 1 ? argv[1] : HEED_README;
    const std::string html = argc > 2 ? argv[2] : "attention.html";
    const Report report = attend(text);
    print(report);
    write_html(report, html);
    std::printf("\nHeat maps and chart: %s\n", html.c_str());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "attend_words: %s\n", e.what());
    return 1;
  }
}
