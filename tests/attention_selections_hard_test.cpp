// SPDX-License-Identifier: MIT
// top_k, top_p, argmax and sample against their definitions, forward and backward.
#include "any_rank.hpp"
#include "selection_oracle.hpp"

#include <heed/select/sample.hpp>
#include <heed/select/top_k.hpp>

namespace {

using namespace heed_test;

template <class T>
void hard() {
  const Index counts[] = {1, 2, 5, 17, 1000};
  const double masses[] = {0.1234, 0.517, 0.9071, 1.0};
  sweep_selection<T>("top_k, top_p, argmax", 311, sizeof(T) == 4 ? 160 : 60, [&](Index t) {
    return t % 4 == 3   ? AnyRank(heed::argmax())
           : t % 4 == 2 ? AnyRank(heed::argmax(heed::straight_through))
           : t % 3 == 0 ? AnyRank(heed::top_p(masses[t / 3 % 4]))
                        : AnyRank(heed::top_k(counts[t % 5]));
  });
  sweep_selection<T>("sample", 314, sizeof(T) == 4 ? 40 : 16, [](Index t) {
    const auto seed = static_cast<std::uint64_t>(t);
    return t % 3 == 0   ? heed::sample(seed)
           : t % 3 == 1 ? heed::sample(seed, 9)
                        : heed::sample(seed, 3, heed::straight_through);
  });
}

TEST(AttentionSelectionsHard, Float) { hard<float>(); }
TEST(AttentionSelectionsHard, Double) { hard<double>(); }

}  // namespace
