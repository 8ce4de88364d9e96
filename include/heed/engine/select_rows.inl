// SPDX-License-Identifier: MIT
// From a block of scores to weights, one pack of queries at a time: the three ways of
// select/row_selection.hpp. Each leaves the list of rows in which some lane has weight, and for every lane a
// number that sums up its row: the log-sum-exp of what was kept, or the threshold; -inf where the lane saw
// nothing.

/// One pack's share of a block.
template <class T>
struct RowLanes {
  T* scores;  // finite ones saturate here
  Index rows;
  T* weights;      // may be the scores
  T* slopes;       // or null
  Position* kept;  // out
  T* summary;      // [width]

  HEED_INLINE Pack<T> score(Index r) const { return load(scores + r * tile_lanes<T>); }
  HEED_INLINE void put(T* array, Index r, Pack<T> x) const { store(array + r * tile_lanes<T>, x); }
};

/// A sum of many numbers in two levels, so that rounding grows with their square root and not their count.
template <class T>
struct LongSum {
  Pack<T> done, here;
  int count = 0;

  // Written out, because what the compiler would write does not know the instruction set.
  HEED_INLINE LongSum() : done(zero<T>()), here(zero<T>()) {}

  HEED_INLINE void add(Pack<T> x) {
    here = here + x;
    if (++count == 64) {
      done = done + here;
      here = zero<T>();
      count = 0;
    }
  }
  HEED_INLINE Pack<T> total() const { return done + here; }
};

template <class T>
inline constexpr T lowest = -std::numeric_limits<T>::max();

/// Scores beyond the limit count as the limit (saturate.hpp). Only lanes whose greatest score lies beyond it,
/// on either side, can tell the difference, so nobody else pays for it.
template <class T>
HEED_NOINLINE Pack<T> saturate_scores(const RowLanes<T>& in, Pack<T> top) {
  const Pack<T> most = broadcast(score_limit<T>), least = zero<T>() - most;
  for (Index r = 0; r < in.rows; ++r) {
    const Pack<T> s = in.score(r), inside = min_or_second(most, max_or_second(least, s));
    in.put(in.scores, r, where_equal(s * zero<T>(), zero<T>(), inside, s));
  }
  const Pack<T> inside = min_or_second(most, max_or_second(least, top));
  return where_equal(top * zero<T>(), zero<T>(), inside, max_or_second(top, broadcast(lowest<T>)));
}

/// The greatest score of each lane, the lowest finite number where there is none; `bad` is NaN in lanes that
/// saw NaN or infinity, else 0.
template <class T>
HEED_INLINE Pack<T> greatest_score(const RowLanes<T>& in, Pack<T>& bad) {
  const Pack<T> low = broadcast(lowest<T>), none = broadcast(-std::numeric_limits<T>::infinity());
  Pack<T> top = none;
  bad = zero<T>();
  for (Index r = 0; r < in.rows; ++r) {
    const Pack<T> s = in.score(r);
    top = max_or_second(s, top);                             // not NaN
    bad = multiply_add(max_or_second(low, s), zero<T>(), bad);  // NaN stays
  }
  const Pack<T> most = broadcast(score_limit<T>), seen = where_greater(top, none, top, zero<T>());
  if (any_greater(seen, most) || any_greater(zero<T>() - most, seen)) return saturate_scores(in, top);
  return max_or_second(top, low);
}

/// exp(s - top), exactly 0 for -inf.
template <class T>
HEED_INLINE Pack<T> weight_against(Pack<T> s, Pack<T> top) {
  return exp2((s - top) * broadcast(log2_e<T>));
}

/// log Σ exp(s), from the greatest score and Σ exp(s - it); -inf where nothing was seen.
template <class T>
HEED_NOINLINE void store_summary(T* summary, Pack<T> top, Pack<T> sum) {
  constexpr int width = Pack<T>::width;
  alignas(64) T tops[width], sums[width];
  store(tops, top);
  store(sums, sum);
  for (int l = 0; l < width; ++l)
    summary[l] = tops[l] == lowest<T> && sums[l] == sums[l] ? -std::numeric_limits<T>::infinity()
                                                            : tops[l] + std::log(sums[l]);
}

/// w[row] of all rows that are listed, times a factor; rows without weight leave the list. A hidden pair has
/// weight 0 whatever else is NaN. Returns how many rows are left.
template <class T>
HEED_INLINE Index finish_weights(const RowLanes<T>& in, Index listed, Pack<T> factor, Index& pairs) {
  Index left = 0;
  for (Index n = 0; n < listed; ++n) {
    const Position r = in.kept[n];
    const Pack<T> w = load(in.weights + r * tile_lanes<T>) * factor;
    in.put(in.weights, r, w);
    const unsigned lanes = nonzero_lanes(w);
    in.kept[left] = r;
    left += lanes != 0 ? 1 : 0;
    pairs += __builtin_popcount(lanes);
  }
  return left;
}

