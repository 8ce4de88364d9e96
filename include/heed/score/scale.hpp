// SPDX-License-Identifier: MIT
/// @file
/// scale(x): the factor of dot products, instead of 1/sqrt(d).
#ifndef HEED_SCORE_SCALE_HPP
#define HEED_SCORE_SCALE_HPP

#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>

namespace heed::inline HEED_ABI {

/// The policy made by scale().
template <class X>
struct Scale : scale_tag {
  X factor;

  explicit Scale(X x) : factor(std::move(x)) {}
  static constexpr bool given() { return true; }
  template <class T>
  T value() const {
    return static_cast<T>(factor);
  }
  void check(const Shape&) const {
    if constexpr (std::is_floating_point_v<X>) {
      if (!std::isfinite(factor))
        detail::fail("scale is ", static_cast<double>(factor), ", it must be finite");
    }
  }
  template <class T>
  void check_value() const {
    if constexpr (std::is_floating_point_v<X> && std::is_floating_point_v<T>) {
      if (!(std::abs(factor) <= static_cast<long double>(std::numeric_limits<T>::max())))
        detail::fail("scale is ", static_cast<double>(factor), ", too great for the scalar of q");
    }
  }
};

/// Scores are x · q kᵀ (1706.03762 has x = 1/sqrt(d), the default). Applied once, in the accumulator's type.
/// Zero and negative are legal; what is not finite is an std::invalid_argument.
template <class X>
Scale<X> scale(X x) {
  return Scale<X>(std::move(x));
}

}  // namespace heed::inline HEED_ABI

#endif
