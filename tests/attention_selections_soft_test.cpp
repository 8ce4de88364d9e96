// SPDX-License-Identifier: MIT
// Sparsemax and entmax against their definitions, forward and backward.
#include "selection_oracle.hpp"

#include <heed/select/dropout.hpp>
#include <heed/select/entmax.hpp>
#include <heed/select/sink.hpp>
#include <heed/select/sparsemax.hpp>

namespace {

using namespace heed_test;

template <class T>
void soft() {
  sweep_selection<T>("sparsemax", 301, sizeof(T) == 4 ? 60 : 24, [](Index) { return heed::sparsemax(); });
  sweep_selection<T>("entmax15, sink, dropout", 302, sizeof(T) == 4 ? 60 : 24, [](Index t) {
    return heed::spec(heed::entmax15(),
                      heed::sink(t % 3 == 0 ? -std::numeric_limits<double>::infinity() : 0.5),
                      heed::dropout(t % 5 == 0 ? 0.3 : 0.0, 7));
  });
  const double alphas[] = {1.001, 1.05, 1.3, 1.7, 1.9};
  sweep_selection<T>("entmax(alpha)", 303, sizeof(T) == 4 ? 40 : 16, [&](Index t) { return heed::entmax(double(alphas[t % 5])); });
}

TEST(AttentionSelectionsSoft, Float) { soft<float>(); }
TEST(AttentionSelectionsSoft, Double) { soft<double>(); }

}  // namespace
