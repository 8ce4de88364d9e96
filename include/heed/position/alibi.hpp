// SPDX-License-Identifier: MIT
/// @file
/// alibi(): a penalty linear in the distance, steeper in some heads than in others.
#ifndef HEED_POSITION_ALIBI_HPP
#define HEED_POSITION_ALIBI_HPP

#include <cmath>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/saturate.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

template <class Slope>
struct BoundAlibi {
  static constexpr int stage = heed::stage::position;
  static constexpr bool may_hide = false;
  static constexpr bool adds_by_distance = true;
  Slope slope;
  Position offset;

  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    return add_to_score(s, scale_score(static_cast<S>(-static_cast<S>(slope)), distance(i, j)));
  }
  template <class S>
  HEED_INLINE S added(Position i, Position j) const {
    return -static_cast<S>(slope) * static_cast<S>(distance(i, j));
  }

 private:
  HEED_INLINE Position distance(Position i, Position j) const {
    // i - j + M - N cannot overflow, and check() refuses other offsets that could.
    const Position ahead = (i - j) + offset;
    return ahead < 0 ? -ahead : ahead;
  }
};

}  // namespace detail

/// Slope of head h of H (2108.12409): 2^(-8(h+1)/p), p the largest power of two not above H; the H - p heads
/// that are left take every second slope of 2p heads. 8 heads: 1/2, 1/4, ..., 1/256; 12 heads append .7071
/// .3536 .1768 .0884.
inline double alibi_slope(Index head, Index heads) {
  Index p = 1;
  while (p <= heads / 2) p *= 2;
  const double exponent = head < p ? 8.0 * static_cast<double>(head + 1) / static_cast<double>(p)
                                   : 4.0 * static_cast<double>(2 * (head - p) + 1) / static_cast<double>(p);
  return std::exp2(-exponent);
}

/// The policy made by alibi() without slopes.
struct Alibi : position_tag {
  Alignment alignment;

  explicit Alibi(Alignment a) : alignment(a) {}
  void check(const Shape& shape) const { detail::check_offset("alibi", alignment, shape); }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(alignment);
  }
  detail::BoundAlibi<double> bind(const Place& place) const {
    return {alibi_slope(place.head, place.heads),
            detail::clamp_position(alignment.resolve(place.queries, place.keys))};
  }
};

/// The policy made by alibi(slopes).
template <class Holder>
class AlibiSlopes : public position_tag {
 public:
  static constexpr const char* made_by = "alibi";

  explicit AlibiSlopes(Holder slopes) : slopes_(std::move(slopes)) {}

  void check(const Shape& shape) const {
    const Index count = static_cast<Index>(slopes_.get().size());
    if (count != shape.heads) detail::fail("alibi: ", count, " slopes for ", shape.heads, " heads");
    for (Index h = 0; h < count; ++h) {
      if constexpr (std::is_floating_point_v<std::remove_cvref_t<decltype(at(h))>>) {
        if (!std::isfinite(at(h)))
          detail::fail("alibi: slope ", h, " is ", static_cast<double>(at(h)), ", it must be finite");
      }
    }
  }
  /// Every slope must exist in the accumulator.
  template <class T>
  void check_value() const {
    if constexpr (std::is_floating_point_v<std::remove_cvref_t<decltype(at(0))>> &&
                  std::is_floating_point_v<T>) {
      for (Index h = 0; h < static_cast<Index>(slopes_.get().size()); ++h)
        if (!(std::abs(at(h)) <= static_cast<long double>(std::numeric_limits<T>::max())))
          detail::fail("alibi: slope ", h, " is ", static_cast<double>(at(h)),
                       ", too great for the scalar of q");
    }
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n.list(slopes_.get());
  }
  auto bind(const Place& place) const {
    return detail::BoundAlibi<std::remove_cvref_t<decltype(at(0))>>{
        at(place.head), detail::clamp_position(place.keys - place.queries)};
  }

 private:
  const auto& at(Index h) const { return slopes_.get().data()[h * detail::list_stride(slopes_.get())]; }

  Holder slopes_;
};

/// s_ij <- s_ij - m_h·|i + off - j| with the paper's slopes m_h and off = M - N.
inline Alibi alibi() { return Alibi({}); }
/// The same with off = 0.
inline Alibi alibi(top_left_t) { return Alibi({false, 0}); }
/// The same with a given off.
inline Alibi alibi(Index offset) { return Alibi({false, offset}); }
/// The same with slopes of one's own, one a query head: a contiguous list or an Eigen vector, copied when the
/// policy is made. A wrong count or a slope that is not finite is an std::invalid_argument.
template <class R>
  requires requires(const std::remove_cvref_t<R>& r) { r.data(), r.size(); }
auto alibi(R&& slopes) {
  auto list = detail::own_list(slopes);
  return AlibiSlopes<decltype(list)>(std::move(list));
}
inline auto alibi(std::initializer_list<double> slopes) { return alibi(std::vector<double>(slopes)); }

}  // namespace heed::inline HEED_ABI

#endif
