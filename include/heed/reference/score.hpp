// SPDX-License-Identifier: MIT
/// @file
/// How a query and a key make a score, in plain loops: the dot product, or what the spec says instead.
#ifndef HEED_REFERENCE_SCORE_HPP
#define HEED_REFERENCE_SCORE_HPP

#include <cmath>

#include <heed/config.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/spec.hpp>

namespace heed::inline HEED_ABI::detail {

/// scale · Σ_c q_ic k_jc, or with additive(w) scale · Σ_a w_a tanh(q_ia + k_ja); row and column are those of
/// a query's and a key's head in q and k.
template <class Wide, class Spec, class Q, class K>
Wide reference_score(const Spec& spec, const Shape& shape, Index head, const Wide& scale, const Q& q,
                     Index q_row, const K& k, Index k_row) {
  const Index from_q = head * shape.d, from_k = head / (shape.heads / shape.key_heads) * shape.d;
  Wide sum(0);
  for (Index c = 0; c < shape.d; ++c) {
    const auto q_ic = static_cast<Wide>(q(q_row, from_q + c));
    const auto k_jc = static_cast<Wide>(k(k_row, from_k + c));
    if constexpr (has_policy<Spec, score_tag>) {
      using std::tanh;
      const auto w = spec.template find<score_tag>()->weights(head, shape.d);
      sum += Wide(w.template at<Wide>(c) * Wide(tanh(Wide(q_ic + k_jc))));
    } else {
      (void)spec;
      sum += Wide(q_ic * k_jc);
    }
  }
  return Wide(scale * sum);
}

/// Given ds, the gradient of that score: add_q(c, ·) and add_k(c, ·) get its gradient by q_ic and k_jc, and
/// add_w(c, ·) that by w_c.
template <class Wide, class Spec, class Q, class K, class AddQ, class AddK, class AddW>
void reference_score_gradient(const Spec& spec, const Shape& shape, Index head, const Wide& scale,
                              const Wide& ds, const Q& q, Index q_row, const K& k, Index k_row,
                              const AddQ& add_q, const AddK& add_k, const AddW& add_w) {
  const Index from_q = head * shape.d, from_k = head / (shape.heads / shape.key_heads) * shape.d;
  const Wide scaled = Wide(scale * ds);
  for (Index c = 0; c < shape.d; ++c) {
    const auto q_ic = static_cast<Wide>(q(q_row, from_q + c));
    const auto k_jc = static_cast<Wide>(k(k_row, from_k + c));
    if constexpr (has_policy<Spec, score_tag>) {
      using std::tanh;
      const auto w = spec.template find<score_tag>()->weights(head, shape.d);
      const Wide t = Wide(tanh(Wide(q_ic + k_jc)));
      const Wide slope = Wide(Wide(scaled * w.template at<Wide>(c)) * Wide(Wide(1) - Wide(t * t)));
      add_q(c, slope);
      add_k(c, slope);
      add_w(c, Wide(scaled * t));
    } else {
      (void)spec, (void)add_w;
      add_q(c, Wide(scaled * k_jc));
      add_k(c, Wide(scaled * q_ic));
    }
  }
}

}  // namespace heed::inline HEED_ABI::detail

#endif
