// SPDX-License-Identifier: MIT
#ifndef TRAINING_NUMBER_HPP
#define TRAINING_NUMBER_HPP

// Numbers on a command line.

#include <charconv>
#include <stdexcept>
#include <string>
#include <system_error>

namespace training {

/// A number that is not negative, and nothing else; throws std::runtime_error otherwise.
template <class Number>
Number number(const std::string& option, const std::string& value) {
  Number n{};
  const char* const end = value.data() + value.size();
  const auto [stop, error] = std::from_chars(value.data(), end, n);
  if (error != std::errc() || stop != end || !(n >= 0) || !(n - n == 0))
    throw std::runtime_error(option + " takes a number that is not negative, not \"" + value + "\"");
  return n;
}

}  // namespace training

#endif
