// SPDX-License-Identifier: MIT
/// @file
/// Quotients of sizes and positions.
#ifndef HEED_CORE_QUOTIENT_HPP
#define HEED_CORE_QUOTIENT_HPP

#include <cstdint>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI::detail {

/// a / b of numbers that are not negative. 32 bits, where they suffice, take a third of the time of 64; and b
/// often is 1, where divisions would take half the time of a tiny problem.
HEED_INLINE constexpr Eigen::Index quotient(Eigen::Index a, Eigen::Index b) {
  if (b == 1) return a;
  return static_cast<std::uint64_t>(a | b) >> 32 == 0
             ? static_cast<Eigen::Index>(static_cast<std::uint32_t>(a) / static_cast<std::uint32_t>(b))
             : a / b;
}

/// a / b rounded down, b > 0.
HEED_INLINE constexpr Eigen::Index floor_quotient(Eigen::Index a, Eigen::Index b) {
  return a >= 0 ? quotient(a, b) : -quotient(-(a + 1), b) - 1;
}

}  // namespace heed::inline HEED_ABI::detail

#endif
