// SPDX-License-Identifier: MIT
/// @file
/// Random numbers of the pairs (i, j) of one sequence and head, with the distributions that training asks
/// for.
#ifndef HEED_TRAIN_NOISE_HPP
#define HEED_TRAIN_NOISE_HPP

#include <cmath>

#include <heed/config.hpp>
#include <heed/random.hpp>

namespace heed::inline HEED_ABI {

/// Uniform in (0, 1), both ends excluded: (32 random bits + 1/2) · 2⁻³². All of them are functions of the
/// draws' key (seed, sequence, head), i and j alone.
inline double uniform_noise(const PairDraws& draws, Position i, Position j) {
  return (static_cast<double>(draws.bits(i, j)) + 0.5) * 0x1p-32;
}

/// Gumbel: -log(-log u) (1611.01144), u uniform. Between -3.2 and 22.9.
inline double gumbel_noise(const PairDraws& draws, Position i, Position j) {
  return -std::log(-std::log(uniform_noise(draws, i, j)));
}

/// Normal, mean 0, variance 1: the keys 2m and 2m + 1 get the cosine and the sine of one Box-Muller pair,
/// √(-2 log u)·(cos, sin)(2π u'). At most 6.8 either way.
inline double normal_noise(const PairDraws& draws, Position i, Position j) {
  const Words words = draws.of_two_keys(i, j >> 1);
  const double u = (static_cast<double>(words.first) + 0.5) * 0x1p-32;
  const double angle = static_cast<double>(words.second) * (6.283185307179586476925 * 0x1p-32);
  return std::sqrt(-2 * std::log(u)) * ((j & 1) != 0 ? std::sin(angle) : std::cos(angle));
}

}  // namespace heed::inline HEED_ABI

#endif
