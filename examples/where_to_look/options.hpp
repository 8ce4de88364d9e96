// SPDX-License-Identifier: MIT
#ifndef WHERE_TO_LOOK_OPTIONS_HPP
#define WHERE_TO_LOOK_OPTIONS_HPP

// The command line.

#include <cstdint>
#include <stdexcept>
#include <string>

#include "../training/number.hpp"

namespace where_to_look {

inline const char* const usage =
    "usage: where_to_look [--steps N] [--side N] [--batch N] [--held-out N] [--picture PATH] [--seed N]\n"
    "  --steps N       of training\n"
    "  --side N        a canvas is N x N patches (6)\n"
    "  --batch N       canvases a step (64)\n"
    "  --held-out N    canvases that nobody learns from (2000)\n"
    "  --picture PATH  where it is drawn who looked where (where_to_look.svg)\n"
    "  --seed N        of the first parameters, the canvases and the draws (1)\n";

struct Options {
  long steps = 3000;
  long side = 6;
  long batch = 64;
  long held_out = 2000;
  std::string picture = "where_to_look.svg";
  std::uint64_t seed = 1;
  bool help = false;
};

/// Throws std::runtime_error for whatever it does not understand.
inline Options parse(int argc, const char* const* argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    const auto value = [&]() -> std::string {
      if (i + 1 == argc) throw std::runtime_error(argument + " takes a value");
      return argv[++i];
    };
    const auto count = [&](long most) {
      const long n = training::number<long>(argument, value());
      if (n < 1 || n > most)
        throw std::runtime_error(argument + " takes a number from 1 to " + std::to_string(most));
      return n;
    };
    if (argument == "--steps") {
      options.steps = count(1'000'000'000);
    } else if (argument == "--side") {
      options.side = count(64);
    } else if (argument == "--batch") {
      options.batch = count(4096);
    } else if (argument == "--held-out") {
      options.held_out = count(1'000'000);
    } else if (argument == "--picture") {
      options.picture = value();
    } else if (argument == "--seed") {
      options.seed = training::number<std::uint64_t>(argument, value());
    } else if (argument == "--help") {
      options.help = true;
    } else {
      throw std::runtime_error("unknown option \"" + argument + "\"");
    }
  }
  return options;
}

}  // namespace where_to_look

#endif
