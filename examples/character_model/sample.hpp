// SPDX-License-Identifier: MIT
#ifndef CHARACTER_MODEL_SAMPLE_HPP
#define CHARACTER_MODEL_SAMPLE_HPP

// From a model to a text.

#include <random>
#include <string>
#include <vector>

#include "model.hpp"
#include "text.hpp"

namespace character_model {

/// `count` characters that follow the beginning, one at a time: the next one is drawn from softmax(logits /
/// temperature). The model sees as much of the text as its context holds. As that window moves on, all
/// positions in it change, so each character takes a whole forward pass.
/// @param beginning at least one character, all of the vocabulary
/// @param temperature > 0; below 1 the likely characters become likelier
template <class T>
std::string sample(Model<T>& model, const Vocabulary& vocabulary, const std::string& beginning, int count,
                   double temperature, std::mt19937_64& random) {
  std::vector<int> text = vocabulary.numbers(beginning);
  std::string result;
  for (int n = 0; n < count; ++n) {
    const auto seen = std::min(static_cast<Index>(text.size()), model.sizes().context);
    const Matrix<T>& logits = model.forward({text.end() - seen, text.end()}, {0, seen});
    const auto last = logits.row(seen - 1).template cast<double>();
    const Eigen::ArrayXd weights = ((last.array() - last.maxCoeff()) / temperature).exp().transpose();
    std::discrete_distribution<int> next(weights.data(), weights.data() + weights.size());
    text.push_back(next(random));
    result += vocabulary.character(text.back());
  }
  return result;
}

}  // namespace character_model

#endif
