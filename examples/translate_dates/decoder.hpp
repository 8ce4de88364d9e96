// SPDX-License-Identifier: MIT
#ifndef TRANSLATE_DATES_DECODER_HPP
#define TRANSLATE_DATES_DECODER_HPP

// What writes the target, one character of all texts at a time, looking back at the source before each.

#include <heed/heed.hpp>

#include <random>
#include <vector>

#include "../training/linear.hpp"
#include "batch.hpp"
#include "gru.hpp"

namespace translate_dates {

/// With the state s and the character y written last, and a row h_j for each character of the source:
///
///     c = Σ_j a_j h_j,  a = softmax_j(Σ w ∘ tanh(s Q + h_j K + b))        additive attention
///     s' = gru(s, row of y + c C),  logits = (s', c) W + b'
///
/// Source: 1409.0473, with a linear output instead of maxout units. B is the number of texts, S that of the
/// units, A the width of the attention, M the number of the source's characters, T that of steps. Rows of
/// what is kept from all steps are step by step: row t·B + text.
template <class T>
class Decoder {
 public:
  Linear<T> start;       // H × S, the first state from the encoder's summary
  Parameter<T> query;    // Q, S × A
  Linear<T> key;         // K and b, 2H × A
  Parameter<T> weights;  // w, 1 × A
  Table<T> table;        // target characters, and one for "nothing yet", × 3S
  Parameter<T> context;  // C, 2H × 3S
  Gru<T> gru;            // of S units
  Linear<T> output;      // W and b', S + 2H × target characters

  Decoder(Index encoder_units, Index units, Index width, std::mt19937_64& random)
      : start(encoder_units, units, 1.0, random),
        query(units, width, 1 / std::sqrt(static_cast<double>(units)), random),
        key(2 * encoder_units, width, 1.0, random),
        weights(1, width, 1 / std::sqrt(static_cast<double>(width)), random),
        table(static_cast<Index>(target_characters.size()) + 1, 3 * units, random),
        context(2 * encoder_units, 3 * units, 1 / std::sqrt(2 * static_cast<double>(encoder_units)), random),
        gru(units, random),
        output(units + 2 * encoder_units, static_cast<Index>(target_characters.size()), 0.5, random) {}

  /// @param annotations M × 2H, text by text
  /// @param summary B × H
  /// @param written the characters to be written, by step, of which each step is told the one before; where
  ///   there are none, each step is told the likeliest one of the step before
  /// @param logits T·B × target characters, written
  void forward(const Batch& batch, const Matrix<T>& annotations, const Matrix<T>& summary,
               const std::vector<std::vector<int>>& written, Matrix<T>& logits) {
    const Index texts = batch.texts(), steps = static_cast<Index>(target_length), units = gru.units();
    key_offsets_ = batch.offsets;
    query_offsets_.resize(key_offsets_.size());
    for (std::size_t s = 0; s < query_offsets_.size(); ++s) query_offsets_[s] = static_cast<Index>(s);
    start.forward(summary, state_);
    state_.array() = state_.array().tanh();
    key.forward(annotations, keys_);
    gru.resize(steps * texts);
    queries_.resize(steps * texts, query.value.cols());
    joined_.resize(steps * texts, units + annotations.cols());
    logits.resize(steps * texts, output.bias.value.cols());
    saved_.resize(target_length);
    told_.assign(static_cast<std::size_t>(texts), static_cast<int>(target_characters.size()));
    all_told_.clear();
    for (Index t = 0; t < steps; ++t) {
      const auto rows = [&](auto& m) { return m.middleRows(t * texts, texts); };
      auto contexts = joined_.block(t * texts, units, texts, annotations.cols());
      if (t == 0) {
        rows(gru.previous) = state_;
      } else {
        rows(gru.previous) = gru.states.middleRows((t - 1) * texts, texts);
      }
      rows(queries_).noalias() = rows(gru.previous) * query.value;
      heed::attention_into(contexts, rows(queries_), keys_, annotations, workspace_, variant(),
                           heed::save(saved_[static_cast<std::size_t>(t)]));
      table.forward(told_, rows(gru.x));
      rows(gru.x).noalias() += contexts * context.value;
      gru.step(t * texts, texts);
      rows(joined_).leftCols(units) = rows(gru.states);
      rows(logits).noalias() = rows(joined_) * output.weight.value;
      rows(logits).rowwise() += output.bias.value.row(0);
      all_told_.insert(all_told_.end(), told_.begin(), told_.end());
      if (written.empty()) {
        for (Index s = 0; s < texts; ++s)
          logits.row(t * texts + s).maxCoeff(&told_[static_cast<std::size_t>(s)]);
      } else {
        told_ = written[static_cast<std::size_t>(t)];
      }
    }
  }