/// Weights and slopes of one pack of scores less their maximum, from a function of one.
template <class T, class Selection>
HEED_INLINE void weigh_lanes(const Selection& selection, Pack<T> scores, Pack<T> tau, Pack<T>& weights,
                             Pack<T>& slopes) {
  constexpr int width = Pack<T>::width;
  T z[width], t[width], w[width], slope[width];
  store(z, scores);
  store(t, tau);
  for (int l = 0; l < width; ++l) {
    const WeightAndSlope<T> here = selection.at(z[l], t[l]);
    w[l] = here.weight;
    slope[l] = here.slope;
  }
  weights = load(w);
  slopes = load(slope);
}

/// Weights w(s - max, τ) with τ such that they sum to 1: Newton's method from below, where every step stays
/// below (w is convex in τ up to α = 2), inside a bracket; else bisection. Only scores that can have weight
/// take part.
template <class T, class Selection>
HEED_NOINLINE HEED_FLATTEN Index select_by_threshold(const Selection& selection_in_memory,
                                                     const RowLanes<T>& in, Index& pairs) {
  constexpr int width = Pack<T>::width;
  const Selection selection = selection_in_memory;
  const T reach = static_cast<T>(1 / (selection.alpha() - 1));
  const bool convex = selection.alpha() <= 2;
  const Pack<T> none = broadcast(-std::numeric_limits<T>::infinity());
  Pack<T> bad;
  const Pack<T> top = greatest_score(in, bad);
  // Differences of near scores are exact; the greatest score less the reach need not differ from it.
  const Pack<T> bar = broadcast(-reach);
  const bool all = nonzero_lanes(bad) != 0;
  Index listed = 0;
  for (Index r = 0; r < in.rows; ++r) {
    in.kept[listed] = static_cast<Position>(r);
    listed += all || any_greater(in.score(r) - top, bar) ? 1 : 0;
  }

  Pack<T> low = zero<T>();
  Pack<T> high = where_greater(top, broadcast(lowest<T>), broadcast(T(1)), zero<T>());
  Pack<T> tau = zero<T>();
  constexpr int most_steps = sizeof(T) == 4 ? 28 : 58;
  const Pack<T> near = broadcast(std::numeric_limits<T>::epsilon() / 2);
  // Newton's method doubles the digits with each step, and the weights are divided by their sum in the end.
  const Pack<T> near_enough = broadcast(sizeof(T) == 4 ? T(0x1p-12) : T(0x1p-27));
  for (int step = 0; step < most_steps; ++step) {
    Pack<T> excess = broadcast(T(-1));
    Pack<T> slopes = zero<T>();
    Index left = 0;
    for (Index n = 0; n < listed; ++n) {
      const Position r = in.kept[n];
      Pack<T> w, slope;
      weigh_lanes(selection, in.score(r) - top, tau, w, slope);
      excess = excess + w;
      slopes = slopes + slope;
      // From below, what has no weight now will not get any.
      in.kept[left] = r;
      left += !convex || nonzero_lanes(w) != 0 ? 1 : 0;
    }
    listed = left;
    low = where_greater(zero<T>(), excess, low, tau);
    high = where_greater(zero<T>(), excess, tau, high);
    const Pack<T> middle = (low + high) * broadcast(T(0.5));
    Pack<T> next = middle;
    if (convex) {
      next = tau + excess * broadcast(static_cast<T>(selection.alpha() - 1)) / slopes;
      next = where_greater(next, low, next, where_equal(next, low, next, middle));
      next = where_greater(next, high, middle, next);
    }
    const Pack<T> change = max_or_second(next - tau, tau - next);
    tau = next;
    const Pack<T> rest = max_or_second(excess, zero<T>() - excess);
    if (!any_greater(change, near) || (convex && !any_greater(rest, near_enough))) break;
  }

  Pack<T> total = zero<T>();
  for (Index n = 0; n < listed; ++n) {
    const Index r = in.kept[n];
    const Pack<T> s = in.score(r);
    Pack<T> w, slope;
    weigh_lanes(selection, s - top, tau, w, slope);
    const Pack<T> weight = where_equal(s, none, zero<T>(), w + bad);
    in.put(in.weights, r, weight);
    if (in.slopes != nullptr) in.put(in.slopes, r, where_equal(s, none, zero<T>(), slope + bad));
    total = total + weight;
  }
  alignas(64) T tops[width], at[width];
  store(tops, top);
  store(at, tau);
  for (int l = 0; l < width; ++l)
    in.summary[l] =
        tops[l] == lowest<T> ? -std::numeric_limits<T>::infinity() : tops[l] + (at[l] - T(1)) * reach;
  const Pack<T> one = broadcast(T(1));
  return finish_weights(in, listed, where_equal(total, zero<T>(), one, one / total), pairs);
}

