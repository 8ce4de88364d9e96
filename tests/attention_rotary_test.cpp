// SPDX-License-Identifier: MIT
// Rotary positions before attention(): the gradient goes back through both, and a cache changes nothing.
#include <gtest/gtest.h>

#include <cmath>

#include <heed/attention.hpp>
#include <heed/attention_backward.hpp>
#include <heed/layout/heads.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/position/rotary.hpp>

#include "guarded.hpp"

namespace {

using namespace heed_test;

struct Model {
  std::vector<Index> offsets = {0, 4, 11};
  Matrix<double> q = numbers(11, 12, 1), k = numbers(11, 6, 2), v = numbers(11, 5, 3),
                 dout = numbers(11, 10, 4);
  heed::Rotary of_q{.heads = 2, .pairs = heed::ColumnPairs::halves, .first = 3, .width = 4};
  heed::Rotary of_k{.heads = 1, .pairs = heed::ColumnPairs::halves, .first = 3, .width = 4};

  static Matrix<double> numbers(Index rows, Index columns, double phase) {
    Matrix<double> m(rows, columns);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j)
        m(i, j) = std::sin(phase + 1.3 * static_cast<double>(i * i) + 2.1 * static_cast<double>(j));
    return m;
  }
  auto spec() const {
    return heed::spec(heed::heads(2, 1), heed::causal(), heed::sequences(offsets, offsets));
  }
  Matrix<double> run(const Matrix<double>& q_in, const Matrix<double>& k_in, heed::Saved<double>& saved,
                     Matrix<double>& q_turned, Matrix<double>& k_turned) const {
    q_turned = q_in;
    k_turned = k_in;
    heed::rotary(q_turned, of_q, offsets);
    heed::rotary(k_turned, of_k, offsets);
    return heed::attention(q_turned, k_turned, v, spec(), heed::save(saved));
  }
  double loss(const Matrix<double>& q_in, const Matrix<double>& k_in) const {
    heed::Saved<double> saved;
    Matrix<double> a, b;
    return run(q_in, k_in, saved, a, b).cwiseProduct(dout).sum();
  }
};

TEST(AttentionRotary, CentralDifferences) {
  const Model model;
  heed::Saved<double> saved;
  Matrix<double> q, k;
  const Matrix<double> out = model.run(model.q, model.k, saved, q, k);
  auto [dq, dk, dv] = heed::attention_backward(model.dout, q, k, model.v, out, saved, model.spec());
  heed::rotary_gradient(dq, model.of_q, model.offsets);
  heed::rotary_gradient(dk, model.of_k, model.offsets);
  const double h = 1e-5;
  for (Index i = 0; i < 11; ++i) {
    for (Index c = 0; c < 12; ++c) {
      Matrix<double> above = model.q, below = model.q;
      above(i, c) += h;
      below(i, c) -= h;
      EXPECT_NEAR(dq(i, c), (model.loss(above, model.k) - model.loss(below, model.k)) / (2 * h), 1e-8);
    }
    for (Index c = 0; c < 6; ++c) {
      Matrix<double> above = model.k, below = model.k;
      above(i, c) += h;
      below(i, c) -= h;
      EXPECT_NEAR(dk(i, c), (model.loss(model.q, above) - model.loss(model.q, below)) / (2 * h), 1e-8);
    }
  }
}

/// The last queries alone, behind a cache of turned keys, get what the whole sequence gives them; all
/// positions may move by a constant.
TEST(AttentionRotary, CachesAndCommonShifts) {
  const Model model;
  const auto attend = [&](Index shift, Index cached) {
    Matrix<double> q = model.q.bottomRows(11 - cached), k = model.k;
    heed::rotary(q, {.heads = 2, .first = shift + cached});
    heed::rotary(k.topRows(cached), {.first = shift});
    heed::rotary(k.bottomRows(11 - cached), {.first = shift + cached});
    return Matrix<double>(heed::attention(q, k, model.v, heed::heads(2, 1), heed::causal()));
  };
  const Matrix<double> whole = attend(0, 0);
  EXPECT_TRUE(attend(0, 8).isApprox(whole.bottomRows(3), 1e-13));
  EXPECT_TRUE(attend(1000, 0).isApprox(whole, 1e-10));
}

}  // namespace
