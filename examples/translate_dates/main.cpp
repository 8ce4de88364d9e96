// SPDX-License-Identifier: MIT
// translate_dates [date ...] [--steps N] [--seconds S] [--picture PATH] [--seed N]
// Learns to write dates as ISO 8601 does, "3 May 1979" as "1979-05-03", from generated dates in fourteen
// forms: a recurrent encoder and decoder with additive attention between them (1409.0473), Heed's forward and
// backward and plain Eigen for the rest. Counts what it gets right of dates it has never seen, and draws what
// it looked at.

#include <algorithm>
#include <cstdio>
#include <exception>
#include <random>
#include <string>
#include <vector>

#include "../training/adam.hpp"
#include "../training/clock.hpp"
#include "../training/team.hpp"
#include "batch.hpp"
#include "model.hpp"
#include "options.hpp"
#include "picture.hpp"

namespace {

using namespace translate_dates;

constexpr std::size_t part = 32;  // dates that a member of the team takes in a step
constexpr std::size_t members = 2;
constexpr double rate = 8e-3;
constexpr long warm_up = 50;         // steps
constexpr long between_lines = 100;  // steps
constexpr Date shown{1815, 12, 10};

/// The share of dates that are right in all ten characters.
double accuracy(Team<Model<float>>& team, const std::vector<Batch>& batches) {
  return team.mean(batches, [](Model<float>& member, const Batch& b) { return share_right(member, b); });
}

/// Steps until the number of steps or the time is over.
void train(Team<Model<float>>& team, const Options& options, std::mt19937_64& random) {
  std::mt19937_64 others(options.seed + 1);
  const std::vector<Batch> watched = random_batches(20, 50, true, others);
  Adam<float> adam;
  const Clock clock;
  std::printf("%8s %14s %16s %10s\n", "step", "training loss", "held-out right", "seconds");
  double sum = 0;  // of the losses since the last line
  for (long step = 0;; ++step) {
    const double elapsed = clock.seconds();
    const double progress =
        std::max(elapsed / options.seconds, static_cast<double>(step) / static_cast<double>(options.steps));
    const bool over = elapsed >= options.seconds || step >= options.steps;
    if (over || (step > 0 && step % between_lines == 0)) {
      const long steps = (step + between_lines - 1) % between_lines + 1;
      std::printf("%8ld %14.4f %14.1f %% %10.1f\n", step, step > 0 ? sum / static_cast<double>(steps) : 0.0,
                  100 * accuracy(team, watched), clock.seconds());
      std::fflush(stdout);
      sum = 0;
      if (over) return;
    }
    sum += team.loss_and_gradient(random_batches(members, part, false, random));
    adam.step(team.model(), learning_rate(rate, step, warm_up, progress));
  }
}

/// Held-out dates, equally many in each form.
void test(Team<Model<float>>& team, const Options& options) {
  std::mt19937_64 random(options.seed + 2);
  double sum = 0;
  std::printf("\n%-32s %14s\n", "360 held-out dates each, as in", "right");
  for (int form = 0; form < forms; ++form) {
    const double right = accuracy(team, random_batches(9, 40, true, random, form));
    std::printf("%-32s %12.1f %%\n", written(shown, form).c_str(), 100 * right);
    sum += right;
  }
  std::printf("%-32s %12.2f %%\n\n", "all", 100 * sum / forms);
}

/// Translates and aligns; a text of characters that the model knows.
Alignment align(Model<float>& model, const std::string& source) {
  const std::string target = model.translate(make_batch({{source, ""}})).front();
  return {source, target, model.alignment(0)};
}

void run(const Options& options) {
  std::vector<std::string> texts = options.dates;
  if (texts.empty())
    for (const int form : {0, 2, 3, 4, 10, 11}) texts.push_back(written(shown, form));
  for (const std::string& text : texts) make_batch({{text, ""}});  // what cannot be read is noticed now
  write_file(options.picture, svg_picture({}));                    // and so is what cannot be written

  Eigen::setNbThreads(1);  // in a product: a member of the team has one thread
  Team<Model<float>> team(Model<float>({}, options.seed), members);
  Model<float>& model = team.model();
  Index parameters = 0;
  for (const auto& p : model.parameters()) parameters += p.parameter->value.size();
  std::printf("Dates of the years %d to %d in %d forms, one date in eight held out; %d parameters\n",
              first_year, last_year, forms, static_cast<int>(parameters));
  std::printf("Heed runs on %s, Eigen on %s\n\n", heed::name(heed::instruction_set()),
              Eigen::SimdInstructionSetsInUse());
  std::mt19937_64 random(options.seed);
  train(team, options, random);

  test(team, options);
  std::vector<Alignment> alignments;
  for (const std::string& text : texts) {
    alignments.push_back(align(model, text));
    std::printf("%s\n", text_picture(alignments.back()).c_str());
  }
  write_file(options.picture, svg_picture(alignments));
  std::printf("The alignments are drawn in %s\n", options.picture.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parse(argc, argv);
    if (options.help) {
      std::printf("%s", usage);
    } else {
      run(options);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "translate_dates: %s\n%s", e.what(), argc > 1 ? usage : "");
    return 1;
  }
}