  /// @param annotations, summary as they were in the forward pass
  /// @param dlogits T·B × target characters
  /// @param dannotations M × 2H, written
  /// @param dsummary B × H, written
  void backward(const Matrix<T>& annotations, const Matrix<T>& summary, const Matrix<T>& dlogits,
                Matrix<T>& dannotations, Matrix<T>& dsummary) {
    const Index texts = summary.rows(), units = gru.units(), width = annotations.cols();
    output.backward(joined_, dlogits, djoined_);
    // Every step adds to the gradients of keys, annotations and w.
    dkeys_.setZero(keys_.rows(), keys_.cols());
    dannotations.setZero(annotations.rows(), width);
    dqueries_.setZero(queries_.rows(), queries_.cols());
    weights.gradient.setZero();
    ds_.setZero(texts, units);
    for (Index t = static_cast<Index>(target_length); t-- > 0;) {
      const auto rows = [&](auto& m) { return m.middleRows(t * texts, texts); };
      auto dcontexts = djoined_.block(t * texts, units, texts, width);
      ds_ += rows(djoined_).leftCols(units);
      gru.step_back(t * texts, texts, ds_);
      dcontexts.noalias() += rows(gru.dx) * context.value.transpose();
      heed::attention_backward(
          dcontexts, rows(queries_), keys_, annotations, joined_.block(t * texts, units, texts, width),
          saved_[static_cast<std::size_t>(t)], variant(), heed::into(rows(dqueries_), dkeys_, dannotations),
          heed::score_gradient(weights.gradient), heed::accumulating, heed::use(workspace_));
      ds_.noalias() += rows(dqueries_) * query.value.transpose();
    }
    gru.finish();
    query.gradient.noalias() = gru.previous.transpose() * dqueries_;
    context.gradient.noalias() = joined_.rightCols(width).transpose() * gru.dx;
    table.backward(all_told_, gru.dx);
    ds_.array() *= 1 - state_.array().square();
    start.backward(summary, ds_, dsummary);
    key.backward(annotations, dkeys_, through_keys_);
    dannotations += through_keys_;
  }

  /// How much each step of the last forward pass looked at each character: of one text of length m, T × m.
  Matrix<T> alignment(Index text) const {
    const Index first = key_offsets_[static_cast<std::size_t>(text)],
                m = key_offsets_[static_cast<std::size_t>(text) + 1] - first,
                texts = static_cast<Index>(key_offsets_.size()) - 1;
    Matrix<T> queries(static_cast<Index>(target_length), queries_.cols());
    for (Index t = 0; t < queries.rows(); ++t) queries.row(t) = queries_.row(t * texts + text);
    return heed::attention_weights(queries, keys_.middleRows(first, m), heed::additive(weights.value.row(0)));
  }

 private:
  /// One query a text, which sees the keys of its own text. Both passes must be given the same policies. The
  /// bundle refers to members. Threads are for whole parts of a batch here, see team.hpp.
  auto variant() const {
    return heed::spec(heed::additive(weights.value.row(0)), heed::sequences(query_offsets_, key_offsets_),
                      heed::on(heed::serial()));
  }

  std::vector<Index> query_offsets_, key_offsets_;  // B + 1
  std::vector<int> told_, all_told_;                // B, T·B characters
  heed::Workspace workspace_;
  std::vector<heed::Saved<T>> saved_;  // of each step
  Matrix<T> state_, ds_;               // B × S, the first state; the gradient by the one at hand
  Matrix<T> keys_, dkeys_;             // M × A
  Matrix<T> queries_, dqueries_;       // T·B × A
  Matrix<T> joined_, djoined_;         // T·B × (S + 2H): states and contexts
  Matrix<T> through_keys_;             // M × 2H
};

}  // namespace translate_dates

#endif
