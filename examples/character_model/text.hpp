// SPDX-License-Identifier: MIT
#ifndef CHARACTER_MODEL_TEXT_HPP
#define CHARACTER_MODEL_TEXT_HPP

// From files to batches. A character is a byte: any file will do.

#include <algorithm>
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "model.hpp"

namespace character_model {

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file || std::filesystem::is_directory(path)) throw std::runtime_error("cannot read " + path.string());
  return text;
}

/// A file's contents; of a directory all headers (.hpp, .inl) below it, one after the other in the order of
/// their paths.
inline std::string read_text(const std::string& path) {
  if (!std::filesystem::is_directory(path)) return read_file(path);
  std::vector<std::filesystem::path> headers;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(path))
    if (entry.path().extension() == ".hpp" || entry.path().extension() == ".inl")
      headers.push_back(entry.path());
  std::sort(headers.begin(), headers.end());
  std::string text;
  for (const auto& header : headers) text += read_file(header);
  return text;
}

/// The different bytes of a text, in ascending order; a character's number is its place among them.
class Vocabulary {
 public:
  explicit Vocabulary(const std::string& text) {
    std::array<bool, 256> seen{};
    for (const char c : text) seen[static_cast<unsigned char>(c)] = true;
    for (std::size_t c = 0; c < 256; ++c)
      if (seen[c]) {
        numbers_[c] = static_cast<int>(characters_.size());
        characters_ += static_cast<char>(c);
      }
  }

  Index size() const { return static_cast<Index>(characters_.size()); }
  const std::string& characters() const { return characters_; }
  char character(int number) const { return characters_[static_cast<std::size_t>(number)]; }

  /// @param text made of characters of the vocabulary only
  std::vector<int> numbers(const std::string& text) const {
    std::vector<int> result;
    result.reserve(text.size());
    for (const char c : text) result.push_back(numbers_[static_cast<unsigned char>(c)]);
    return result;
  }

 private:
  std::array<int, 256> numbers_{};
  std::string characters_;
};

/// Appends the sequence of `length` characters from `begin` on.
/// @param text at least begin + length + 1 characters
inline void append(Batch& batch, const std::vector<int>& text, Index begin, Index length) {
  if (batch.offsets.empty()) batch.offsets.push_back(0);
  batch.inputs.insert(batch.inputs.end(), text.begin() + begin, text.begin() + begin + length);
  batch.targets.insert(batch.targets.end(), text.begin() + begin + 1, text.begin() + begin + length + 1);
  batch.offsets.push_back(batch.offsets.back() + length);
}

/// Sequences from random places, of random lengths between half the context and all of it, until there are
/// `size` characters; the last one is cut to fit. Every batch has the same size, so nothing is allocated
/// anew.
/// @param text more than `context` characters
inline Batch random_batch(const std::vector<int>& text, Index context, Index size, std::mt19937_64& random) {
  Batch batch;
  for (Index left = size; left > 0;) {
    const Index length =
        std::min(left, std::uniform_int_distribution<Index>((context + 1) / 2, context)(random));
    const Index last = static_cast<Index>(text.size()) - length - 1;
    append(batch, text, std::uniform_int_distribution<Index>(0, last)(random), length);
    left -= length;
  }
  return batch;
}

/// At most `most` batches of `sequences` whole contexts each, evenly spread over the text; the same ones for
/// every call. A text too short for them gives one batch of one sequence.
/// @param text more than `context` characters
inline std::vector<Batch> even_batches(const std::vector<int>& text, Index context, Index sequences,
                                       Index most) {
  const Index last = static_cast<Index>(text.size()) - context - 1;
  const Index fitting = (last + context) / context;
  if (fitting < sequences) sequences = 1;
  const Index count = std::min(most, fitting / sequences) * sequences;
  std::vector<Batch> batches(static_cast<std::size_t>(count / sequences));
  for (Index s = 0; s < count; ++s)
    append(batches[static_cast<std::size_t>(s / sequences)], text, count > 1 ? last * s / (count - 1) : 0,
           context);
  return batches;
}

/// The text with ? for every byte that is neither printable ASCII, a line's end or a tab nor part of
/// well-formed UTF-8: a model that writes bytes may write anything.
inline std::string printable(const std::string& text) {
  const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0u; };
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const unsigned c = at(i);
    std::size_t length = c < 128 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : 0;
    for (std::size_t k = 1; k < length; ++k)
      if ((at(i + k) & 0xc0) != 0x80) length = 0;
    const bool control = (c < 32 && c != '\n' && c != '\t') || c == 127;
    if (length == 0 || control) {
      out += '?';
      ++i;
    } else {
      out += text.substr(i, length);
      i += length;
    }
  }
  return out;
}

}  // namespace character_model

#endif
