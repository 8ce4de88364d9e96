// SPDX-License-Identifier: MIT
/// @file
/// score_with(f): a function of the score and its positions gives the score that counts.
#ifndef HEED_SCORE_SCORE_WITH_HPP
#define HEED_SCORE_SCORE_WITH_HPP

#include <utility>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

template <class Functor>
struct BoundScoreWith {
  static constexpr int stage = heed::stage::functor;
  static constexpr bool may_hide = true;
  Functor functor;
  Position head, sequence;

  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    const auto& f = functor.get();
    if constexpr (requires { f(s, i, j); }) {
      return static_cast<S>(f(s, i, j));
    } else if constexpr (requires { f(s, i, j, head); }) {
      return static_cast<S>(f(s, i, j, head));
    } else {
      static_assert(
          requires { f(s, i, j, head, sequence); },
          "heed: the function given to score_with takes (s, i, j), (s, i, j, head) or (s, i, j, head, "
          "sequence), "
          "s of the score's type (take it as auto) and the rest heed::Position, and is const");
      return static_cast<S>(f(s, i, j, head, sequence));
    }
  }
};

}  // namespace detail

/// The policy made by score_with().
template <class Holder>
class ScoreWith : public term_tag {
 public:
  explicit ScoreWith(Holder functor) : functor_(std::move(functor)) {}

  auto bind(const Place& place) const {
    using Functor = detail::bound_functor<Holder>;
    return detail::BoundScoreWith<Functor>{Functor(functor_.get()), static_cast<Position>(place.head),
                                           static_cast<Position>(place.sequence)};
  }

 private:
  Holder functor_;
};

/// s <- f(s, i, j), after scale, softcap, positions and biases, in natural units; several act in the order
/// given (FlexAttention's score_mod). f takes (s, i, j), (s, i, j, head) or (s, i, j, head, sequence): s of
/// whatever type the pass computes in (take it as `auto`), 32-bit positions inside their sequence. -inf hides
/// the pair. f is never called on a pair that a mask hides; it may be called from several threads, in any
/// order, any number of times; what it throws reaches the caller. Owned if an rvalue, referred to if not. For
/// speed use heed::exp, log, tanh, abs, max, min, select. With scalars that are expression templates
/// (Eigen::AutoDiffScalar) it must return a value: `return decltype(s)(s * 2);`.
template <class F>
auto score_with(F&& f) {
  return ScoreWith<detail::stored<F>>(detail::stored<F>(std::forward<F>(f)));
}

}  // namespace heed::inline HEED_ABI

#endif
