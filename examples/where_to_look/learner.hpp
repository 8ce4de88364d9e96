// SPDX-License-Identifier: MIT
#ifndef WHERE_TO_LOOK_LEARNER_HPP
#define WHERE_TO_LOOK_LEARNER_HPP

// A model, its way of looking and its optimiser.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../training/adam.hpp"
#include "reader.hpp"

namespace where_to_look {

constexpr double rate = 6e-3;
constexpr long warm_up = 50;  // steps

template <class T>
struct Learner {
  std::string name;
  Reader<T> reader;
  std::unique_ptr<Looking<T>> looking;
  Adam<T> adam{};
  double loss = 0;  // of the last step

  void step(const Canvases<T>& canvases, long step, long steps, std::uint64_t seed) {
    const double progress = static_cast<double>(step) / static_cast<double>(steps);
    loss = loss_and_gradient(reader, *looking, canvases, seed, progress);
    adam.step(reader, learning_rate(rate, step, warm_up, progress));
  }
};

/// The three ways, from the same parameters.
template <class T>
std::vector<Learner<T>> all_learners(const Sizes& sizes, std::uint64_t seed) {
  std::vector<Learner<T>> learners;
  const auto add = [&](const char* name, std::unique_ptr<Looking<T>> looking) {
    learners.push_back({name, Reader<T>(sizes, seed), std::move(looking)});
  };
  add("soft", std::make_unique<Soft<T>>());
  add("REINFORCE", std::make_unique<Reinforced<T>>());
  add("Gumbel", std::make_unique<Gumbel<T>>());
  return learners;
}

/// One step of all of them on the same canvases, on a thread each where there are as many.
template <class T>
void step(std::vector<Learner<T>>& learners, const Canvases<T>& canvases, long step, long steps,
          std::uint64_t seed) {
  heed::default_executor().run(static_cast<Index>(learners.size()), [&](Index n, int) {
    learners[static_cast<std::size_t>(n)].step(canvases, step, steps, seed);
  });
}

}  // namespace where_to_look

#endif
