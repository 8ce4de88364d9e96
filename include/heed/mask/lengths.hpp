// SPDX-License-Identifier: MIT
/// @file
/// lengths(l): only the first l[s] keys of sequence s exist.
#ifndef HEED_MASK_LENGTHS_HPP
#define HEED_MASK_LENGTHS_HPP

#include <initializer_list>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

struct BoundLengths {
  Position length;
  Index keys;

  HEED_INLINE bool visible(Position, Position j) const { return j < length; }
  HEED_INLINE KeyRange key_ranges(Index, Index, Index from) const { return clip(0, length, from, keys); }
  HEED_INLINE KeyRange full_ranges(Index, Index, Index from) const { return clip(0, length, from, keys); }
};

}  // namespace detail

/// The policy made by lengths().
template <class Holder>
class Lengths : public mask_tag {
 public:
  explicit Lengths(Holder list) : list_(std::move(list)) {}

  void check(const Shape& shape) const {
    const Index count = static_cast<Index>(list_.get().size());
    if (count != shape.sequences)
      detail::fail("lengths: ", count, " lengths for ", shape.sequences, " sequences");
    for (Index s = 0; s < count; ++s) {
      const Index keys = shape.place(s, 0).keys;
      if (at(s) < 0 || at(s) > keys)
        detail::fail("lengths: length ", s, " is ", at(s), ", its sequence has ", keys, " keys");
    }
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n.list(list_.get());
  }
  detail::BoundLengths bind(const Place& place) const {
    return {static_cast<Position>(at(place.sequence)), place.keys};
  }

 private:
  Index at(Index s) const {
    return static_cast<Index>(list_.get().data()[s * detail::list_stride(list_.get())]);
  }

  Holder list_;
};

/// Queries of sequence s see keys j < l[s]: padding keys at the end of fixed-size batches. One length a
/// sequence, 0 <= l[s] <= M, in any list of integers (contiguous, or an Eigen vector), copied when the policy
/// is made. A wrong count or a length out of range is an std::invalid_argument.
template <detail::integer_list R>
auto lengths(R&& l) {
  auto list = detail::own_list(l);
  return Lengths<decltype(list)>(std::move(list));
}
inline auto lengths(std::initializer_list<Index> l) { return lengths(std::vector<Index>(l)); }

}  // namespace heed::inline HEED_ABI

#endif
