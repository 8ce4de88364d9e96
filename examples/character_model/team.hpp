// SPDX-License-Identifier: MIT
#ifndef CHARACTER_MODEL_TEAM_HPP
#define CHARACTER_MODEL_TEAM_HPP

// Several threads for one model.

#include <heed/heed.hpp>

#include <utility>
#include <vector>

#include "model.hpp"

namespace character_model {

/// Copies of a model, each of which does a part of a step's batch with activations and gradients of its own.
/// Threads then meet once a step rather than in every product, where they would wait long for one whose core
/// is taken by another program. The number of copies, not that of threads, decides how numbers are added up:
/// results are the same for any number of threads.
template <class T>
class Team {
 public:
  /// @param members how many threads can be of use, at least 1
  Team(Model<T> first, std::size_t members) {
    members_.push_back(std::move(first));
    while (members_.size() < members) members_.emplace_back(members_.front().sizes(), 0);
    for (Model<T>& member : members_) parameters_.push_back(member.parameters());
  }

  /// The member whose parameters count: the others copy them.
  Model<T>& model() { return members_.front(); }

  /// The mean loss over the parts, and its gradient in model().
  /// @param parts one batch for each member, of equally many characters
  double loss_and_gradient(const std::vector<Batch>& parts) {
    const double loss = mean(parts, [](Model<T>& member, const Batch& part) {
      return character_model::loss_and_gradient(member, part);
    });
    for (std::size_t p = 0; p < parameters_.front().size(); ++p) {
      Matrix<T>& sum = parameters_.front()[p].parameter->gradient;
      for (std::size_t m = 1; m < members_.size(); ++m) sum += parameters_[m][p].parameter->gradient;
      sum /= static_cast<T>(members_.size());
    }
    return loss;
  }

  /// The mean loss over any number of batches of equally many characters.
  double loss(const std::vector<Batch>& batches) {
    return mean(batches, [](Model<T>& member, const Batch& batch) {
      return cross_entropy(member.forward(batch.inputs, batch.offsets), batch.targets);
    });
  }

 private:
  template <class LossOf>
  double mean(const std::vector<Batch>& batches, const LossOf& loss_of) {
    for (std::size_t m = 1; m < members_.size(); ++m)
      for (std::size_t p = 0; p < parameters_[m].size(); ++p)
        parameters_[m][p].parameter->value = parameters_[0][p].parameter->value;
    std::vector<double> losses(batches.size());
    // One task a member, not a batch: a member can do one batch at a time.
    heed::default_executor().run(static_cast<Index>(members_.size()), [&](Index member, int) {
      const auto m = static_cast<std::size_t>(member);
      for (std::size_t b = m; b < batches.size(); b += members_.size())
        losses[b] = loss_of(members_[m], batches[b]);
    });
    double sum = 0;
    for (const double loss : losses) sum += loss;
    return sum / static_cast<double>(losses.size());
  }

  std::vector<Model<T>> members_;
  std::vector<std::vector<NamedParameter<T>>> parameters_;  // of each member
};

}  // namespace character_model

#endif
