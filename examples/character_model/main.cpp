// SPDX-License-Identifier: MIT
// character_model [text] [--steps N] [--seconds S] [--checkpoint PATH] [--seed N]
// Trains a small transformer to guess the next character of a text, with Heed's attention forward and
// backward and plain Eigen for the rest; saves it, loads it again, and lets it write.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../training/adam.hpp"
#include "../training/clock.hpp"
#include "../training/team.hpp"
#include "checkpoint.hpp"
#include "model.hpp"
#include "options.hpp"
#include "sample.hpp"
#include "text.hpp"

namespace {

using namespace character_model;

constexpr Index part = 128;  // characters that a member of the team takes in a step
constexpr std::size_t members = 4;
constexpr double rate = 6e-3;
constexpr long warm_up = 50;  // steps
constexpr double lines = 12;  // of progress
constexpr double temperature = 0.7;

/// Steps until the number of steps or the time is over.
void train(Team<Model<float>>& team, const std::vector<int>& text, const std::vector<Batch>& held_out,
           const Options& options, std::mt19937_64& random) {
  Adam<float> adam;
  std::vector<Batch> parts(members);
  const Clock clock;
  std::printf("%8s %14s %14s %14s %10s\n", "step", "training loss", "held-out loss", "characters/s",
              "time left");
  double sum = 0, since = 0;  // of the losses since the last line; when that was
  long steps = 0;             // since the last line
  for (long step = 0;; ++step) {
    const double elapsed = clock.seconds();
    const double progress =
        std::max(elapsed / options.seconds, static_cast<double>(step) / static_cast<double>(options.steps));
    const bool over = elapsed >= options.seconds || step >= options.steps;
    if (over || step == 0 || elapsed - since >= options.seconds / lines) {
      const double loss = team.loss(held_out);
      const double left = step == 0 || over ? 0 : elapsed / progress - elapsed;
      const double speed = static_cast<double>(steps * part * static_cast<long>(members)) / (elapsed - since);
      if (steps == 0) {
        std::printf("%8ld %14s %14.3f\n", step, "", loss);
      } else {
        std::printf("%8ld %14.3f %14.3f %14.0f %8.0f s\n", step, sum / static_cast<double>(steps), loss,
                    speed, left);
      }
      std::fflush(stdout);
      sum = 0;
      steps = 0;
      since = clock.seconds();
    }
    if (over) return;
    for (Batch& batch : parts) batch = random_batch(text, team.model().sizes().context, part, random);
    sum += team.loss_and_gradient(parts);
    adam.step(team.model(), learning_rate(rate, step, warm_up, progress));
    ++steps;
  }
}

void run(const Options& options) {
  const std::string text = read_text(options.text);
  Sizes sizes;
  const std::size_t least = 10 * static_cast<std::size_t>(sizes.context + 1);
  if (text.size() < least)
    throw std::runtime_error(options.text + " has " + std::to_string(text.size()) + " characters, at least " +
                             std::to_string(least) + " are needed");
  const Vocabulary vocabulary(text);
  sizes.vocabulary = vocabulary.size();
  const std::size_t border = text.size() - text.size() / 10;
  const std::vector<int> seen = vocabulary.numbers(text.substr(0, border));
  const std::vector<Batch> held_out =
      even_batches(vocabulary.numbers(text.substr(border)), sizes.context, part / sizes.context, 64);

  Eigen::setNbThreads(1);  // in a product: a member of the team has one thread
  Team<Model<float>> team(Model<float>(sizes, options.seed), members);
  Model<float>& model = team.model();
  save_checkpoint(options.checkpoint, model, vocabulary);  // a path that cannot be written is noticed now
  Index parameters = 0;
  for (const auto& p : model.parameters()) parameters += p.parameter->value.size();
  std::printf("%s: %zu characters to learn from, %zu held out, %d different ones\n", options.text.c_str(),
              border, text.size() - border, static_cast<int>(sizes.vocabulary));
  std::printf("%d blocks of width %d, %d heads, %d parameters; Heed runs on %s, Eigen on %s\n",
              static_cast<int>(sizes.blocks), static_cast<int>(sizes.width), static_cast<int>(sizes.heads),
              static_cast<int>(parameters), heed::name(heed::instruction_set()),
              Eigen::SimdInstructionSetsInUse());
  std::printf("Losses are in nats a character; guessing blindly costs %.3f\n\n",
              std::log(static_cast<double>(sizes.vocabulary)));
  std::mt19937_64 random(options.seed);
  train(team, seen, held_out, options, random);

  save_checkpoint(options.checkpoint, model, vocabulary);
  Loaded<float> loaded = load_checkpoint<float>(options.checkpoint);
  Team<Model<float>> second(std::move(loaded.model), members);
  const double before = team.loss(held_out), after = second.loss(held_out);
  if (!(before == after))
    throw std::runtime_error("the loaded model's held-out loss is " + std::to_string(after) + ", not " +
                             std::to_string(before));
  std::printf("\nSaved to %s and loaded again: the held-out loss is %.6f, as before\n",
              options.checkpoint.c_str(), after);

  const std::string beginning = text.substr(border, static_cast<std::size_t>(sizes.context / 2));
  std::printf(
      "\nThe held-out text begins\n%s\nand the loaded model goes on (temperature %.1f)\n%s\n",
      printable(beginning).c_str(), temperature,
      printable(sample(second.model(), loaded.vocabulary, beginning, 400, temperature, random)).c_str());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parse(argc, argv, HEED_INCLUDE);
    if (options.help) {
      std::printf("%s", usage);
    } else {
      run(options);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "character_model: %s\n%s", e.what(), argc > 1 ? usage : "");
    return 1;
  }
}