/// The score of which it holds, in each lane: it is the greatest such that all scores from it up measure at
/// least `goal`. By bisection between scores: each step moves one end to the next score there is. Rows below
/// what every lane wants leave the list.
template <bool by_mass, class T>
HEED_INLINE Pack<T> ranked_score(const RowLanes<T>& in, Index& listed, Pack<T> top, Pack<T> goal) {
  const Pack<T> one = broadcast(T(1)), low_end = broadcast(lowest<T>);
  const Pack<T> infinity = broadcast(std::numeric_limits<T>::infinity());
  // The least score, which is the answer where the goal is out of reach.
  Pack<T> least = infinity;
  for (Index n = 0; n < listed; ++n) {
    const Pack<T> s = in.score(in.kept[n]);
    least = where_greater(s, zero<T>() - infinity, where_greater(least, s, s, least), least);
  }
  Pack<T> high = top, low = where_greater(top, low_end, least, top);
  while (any_greater(high, low)) {
    const Pack<T> half = low * broadcast(T(0.5)) + high * broadcast(T(0.5));
    const Pack<T> middle = where_greater(half, low, half, high);
    Pack<T> above = infinity, below = low;
    LongSum<T> measure;
    Index left = 0;
    for (Index n = 0; n < listed; ++n) {
      const Position r = in.kept[n];
      const Pack<T> s = in.score(r);
      const Pack<T> unit = by_mass ? weight_against(s, top) : one;
      const Pack<T> lower = where_greater(middle, s, one, zero<T>());  // 1 below the middle
      const Pack<T> counted = where_greater(middle, s, zero<T>(), unit);
      measure.add(where_equal(s, s, counted, zero<T>()));
      above = where_greater(lower, zero<T>(), above, where_greater(above, s, s, above));
      below = where_greater(lower, zero<T>(), where_greater(s, below, s, below), below);
      in.kept[left] = r;
      left += nonzero_lanes(where_greater(low, s, zero<T>(), one)) != 0 ? 1 : 0;
    }
    listed = left;
    const Pack<T> reached = where_greater(goal, measure.total(), zero<T>(), one);
    low = where_greater(reached, zero<T>(), above, low);
    high = where_greater(reached, zero<T>(), high, below);
  }
  return low;
}

/// Softmax over the greatest scores.
template <class T>
HEED_NOINLINE HEED_FLATTEN Index select_by_rank(const BoundRank& selection, const RowLanes<T>& in,
                                                Index& pairs) {
  const Pack<T> none = broadcast(-std::numeric_limits<T>::infinity()), one = broadcast(T(1));
  Pack<T> bad;
  const Pack<T> top = greatest_score(in, bad);
  Index listed = in.rows;
  for (Index r = 0; r < in.rows; ++r) in.kept[r] = static_cast<Position>(r);
  const bool choose = !selection.keeps_all();
  Pack<T> last = none, goal = zero<T>();
  if (choose) {
    goal = broadcast(static_cast<T>(selection.count));
    if (selection.by_mass) {
      LongSum<T> all;
      for (Index r = 0; r < in.rows; ++r) all.add(weight_against(in.score(r), top));
      goal = all.total() * broadcast(static_cast<T>(selection.mass));
      last = ranked_score<true>(in, listed, top, goal);
    } else if (selection.count == 1) {
      last = top;
    } else if (selection.count < in.rows) {
      last = ranked_score<false>(in, listed, top, goal);
    }
  }
  // What lies above the last score is kept, and of those equal to it the first, until the goal is reached.
  Pack<T> measured = zero<T>();
  if (choose && selection.count != 1) {
    LongSum<T> above;
    for (Index n = 0; n < listed; ++n) {
      const Pack<T> s = in.score(in.kept[n]);
      const Pack<T> unit = selection.by_mass ? weight_against(s, top) : one;
      above.add(where_greater(s, last, unit, zero<T>()));
    }
    measured = above.total();
  }
  LongSum<T> sum;
  Index left = 0;
  for (Index n = 0; n < listed; ++n) {
    const Position r = in.kept[n];
    const Pack<T> s = in.score(r);
    Pack<T> taken = one;
    if (choose) {
      const Pack<T> tie = where_equal(s, last, where_greater(goal, measured, one, zero<T>()), zero<T>());
      taken = where_equal(s, s, where_greater(s, last, one, tie), one);  // NaN always
      if (nonzero_lanes(taken) == 0) continue;
      measured = measured + tie * (selection.by_mass ? weight_against(s, top) : one);
    }
    const Pack<T> w = where_greater(taken, zero<T>(), weight_against(s, top), zero<T>());
    const Pack<T> weight = where_equal(s, none, zero<T>(), where_greater(taken, zero<T>(), w + bad, w));
    in.put(in.weights, r, weight);
    sum.add(weight);
    in.kept[left++] = r;
  }
  const Pack<T> total = sum.total();
  store_summary(in.summary, top, total);
  left = finish_weights(in, left, where_equal(total, zero<T>(), one, one / total), pairs);
  if (in.slopes != nullptr)
    for (Index n = 0; n < left; ++n)
      in.put(in.slopes, in.kept[n], load(in.weights + in.kept[n] * tile_lanes<T>));
  return left;
}

