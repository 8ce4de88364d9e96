// SPDX-License-Identifier: MIT
// attention() against plain loops: documents, dense masks, masks of the caller's.
#include "oracle.hpp"

#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/mask_where.hpp>

namespace {

using namespace heed_test;

/// Runs of equal ids, long or short, or ids in no order at all.
std::vector<int> draw_ids(Dice& dice, Index count, Index longest) {
  std::vector<int> ids;
  while (static_cast<Index>(ids.size()) < count) {
    const int id = static_cast<int>(dice.below(6));
    for (Index run = 1 + dice.below(longest); run > 0 && static_cast<Index>(ids.size()) < count; --run)
      ids.push_back(id);
  }
  return ids;
}

template <class T>
void documents() {
  Oracle<T> oracle("documents");
  Dice dice(21);
  for (Index t = 0; t < sweep(200); ++t) {
    const Case c = draw_case<T>(21, t);
    const Index longest = t % 3 == 0 ? 1 : t % 3 == 1 ? 20 : 150;
    const std::vector<int> q = draw_ids(dice, c.n, longest),
                           k = c.n == c.m ? q : draw_ids(dice, c.m, longest);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), heed::documents(q, k)));
  }
}

template <class T>
void dense_mask() {
  Oracle<T> oracle("dense mask");
  Dice dice(22);
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(22, t);
    const double density = t % 4 == 0 ? 0.02 : t % 4 == 1 ? 0.5 : 0.95;
    Matrix<bool> b(c.n, t % 2 == 0 ? c.m : c.heads * c.m);
    for (Index j = 0; j < b.cols(); ++j)
      for (Index i = 0; i < b.rows(); ++i) b(i, j) = dice.uniform() < density;
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads), heed::dense_mask(b)));
  }
}

template <class T>
void mask_where() {
  Oracle<T> oracle("mask_where");
  for (Index t = 0; t < sweep(160); ++t) {
    const Case c = draw_case<T>(23, t);
    const int step = 1 + static_cast<int>(t) % 7;
    oracle.check(
        c, heed::spec(heed::heads(c.heads, c.key_heads), heed::mask_where([step](auto i, auto j, auto h) {
                        return (i + j + h) % step == 0 || j == 3;
                      })));
  }
}

TEST(AttentionOracleMasks, FloatDocuments) { documents<float>(); }
TEST(AttentionOracleMasks, DoubleDocuments) { documents<double>(); }
TEST(AttentionOracleMasks, FloatDenseMask) { dense_mask<float>(); }
TEST(AttentionOracleMasks, DoubleDenseMask) { dense_mask<double>(); }
TEST(AttentionOracleMasks, FloatMaskWhere) { mask_where<float>(); }
TEST(AttentionOracleMasks, DoubleMaskWhere) { mask_where<double>(); }

}  // namespace
