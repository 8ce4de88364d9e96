// SPDX-License-Identifier: MIT
#ifndef TRANSLATE_DATES_BATCH_HPP
#define TRANSLATE_DATES_BATCH_HPP

// From texts to batches of numbers.

#include <Eigen/Core>
#include <algorithm>
#include <cstddef>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "dates.hpp"

namespace translate_dates {

using Eigen::Index;

/// A character's number is its place in one of these.
inline const std::string source_characters = " ,-./0123456789ADFJMNOSTWabcdefghijklmnopqrstuvwxyz";
inline const std::string target_characters = "0123456789-";

/// Throws std::runtime_error for a character that no date is written with.
inline int number_of(const std::string& characters, char c) {
  const std::size_t at = characters.find(c);
  if (at == std::string::npos) {
    const bool shown = c >= ' ' && c <= '~';
    throw std::runtime_error(
        "no date is written with " +
        (shown ? std::string("\"") + c + "\"" : "byte " + std::to_string(static_cast<unsigned char>(c))));
  }
  return static_cast<int>(at);
}

struct Example {
  std::string source, target;  // target_length characters, or none where it is not known
};

/// Texts of different length, and their translations.
///
/// A recurrent network takes a step for the first characters of all texts, one for their second ones, and so
/// on. Texts are sorted, the longest first, so that those which have a t-th character are the first
/// active[t], and characters stand step by step: that of text s in step t in row first[t] + s. Attention
/// wants text by text instead: there the same character is row offsets[s] + t.
struct Batch {
  std::vector<int> characters;            // M of them, step by step
  std::vector<Index> first, active;       // of each step
  std::vector<Index> offsets;             // of each text, and M
  std::vector<Index> places;              // of the texts: text s was at places[s] before they were sorted
  std::vector<std::vector<int>> targets;  // target_length characters of each text, by step; or nothing

  Index texts() const { return static_cast<Index>(offsets.size()) - 1; }
  Index steps() const { return static_cast<Index>(first.size()); }

  /// row(t, s) for every character: its row step by step, and its row text by text.
  template <class Visit>
  void each_character(const Visit& visit) const {
    for (std::size_t t = 0; t < first.size(); ++t)
      for (Index s = 0; s < active[t]; ++s)
        visit(first[t] + s, offsets[static_cast<std::size_t>(s)] + static_cast<Index>(t));
  }
};

/// @param examples at least one, sources of at least one character
inline Batch make_batch(const std::vector<Example>& examples) {
  Batch batch;
  batch.places.resize(examples.size());
  std::iota(batch.places.begin(), batch.places.end(), Index(0));
  const auto source = [&](Index place) -> const std::string& {
    return examples[static_cast<std::size_t>(place)].source;
  };
  std::stable_sort(batch.places.begin(), batch.places.end(),
                   [&](Index a, Index b) { return source(a).size() > source(b).size(); });
  batch.offsets.push_back(0);
  for (const Index place : batch.places) {
    if (source(place).empty()) throw std::runtime_error("an empty text is no date");
    batch.offsets.push_back(batch.offsets.back() + static_cast<Index>(source(place).size()));
  }
  for (std::size_t t = 0; t < source(batch.places.front()).size(); ++t) {
    batch.first.push_back(static_cast<Index>(batch.characters.size()));
    for (const Index place : batch.places)
      if (t < source(place).size())
        batch.characters.push_back(number_of(source_characters, source(place)[t]));
    batch.active.push_back(static_cast<Index>(batch.characters.size()) - batch.first.back());
  }
  if (!examples.front().target.empty()) {
    batch.targets.resize(target_length);
    for (std::size_t t = 0; t < target_length; ++t)
      for (const Index place : batch.places)
        batch.targets[t].push_back(
            number_of(target_characters, examples[static_cast<std::size_t>(place)].target[t]));
  }
  return batch;
}

/// Random dates, in one form or, where that is negative, in random ones.
inline std::vector<Example> random_examples(std::size_t count, bool held_out, std::mt19937_64& random,
                                            int form = -1) {
  std::vector<Example> examples(count);
  for (Example& example : examples) {
    const Date date = random_date(held_out, random);
    const int any = std::uniform_int_distribution<int>(0, forms - 1)(random);
    example = {written(date, form < 0 ? any : form), iso(date)};
  }
  return examples;
}

/// Batches of `size` such examples each.
inline std::vector<Batch> random_batches(std::size_t count, std::size_t size, bool held_out,
                                         std::mt19937_64& random, int form = -1) {
  std::vector<Batch> batches(count);
  for (Batch& batch : batches) batch = make_batch(random_examples(size, held_out, random, form));
  return batches;
}

}  // namespace translate_dates

#endif
