// SPDX-License-Identifier: MIT
/// @file
/// Attention in plain loops, for any scalar: the text to read first, the path that every scalar without an
/// engine takes, and the oracle that the engine is held against.
///
/// Attention looks things up. Every token i asks with a query q_i, every token j offers a key k_j and a value
/// v_j, and the answer to i is a mean of the values, weighted by how well each key fits the query:
///
///     s_ij = scale · Σ_c q_ic k_jc             how well key j fits query i           (score, N x M)
///            or scale · Σ_a w_a tanh(q_ia + k_ja)
///     s_ij <- terms(s_ij, i, j)                softcap, positions, biases, functors
///     p_ij = exp(s_ij) / Σ_j exp(s_ij)         over the keys that i may see          (selection, N x M),
///                                              or another selection (selections.hpp)
///     p_ij <- 0 or p_ij / (1 - p)              with dropout
///     o_ic = Σ_j p_ij v_jc                                                           (mix, N x d_v)
///
/// Only one row of s and p is ever stored. Source: 1706.03762.
#ifndef HEED_REFERENCE_ATTENTION_HPP
#define HEED_REFERENCE_ATTENTION_HPP

#include <cmath>
#include <cstddef>
#include <limits>
#include <type_traits>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/saturate.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/spec.hpp>
#include <heed/reference/score.hpp>
#include <heed/reference/selections.hpp>

namespace heed::inline HEED_ABI::detail {

/// The scores of one query: row `row` of q against the keys of its sequence that it sees, in order. A key
/// that the masks or a score of -inf hide is left out, and neither read nor asked about further. Finite
/// scores saturate where those of Scalar do, or else Wide.
template <class Scalar = void, class Wide, class Spec, class Rules, class Q, class K>
void score_row(const Spec& spec, const Rules& rules, const Shape& shape, const Place& place, Wide scale,
               Index i, const Q& q, const K& k, std::vector<Weight<Wide>>& row) {
  const auto position = static_cast<Position>(i);
  row.clear();
  for (Position j = 0; j < place.keys; ++j) {
    if (!rules.visible(position, j)) continue;
    const Wide score = saturated_as<Scalar>(rules.score(
        reference_score(spec, shape, place.head, scale, q, place.query_begin + i, k, place.key_begin + j),
        position, j));
    if (score == minus_infinity<Wide>()) continue;
    row.push_back({j, score});
  }
}

/// out = attention(q, k, v) for a whole problem, and the log-sum-exp (rows of q x query heads) unless lse is
/// null. Everything is computed in Wide: any scalar with + - * /, comparisons, and exp and log found through
/// its namespace. (Wide(a * b) rather than a * b, because operators of such scalars may return expressions
/// that refer to their operands.) out is shape.queries x (heads · d_v); a query that sees no key gets zeros.
/// Cost: O(N·M·(d + d_v)) a head, one row of scores as memory.
template <class Wide, class Spec, class Q, class K, class V, class Out, class Lse>
void reference_forward(const Spec& spec, const Shape& shape, const Q& q, const K& k, const V& v, Out&& out,
                       Lse* lse) {
  const Wide scale = spec.template scale<Wide>(shape.d);
  std::vector<Weight<Wide>> row;
  std::vector<Wide> mixed(static_cast<std::size_t>(shape.d_v), Wide(0));

  for (Index sequence = 0; sequence < shape.sequences; ++sequence) {
    for (Index head = 0; head < shape.heads; ++head) {
      const Place place = shape.place(sequence, head);
      const auto rules = spec.template bind<Wide>(place);
      const Index key_head = head / (shape.heads / shape.key_heads);

      for (Index i = 0; i < place.queries; ++i) {
        score_row<Wide>(spec, rules, shape, place, scale, i, q, k, row);
        const Wide log_sum_exp = select_row<Wide>(spec, place, i, row).summary;

        for (Wide& x : mixed) x = Wide(0);
        for (Weight<Wide>& w : row) w.value = mixed_weight(spec, rules, place, i, w);
        for (const Weight<Wide>& w : row) {
          for (Index c = 0; c < shape.d_v; ++c) {
            const auto v_jc = static_cast<Wide>(v(place.key_begin + w.key, key_head * shape.d_v + c));
            mixed[static_cast<std::size_t>(c)] += Wide(w.value * v_jc);
          }
        }

        const Index token = place.query_begin + i;
        for (Index c = 0; c < shape.d_v; ++c) {
          using Scalar = std::remove_cvref_t<decltype(out(token, c))>;
          out(token, head * shape.d_v + c) = static_cast<Scalar>(mixed[static_cast<std::size_t>(c)]);
        }
        if (lse != nullptr) {
          using Scalar = std::remove_cvref_t<decltype((*lse)(token, head))>;
          (*lse)(token, head) = static_cast<Scalar>(log_sum_exp);
        }
      }
    }
  }
}

}  // namespace heed::inline HEED_ABI::detail

#endif
