// SPDX-License-Identifier: MIT
#ifndef LONG_DOCUMENT_DOCUMENT_HPP
#define LONG_DOCUMENT_DOCUMENT_HPP

// From a text to a million rows of queries, keys and values.

#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include <heed/position/rotary.hpp>

namespace long_document {

using Eigen::Index;

/// Rows are tokens. Heed takes either storage order.
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Throws std::runtime_error.
inline std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file) throw std::runtime_error("cannot read " + path);
  return text;
}

/// The words of a text in their order, in small letters: letters, digits and whatever is not ASCII.
inline std::vector<std::string> split_words(const std::string& text) {
  std::vector<std::string> words;
  std::string word;
  for (const char c : text + ' ') {
    const auto u = static_cast<unsigned char>(c);
    if (u >= 'A' && u <= 'Z') {
      word += static_cast<char>(c - 'A' + 'a');
    } else if ((u >= 'a' && u <= 'z') || (u >= '0' && u <= '9') || u >= 128) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(word);
      word.clear();
    }
  }
  return words;
}

/// d numbers of length sqrt(d) for a word: the hashes of its groups of three letters and of the whole, each
/// read as signs. Words that look alike get similar rows; nothing is learnt.
inline Eigen::RowVectorXf embed(const std::string& word, Index d) {
  const std::string marked = "<" + word + ">";
  Eigen::RowVectorXf row = Eigen::RowVectorXf::Zero(d);
  const auto add = [&](const std::string& part) {
    std::uint64_t h = 14695981039346656037u;  // FNV-1a, then xorshift* for bit after bit
    for (const char c : part) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211u;
    for (Index c = 0; c < d; ++c) {
      h ^= h >> 12, h ^= h << 25, h ^= h >> 27;
      row[c] += (h * 2685821657736338717u) >> 63 != 0 ? 1.0f : -1.0f;
    }
  };
  add(marked);
  for (std::size_t begin = 0; begin + 3 <= marked.size(); ++begin) add(marked.substr(begin, 3));
  const float length = row.norm();
  if (!(length > 0)) return Eigen::RowVectorXf::Ones(d);
  return row * (std::sqrt(static_cast<float>(d)) / length);
}

/// A text repeated to so many tokens. Only its matrices grow with them.
struct Document {
  std::vector<std::string> words;  ///< of the text, once
  Matrix q, k, v;                  ///< tokens x d

  /// Queries and keys are the words' rows turned by their positions, values the rows as they are.
  /// Throws std::runtime_error for a text without words.
  Document(const std::string& text, Index tokens, Index d) : words(split_words(text)) {
    if (words.empty()) throw std::runtime_error("the text has no words");
    const auto period = static_cast<Index>(words.size());
    std::map<std::string, Eigen::RowVectorXf> rows;
    v.resize(tokens, d);
    for (Index i = 0; i < tokens; ++i) {
      if (i >= period) {
        v.row(i) = v.row(i - period);
        continue;
      }
      auto& row = rows[word(i)];
      if (row.size() == 0) row = embed(word(i), d);
      v.row(i) = row;
    }
    q = v;
    heed::rotary(q);
    k = q;
  }

  Index tokens() const { return q.rows(); }
  const std::string& word(Index token) const { return words[static_cast<std::size_t>(token) % words.size()]; }
};

}  // namespace long_document

#endif
