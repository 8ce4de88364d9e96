// SPDX-License-Identifier: MIT
/// @file
/// gumbel_softmax(t, seed): a random choice that gradients pass.
#ifndef HEED_SELECT_GUMBEL_HPP
#define HEED_SELECT_GUMBEL_HPP

#include <cstdint>
#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/spec.hpp>
#include <heed/dual.hpp>
#include <heed/functions.hpp>
#include <heed/random.hpp>
#include <heed/select/softmax.hpp>
#include <heed/select/top_k.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// The number under a dual one.
template <class S>
struct NumberUnder {
  using type = std::conditional_t<std::is_same_v<S, float>, float, double>;
};
template <class T, int n>
struct NumberUnder<dual<T, n>> : NumberUnder<T> {};

struct BoundGumbel {
  static constexpr int stage = heed::stage::noise;
  static constexpr bool may_hide = false;
  PairDraws draws;

  /// -log(-log u), u in steps of 2^-23 strictly between 0 and 1.
  template <class T>
  HEED_INLINE T noise(Position i, Position j) const {
    const auto steps = static_cast<std::int32_t>(draws.bits(i, j) >> 9);
    const T u = (static_cast<T>(steps) + T(0.5)) * T(0x1p-23);
    return -heed::log(-heed::log(u));
  }
  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    return static_cast<S>(s + static_cast<S>(noise<typename NumberUnder<S>::type>(i, j)));
  }
};

}  // namespace detail

/// Adds standard Gumbel noise to final scores: the key with the greatest sum is then drawn with its softmax
/// weight as probability. Part of gumbel_softmax().
struct GumbelNoise : term_tag {
  static constexpr const char* made_by = "gumbel_softmax";
  std::uint64_t seed;

  explicit GumbelNoise(std::uint64_t s) : seed(s) {}
  template <class Numbers>
  void identify(Numbers& n) const {
    n(seed);
  }
  /// Other numbers than those of dropout with the same seed.
  detail::BoundGumbel bind(const Place& place) const { return {PairDraws(~seed, place)}; }
};

/// p = softmax((s + g) / t), g_j = -log(-log u_j) (1611.01144): the nearer t is to 0, the nearer to a random
/// one-hot choice with the probabilities of softmax(s). An ordinary softmax with noise in its scores:
/// gradients are exact for the noise drawn, which depends on seed, sequence, head, i and j alone
/// (random.hpp), so that the backward pass sees the same. t must be positive and finite, else
/// std::invalid_argument.
inline auto gumbel_softmax(double temperature, std::uint64_t seed) {
  return spec(Softmax(), GumbelNoise(seed), Temperature(temperature));
}
/// One-hot forward, the first of the greatest s + g; backward the gradient of gumbel_softmax(t, seed),
/// straight through the choice.
inline auto gumbel_softmax(double temperature, std::uint64_t seed, straight_through_t) {
  return spec(argmax(straight_through), GumbelNoise(seed), Temperature(temperature));
}

}  // namespace heed::inline HEED_ABI

#endif
