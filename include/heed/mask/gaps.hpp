// SPDX-License-Identifier: MIT
/// @file
/// Masks with gaps. Under dilated() with step s a query sees keys that lie s apart, so tokens fall into s
/// classes by their remainder, and a class sees only one class: among its tokens, numbered one after the
/// other, the mask is a plain window. The engine runs class by class, on rows that lie s rows apart, and
/// reads only what it needs.
///
/// Here: which masks have gaps, how a | b falls into two masks without a pair in common of which one has gaps
/// (as in strided()), and what a bound mask or term is among the tokens of one class.
#ifndef HEED_MASK_GAPS_HPP
#define HEED_MASK_GAPS_HPP

#include <cstdint>
#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/rules.hpp>
#include <heed/core/shape.hpp>
#include <heed/mask/algebra.hpp>
#include <heed/mask/dilated.hpp>

namespace heed::inline HEED_ABI::detail {

/// The dilated() of an intersection of masks.
template <class M>
using GapsOf = ConjunctOf<Dilated, M>;

/// a | b as two masks: the one without gaps, and what the one with gaps shows beyond it. So too (a | b) & c.
template <class M>
struct PartsOf {
  static constexpr bool found = false;
};
template <class A, class B>
  requires(GapsOf<A>::found != GapsOf<B>::found)
struct PartsOf<OrMask<A, B>> {
  static constexpr bool found = true;
  static const auto& without_gaps(const OrMask<A, B>& m) {
    if constexpr (GapsOf<A>::found)
      return m.b;
    else
      return m.a;
  }
  static auto with_gaps(const OrMask<A, B>& m) {
    if constexpr (GapsOf<A>::found)
      return m.a & !m.b;
    else
      return m.b & !m.a;
  }
};

template <class A, class B>
  requires(PartsOf<A>::found != PartsOf<B>::found && !GapsOf<A>::found && !GapsOf<B>::found)
struct PartsOf<AndMask<A, B>> {
  static constexpr bool found = true;
  static auto without_gaps(const AndMask<A, B>& m) {
    if constexpr (PartsOf<A>::found)
      return PartsOf<A>::without_gaps(m.a) & m.b;
    else
      return m.a & PartsOf<B>::without_gaps(m.b);
  }
  static auto with_gaps(const AndMask<A, B>& m) {
    if constexpr (PartsOf<A>::found)
      return PartsOf<A>::with_gaps(m.a) & m.b;
    else
      return m.a & PartsOf<B>::with_gaps(m.b);
  }
};

/// One class of tokens: query i of it is query first_query + step · i of the sequence, and so for keys.
struct TokenClass {
  Index first_query = 0, first_key = 0, step = 1;
  Index queries = 0, keys = 0;  ///< of the class

  /// Class `number` of a sequence, 0 <= number < min(step, queries): of the query of that number, and of the
  /// keys that it may see.
  TokenClass(const BoundDilated& gaps, const Place& place, Index number)
      : first_query(number), step(gaps.step) {
    first_key = number + gaps.low;
    first_key -= floor_quotient(first_key, step) * step;
    queries = (place.queries - number + step - 1) / step;
    keys = first_key < place.keys ? (place.keys - first_key + step - 1) / step : 0;
  }
  HEED_INLINE Position query(Position i) const { return position(first_query, i); }
  HEED_INLINE Position key(Position j) const { return position(first_key, j); }

 private:
  /// Unsigned: a tile's last rows and keys may lie past the end of the class, and steps are long.
  HEED_INLINE Position position(Index first, Position number) const {
    return static_cast<Position>(static_cast<std::uint32_t>(first) +
                                 static_cast<std::uint32_t>(step) * static_cast<std::uint32_t>(number));
  }
};

/// A bound mask among the tokens of a class. Its ranges are those of all tokens from the tile's first query
/// to its last, which claims no more than is true.
template <class Bound>
struct MaskInClass {
  static constexpr bool asks_user = detail::asks_user<Bound>();
  Bound mask;
  TokenClass tokens;
  Index keys;  ///< of the sequence

  HEED_INLINE bool visible(Position i, Position j) const {
    // What lies past the end is as visible as the last: masks subtract positions, which must exist.
    const auto last_query = static_cast<Position>(tokens.queries - 1),
               last_key = static_cast<Position>(tokens.keys - 1);
    return mask.visible(tokens.query(i < last_query ? i : last_query),
                        tokens.key(j < last_key ? j : last_key));
  }
  HEED_NOINLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    return in_class(stretches<false>(mask, keys, first(i0), last(i1)), from);
  }
  HEED_NOINLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    return in_class(stretches<true>(mask, keys, first(i0), last(i1)), from);
  }

 private:
  HEED_INLINE Index first(Index i0) const { return tokens.first_query + tokens.step * i0; }
  HEED_INLINE Index last(Index i1) const { return tokens.first_query + tokens.step * (i1 - 1) + 1; }
  /// The keys of the class that lie in the first stretch with any.
  template <class Ranges>
  HEED_INLINE KeyRange in_class(const Ranges& ranges, Index from) const {
    const auto number = [&](Index key) { return (key - tokens.first_key + tokens.step - 1) / tokens.step; };
    if (from >= tokens.keys) return {tokens.keys, tokens.keys};
    for (Index at = tokens.first_key + tokens.step * from;;) {
      const KeyRange r = ranges(at);
      if (r.empty()) return {tokens.keys, tokens.keys};
      const KeyRange mine = clip(r.begin <= tokens.first_key ? 0 : number(r.begin),
                                 r.end <= tokens.first_key ? 0 : number(r.end), from, tokens.keys);
      if (!mine.empty()) return mine;
      at = r.end;
    }
  }
};

template <class Bound>
HEED_INLINE auto among(const TokenClass& tokens, Index keys, const Bound& mask) {
  return MaskInClass<Bound>{mask, tokens, keys};
}
HEED_INLINE Everything among(const TokenClass& tokens, Index, const Everything&) { return {tokens.keys}; }
/// The dilated() that made the classes becomes a window.
HEED_INLINE auto among(const TokenClass& tokens, Index, const BoundDilated& mask) {
  const Index apart = tokens.first_key - tokens.first_query;
  const Index low = mask.low > mask.high ? tokens.keys : floor_quotient(mask.low - apart, tokens.step);
  const Index high = mask.low > mask.high ? tokens.keys : floor_quotient(mask.high - apart, tokens.step);
  return BoundWindow{static_cast<Position>(low), static_cast<Position>(high), tokens.keys};
}
template <class A, class B>
HEED_INLINE auto among(const TokenClass& tokens, Index keys, const BoundAnd<A, B>& mask) {
  const auto a = among(tokens, keys, mask.a);
  const auto b = among(tokens, keys, mask.b);
  return BoundAnd<std::remove_const_t<decltype(a)>, std::remove_const_t<decltype(b)>>{tokens.keys, a, b};
}

/// A bound term among the tokens of a class.
template <class Term>
struct TermInClass : Term {
  // Positions in the class are neither those in memory nor as far apart as in the sequence.
  using adds_from_memory = void;
  static constexpr bool adds_by_distance = false;
  TokenClass tokens;

  TermInClass(const Term& term, const TokenClass& t) : Term(term), tokens(t) {}
  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    return static_cast<const Term&>(*this)(s, tokens.query(i), tokens.key(j));
  }
};

}  // namespace heed::inline HEED_ABI::detail

#endif
