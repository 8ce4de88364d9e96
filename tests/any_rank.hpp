// SPDX-License-Identifier: MIT
#ifndef HEED_TESTS_ANY_RANK_HPP
#define HEED_TESTS_ANY_RANK_HPP

#include <heed/select/top_k.hpp>

namespace heed_test {

/// top_k, top_p or argmax as one type: the kernels are compiled once for all of them.
struct AnyRank : heed::row_selection_tag {
  heed::detail::BoundRank bound;

  template <class P>
  explicit AnyRank(const P& policy) : bound(policy.bind_selection(heed::Place{})) {}
  heed::detail::BoundRank bind_selection(const heed::Place&) const { return bound; }
};

}  // namespace heed_test

#endif
