// SPDX-License-Identifier: MIT
/// @file
/// The gradient in plain loops, for every scalar that the engine does not know, and as the oracle of the
/// tests. Read this to learn how the backward pass of attention works.
#ifndef HEED_REFERENCE_ATTENTION_BACKWARD_HPP
#define HEED_REFERENCE_ATTENTION_BACKWARD_HPP

#include <vector>

#include <heed/config.hpp>
#include <heed/dual.hpp>
#include <heed/reference/attention.hpp>

namespace heed::inline HEED_ABI::detail {

/// Sums in Wide of one head's gradients, rows × columns.
template <class Wide>
class GradientSums {
 public:
  GradientSums(Index rows, Index columns)
      : columns_(columns), sums_(static_cast<std::size_t>(rows * columns), Wide(0)) {}
  Wide& operator()(Index r, Index c) { return sums_[static_cast<std::size_t>(r * columns_ + c)]; }

 private:
  Index columns_;
  std::vector<Wide> sums_;
};

/// to = sums, or to += sums, beginning at (row, column).
template <bool add, class Wide, class To>
void put_sums(GradientSums<Wide>& sums, To& to, Index row, Index column, Index rows, Index columns) {
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) {
      auto& x = to(row + r, column + c);
      using Scalar = std::remove_cvref_t<decltype(x)>;
      if constexpr (add)
        x = static_cast<Scalar>(Wide(static_cast<Wide>(x) + sums(r, c)));
      else
        x = static_cast<Scalar>(sums(r, c));
    }
}

/// For callers who do not want a gradient.
struct Nothing {
  template <class... A>
  void operator()(const A&...) const {}
};

/// dq, dk, dv = the gradients, or are added to (`add`), for a whole problem; add_bias(place, i, j, ds) gets
/// the gradient of every visible pair's sum of score and biases, add_sink(head, ds) that of a row's sink,
/// add_parameter(head, n, d) that of the terms' n-th parameter, add_score(head, a, d) that of an additive
/// score's a-th weight. dlse, the gradient of the log-sum-exp, may be null. Weights and output are computed
/// afresh in Wide, so that neither the output nor what a forward pass saved is asked for. Cost: O(N·M·(3 d +
/// 2 d_v)) a head; memory: one row of scores, and one head's gradients of keys and values.
template <bool add, class Wide, class Spec, class Dout, class Q, class K, class V, class Dlse, class DQ,
          class DK, class DV, class AddBias, class AddSink = Nothing, class AddParameter = Nothing,
          class AddScore = Nothing>
void reference_backward(const Spec& spec, const Shape& shape, const Dout& dout, const Q& q, const K& k,
                        const V& v, const Dlse* dlse, DQ& dq, DK& dk, DV& dv, const AddBias& add_bias,
                        const AddSink& add_sink = {}, const AddParameter& add_parameter = {},
                        const AddScore& add_score = {}) {
  const Wide scale = spec.template scale<Wide>(shape.d);
  const Index group = shape.heads / shape.key_heads, d = shape.d, d_v = shape.d_v;
  std::vector<Weight<Wide>> row;
  std::vector<Wide> dp;

  for (Index sequence = 0; sequence < shape.sequences; ++sequence) {
    for (Index key_head = 0; key_head < shape.key_heads; ++key_head) {
      const Place keys = shape.place(sequence, key_head * group);
      GradientSums<Wide> dk_sums(keys.keys, d), dv_sums(keys.keys, d_v);

      for (Index head = key_head * group; head < (key_head + 1) * group; ++head) {
        const Place place = shape.place(sequence, head);
        const auto rules = spec.template bind<Wide>(place);
        GradientSums<Wide> dq_sums(place.queries, d);

        for (Index i = 0; i < place.queries; ++i) {
          const Index token = place.query_begin + i;
          score_row<Wide>(spec, rules, shape, place, scale, i, q, k, row);
          const SelectedRow<Wide> selected = select_row<Wide>(spec, place, i, row);

          // dP = dO Vᵀ, and D, the mean of dP with the slopes as weights; softmax's slopes are P, and D = dO
          // · O
          dp.assign(row.size(), Wide(0));
          Wide mean(0), slope_sum = selected.sink_slope;
          for (std::size_t n = 0; n < row.size(); ++n) {
            const Index key = place.key_begin + row[n].key;
            for (Index c = 0; c < d_v; ++c)
              dp[n] += Wide(static_cast<Wide>(dout(token, head * d_v + c)) *
                            static_cast<Wide>(v(key, key_head * d_v + c)));
            if constexpr (rules.drops || Spec::changes_weights)
              dp[n] = Wide(dp[n] * mixed_slope(spec, rules, place, i, row[n]));
            mean += Wide(selected.slopes[n] * dp[n]);
            slope_sum += selected.slopes[n];
          }
          if (Spec::selects_rows && slope_sum > Wide(0)) mean = Wide(mean / slope_sum);
          if (dlse != nullptr) mean -= static_cast<Wide>((*dlse)(token, head));
          // The sink is one more key, with a value of zeros.
          if (selected.sink_slope > Wide(0)) add_sink(head, Wide(-Wide(selected.sink_slope * mean)));

          for (std::size_t n = 0; n < row.size(); ++n) {
            const Position j = row[n].key;
            const Index key = place.key_begin + j;
            const Wide kept = mixed_weight(spec, rules, place, i, row[n]);
            for (Index c = 0; c < d_v; ++c)
              dv_sums(j, c) += Wide(kept * static_cast<Wide>(dout(token, head * d_v + c)));
            Wide ds = Wide(selected.slopes[n] * Wide(dp[n] - mean));
            if constexpr (Spec::has_terms) {
              // Back through the terms, by running them on dual numbers.
              const Wide scaled = reference_score(spec, shape, head, scale, q, token, k, key);
              const auto position = static_cast<Position>(i);
              const dual<Wide> sum = rules.score_through_bias(dual<Wide>(scaled, Wide(1)), position, j);
              const dual<Wide> final = rules.score_after_bias(dual<Wide>(sum.value, Wide(1)), position, j);
              if constexpr (rules.parameters > 0 && !std::is_same_v<AddParameter, Nothing>) {
                using Many = dual<Wide, rules.parameters + 1>;
                const Many moved = rules.score(Many(scaled, Wide(1)), position, j);
                for (int n_th = 0; n_th < rules.parameters; ++n_th)
                  add_parameter(head, n_th, Wide(ds * moved.tangent[n_th + 1]));
              }
              ds = Wide(ds * final.tangent[0]);
              add_bias(place, static_cast<Index>(i), static_cast<Index>(j), ds);
              ds = Wide(ds * sum.tangent[0]);
            } else {
              add_bias(place, static_cast<Index>(i), static_cast<Index>(j), ds);
            }
            reference_score_gradient(
                spec, shape, head, scale, ds, q, token, k, key,
                [&](Index c, const Wide& x) { dq_sums(i, c) += x; },
                [&](Index c, const Wide& x) { dk_sums(j, c) += x; },
                [&](Index c, const Wide& x) { add_score(head, c, x); });
          }
        }
        put_sums<add>(dq_sums, dq, place.query_begin, head * d, place.queries, d);
      }
      put_sums<add>(dk_sums, dk, keys.key_begin, key_head * d, keys.keys, d);
      put_sums<add>(dv_sums, dv, keys.key_begin, key_head * d_v, keys.keys, d_v);
    }
  }
}

}  // namespace heed::inline HEED_ABI::detail

#endif
