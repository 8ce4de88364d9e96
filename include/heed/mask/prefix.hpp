// SPDX-License-Identifier: MIT
/// @file
/// prefix(n): the first keys, for everybody.
#ifndef HEED_MASK_PREFIX_HPP
#define HEED_MASK_PREFIX_HPP

#include <initializer_list>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/mask/lengths.hpp>

namespace heed::inline HEED_ABI {

/// The policy made by prefix(n).
struct Prefix : mask_tag {
  Index count;

  explicit Prefix(Index n) : count(n) {}
  void check(const Shape&) const {
    if (count < 0) detail::fail("prefix: the prefix has ", count, " keys, that must not be negative");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(count);
  }
  detail::BoundLengths bind(const Place& place) const { return {detail::clamp_position(count), place.keys}; }
};

/// Every query sees keys j < n, of sequences that have so many. `prefix(n) | causal()` is a prefix language
/// model (1910.10683): a text read in both directions, and what follows it in one. n < 0 is an
/// std::invalid_argument.
inline Prefix prefix(Index n) { return Prefix(n); }
/// A prefix for each sequence, at most as long as it has keys: lengths(l), in the words of `prefix({3, 5}) |
/// causal()`.
template <detail::integer_list R>
auto prefix(R&& l) {
  return lengths(std::forward<R>(l));
}
inline auto prefix(std::initializer_list<Index> l) { return lengths(l); }

}  // namespace heed::inline HEED_ABI

#endif
