// SPDX-License-Identifier: MIT
#include "words.hpp"

#include <cmath>
#include <cstdint>

namespace {

bool in_word(char c) {
  const auto u = static_cast<unsigned char>(c);
  return (u >= 'a' && u <= 'z') || (u >= 'A' && u <= 'Z') || (u >= '0' && u <= '9') || u == '_' || u >= 128;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

/// FNV-1a.
std::uint64_t hash(const std::string& s) {
  std::uint64_t h = 14695981039346656037u;
  for (const char c : s) h = (h ^ static_cast<unsigned char>(c)) * 1099511628211u;
  return h;
}

/// splitmix64: 64 well mixed bits for each step of the state.
std::uint64_t mix(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

void add_ngram(const std::string& ngram, Eigen::Ref<Eigen::RowVectorXf> row) {
  std::uint64_t state = hash(ngram);
  for (Eigen::Index c = 0; c < row.size(); c += 64) {
    std::uint64_t signs = mix(state);
    for (Eigen::Index b = 0; b < 64; ++b, signs >>= 1) row[c + b] += (signs & 1) != 0 ? 1.0f : -1.0f;
  }
}

/// 1706.03762: sin and cos of position / 10000^(2i/d), interleaved.
Eigen::RowVectorXf sinusoid(std::size_t position, Eigen::Index d) {
  Eigen::RowVectorXf row(d);
  for (Eigen::Index c = 0; c < d; c += 2) {
    const float angle =
        static_cast<float>(position) / std::pow(10000.0f, static_cast<float>(c) / static_cast<float>(d));
    row[c] = std::sin(angle);
    row[c + 1] = std::cos(angle);
  }
  return row;
}

}  // namespace

std::vector<std::string> split_words(const std::string& text, std::size_t most) {
  std::vector<std::string> words;
  std::string word;
  for (std::size_t i = 0; i <= text.size() && words.size() < most; ++i) {
    const char c = i < text.size() ? text[i] : ' ';
    const bool joins =
        (c == '-' || c == '\'') && !word.empty() && i + 1 < text.size() && in_word(text[i + 1]);
    if (in_word(c) || joins) {
      word += c;
    } else if (!word.empty()) {
      words.push_back(word);
      word.clear();
    }
  }
  return words;
}

Matrix embed(const std::vector<std::string>& words, Eigen::Index d, View view) {
  Matrix rows = Matrix::Zero(static_cast<Eigen::Index>(words.size()), d);
  for (std::size_t i = 0; i < words.size(); ++i) {
    auto row = rows.row(static_cast<Eigen::Index>(i));
    if (view == View::place) {
      row = sinusoid(i, d);
    } else {
      std::string marked = "<";  // so that beginnings and endings are n-grams of their own
      for (const char c : words[i]) marked += lower(c);
      marked += ">";
      const std::size_t some = marked.size() < 4 ? marked.size() : 4;
      if (view == View::beginning) add_ngram(marked.substr(0, some), row);
      if (view == View::ending) add_ngram(marked.substr(marked.size() - some), row);
      if (view == View::all_of_it) {
        add_ngram(marked, row);
        for (std::size_t n = 3; n <= 5; ++n) {
          for (std::size_t begin = 0; begin + n <= marked.size(); ++begin)
            add_ngram(marked.substr(begin, n), row);
        }
        row = row.normalized() + 0.4f * sinusoid(i, d).normalized();
      }
    }
    row *= std::sqrt(static_cast<float>(d)) / row.norm();
  }
  return rows;
}
