// SPDX-License-Identifier: MIT
// Tiny problems and very few keys: row by row, no tiles, no scratch, no tasks.

inline constexpr Index direct_keys = 64;  // the most keys whose scores fit the array below

/// Is a call so small that setting up tiles would cost more than the work, or has it so few keys that turning
/// queries into lanes would?
template <class Problem>
bool is_direct(const Problem& p) {
  const Shape& s = p.shape;
  if (s.longest > direct_keys || p.continues) return false;
  const bool rows = p.q.column == 1 && p.k.column == 1 && p.v.column == 1 && p.out.column == 1;
  if (rows && s.longest <= 3 && s.d + s.d_v >= 64 && s.heads * s.queries <= 4096) return true;
  return s.heads * s.queries * s.longest * (s.d + s.d_v + 16) <= (rows ? 2048 : 256);
}

template <class T>
HEED_INLINE T dot(const T* a, Index a_step, const T* b, Index b_step, Index n) {
  T rest = T(0);
  Index t = 0;
  if (a_step == 1 && b_step == 1 && n >= Pack<T>::width) {
    Pack<T> sum = load(a) * load(b);
    for (t = Pack<T>::width; t + Pack<T>::width <= n; t += Pack<T>::width)
      sum = multiply_add(load(a + t), load(b + t), sum);
    alignas(64) T lanes[Pack<T>::width];
    store(lanes, sum);
    for (int l = 0; l < Pack<T>::width; ++l) rest += lanes[l];
  }
  for (; t < n; ++t) rest += a[t * a_step] * b[t * b_step];
  return rest;
}

/// out[c] = Σ_j w[j] · v[j][c] over the keys whose score is not -inf.
template <class T>
HEED_INLINE void mix_row(const T* w, const T* scores, Index keys, const Operand<const T>& v, Index d_v,
                         T* out, Index out_step) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  Index c = 0;
  if (v.column == 1 && out_step == 1)
    for (; c + Pack<T>::width <= d_v; c += Pack<T>::width) {
      Pack<T> sum = zero<T>();
      for (Index j = 0; j < keys; ++j)
        if (scores[j] != hidden) sum = multiply_add(broadcast(w[j]), load(v.data + j * v.row + c), sum);
      store(out + c, sum);
    }
  for (; c < d_v; ++c) {
    T sum = T(0);
    for (Index j = 0; j < keys; ++j)
      if (scores[j] != hidden) sum += w[j] * v.data[j * v.row + c * v.column];
    out[c * out_step] = sum;
  }
}

template <class T, class Spec>
HEED_NOINLINE HEED_FLATTEN void attend_directly(const ForwardProblem<T>& p, const Spec& spec) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const Index d = p.shape.d, d_v = p.shape.d_v, group = quotient(p.shape.heads, p.shape.key_heads);
  alignas(64) T scores[direct_keys], weights[direct_keys];
  // Products overflow before they are scaled: a scale so small could make ordinary scores of them.
  const bool shrinks = p.scale != T(0) && std::abs(p.scale) < T(0x1p20) / score_limit<T>;
  const T doubted = shrinks ? std::numeric_limits<T>::infinity() : T(0);  // sums up to it are looked at again
  for (Index sequence = 0; sequence < p.shape.sequences; ++sequence)
    for (Index head = 0; head < p.shape.heads; ++head) {
      const Place place = p.shape.place(sequence, head);
      const auto rules = spec.template bind<T>(place);
      const T sink = spec.template sink<T>(head);
      const Operand<const T> k = p.k.at(place.key_begin, quotient(head, group) * d),
                             v = p.v.at(place.key_begin, quotient(head, group) * d_v);
      for (Index i = 0; i < place.queries; ++i) {
        const T* q = p.q.data + (place.query_begin + i) * p.q.row + head * d * p.q.column;
        T* out = p.out.data + (place.query_begin + i) * p.out.row + head * d_v * p.out.column;
        T most = sink > -std::numeric_limits<T>::max() ? sink : -std::numeric_limits<T>::max();
        for (Index j = 0; j < place.keys; ++j) {
          scores[j] = hidden;
          if (!rules.visible(static_cast<Position>(i), static_cast<Position>(j))) continue;
          const T s = p.scale * dot(q, p.q.column, k.data + j * k.row, k.column, d);
          scores[j] = rules.score(s, static_cast<Position>(i), static_cast<Position>(j));
          if (scores[j] > most) most = scores[j];
        }
        for (Index j = place.keys; j % Pack<T>::width != 0; ++j) scores[j] = hidden;
        // Only a row whose greatest score lies beyond the limit can tell whether scores saturate.
        if (most > score_limit<T> || most < -score_limit<T>) {
          most = saturated(most);
          for (Index j = 0; j < place.keys; ++j) scores[j] = saturated(scores[j]);
        }
        most = rounded(most * log2_e<T>);
        T sum = T(0);
        for (Index j = 0; j < place.keys; j += Pack<T>::width)
          store(weights + j,
                exp2(multiply_add(load(scores + j), broadcast(log2_e<T>), zero<T>()) - broadcast(most)));
        for (Index j = 0; j < place.keys; ++j) sum += weights[j];
        if (sink != hidden) sum += std::exp2(rounded(score_in_base_2(sink)) - most);
        if (__builtin_expect(!(sum > doubted), 0)) {
          T new_most = most, new_sum = sum;  // apart, so that the others stay in registers
          if (attend_again(p, spec, place, i, out, p.out.column, new_most, new_sum)) {
            for (Index c = 0; c < d_v; ++c) out[c * p.out.column] /= new_sum;
            if (p.lse.data != nullptr) p.lse.at(place.query_begin + i, head).put(0, new_most, new_sum);
            continue;
          }
        }
        const T inverse = sum == T(0) ? T(0) : T(1) / sum;
        for (Index j = 0; j < place.keys; ++j) weights[j] *= inverse;
        if constexpr (rules.drops)
          for (Index j = 0; j < place.keys; ++j)
            weights[j] *=
                rules.dropped.template factor<T>(static_cast<Position>(i), static_cast<Position>(j));
        mix_row(weights, scores, place.keys, v, d_v, out, p.out.column);
        if (p.lse.data != nullptr) p.lse.at(place.query_begin + i, head).put(0, most, sum);
      }
    }
}
