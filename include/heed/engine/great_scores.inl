// SPDX-License-Identifier: MIT
// Rows whose products overflow. The kernels let them: a score beyond the range of T becomes an infinity, the
// sum of the row's weights NaN or 0. Only such rows are looked at again, in plain loops and with products in
// a wider type, so that finite scores saturate here as they do wherever terms make them.

/// Has a finished row to be looked at again? The sum of its weights is 0 where it saw nothing as well, and NaN
/// where its numbers are.
template <class T>
HEED_INLINE bool lost_its_sum(T sum) {
  return __builtin_expect(!(sum > T(0)), 0);
}

/// The row of query i once more: Σ weight · value in output[c · step], what scores lost (in base 2), and the
/// sum of the weights. Returns false, and writes nothing, where that would change nothing: the query sees no
/// key, or a score is NaN or infinite because q or k is.
template <class T, class Spec>
HEED_NOINLINE bool attend_again(const ForwardProblem<T>& p, const Spec& spec, const Place& place, Index i,
                                T* output, Index step, T& maximum, T& sum) {
  if constexpr (!ScorerOf<T, Spec>::fused) {
    return false;  // the other scores are no products
  } else {
    using Wide = std::conditional_t<sizeof(T) == 4, double, long double>;
    constexpr T greatest = std::numeric_limits<T>::max(), hidden = -std::numeric_limits<T>::infinity();
    const auto rules = spec.template bind<T>(place);
    using Rules = std::remove_cvref_t<decltype(rules)>;
    // Biases of -inf leave sums of 0 to whole matrices of padding; products alone never do.
    if (Rules::may_hide && sum == T(0)) return false;
    const Index d = p.shape.d, d_v = p.shape.d_v, row = place.query_begin + i;
    const Index key_head = place.head / (place.heads / place.key_heads);
    const Operand<const T> q = p.q.at(row, place.head * d), k = p.k.at(place.key_begin, key_head * d),
                           v = p.v.at(place.key_begin, key_head * d_v);
    for (Index c = 0; c < d; ++c)
      if (!(std::abs(q.data[c * q.column]) <= greatest)) return false;
    const auto at = static_cast<Position>(i);
    // Calls f(j, score in base 2) for each key that the query sees, until f returns false.
    const auto each_score = [&](const auto& f) {
      for (KeyRange some = rules.key_ranges(i, i + 1, 0); !some.empty();
           some = rules.key_ranges(i, i + 1, some.end))
        for (Index j = some.begin; j < some.end; ++j) {
          if (!rules.visible(at, static_cast<Position>(j))) continue;
          Wide product = Wide(0);
          for (Index c = 0; c < d; ++c)
            product += static_cast<Wide>(q.data[c * q.column]) * static_cast<Wide>(k.at(j, c).data[0]);
          const T scaled = narrowed<T>(static_cast<Wide>(p.scale) * product);
          const T score = rounded(score_in_base_2(rules.score(scaled, at, static_cast<Position>(j))));
          if (score != hidden && !f(j, score)) return false;
        }
      return true;
    };

    const T sink = spec.template sink<T>(place.head);
    T most = sink != hidden ? rounded(score_in_base_2(sink)) : -greatest, total = sink != hidden ? T(1) : T(0);
    T before = T(0);  // what the output so far is multiplied by
    if (p.continues) {
      const RowNorm<T> norm = p.lse.at(row, place.head).norm();
      if (norm.lives()) most = norm.maximum, before = total = std::exp2(-norm.minus_log_sum);
    }
    const T first = most;
    bool sees = false;
    const bool finite = each_score([&](Index, T score) {
      most = score > most ? score : most;
      sees = true;
      return score <= greatest;
    });
    if (!finite || !sees) return false;

    const T fade = std::exp2(first - most);
    total *= fade;
    for (Index c = 0; c < d_v; ++c)
      output[c * step] = before == T(0) ? T(0) : *p.out.at(row, place.head * d_v + c).data * before * fade;
    each_score([&](Index j, T score) {
      T weight = std::exp2(score - most);
      total += weight;
      if constexpr (Rules::drops) weight *= rules.dropped.template factor<T>(at, static_cast<Position>(j));
      for (Index c = 0; c < d_v; ++c) output[c * step] += weight * *v.at(j, c).data;
      return true;
    });
    maximum = most;
    sum = total;
    return true;
  }
}
