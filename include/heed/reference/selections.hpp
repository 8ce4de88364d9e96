// SPDX-License-Identifier: MIT
/// @file
/// A row of scores becomes weights, in plain loops: by definition, not by the engine's methods.
#ifndef HEED_REFERENCE_SELECTIONS_HPP
#define HEED_REFERENCE_SELECTIONS_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/saturate.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/spec.hpp>
#include <heed/dual.hpp>
#include <heed/select/row_selection.hpp>

namespace heed::inline HEED_ABI::detail {

/// A key that a query sees, and its weight.
template <class Wide>
struct Weight {
  Position key;
  Wide value;
};

/// For scalars without a numeric_limits of their own.
template <class Wide>
Wide minus_infinity() {
  return Wide(-std::numeric_limits<double>::infinity());
}

/// Turns scores into weights that sum to 1, the sink's included; returns log Σ exp(s). A row without keys
/// stays empty, and its log-sum-exp is the sink, or -inf.
template <class Wide>
Wide softmax_row(std::vector<Weight<Wide>>& row, const Wide& sink = minus_infinity<Wide>()) {
  using std::exp;
  using std::log;
  if (row.empty()) return sink;
  const bool sinks = !(sink == minus_infinity<Wide>());
  // exp(s - max) cannot overflow; the maximum cancels in the quotient.
  Wide max = sinks ? sink : row[0].value;
  for (const Weight<Wide>& w : row) {
    if (w.value > max) max = w.value;
  }
  Wide sum(0);
  if (sinks) sum = Wide(exp(Wide(sink - max)));
  for (Weight<Wide>& w : row) {
    w.value = Wide(exp(Wide(w.value - max)));
    sum += w.value;
  }
  for (Weight<Wide>& w : row) w.value = Wide(w.value / sum);
  return Wide(max + Wide(log(sum)));
}

/// What else is known of a row: one slope for each key (ds = slope · (dp - Σ slope dp / Σ slope)), the sink's
/// weight and slope, and the log-sum-exp or threshold.
template <class Wide>
struct SelectedRow {
  std::vector<Wide> slopes;
  Wide sink_weight = Wide(0), sink_slope = Wide(0), summary = Wide(0);
};

/// Weights (1 + β(s - max) - τ)^(1/β): τ halved in until no number lies between, then one step of Newton's
/// method, which also gives τ its derivatives where Wide carries any; in the end the weights are divided by
/// their sum.
template <class Wide, class Bound>
Wide threshold_row(const Bound& bound, std::vector<Weight<Wide>>& row, std::vector<Wide>& slopes) {
  const double beta = bound.alpha() - 1;
  Wide max = row[0].value;
  for (const Weight<Wide>& w : row)
    if (w.value > max) max = w.value;
  const auto total = [&](const Wide& tau) {
    Wide sum(0);
    for (const Weight<Wide>& w : row) sum += bound.template at<Wide>(Wide(w.value - max), tau).weight;
    return sum;
  };
  Wide low(0), high(1);
  for (int step = 0; step < 120; ++step) {
    const Wide middle = Wide(Wide(low + high) / Wide(2));
    if (!(middle > low && middle < high)) break;
    if (total(middle) < Wide(1))
      high = middle;
    else
      low = middle;
  }
  Wide slope_sum(0);
  for (const Weight<Wide>& w : row) slope_sum += bound.template at<Wide>(Wide(w.value - max), low).slope;
  Wide tau = Wide(low + Wide(Wide(total(low) - Wide(1)) * Wide(beta)) / slope_sum);
  // A great exponent leaves τ too few digits (entmax.hpp): the step may lose all weights, and the sum is not
  // 1.
  if (!(total(tau) > Wide(0.5))) tau = low;
  Wide sum(0);
  for (std::size_t n = 0; n < row.size(); ++n) {
    const WeightAndSlope<Wide> at = bound.template at<Wide>(Wide(row[n].value - max), tau);
    slopes[n] = at.slope;
    row[n].value = at.weight;
    sum += at.weight;
  }
  if (sum > Wide(0))
    for (Weight<Wide>& w : row) w.value = Wide(w.value / sum);
  return Wide(max + Wide(Wide(tau - Wide(1)) / Wide(beta)));
}

/// Softmax of the greatest, in order of score and then of index.
template <class Wide>
Wide rank_row(const BoundRank& bound, std::vector<Weight<Wide>>& row) {
  std::vector<std::size_t> order(row.size());
  for (std::size_t n = 0; n < order.size(); ++n) order[n] = n;
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t a, std::size_t b) { return row[a].value > row[b].value; });
  std::size_t count = row.size();
  if (!bound.by_mass) {
    if (bound.count < static_cast<Index>(count)) count = static_cast<std::size_t>(bound.count);
  } else {
    std::vector<Weight<Wide>> all = row;
    softmax_row(all);
    Wide mass(0);
    for (count = 0; count < row.size() && mass < Wide(bound.mass);) mass += all[order[count++]].value;
  }
  std::vector<Weight<Wide>> kept;
  for (std::size_t n = 0; n < count; ++n) kept.push_back(row[order[n]]);
  const Wide log_sum_exp = softmax_row(kept);
  for (Weight<Wide>& w : row) w.value = Wide(0);
  for (std::size_t n = 0; n < count; ++n) row[order[n]].value = kept[n].value;
  return log_sum_exp;
}

