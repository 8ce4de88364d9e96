// SPDX-License-Identifier: MIT
#ifndef LONG_DOCUMENT_OPTIONS_HPP
#define LONG_DOCUMENT_OPTIONS_HPP

// The command line.

#include <Eigen/Core>
#include <charconv>
#include <stdexcept>
#include <string>
#include <system_error>

namespace long_document {

using Eigen::Index;

inline const char* const usage =
    "usage: long_document [text] [--tokens N] [--html PATH]\n"
    "  text         a text file; Heed's README by default\n"
    "  --tokens N   repeat its words to so many (1048576)\n"
    "  --html PATH  where the pictures are written (long_document.html)\n";

struct Options {
  std::string text;
  Index tokens = Index{1} << 20;
  std::string html = "long_document.html";
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
    if (argument == "--tokens") {
      const std::string number = value();
      const char* const end = number.data() + number.size();
      const auto [stop, error] = std::from_chars(number.data(), end, options.tokens);
      if (error != std::errc() || stop != end || options.tokens < 1)
        throw std::runtime_error("--tokens takes a positive number, not \"" + number + "\"");
    } else if (argument == "--html") {
      options.html = value();
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

}  // namespace long_document

#endif
