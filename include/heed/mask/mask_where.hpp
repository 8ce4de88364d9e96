// SPDX-License-Identifier: MIT
/// @file
/// mask_where(f): a function of the positions says which pairs exist.
#ifndef HEED_MASK_MASK_WHERE_HPP
#define HEED_MASK_MASK_WHERE_HPP

#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/pair.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

template <class Functor>
struct BoundMaskWhere {
  static constexpr bool asks_user = true;
  Functor functor;
  PairOrigin origin;

  HEED_INLINE bool visible(Position i, Position j) const {
    const auto& f = functor.get();
    using F = std::remove_cvref_t<decltype(f)>;
    static_assert(
        takes_positions<F> || takes_pair<F>,
        "heed: the function given to mask_where takes (heed::Pair pair), or (i, j), (i, j, head) or "
        "(i, j, head, sequence), all heed::Position, and is const");
    if constexpr (takes_positions<F> || takes_pair<F>)
      return static_cast<bool>(ask_about_pair(f, origin, i, j));
    else
      return false;
  }
};

}  // namespace detail

/// The policy made by mask_where().
template <class Holder>
class MaskWhere : public mask_tag {
 public:
  explicit MaskWhere(Holder functor) : functor_(std::move(functor)) {}

  void check(const Shape& shape) const {
    using F = std::remove_cvref_t<decltype(functor_.get())>;
    if constexpr (detail::asks_for_pair<F>) detail::check_pair_rows("mask_where", shape);
  }
  auto bind(const Place& place) const {
    using Functor = detail::bound_functor<Holder>;
    return detail::BoundMaskWhere<Functor>{Functor(functor_.get()), detail::PairOrigin(place)};
  }

 private:
  Holder functor_;
};

/// Query i sees key j where f is true (FlexAttention's mask_mod). f takes one heed::Pair, which has a name
/// for everything: `mask_where([](heed::Pair p) { return p.key <= p.query; })`; or positions in this order:
/// (i, j), (i, j, head) or (i, j, head, sequence), 32-bit and inside their sequence, 0 <= i < N, 0 <= j <
/// M. The rows of q and k in the whole batch are a Pair's alone. f is owned if an rvalue, referred to if
/// not. It may be called from several threads, in any order, any number of times; what it throws reaches
/// the caller. It has no key ranges, so every pair that other masks leave open is asked: `window(256, 0) &
/// mask_where(f)` costs a window.
template <class F>
auto mask_where(F&& f) {
  return MaskWhere<detail::stored<F>>(detail::stored<F>(std::forward<F>(f)));
}

}  // namespace heed::inline HEED_ABI

#endif
