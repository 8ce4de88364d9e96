// SPDX-License-Identifier: MIT
/// @file
/// How Heed refuses an argument: std::invalid_argument with the argument's name and both sizes. Under
/// HEED_ASSERT_ONLY a failed assert instead, and nothing at all with NDEBUG; without exceptions, the message
/// on stderr and abort.
#ifndef HEED_CORE_ERROR_HPP
#define HEED_CORE_ERROR_HPP

#include <cassert>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <type_traits>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI::detail {

inline void append(std::string& text, const char* part) { text += part; }
inline void append(std::string& text, const std::string& part) { text += part; }
inline void append(std::string& text, double part) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%g", part);
  text += digits;
}
template <class Integer>
  requires std::is_integral_v<Integer>
void append(std::string& text, Integer part) { text += std::to_string(part); }

HEED_NOINLINE inline void refuse(const std::string& message) {
#if defined(HEED_ASSERT_ONLY)
  (void)message;
#if !defined(NDEBUG)
  std::fprintf(stderr, "heed: %s\n", message.c_str());
  assert(false && "heed: invalid argument, see the line above");
#endif
#elif defined(__cpp_exceptions)
  throw std::invalid_argument("heed: " + message);
#else
  std::fprintf(stderr, "heed: %s\n", message.c_str());
  std::abort();
#endif
}

/// fail("k has ", 64, " columns, q has ", 128): refuses the call with the parts put together.
/// Returns only when HEED_ASSERT_ONLY and NDEBUG are both defined.
template <class... Parts>
HEED_NOINLINE void fail(const Parts&... parts) {
  std::string message;
  (append(message, parts), ...);
  refuse(message);
}

}  // namespace heed::inline HEED_ABI::detail

#endif
