// SPDX-License-Identifier: MIT
/// @file
/// softmax(): weights are exponentials over their sum.
#ifndef HEED_SELECT_SOFTMAX_HPP
#define HEED_SELECT_SOFTMAX_HPP

#include <cmath>
#include <limits>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/saturate.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/spec.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

struct BoundTemperature {
  static constexpr int stage = heed::stage::temperature;
  static constexpr bool may_hide = false;
  double inverse;

  template <class S>
  HEED_INLINE S operator()(S s, Position, Position) const {
    return scale_score(s, inverse);
  }
};

}  // namespace detail

/// Divides final scores, whatever made them; part of the selections that have a temperature.
struct Temperature : term_tag {
  static constexpr const char* made_by = "softmax";
  double temperature;

  explicit Temperature(double t) : temperature(t) {}
  void check(const Shape&) const {
    if (!(temperature > 0 && std::isfinite(temperature)))
      detail::fail("the temperature is ", temperature, ", it must be positive and finite");
  }
  /// Its inverse must exist in the accumulator.
  template <class T>
  void check_value() const {
    if constexpr (std::is_floating_point_v<T>)
      if (1 / temperature > static_cast<double>(std::numeric_limits<T>::max()))
        detail::fail("the temperature is ", temperature, ", out of range for the scalar of q");
  }
  bool idle() const { return temperature == 1; }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(temperature);
  }
  detail::BoundTemperature bind(const Place&) const { return {1 / temperature}; }
};

/// The policy made by softmax().
struct Softmax : selection_tag {};

/// p_j = exp(s_j) / Σ exp(s) over the keys that the query sees (1706.03762). The default selection.
inline Softmax softmax() { return {}; }

/// p_j = exp(s_j / t) / Σ exp(s / t), after all that changes scores, so that biases are divided as well (the
/// factor of the dot products alone is scale()). The log-sum-exp is that of s / t. t must be positive and
/// finite, else std::invalid_argument.
inline auto softmax(double temperature) { return spec(Softmax(), Temperature(temperature)); }

}  // namespace heed::inline HEED_ABI

#endif
