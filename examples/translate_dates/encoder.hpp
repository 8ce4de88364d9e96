// SPDX-License-Identifier: MIT
#ifndef TRANSLATE_DATES_ENCODER_HPP
#define TRANSLATE_DATES_ENCODER_HPP

// What reads the source: once from left to right, once from right to left.

#include <algorithm>
#include <random>

#include "batch.hpp"
#include "gru.hpp"

namespace translate_dates {

/// Two recurrent layers of H units, side by side at each character: its row tells what the text says up to it
/// and from it on. Source: 1409.0473, section 3.2.
template <class T>
class Encoder {
 public:
  Table<T> table, table_back;  // source characters × 3H
  Gru<T> gru, gru_back;        // of H units

  Encoder(Index units, std::mt19937_64& random)
      : table(static_cast<Index>(source_characters.size()), 3 * units, random),
        table_back(static_cast<Index>(source_characters.size()), 3 * units, random),
        gru(units, random),
        gru_back(units, random) {}

  /// @param annotations M × 2H, written: the states of both directions, text by text
  /// @param summary B × H, written: the backward states of the first characters, which have seen all
  void forward(const Batch& batch, Matrix<T>& annotations, Matrix<T>& summary) {
    const Index rows = static_cast<Index>(batch.characters.size()), h = gru.units();
    gru.resize(rows);
    gru_back.resize(rows);
    table.forward(batch.characters, gru.x);
    table_back.forward(batch.characters, gru_back.x);
    for (Index t = 0; t < batch.steps(); ++t) step(gru, batch, t, t - 1);
    for (Index t = batch.steps(); t-- > 0;) step(gru_back, batch, t, t + 1);
    annotations.resize(rows, 2 * h);
    batch.each_character([&](Index by_step, Index by_text) {
      annotations.row(by_text) << gru.states.row(by_step), gru_back.states.row(by_step);
    });
    summary = gru_back.states.topRows(batch.texts());
  }

  /// @param batch as it was in the forward pass
  /// @param dannotations M × 2H
  /// @param dsummary B × H
  void backward(const Batch& batch, const Matrix<T>& dannotations, const Matrix<T>& dsummary) {
    const Index rows = dannotations.rows(), h = gru.units();
    dstates_.resize(rows, h);
    dstates_back_.resize(rows, h);
    batch.each_character([&](Index by_step, Index by_text) {
      dstates_.row(by_step) = dannotations.row(by_text).head(h);
      dstates_back_.row(by_step) = dannotations.row(by_text).tail(h);
    });
    dstates_back_.topRows(batch.texts()) += dsummary;
    for (Index t = batch.steps(); t-- > 0;) step_back(gru, batch, t, t - 1, dstates_);
    for (Index t = 0; t < batch.steps(); ++t) step_back(gru_back, batch, t, t + 1, dstates_back_);
    gru.finish();
    gru_back.finish();
    table.backward(batch.characters, gru.dx);
    table_back.backward(batch.characters, gru_back.dx);
  }

 private:
  /// How many texts have both the t-th character and the one read before it. The others start from zeros:
  /// forwards all at their first character, backwards each at its last one.
  static Index continued(const Batch& batch, Index t, Index before) {
    if (before < 0 || before >= batch.steps()) return 0;
    return std::min(batch.active[static_cast<std::size_t>(t)],
                    batch.active[static_cast<std::size_t>(before)]);
  }

  static void step(Gru<T>& layer, const Batch& batch, Index t, Index before) {
    const Index first = batch.first[static_cast<std::size_t>(t)],
                n = batch.active[static_cast<std::size_t>(t)], old = continued(batch, t, before);
    if (old > 0)
      layer.previous.middleRows(first, old) =
          layer.states.middleRows(batch.first[static_cast<std::size_t>(before)], old);
    layer.previous.middleRows(first + old, n - old).setZero();
    layer.step(first, n);
  }

  /// @param dstates R × H, complete in the rows of step t; adds to those of the step before
  void step_back(Gru<T>& layer, const Batch& batch, Index t, Index before, Matrix<T>& dstates) {
    const Index first = batch.first[static_cast<std::size_t>(t)],
                n = batch.active[static_cast<std::size_t>(t)], old = continued(batch, t, before);
    dh_ = dstates.middleRows(first, n);
    layer.step_back(first, n, dh_);
    if (old > 0) dstates.middleRows(batch.first[static_cast<std::size_t>(before)], old) += dh_.topRows(old);
  }

  Matrix<T> dstates_, dstates_back_;  // M × H, step by step
  Matrix<T> dh_;
};

}  // namespace translate_dates

#endif
