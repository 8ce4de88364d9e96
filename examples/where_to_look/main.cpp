// SPDX-License-Identifier: MIT
// where_to_look [--steps N] [--side N] [--batch N] [--held-out N] [--picture PATH] [--seed N]
// Reads digits on cluttered canvases by attending over their patches: over all of them, or hard, to one only,
// learnt by REINFORCE and by Gumbel's trick. Says how well, and draws where each of them looked.

#include <Eigen/Core>
#include <cstdio>
#include <exception>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "../training/clock.hpp"
#include "canvas.hpp"
#include "learner.hpp"
#include "options.hpp"
#include "picture.hpp"
#include "reader.hpp"

namespace {

using namespace where_to_look;

constexpr long lines = 12;      // of progress
constexpr Index watched = 500;  // canvases that the progress is measured on
constexpr Index shown = 8;      // canvases in the picture

void write(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

void train(std::vector<Learner<float>>& learners, const Options& options) {
  Painter<float> painter(options.side, 2 * options.seed);
  const Canvases<float> some = Painter<float>(options.side, ~options.seed).canvases(watched);
  const training::Clock clock;
  std::printf("%8s", "step");
  for (const auto& learner : learners) std::printf(" %12s", learner.name.c_str());
  std::printf(" %10s\n", "time left");
  for (long s = 0; s <= options.steps; ++s) {
    if (s == options.steps || s * lines / options.steps != (s - 1) * lines / options.steps || s == 0) {
      std::printf("%8ld", s);
      for (auto& learner : learners)
        std::printf(" %10.1f %%", 100 * read(learner.reader, some, learner.looking->hard()).right);
      const double left =
          s == 0 ? 0 : clock.seconds() * static_cast<double>(options.steps - s) / static_cast<double>(s);
      if (s == 0)
        std::printf("\n");
      else
        std::printf(" %8.0f s\n", left);
      std::fflush(stdout);
    }
    if (s < options.steps)
      step(learners, painter.canvases(options.batch), s, options.steps,
           options.seed * 1'000'000'007 + static_cast<std::uint64_t>(s));
  }
}

void run(const Options& options) {
  write(options.picture, "");  // a path that cannot be written is noticed now
  Eigen::setNbThreads(1);      // in a product: a learner has one thread
  std::vector<Learner<float>> learners = all_learners<float>(Sizes{}, options.seed);
  Index parameters = 0;
  for (const auto& p : learners.front().reader.parameters()) parameters += p.parameter->value.size();
  std::printf("Canvases of %ld x %ld patches, %ld a step; %ld parameters; Heed runs on %s\n", options.side,
              options.side, options.batch, static_cast<long>(parameters),
              heed::name(heed::instruction_set()));
  std::printf("Digits read on %ld canvases that nobody learns from (blind guesses: 10 %%)\n\n",
              static_cast<long>(watched));
  train(learners, options);

  const Canvases<float> test = Painter<float>(options.side, 2 * options.seed + 1).canvases(options.held_out);
  std::vector<Column<float>> columns;
  for (auto& learner : learners)
    columns.push_back({learner.name, read(learner.reader, test, learner.looking->hard())});
  columns.push_back({"soft, then hard", read(learners.front().reader, test, true)});
  std::printf("\n%ld other canvases\n%-16s %10s %12s %18s\n", options.held_out, "", "right", "values read",
              "weight of digit");
  for (const auto& [title, reading] : columns)
    std::printf("%-16s %8.1f %% %12.1f %18.3f\n", title.c_str(), 100 * reading.right, reading.values,
                reading.found);
  write(options.picture, picture(test, columns, shown));
  std::printf("\nWhere they looked: %s\n", options.picture.c_str());
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
    std::fprintf(stderr, "where_to_look: %s\n%s", e.what(), argc > 1 ? usage : "");
    return 1;
  }
}
