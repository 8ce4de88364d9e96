// SPDX-License-Identifier: MIT
/// @file
/// windows(lefts, rights): every head looks through a window of its own.
#ifndef HEED_MASK_WINDOWS_HPP
#define HEED_MASK_WINDOWS_HPP

#include <initializer_list>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/mask/window.hpp>

namespace heed::inline HEED_ABI {

/// The policy made by windows().
template <class Lefts, class Rights>
class Windows : public mask_tag {
 public:
  Windows(Lefts lefts, Rights rights, Alignment a)
      : lefts_(std::move(lefts)), rights_(std::move(rights)), alignment_(a) {}

  void check(const Shape& shape) const {
    check_count("left", lefts_, shape);
    check_count("right", rights_, shape);
    for (Index h = 0; h < shape.heads; ++h) window_of(h).check(shape);
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n.list(lefts_.get()), n.list(rights_.get()), n(alignment_);
  }
  detail::BoundWindow bind(const Place& place) const { return window_of(place.head).bind(place); }

 private:
  template <class Holder>
  static void check_count(const char* side, const Holder& list, const Shape& shape) {
    const Index count = static_cast<Index>(list.get().size());
    if (count != shape.heads)
      detail::fail("windows: ", count, " ", side, " sides for ", shape.heads, " heads");
  }
  template <class Holder>
  static Index at(const Holder& list, Index head) {
    return static_cast<Index>(list.get().data()[head * detail::list_stride(list.get())]);
  }
  Window window_of(Index head) const { return Window(at(lefts_, head), at(rights_, head), alignment_); }

  Lefts lefts_;
  Rights rights_;
  Alignment alignment_;
};

namespace detail {

template <class Lefts, class Rights>
Windows<Lefts, Rights> make_windows(Lefts lefts, Rights rights, Alignment alignment) {
  return Windows<Lefts, Rights>(std::move(lefts), std::move(rights), alignment);
}

}  // namespace detail

/// Multi-scale attention (1912.00544): query i of head h sees keys i + off - lefts[h] <= j <= i + off +
/// rights[h], with off = M - N. One number for each query head, `unbounded` among them if need be; contiguous
/// lists or Eigen vectors, copied when the policy is made. A wrong count, or a window that holds no
/// position, is an std::invalid_argument. Each head costs its own window.
template <detail::integer_list L, detail::integer_list R>
auto windows(L&& lefts, R&& rights) {
  return detail::make_windows(detail::own_list(lefts), detail::own_list(rights), {});
}
/// The same with off = 0.
template <detail::integer_list L, detail::integer_list R>
auto windows(L&& lefts, R&& rights, top_left_t) {
  return detail::make_windows(detail::own_list(lefts), detail::own_list(rights), {false, 0});
}
/// As far to either side: |i + off - j| <= widths[h].
template <detail::integer_list W>
auto windows(W&& widths) {
  const auto list = detail::own_list(widths);
  return detail::make_windows(list, list, {});
}
inline auto windows(std::initializer_list<Index> widths) { return windows(std::vector<Index>(widths)); }
inline auto windows(std::initializer_list<Index> lefts, std::initializer_list<Index> rights) {
  return windows(std::vector<Index>(lefts), std::vector<Index>(rights));
}

}  // namespace heed::inline HEED_ABI

#endif
