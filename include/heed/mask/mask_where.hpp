// SPDX-License-Identifier: MIT
/// @file
/// mask_where(f): a function of the positions says which pairs exist.
#ifndef HEED_MASK_MASK_WHERE_HPP
#define HEED_MASK_MASK_WHERE_HPP

#include <utility>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

template <class Functor>
struct BoundMaskWhere {
  static constexpr bool asks_user = true;
  Functor functor;
  Position head, sequence;

  HEED_INLINE bool visible(Position i, Position j) const {
    const auto& f = functor.get();
    if constexpr (requires { f(i, j); }) {
      return static_cast<bool>(f(i, j));
    } else if constexpr (requires { f(i, j, head); }) {
      return static_cast<bool>(f(i, j, head));
    } else {
      static_assert(
          requires { f(i, j, head, sequence); },
          "heed: the function given to mask_where takes (i, j), (i, j, head) or (i, j, head, sequence), all "
          "heed::Position, and is const");
      return static_cast<bool>(f(i, j, head, sequence));
    }
  }
};

}  // namespace detail

/// The policy made by mask_where().
template <class Holder>
class MaskWhere : public mask_tag {
 public:
  explicit MaskWhere(Holder functor) : functor_(std::move(functor)) {}

  auto bind(const Place& place) const {
    using Functor = detail::bound_functor<Holder>;
    return detail::BoundMaskWhere<Functor>{Functor(functor_.get()), static_cast<Position>(place.head),
                                           static_cast<Position>(place.sequence)};
  }

 private:
  Holder functor_;
};

/// Query i sees key j where f(i, j) is true (FlexAttention's mask_mod). f takes (i, j), (i, j, head) or (i,
/// j, head, sequence), 32-bit positions inside their sequence, 0 <= i < N, 0 <= j < M; owned if an rvalue,
/// referred to if not. It may be called from several threads, in any order, any number of times; what it
/// throws reaches the caller. It has no key ranges, so every pair that other masks leave open is asked:
/// `window(256, 0) & mask_where(f)` costs a window.
template <class F>
auto mask_where(F&& f) {
  return MaskWhere<detail::stored<F>>(detail::stored<F>(std::forward<F>(f)));
}

}  // namespace heed::inline HEED_ABI

#endif