/// Keys drawn with their softmax weights as probabilities: the first at which the sum of weights exceeds a
/// uniform share of the whole.
template <class T>
HEED_NOINLINE HEED_FLATTEN Index select_by_draw(const BoundDraw& selection, const RowLanes<T>& in, Position i,
                                                Index& pairs) {
  constexpr int width = Pack<T>::width;
  const Pack<T> none = broadcast(-std::numeric_limits<T>::infinity()), one = broadcast(T(1));
  Pack<T> bad;
  const Pack<T> top = greatest_score(in, bad);
  LongSum<T> all;
  for (Index r = 0; r < in.rows; ++r) all.add(weight_against(in.score(r), top));
  const Pack<T> total = all.total();
  store_summary(in.summary, top, total + bad);
  Pack<T> goal[BoundDraw::most];
  for (int n = 0; n < selection.count; ++n) {
    T u[width];
    for (int l = 0; l < width; ++l)
      u[l] = static_cast<T>(selection.uniform < sizeof(T) == 4 ? 23 : 52 > (i + l, n));
    goal[n] = load(u) * total;
  }
  LongSum<T> sum;
  Pack<T> passed = zero<T>();
  Index listed = 0;
  for (Index r = 0; r < in.rows; ++r) {
    const Pack<T> s = in.score(r);
    sum.add(weight_against(s, top));
    const Pack<T> here = sum.total();
    Pack<T> now = zero<T>();
    for (int n = 0; n < selection.count; ++n) now = now + where_greater(here, goal[n], one, zero<T>());
    const Pack<T> hits = where_equal(s, none, zero<T>(), now - passed + bad);
    passed = now;
    if (nonzero_lanes(hits) == 0) continue;
    in.put(in.weights, r, hits);
    in.kept[listed++] = static_cast<Position>(r);
  }
  return finish_weights(in, listed, broadcast(T(1) / static_cast<T>(selection.count)), pairs);
}

/// The softmax of all scores, where the gradient goes straight through.
template <class T>
HEED_NOINLINE void softmax_slopes(const RowLanes<T>& in) {
  Pack<T> bad;
  const Pack<T> top = greatest_score(in, bad);
  LongSum<T> sum;
  for (Index r = 0; r < in.rows; ++r) sum.add(weight_against(in.score(r), top));
  const Pack<T> total = sum.total(), one = broadcast(T(1));
  const Pack<T> factor = where_equal(total, zero<T>(), one, one / total);
  const Pack<T> none = broadcast(-std::numeric_limits<T>::infinity());
  for (Index r = 0; r < in.rows; ++r) {
    const Pack<T> s = in.score(r);
    in.put(in.slopes, r, where_equal(s, none, zero<T>(), weight_against(s, top) * factor + bad));
  }
}

/// The weights of one pack of a block, of queries from i on.
template <class T, class Selection>
HEED_NOINLINE void select_rows(const Selection& selection, RowBlock<T>& block, int pack, T* slopes,
                               T* summary, Index i) {
  const int lane = pack * Pack<T>::width;
  const RowLanes<T> in{block.scores + lane,  block.rows,
                       block.weights + lane, slopes == nullptr ? nullptr : slopes + lane,
                       block.kept_of(pack),  summary + lane};
  Index& kept = block.kept_rows[pack];
  if constexpr (Selection::kind == SelectionKind::threshold)
    kept = select_by_threshold(selection, in, block.pairs);
  else if constexpr (Selection::kind == SelectionKind::rank)
    kept = select_by_rank(selection, in, block.pairs);
  else
    kept = select_by_draw(selection, in, static_cast<Position>(i), block.pairs);
}
