// SPDX-License-Identifier: MIT
#ifndef TRAINING_TEAM_HPP
#define TRAINING_TEAM_HPP

// Several threads for one model.

#include <heed/heed.hpp>

#include <utility>
#include <vector>

#include "parameter.hpp"

namespace training {

/// The Team's own functions have the same names and would hide those of a model's namespace.
template <class Model, class Batch>
double loss_of(Model& model, const Batch& batch) {
  return loss(model, batch);
}
template <class Model, class Batch>
double loss_and_gradient_of(Model& model, const Batch& batch) {
  return loss_and_gradient(model, batch);
}

/// Copies of a model, each of which does a part of a step's batch with activations and gradients of its own.
/// Threads then meet once a step rather than in every product, where they would wait long for one whose core
/// is taken by another program. The number of copies, not that of threads, decides how numbers are added up:
/// results are the same for any number of threads.
///
/// Beside a model stand `loss(model, batch)` and `loss_and_gradient(model, batch)`; it is made of sizes and a
/// seed, and lists its parameters().
template <class Model>
class Team {
 public:
  using Scalar = typename Model::Scalar;

  /// @param members how many threads can be of use, at least 1
  Team(Model first, std::size_t members) {
    members_.push_back(std::move(first));
    while (members_.size() < members) members_.emplace_back(members_.front().sizes(), 0);
    for (Model& member : members_) parameters_.push_back(member.parameters());
  }

  /// The member whose parameters count: the others copy them.
  Model& model() { return members_.front(); }

  /// The mean loss over the parts, and its gradient in model().
  /// @param parts one batch for each member, of equally many characters
  template <class Batch>
  double loss_and_gradient(const std::vector<Batch>& parts) {
    const double loss =
        mean(parts, [](Model& member, const Batch& part) { return loss_and_gradient_of(member, part); });
    for (std::size_t p = 0; p < parameters_.front().size(); ++p) {
      Matrix<Scalar>& sum = parameters_.front()[p].parameter->gradient;
      for (std::size_t m = 1; m < members_.size(); ++m) sum += parameters_[m][p].parameter->gradient;
      sum /= static_cast<Scalar>(members_.size());
    }
    return loss;
  }

  /// The mean loss over any number of batches of equally many characters.
  template <class Batch>
  double loss(const std::vector<Batch>& batches) {
    return mean(batches, [](Model& member, const Batch& batch) { return loss_of(member, batch); });
  }

  /// The mean of value_of(member, batch) over any number of batches, at least one.
  template <class Batch, class ValueOf>
  double mean(const std::vector<Batch>& batches, const ValueOf& value_of) {
    for (std::size_t m = 1; m < members_.size(); ++m)
      for (std::size_t p = 0; p < parameters_[m].size(); ++p)
        parameters_[m][p].parameter->value = parameters_[0][p].parameter->value;
    std::vector<double> values(batches.size());
    // One task a member, not a batch: a member can do one batch at a time.
    heed::default_executor().run(static_cast<Index>(members_.size()), [&](Index member, int) {
      const auto m = static_cast<std::size_t>(member);
      for (std::size_t b = m; b < batches.size(); b += members_.size())
        values[b] = value_of(members_[m], batches[b]);
    });
    double sum = 0;
    for (const double value : values) sum += value;
    return sum / static_cast<double>(values.size());
  }

 private:
  std::vector<Model> members_;
  std::vector<std::vector<NamedParameter<Scalar>>> parameters_;  // of each member
};

}  // namespace training

#endif
