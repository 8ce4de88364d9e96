// SPDX-License-Identifier: MIT
#ifndef CHARACTER_MODEL_MODEL_HPP
#define CHARACTER_MODEL_MODEL_HPP

// The whole model: characters in, one row of logits for each in, about the character that follows it.

#include <heed/heed.hpp>

#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "../training/cross_entropy.hpp"
#include "block.hpp"
#include "layers.hpp"

namespace character_model {

/// A batch of sequences of different length, one after the other.
struct Batch {
  std::vector<int> inputs;   // N characters, as numbers below the size of the vocabulary
  std::vector<int> targets;  // N characters: what follows each of them
  Offsets offsets;           // 0 … N
};

/// Throws std::runtime_error where no model can have such sizes.
inline void check(const Sizes& s) {
  const Index most = 1 << 16;
  for (const Index n : {s.vocabulary, s.width, s.heads, s.blocks, s.hidden, s.context})
    if (n < 1 || n > most) throw std::runtime_error("a size of the model is " + std::to_string(n));
  if (s.width % s.heads != 0 || s.width % 2 != 0)
    throw std::runtime_error("a width of " + std::to_string(s.width) + " is odd or not a multiple of " +
                             std::to_string(s.heads) + " heads");
}

template <class T>
class Model {
 public:
  using Scalar = T;

  Model(const Sizes& sizes, std::uint64_t seed) : Model(sizes, std::mt19937_64(seed)) {}

  const Sizes& sizes() const { return sizes_; }

  /// x_i = embedding of character i + its place in its sequence; x = block(x) for each block; logits =
  /// norm(x) W + b.
  /// @param inputs N characters
  /// @param offsets where their sequences begin
  /// @return N × vocabulary, valid until the next call
  const Matrix<T>& forward(const std::vector<int>& inputs, const Offsets& offsets) {
    inputs_ = inputs;
    offsets_ = offsets;
    x_.resize(static_cast<Index>(inputs.size()), sizes_.width);
    for (std::size_t s = 1; s < offsets.size(); ++s) {
      if (offsets[s] - offsets[s - 1] > sizes_.context)
        throw std::invalid_argument("a sequence is longer than the model's context");
      for (Index i = offsets[s - 1]; i < offsets[s]; ++i)
        x_.row(i) =
            embedding_.value.row(inputs[static_cast<std::size_t>(i)]) + positions_.row(i - offsets[s - 1]);
    }
    for (Block<T>& block : blocks_) block.forward(x_, offsets_, workspace_);
    final_norm_.forward(x_, normal_);
    output_.forward(normal_, logits_);
    return logits_;
  }

  /// The gradient by every parameter, for the inputs of the last forward pass.
  /// @param dlogits N × vocabulary
  void backward(const Matrix<T>& dlogits) {
    output_.backward(normal_, dlogits, dnormal_);
    dx_.setZero(x_.rows(), x_.cols());
    final_norm_.backward(dnormal_, dx_);
    for (std::size_t b = blocks_.size(); b-- > 0;) blocks_[b].backward(dx_, offsets_, workspace_);
    embedding_.gradient.setZero();  // a character stands in many places, or in none
    for (Index i = 0; i < dx_.rows(); ++i)
      embedding_.gradient.row(inputs_[static_cast<std::size_t>(i)]) += dx_.row(i);
  }

  /// All parameters, always in the same order. They belong to the model and go with it.
  std::vector<NamedParameter<T>> parameters() {
    std::vector<NamedParameter<T>> all{{"embedding", &embedding_}};
    for (std::size_t b = 0; b < blocks_.size(); ++b)
      blocks_[b].each_parameter([&](const char* name, Parameter<T>& parameter) {
        all.push_back({"block " + std::to_string(b) + ", " + name, &parameter});
      });
    all.push_back({"final norm, gain", &final_norm_.gain});
    all.push_back({"final norm, bias", &final_norm_.bias});
    all.push_back({"output, weight", &output_.weight});
    all.push_back({"output, bias", &output_.bias});
    return all;
  }

 private:
  Model(const Sizes& sizes, std::mt19937_64 random)
      : sizes_((check(sizes), sizes)),
        embedding_(sizes.vocabulary, sizes.width, 1.0, random),
        positions_(sizes.context, sizes.width),
        final_norm_(sizes.width),
        output_(sizes.width, sizes.vocabulary, 0.1, random) {
    for (Index b = 0; b < sizes.blocks; ++b) blocks_.emplace_back(sizes, random);
    // 1706.03762: sin and cos of position / 10000^(c/d), interleaved; a tenth of them, so that what a
    // character is, drawn with deviation 1, is not drowned by where it stands.
    for (Index i = 0; i < sizes.context; ++i)
      for (Index c = 0; c < sizes.width; c += 2) {
        const double angle =
            static_cast<double>(i) / std::pow(1e4, static_cast<double>(c) / static_cast<double>(sizes.width));
        positions_(i, c) = static_cast<T>(0.1 * std::sin(angle));
        positions_(i, c + 1) = static_cast<T>(0.1 * std::cos(angle));
      }
  }

  Sizes sizes_;
  Parameter<T> embedding_;  // vocabulary × d
  Matrix<T> positions_;     // context × d
  std::vector<Block<T>> blocks_;
  LayerNorm<T> final_norm_;
  Linear<T> output_;  // d × vocabulary

  heed::Workspace workspace_;  // one for all blocks: they run one after the other
  std::vector<int> inputs_;
  Offsets offsets_;
  Matrix<T> x_, dx_, normal_, dnormal_;  // N × d
  Matrix<T> logits_;                     // N × vocabulary
};

template <class T>
double loss(Model<T>& model, const Batch& batch) {
  return cross_entropy(model.forward(batch.inputs, batch.offsets), batch.targets);
}

/// One forward and one backward pass: the loss, and its gradient in every parameter.
template <class T>
double loss_and_gradient(Model<T>& model, const Batch& batch) {
  Matrix<T> dlogits;
  const double loss = cross_entropy(model.forward(batch.inputs, batch.offsets), batch.targets, &dlogits);
  model.backward(dlogits);
  return loss;
}

}  // namespace character_model

#endif
