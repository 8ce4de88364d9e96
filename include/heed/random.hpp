// SPDX-License-Identifier: MIT
/// @file
/// Random numbers that are a function of where they are used: the same whatever the tiling, the number of
/// threads, the instruction set and the machine.
#ifndef HEED_RANDOM_HPP
#define HEED_RANDOM_HPP

#include <cstdint>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/shape.hpp>

namespace heed::inline HEED_ABI {

/// Two 32-bit words: a counter, a key, or what threefry() makes of them.
struct Words {
  std::uint32_t first = 0, second = 0;
  friend constexpr bool operator==(const Words&, const Words&) = default;
};

namespace detail {

/// Everything in place: values of vector types may not cross functions.
template <int r0, int r1, int r2, int r3, class W>
HEED_INLINE constexpr void four_rounds(W& a, W& b) {
  a += b, b = ((b << r0) | (b >> (32 - r0))) ^ a;
  a += b, b = ((b << r1) | (b >> (32 - r1))) ^ a;
  a += b, b = ((b << r2) | (b >> (32 - r2))) ^ a;
  a += b, b = ((b << r3) | (b >> (32 - r3))) ^ a;
}

/// From a counter (a, b) to random bits. W: a 32-bit word, or a vector of them.
template <class W>
HEED_INLINE constexpr void threefry(W& a, W& b, Words key) {
  const std::uint32_t parity = 0x1bd11bdau ^ key.first ^ key.second;
  a += key.first, b += key.second;
  four_rounds<13, 15, 26, 6>(a, b);
  a += key.second, b += parity + 1u;
  four_rounds<17, 29, 16, 24>(a, b);
  a += parity, b += key.first + 2u;
  four_rounds<13, 15, 26, 6>(a, b);
  a += key.first, b += key.second + 3u;
  four_rounds<17, 29, 16, 24>(a, b);
  a += key.second, b += parity + 4u;
  four_rounds<13, 15, 26, 6>(a, b);
  a += parity, b += key.first + 5u;
}

}  // namespace detail

/// Threefry-2x32 with 20 rounds: 64 random bits that depend on counter and key alone (Salmon, Moraes, Dror,
/// Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011). Sums, rotations and exclusive ors only, which
/// every instruction set has in lanes.
HEED_INLINE constexpr Words threefry(Words counter, Words key) {
  detail::threefry(counter.first, counter.second, key);
  return counter;
}

/// The random numbers of one sequence and head: 32 bits for every pair (i, j). One evaluation of threefry()
/// serves the keys 2m and 2m + 1.
struct PairDraws {
  Words key;

  PairDraws() = default;
  PairDraws(std::uint64_t seed, const Place& place)
      : key(threefry({static_cast<std::uint32_t>(place.sequence), static_cast<std::uint32_t>(place.head)},
                     {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)})) {}

  /// Of query i and the keys 2m and 2m + 1.
  HEED_INLINE Words of_two_keys(Position i, Position m) const {
    return threefry({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(m)}, key);
  }
  HEED_INLINE std::uint32_t bits(Position i, Position j) const {
    const Words w = of_two_keys(i, j >> 1);
    return (j & 1) != 0 ? w.second : w.first;
  }
};

}  // namespace heed::inline HEED_ABI

#endif