template <class Wide>
Wide draw_row(const BoundDraw& bound, Position i, std::vector<Weight<Wide>>& row) {
  const Wide log_sum_exp = softmax_row(row);
  std::vector<int> hits(row.size(), 0);
  for (int n = 0; n < bound.count; ++n) {
    const Wide u = Wide(bound.template uniform<>(i, n));
    Wide sum(0);
    std::size_t at = 0;
    for (; at + 1 < row.size(); ++at) {
      sum += row[at].value;
      if (sum > u) break;
    }
    ++hits[at];
  }
  for (std::size_t n = 0; n < row.size(); ++n) row[n].value = Wide(Wide(hits[n]) / Wide(bound.count));
  return log_sum_exp;
}

/// Scores of query i become weights as the spec's selection says. A sink saturates as in score_row().
template <class Scalar = void, class Wide, class Spec>
SelectedRow<Wide> select_row(const Spec& spec, const Place& place, Index i, std::vector<Weight<Wide>>& row) {
  SelectedRow<Wide> selected;
  const Wide sink = saturated_as<Scalar>(spec.template sink<Wide>(place.head));
  const bool sinks = !(sink == minus_infinity<Wide>());
  if constexpr (!Spec::selects_rows) {
    selected.summary = softmax_row(row, sink);
    for (const Weight<Wide>& w : row) selected.slopes.push_back(w.value);
    using std::exp;
    if (sinks) selected.sink_weight = selected.sink_slope = Wide(exp(Wide(sink - selected.summary)));
  } else {
    // The sink is one more key.
    if (sinks) row.push_back({-1, sink});
    selected.summary = minus_infinity<Wide>();
    if (row.empty()) return selected;
    const auto bound = spec.bind_selection(place);
    using Bound = std::remove_const_t<decltype(bound)>;
    std::vector<Wide>& slopes = selected.slopes;
    slopes.assign(row.size(), Wide(0));
    const std::vector<Weight<Wide>> scores = row;
    const auto take_slopes = [&](const std::vector<Weight<Wide>>& from) {
      for (std::size_t n = 0; n < from.size(); ++n) slopes[n] = from[n].value;
    };
    if constexpr (Bound::kind == SelectionKind::threshold) {
      selected.summary = threshold_row(bound, row, slopes);
    } else {
      if constexpr (Bound::kind == SelectionKind::rank)
        selected.summary = rank_row(bound, row);
      else
        selected.summary = draw_row(bound, static_cast<Position>(i), row);
      if (bound.slopes == Slopes::kept) take_slopes(row);
      if (bound.slopes == Slopes::softmax) {
        std::vector<Weight<Wide>> all = scores;
        softmax_row(all);
        take_slopes(all);
      }
    }
    if (sinks) {
      selected.sink_weight = row.back().value;
      selected.sink_slope = slopes.back();
      row.pop_back();
      slopes.pop_back();
    }
  }
  return selected;
}

/// A weight after the weight function,
template <class Wide, class Spec>
Wide changed_weight(const Spec& spec, const Place& place, Index i, const Weight<Wide>& w) {
  if constexpr (Spec::changes_weights)
    return spec.bind_weight_function(place)(w.value, static_cast<Position>(i), w.key);
  else
    return w.value;
}
/// and after dropout: what is mixed.
template <class Wide, class Spec, class Rules>
Wide mixed_weight(const Spec& spec, const Rules& rules, const Place& place, Index i, const Weight<Wide>& w) {
  const Wide changed = changed_weight(spec, place, i, w);
  if constexpr (Rules::drops)
    return Wide(changed * rules.dropped.template factor<Wide>(static_cast<Position>(i), w.key));
  else
    return changed;
}

/// Its derivative by the weight that the selection made.
template <class Wide, class Spec, class Rules>
Wide mixed_slope(const Spec& spec, const Rules& rules, const Place& place, Index i, const Weight<Wide>& w) {
  Wide slope(1);
  const auto position = static_cast<Position>(i);
  if constexpr (Spec::changes_weights) {
    const auto function = spec.bind_weight_function(place);
    using Many = dual<Wide, std::remove_cvref_t<decltype(function)>::has_parameter ? 2 : 1>;
    slope = function(Many(w.value, Wide(1)), position, w.key).tangent[0];
  }
  if constexpr (Rules::drops) slope = Wide(slope * rules.dropped.template factor<Wide>(position, w.key));
  return slope;
}

}  // namespace heed::inline HEED_ABI::detail

#endif
