// SPDX-License-Identifier: MIT
#ifndef CHARACTER_MODEL_BLOCK_HPP
#define CHARACTER_MODEL_BLOCK_HPP

// One block of the transformer: x += attention(norm(x)), then x += feed_forward(norm(x)).

#include <heed/heed.hpp>

#include <cmath>
#include <vector>

#include "layers.hpp"

namespace character_model {

/// Where the sequences of a packed batch begin: sequence s is rows [offsets[s], offsets[s+1]).
using Offsets = std::vector<Index>;

/// Sizes of a model; the checkpoint keeps them.
struct Sizes {
  Index vocabulary = 0;  // different characters
  Index width = 96;      // columns of the residual stream
  Index heads = 4;       // attention heads, a divisor of width
  Index blocks = 2;
  Index hidden = 384;   // columns inside the feed-forward layers
  Index context = 128;  // the longest sequence of characters

  bool operator==(const Sizes&) const = default;
};

/// y = attention(q, k, v) W + b with (q k v) = x W' + b': the only layer in which characters see each other,
/// each one itself and those before it in its own sequence.
template <class T>
class CausalAttention {
 public:
  Linear<T> projections;  // d × 3d: queries, keys and values side by side
  Linear<T> output;       // d × d

  CausalAttention(const Sizes& sizes, std::mt19937_64& random)
      : projections(sizes.width, 3 * sizes.width, 1.0, random),
        output(sizes.width, sizes.width, 1 / std::sqrt(2.0 * static_cast<double>(sizes.blocks)), random),
        heads_(sizes.heads) {}

  /// @param x N × d
  /// @param y N × d, written
  void forward(const Matrix<T>& x, const Offsets& offsets, heed::Workspace& workspace, Matrix<T>& y) {
    const Index d = x.cols();
    projections.forward(x, qkv_);
    mixed_.resize(x.rows(), d);
    heed::attention_into(mixed_, qkv_.leftCols(d), qkv_.middleCols(d, d), qkv_.rightCols(d), workspace,
                         variant(offsets), heed::save(saved_));
    output.forward(mixed_, y);
  }

  /// @param x N × d, offsets as they were in the forward pass
  /// @param dy N × d
  /// @param dx N × d, written
  void backward(const Matrix<T>& x, const Offsets& offsets, heed::Workspace& workspace, const Matrix<T>& dy,
                Matrix<T>& dx) {
    const Index d = x.cols();
    output.backward(mixed_, dy, dmixed_);
    dqkv_.resize(qkv_.rows(), qkv_.cols());
    heed::attention_backward(
        dmixed_, qkv_.leftCols(d), qkv_.middleCols(d, d), qkv_.rightCols(d), mixed_, saved_, variant(offsets),
        heed::into(dqkv_.leftCols(d), dqkv_.middleCols(d, d), dqkv_.rightCols(d)), heed::use(workspace));
    projections.backward(x, dqkv_, dx);
  }

 private:
  /// Both passes must be given the same policies. The bundle refers to `offsets`. ALiBi makes heads look at
  /// what is near from the first step on: without it, as many steps end at a loss 0.3 nats higher. Threads
  /// are for whole parts of a batch here (team.hpp): within one, attention stays on its thread.
  auto variant(const Offsets& offsets) const {
    return heed::spec(heed::heads(heads_), heed::causal(), heed::alibi(), heed::sequences(offsets, offsets),
                      heed::on(heed::serial()));
  }

  Index heads_;
  Matrix<T> qkv_, dqkv_;      // N × 3d
  Matrix<T> mixed_, dmixed_;  // N × d, the heads' outputs side by side
  heed::Saved<T> saved_;      // log-sum-exp, N × heads
};

/// y = gelu(x W1 + b1) W2 + b2: what each character makes of what it has gathered.
template <class T>
class FeedForward {
 public:
  Linear<T> widen;   // d × hidden
  Linear<T> narrow;  // hidden × d

  FeedForward(const Sizes& sizes, std::mt19937_64& random)
      : widen(sizes.width, sizes.hidden, 1.0, random),
        narrow(sizes.hidden, sizes.width, 1 / std::sqrt(2.0 * static_cast<double>(sizes.blocks)), random) {}

  /// @param x N × d
  /// @param y N × d, written
  void forward(const Matrix<T>& x, Matrix<T>& y) {
    widen.forward(x, before_);
    gelu_.forward(before_, after_);
    narrow.forward(after_, y);
  }

  /// @param x N × d, as it was in the forward pass
  /// @param dy N × d
  /// @param dx N × d, written
  void backward(const Matrix<T>& x, const Matrix<T>& dy, Matrix<T>& dx) {
    narrow.backward(after_, dy, before_);
    gelu_.backward(before_);
    widen.backward(x, before_, dx);
  }

 private:
  Gelu<T> gelu_;
  Matrix<T> before_, after_;  // N × hidden
};

template <class T>
class Block {
 public:
  LayerNorm<T> attention_norm;
  CausalAttention<T> attention;
  LayerNorm<T> feed_forward_norm;
  FeedForward<T> feed_forward;

  Block(const Sizes& sizes, std::mt19937_64& random)
      : attention_norm(sizes.width),
        attention(sizes, random),
        feed_forward_norm(sizes.width),
        feed_forward(sizes, random) {}

  /// @param x N × d, the residual stream, added to
  void forward(Matrix<T>& x, const Offsets& offsets, heed::Workspace& workspace) {
    attention_norm.forward(x, to_attention_);
    attention.forward(to_attention_, offsets, workspace, branch_);
    x += branch_;
    feed_forward_norm.forward(x, to_feed_forward_);
    feed_forward.forward(to_feed_forward_, branch_);
    x += branch_;
  }

  /// x + branch(x) hands dx on as it is and adds what comes back through the branch.
  /// @param dx N × d, by what the block put out; afterwards by what it took in
  void backward(Matrix<T>& dx, const Offsets& offsets, heed::Workspace& workspace) {
    feed_forward.backward(to_feed_forward_, dx, branch_);
    feed_forward_norm.backward(branch_, dx);
    attention.backward(to_attention_, offsets, workspace, dx, branch_);
    attention_norm.backward(branch_, dx);
  }

  /// visit(name, parameter) for every parameter, always in the same order.
  template <class Visit>
  void each_parameter(Visit&& visit) {
    visit("attention norm, gain", attention_norm.gain);
    visit("attention norm, bias", attention_norm.bias);
    visit("query key value, weight", attention.projections.weight);
    visit("query key value, bias", attention.projections.bias);
    visit("attention output, weight", attention.output.weight);
    visit("attention output, bias", attention.output.bias);
    visit("feed-forward norm, gain", feed_forward_norm.gain);
    visit("feed-forward norm, bias", feed_forward_norm.bias);
    visit("widen, weight", feed_forward.widen.weight);
    visit("widen, bias", feed_forward.widen.bias);
    visit("narrow, weight", feed_forward.narrow.weight);
    visit("narrow, bias", feed_forward.narrow.bias);
  }

 private:
  Matrix<T> to_attention_, to_feed_forward_;  // N × d, normalised
  Matrix<T> branch_;                          // N × d
};

}  // namespace character_model

#endif
