// SPDX-License-Identifier: MIT
/// @file
/// A query and a key by name, and how a user's functor is asked about them.
#ifndef HEED_CORE_PAIR_HPP
#define HEED_CORE_PAIR_HPP

#include <limits>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/shape.hpp>

namespace heed::inline HEED_ABI {

/// One query and one key, as the functors of mask_where(), score_with() and weight_with() may take them, in
/// one argument with names:
///
///     heed::mask_where([](heed::Pair p) { return p.key <= p.query; })
///     heed::score_with([&](auto s, heed::Pair p) { return s + table[p.key_row]; })
struct Pair {
  Position query = 0;      ///< position inside its sequence, from 0
  Position key = 0;        ///< position inside its sequence, from 0
  Position head = 0;       ///< query head, from 0
  Position sequence = 0;   ///< from 0
  Position query_row = 0;  ///< row of q in the whole batch: where its sequence begins, and `query` rows on
  Position key_row = 0;    ///< row of k in the whole batch
};

namespace detail {

/// What is the same for all pairs of one sequence and head.
struct PairOrigin {
  Position head, sequence, query_begin, key_begin;

  explicit HEED_INLINE PairOrigin(const Place& place)
      : head(static_cast<Position>(place.head)),
        sequence(static_cast<Position>(place.sequence)),
        query_begin(static_cast<Position>(place.query_begin)),
        key_begin(static_cast<Position>(place.key_begin)) {}
  HEED_INLINE Pair pair(Position i, Position j) const {
    return {i, j, head, sequence, query_begin + i, key_begin + j};
  }
};

/// Does F take these arguments, and then positions: (i, j), (i, j, head) or (i, j, head, sequence)? (Calls
/// that f has no room for are not tried, so the body of a generic f is compiled for its own form alone.)
template <class F, class... First>
concept takes_two = requires(const F& f, First&... first, Position x) { f(first..., x, x); };
template <class F, class... First>
concept takes_three = requires(const F& f, First&... first, Position x) { f(first..., x, x, x); };
template <class F, class... First>
concept takes_four = requires(const F& f, First&... first, Position x) { f(first..., x, x, x, x); };
template <class F, class... First>
concept takes_positions = takes_two<F, First...> || takes_three<F, First...> || takes_four<F, First...>;
/// Or a Pair?
template <class F, class... First>
concept takes_pair = requires(const F& f, First&... first, Pair pair) { f(first..., pair); };
/// And of both, is it the Pair that f is given? (Asked in this order, no functor of positions is compiled for
/// arguments that it will never see.)
template <class F, class... First>
concept asks_for_pair = takes_pair<F, First...> && (!takes_positions<F, First...>);

/// f of these arguments and a pair, in whichever form f takes it.
template <class F, class... First>
  requires(takes_positions<F, First...> || takes_pair<F, First...>)
HEED_INLINE decltype(auto) ask_about_pair(const F& f, const PairOrigin& origin, Position i, Position j,
                                          First&... first) {
  Position head = origin.head, sequence = origin.sequence;
  (void)head, (void)sequence;
  if constexpr (takes_two<F, First...>) {
    return f(first..., i, j);
  } else if constexpr (takes_three<F, First...>) {
    return f(first..., i, j, head);
  } else if constexpr (takes_four<F, First...>) {
    return f(first..., i, j, head, sequence);
  } else {
    return f(first..., origin.pair(i, j));
  }
}

/// A Pair counts rows in 32 bits.
inline void check_pair_rows(const char* name, const Shape& shape) {
  constexpr Index most = std::numeric_limits<Position>::max();
  if (shape.queries > most || shape.keys > most)
    fail(name, ": q has ", shape.queries, " rows and k has ", shape.keys,
         "; a function of a heed::Pair counts ", most, " at most");
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI

#endif
