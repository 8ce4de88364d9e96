// SPDX-License-Identifier: MIT
/// @file
/// sequences(): a batch of sequences of different length, one after the other in rows, without padding.
#ifndef HEED_LAYOUT_SEQUENCES_HPP
#define HEED_LAYOUT_SEQUENCES_HPP

#include <initializer_list>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

/// The policy made by sequences().
class Sequences : public sequences_tag {
 public:
  Sequences(detail::IndexList query_offsets, detail::IndexList key_offsets)
      : query_offsets_(std::move(query_offsets)), key_offsets_(std::move(key_offsets)) {}

  /// Checks the offsets against the rows and writes them into the shape.
  void lay_out(Shape& shape) const {
    if (query_offsets_.size() != key_offsets_.size()) {
      detail::fail("sequences: ", query_offsets_.size(), " offsets for q, ", key_offsets_.size(), " for k");
    }
    check_offsets(query_offsets_, shape.queries, "q");
    check_offsets(key_offsets_, shape.keys, "k");
    shape.sequences = query_offsets_.size() - 1;
    shape.query_offsets = query_offsets_.data();
    shape.key_offsets = key_offsets_.data();
    shape.longest = 0;
    for (Index s = 0; s < shape.sequences; ++s) {
      const Index queries = query_offsets_[s + 1] - query_offsets_[s];
      const Index keys = key_offsets_[s + 1] - key_offsets_[s];
      detail::check_length(queries, keys);
      if (keys > shape.longest) shape.longest = keys;
    }
  }

 private:
  static void check_offsets(const detail::IndexList& offsets, Index rows, const char* name) {
    const Index count = offsets.size();
    if (count < 1) detail::fail("sequences: 0 offsets for ", name, ", at least 1 is needed");
    if (offsets[0] != 0)
      detail::fail("sequences: the first offset of ", name, " is ", offsets[0],
                   ", it must be 0: offsets are wanted, not lengths");
    for (Index s = 1; s < count; ++s) {
      if (offsets[s] < offsets[s - 1]) {
        detail::fail("sequences: offset ", s, " of ", name, " is ", offsets[s], ", less than ",
                     offsets[s - 1], " before it");
      }
    }
    if (offsets[count - 1] != rows) {
      detail::fail("sequences: the last offset of ", name, " is ", offsets[count - 1], ", ", name, " has ",
                   rows, " rows");
    }
  }

  detail::IndexList query_offsets_;
  detail::IndexList key_offsets_;
};

/// Sequence s is rows [offsets[s], offsets[s+1]) of q, k, v and out alike. B sequences have B + 1 offsets,
/// from 0 to the number of rows, not decreasing; sequences may be empty. Any contiguous list of integers,
/// copied when the policy is made. Positions, heads and masks count inside their own sequence, and no query
/// sees a key of another.
template <detail::integer_list R>
Sequences sequences(R&& offsets) {
  auto list = detail::IndexList::copy(offsets);
  return Sequences(list, list);
}
/// Cross attention: sequence s is rows [q_offsets[s], q_offsets[s+1]) of q and out, and rows
/// [k_offsets[s], k_offsets[s+1]) of k and v.
template <detail::integer_list R, detail::integer_list S>
Sequences sequences(R&& q_offsets, S&& k_offsets) {
  return Sequences(detail::IndexList::copy(q_offsets), detail::IndexList::copy(k_offsets));
}
inline Sequences sequences(std::initializer_list<Index> offsets) {
  auto list = detail::IndexList::copy(std::vector<Index>(offsets));
  return Sequences(list, list);
}
inline Sequences sequences(std::initializer_list<Index> q_offsets, std::initializer_list<Index> k_offsets) {
  return Sequences(detail::IndexList::copy(std::vector<Index>(q_offsets)),
                   detail::IndexList::copy(std::vector<Index>(k_offsets)));
}

}  // namespace heed::inline HEED_ABI

#endif
