// SPDX-License-Identifier: MIT
#ifndef CHARACTER_MODEL_OPTIONS_HPP
#define CHARACTER_MODEL_OPTIONS_HPP

// The command line.

#include <cstdint>
#include <stdexcept>
#include <string>

#include "../training/number.hpp"

namespace character_model {

using training::number;

inline const char* const usage =
    "usage: character_model [text] [--steps N] [--seconds S] [--checkpoint PATH] [--seed N]\n"
    "  text               a file, or a directory of headers; Heed's own by default\n"
    "  --steps N          stop training after N steps\n"
    "  --seconds S        stop training after S seconds (100), if that is sooner\n"
    "  --checkpoint PATH  where the model is saved (character_model.bin)\n"
    "  --seed N           of the first parameters, the batches and the sample (1)\n";

struct Options {
  std::string text;
  long steps = 1'000'000'000;
  double seconds = 100;
  std::string checkpoint = "character_model.bin";
  std::uint64_t seed = 1;
  bool help = false;
};

/// Throws std::runtime_error for whatever it does not understand.
/// @param text what is read where the command line names nothing
inline Options parse(int argc, const char* const* argv, const std::string& text) {
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
    } else if (argument == "--checkpoint") {
      options.checkpoint = value();
    } else if (argument == "--seed") {
      options.seed = number<std::uint64_t>(argument, value());
    } else if (argument == "--help") {
      options.help = true;
    } else if (argument.starts_with("-") || argument.empty()) {
      throw std::runtime_error("unknown option \"" + argument + "\"");
    } else if (!options.text.empty()) {
      throw std::runtime_error("two texts, " + options.text + " and " + argument);
    } else {
      options.text = argument;
    }
  }
  if (options.text.empty()) options.text = text;
  return options;
}

}  // namespace character_model

#endif
