// SPDX-License-Identifier: MIT
/// @file
/// softcap(c): scores are bent so that none exceeds c.
#ifndef HEED_SCORE_SOFTCAP_HPP
#define HEED_SCORE_SOFTCAP_HPP

#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/functions.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

template <class C>
struct BoundSoftcap {
  static constexpr int stage = heed::stage::softcap;
  static constexpr bool may_hide = false;
  static constexpr bool caps = std::is_floating_point_v<C>;
  C cap;

  template <class S>
  HEED_INLINE S operator()(S s, Position, Position) const {
    const S c = static_cast<S>(cap);
    const S t =
        static_cast<S>(s * static_cast<S>(S(1) / c));  // the quotient is the same for all: one division
    return static_cast<S>(c * heed::tanh(t));
  }
};

}  // namespace detail

/// The policy made by softcap().
template <class C>
struct Softcap : term_tag {
  C cap;

  explicit Softcap(C c) : cap(std::move(c)) {}
  void check(const Shape&) const {
    if constexpr (std::is_floating_point_v<C>) {
      if (!(cap > 0 && std::isfinite(cap)))
        detail::fail("softcap is ", static_cast<double>(cap), ", it must be positive and finite");
    } else {
      if (!(cap > C(0))) detail::fail("softcap must be positive");
    }
  }
  /// Both c and 1/c must exist in the accumulator: infinity times tanh(0) would be no number.
  template <class T>
  void check_value() const {
    if constexpr (std::is_floating_point_v<C> && std::is_floating_point_v<T>) {
      if (cap > static_cast<long double>(std::numeric_limits<T>::max()) ||
          cap < static_cast<long double>(std::numeric_limits<T>::min()))
        detail::fail("softcap is ", static_cast<double>(cap), ", out of range for the scalar of q");
    }
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(cap);
  }
  detail::BoundSoftcap<C> bind(const Place&) const { return {cap}; }
};

/// s <- c·tanh(s / c), on the scaled score, before positions, biases and masks (Gemma 2, 2408.00118). c <= 0
/// is an std::invalid_argument. The tanh is good to 3 ULP, in float where many queries are taken together 6.
template <class C>
auto softcap(C c) {
  if constexpr (std::is_integral_v<C>) {
    return Softcap<double>(static_cast<double>(c));
  } else {
    return Softcap<C>(std::move(c));
  }
}

}  // namespace heed::inline HEED_ABI

#endif
