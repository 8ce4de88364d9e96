// SPDX-License-Identifier: MIT
#ifndef TRANSLATE_DATES_OPTIONS_HPP
#define TRANSLATE_DATES_OPTIONS_HPP

// The command line.

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "../training/number.hpp"

namespace translate_dates {

inline const char* const usage =
    "usage: translate_dates [date ...] [--steps N] [--seconds S] [--picture PATH] [--seed N]\n"
    "  date            what the trained model is to translate; one date in several forms by default\n"
    "  --steps N       stop training after N steps (1000)\n"
    "  --seconds S     stop training after S seconds (150), if that is sooner\n"
    "  --picture PATH  where the picture of the alignments is written (translate_dates.svg)\n"
    "  --seed N        of the first parameters and the dates (1)\n";

struct Options {
  std::vector<std::string> dates;
  long steps = 1000;
  double seconds = 150;
  std::string picture = "translate_dates.svg";
  std::uint64_t seed = 1;
  bool help = false;
};

/// Throws std::runtime_error for whatever it does not understand.
inline Options parse(int argc, const char* const* argv) {
  using training::number;
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) throw std::runtime_error(argument + " takes a value");
      return argv[++i];
    };
    if (argument == "--steps") {
      options.steps = number<long>(argument, value());
    } else if (argument == "--seconds") {
      options.seconds = number<double>(argument, value());
    } else if (argument == "--picture") {
      options.picture = value();
    } else if (argument == "--seed") {
      options.seed = number<std::uint64_t>(argument, value());
    } else if (argument == "--help") {
      options.help = true;
    } else if (argument.starts_with("-") || argument.empty()) {
      throw std::runtime_error("unknown option \"" + argument + "\"");
    } else {
      options.dates.push_back(argument);
    }
  }
  return options;
}

}  // namespace translate_dates

#endif
