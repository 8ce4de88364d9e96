// SPDX-License-Identifier: MIT
#ifndef TRANSLATE_DATES_MODEL_HPP
#define TRANSLATE_DATES_MODEL_HPP

// The whole model: texts in, ten rows of logits for each, about the ten characters of its date.

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "../training/cross_entropy.hpp"
#include "batch.hpp"
#include "decoder.hpp"
#include "encoder.hpp"

namespace translate_dates {

struct Sizes {
  Index encoder_units = 32;  // of each direction
  Index decoder_units = 64;
  Index width = 32;  // of the attention
};

template <class T>
class Model {
 public:
  using Scalar = T;

  Model(const Sizes& sizes, std::uint64_t seed) : Model(sizes, std::mt19937_64(seed)) {}

  const Sizes& sizes() const { return sizes_; }

  /// @param told the characters of the translations, by step; without them the model reads its own
  /// @return 10·B × target characters, row t·B + text; valid until the next call
  const Matrix<T>& forward(const Batch& batch, const std::vector<std::vector<int>>& told) {
    encoder_.forward(batch, annotations_, summary_);
    decoder_.forward(batch, annotations_, summary_, told, logits_);
    return logits_;
  }

  /// The gradient by every parameter, for the last forward pass.
  /// @param dlogits 10·B × target characters
  void backward(const Batch& batch, const Matrix<T>& dlogits) {
    decoder_.backward(annotations_, summary_, dlogits, dannotations_, dsummary_);
    encoder_.backward(batch, dannotations_, dsummary_);
  }

  /// The likeliest translations, chosen character by character; places are those of the batch.
  std::vector<std::string> translate(const Batch& batch) {
    forward(batch, {});
    std::vector<std::string> result(static_cast<std::size_t>(batch.texts()));
    for (Index s = 0; s < batch.texts(); ++s)
      for (Index t = 0; t < static_cast<Index>(target_length); ++t) {
        Index best = 0;
        logits_.row(t * batch.texts() + s).maxCoeff(&best);
        result[static_cast<std::size_t>(s)] += target_characters[static_cast<std::size_t>(best)];
      }
    return result;
  }

  /// Where the last translation of a text looked: a row for each target character, a column for each source
  /// character, 10 × length; rows sum to 1.
  Matrix<T> alignment(Index text) const { return decoder_.alignment(text); }

  /// All parameters, always in the same order. They belong to the model and go with it.
  std::vector<NamedParameter<T>> parameters() {
    return {{"encoder, table", &encoder_.table.rows},
            {"encoder, recurrent", &encoder_.gru.recurrent},
            {"encoder backwards, table", &encoder_.table_back.rows},
            {"encoder backwards, recurrent", &encoder_.gru_back.recurrent},
            {"start, weight", &decoder_.start.weight},
            {"start, bias", &decoder_.start.bias},
            {"query", &decoder_.query},
            {"key, weight", &decoder_.key.weight},
            {"key, bias", &decoder_.key.bias},
            {"weights of the score", &decoder_.weights},
            {"decoder, table", &decoder_.table.rows},
            {"decoder, context", &decoder_.context},
            {"decoder, recurrent", &decoder_.gru.recurrent},
            {"output, weight", &decoder_.output.weight},
            {"output, bias", &decoder_.output.bias}};
  }

 private:
  Model(const Sizes& sizes, std::mt19937_64 random)
      : sizes_(sizes),
        encoder_(sizes.encoder_units, random),
        decoder_(sizes.encoder_units, sizes.decoder_units, sizes.width, random) {}

  Sizes sizes_;
  Encoder<T> encoder_;
  Decoder<T> decoder_;
  Matrix<T> annotations_, dannotations_;  // M × 2H
  Matrix<T> summary_, dsummary_;          // B × H
  Matrix<T> logits_;                      // 10·B × target characters
};

namespace detail {

/// The characters of all steps, in the order of the rows of logits.
inline std::vector<int> targets_of(const Batch& batch) {
  std::vector<int> all;
  for (const std::vector<int>& step : batch.targets) all.insert(all.end(), step.begin(), step.end());
  return all;
}

}  // namespace detail

/// The mean surprise at a target character, in nats, when all before it are known.
template <class T>
double loss(Model<T>& model, const Batch& batch) {
  return cross_entropy(model.forward(batch, batch.targets), detail::targets_of(batch));
}

/// The loss, and its gradient in every parameter.
template <class T>
double loss_and_gradient(Model<T>& model, const Batch& batch) {
  Matrix<T> dlogits;
  const double loss = cross_entropy(model.forward(batch, batch.targets), detail::targets_of(batch), &dlogits);
  model.backward(batch, dlogits);
  return loss;
}

/// The share of texts whose translation is right in all ten characters.
template <class T>
double share_right(Model<T>& model, const Batch& batch) {
  const std::vector<std::string> translations = model.translate(batch);
  Index right = 0;
  for (std::size_t s = 0; s < translations.size(); ++s) {
    bool same = true;
    for (std::size_t t = 0; t < target_length; ++t)
      same = same && translations[s][t] == target_characters[static_cast<std::size_t>(batch.targets[t][s])];
    right += same;
  }
  return static_cast<double>(right) / static_cast<double>(translations.size());
}

}  // namespace translate_dates

#endif
