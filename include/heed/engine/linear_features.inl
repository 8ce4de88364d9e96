// SPDX-License-Identifier: MIT
// Features of a chunk of queries or keys: rows in, rows out, filled up with zeros to whole sixteens; and the
// way back, from gradients of features to gradients of rows.

/// Tokens of a chunk: its pairs are multiplied out, and before it everything is in the state.
inline constexpr Index chunk_tokens = 64;

/// out[r][c] (+)= Σ_t a(r, t) · b[t][c] over `columns` columns, whole packs.
template <bool add, class T>
HEED_NOINLINE void multiply_rows(Index rows, const T* a, Index a_row, Index a_step, const T* b, Index b_row,
                                 Index n, Index columns, T* out, Index out_row) {
  constexpr int width = Pack<T>::width;
  Index c = 0;
  if constexpr (tile_packs >= 4)
    for (; c + 4 * width <= columns; c += 4 * width)
      product_rows<4, add>(rows, a, a_row, a_step, b + c, b_row, n, out + c, out_row);
  for (; c + 2 * width <= columns; c += 2 * width)
    product_rows<2, add>(rows, a, a_row, a_step, b + c, b_row, n, out + c, out_row);
  for (; c < columns; c += width)
    product_rows<1, add>(rows, a, a_row, a_step, b + c, b_row, n, out + c, out_row);
}

/// Columns [from, in_sixteens(from)) become 0.
template <class T>
HEED_INLINE void clear_rest(T* rows, Index count, Index row, Index from) {
  for (Index r = 0; r < count; ++r)
    for (Index c = from; c < row; ++c) rows[r * row + c] = T(0);
}

/// x *= factor.
template <class T>
HEED_NOINLINE void scale_numbers(T* x, Index n, T factor) {
  for (Index c = 0; c + Pack<T>::width <= n; c += Pack<T>::width)
    store(x + c, load(x + c) * broadcast(factor));
}

/// The greatest finite number of a row, or the lowest of all.
template <class T>
HEED_NOINLINE T finite_maximum(const T* x, Index n) {
  constexpr T lowest = -std::numeric_limits<T>::max(), greatest = std::numeric_limits<T>::max();
  Pack<T> m = broadcast(lowest);
  Index c = 0;
  for (; c + Pack<T>::width <= n; c += Pack<T>::width) m = max_or_second(load(x + c), m);
  alignas(64) T lanes[Pack<T>::width];
  store(lanes, m);
  T most = lowest;
  for (int l = 0; l < Pack<T>::width; ++l) most = lanes[l] > most ? lanes[l] : most;
  for (; c < n; ++c) most = x[c] > most ? x[c] : most;
  if (!(most > greatest)) return most;
  most = lowest;
  for (c = 0; c < n; ++c)
    if (x[c] > most && x[c] <= greatest) most = x[c];
  return most;
}

/// x <- 2^(x - shift).
template <class T>
HEED_NOINLINE void exponentiate(T* x, Index n, T shift) {
  for (Index c = 0; c < n; c += Pack<T>::width) store(x + c, exp2(load(x + c) - broadcast(shift)));
}

/// Of one chunk's rows: how wide they are, and how many features they have.
struct FeatureSizes {
  Index d, features;
  Index d_row() const { return in_sixteens(d); }
  Index row() const { return in_sixteens(features); }
};

// Elementwise features --------------------------------------------------------------------------------------

/// Local arrays stand between memory and the functor: nothing that it reads can alias them.
template <class T, class F>
HEED_NOINLINE HEED_FLATTEN void map_numbers(const F& functor_in_memory, const T* x, Index n, T* y) {
  constexpr int width = Pack<T>::width;
  const F functor = functor_in_memory;
  const auto& f = functor.get();
  Index c = 0;
  for (; c + width <= n; c += width) {
    T in[width], out[width];
    for (int l = 0; l < width; ++l) in[l] = x[c + l];
    for (int l = 0; l < width; ++l) out[l] = static_cast<T>(f(in[l]));
    for (int l = 0; l < width; ++l) y[c + l] = out[l];
  }
  for (; c < n; ++c) y[c] = static_cast<T>(f(T(x[c])));
}

/// dy *= f'(x), by running f on dual numbers.
template <class T, class F>
HEED_NOINLINE HEED_FLATTEN void multiply_slopes(const F& functor_in_memory, const T* x, Index n, T* dy) {
  constexpr int width = Pack<T>::width;
  const F functor = functor_in_memory;
  const auto& f = functor.get();
  Index c = 0;
  for (; c + width <= n; c += width) {
    T in[width], out[width];
    for (int l = 0; l < width; ++l) in[l] = x[c + l];
    for (int l = 0; l < width; ++l) out[l] = static_cast<dual<T>>(f(dual<T>(in[l], T(1)))).tangent[0];
    for (int l = 0; l < width; ++l) dy[c + l] *= out[l];
  }
  for (; c < n; ++c) dy[c] *= static_cast<dual<T>>(f(dual<T>(x[c], T(1)))).tangent[0];
}

template <class T, class F>
HEED_NOINLINE void query_features(const ElementwiseFeatures<F>& features, const FeatureSizes& sizes,
                                  const T* rows, Index count, T* out) {
  for (Index r = 0; r < count; ++r)
    map_numbers(features.functor, rows + r * sizes.d_row(), sizes.d, out + r * sizes.row());
  clear_rest(out, count, sizes.row(), sizes.features);
}

/// Of `count` keys; returns how many of them belong to the chunk.
template <class T, class F>
HEED_NOINLINE Index key_features(const ElementwiseFeatures<F>& features, const FeatureSizes& sizes,
                                 const T* rows, Index count, T* out, T&) {
  query_features(features, sizes, rows, count, out);
  return count;
}
/// The same once more, in the backward sweep.
template <class T, class F>
HEED_NOINLINE void key_features_again(const ElementwiseFeatures<F>& features, const FeatureSizes& sizes,
                                      const T* rows, Index count, T* out, T) {
  query_features(features, sizes, rows, count, out);
}

/// Gradients of rows from those of their features; `gradients` is used up, `out` has rows of d, in sixteens.
template <bool keys, class T, class F>
HEED_NOINLINE void row_gradients(const ElementwiseFeatures<F>& features, const FeatureSizes& sizes,
                                 const T* rows, const T*, Index count, T* gradients, T* out) {
  for (Index r = 0; r < count; ++r) {
    T* g = gradients + r * sizes.row();
    multiply_slopes(features.functor, rows + r * sizes.d_row(), sizes.d, g);
    for (Index c = 0; c < sizes.d_row(); c += Pack<T>::width) store(out + r * sizes.d_row() + c, load(g + c));
  }
}

// Positive random features ----------------------------------------------------------------------------------

/// ω · x of every row, in base 2.
template <class T>
HEED_INLINE void project(const ProjectedFeatures<T>& features, const FeatureSizes& sizes, const T* rows,
                         Index count, T* out) {
  multiply_rows<false>(count, rows, sizes.d_row(), Index(1), features.by_column, sizes.row(), sizes.d,
                       whole_packs<T>(sizes.features), out, sizes.row());
}

/// A query's factor cancels in its quotient: neither the norm nor the maximum that is subtracted matters.
template <class T>
HEED_NOINLINE void query_features(const ProjectedFeatures<T>& features, const FeatureSizes& sizes,
                                  const T* rows, Index count, T* out) {
  project(features, sizes, rows, count, out);
  for (Index r = 0; r < count; ++r) {
    T* x = out + r * sizes.row();
    exponentiate(x, sizes.features, finite_maximum(x, sizes.features));
  }
  clear_rest(out, count, sizes.row(), sizes.features);
}

/// A key whose exponents exceed those before by more than this (in base 2) begins a new chunk.
template <class T>
inline constexpr T chunk_slack = T(24);

/// Half the squared norm, in base 2.
template <class T>
HEED_INLINE T key_shift(const ProjectedFeatures<T>& features, const FeatureSizes& sizes, const T* row) {
  return T(0.5) * features.scale * log2_e<T> * dot(row, Index(1), row, Index(1), sizes.d);
}

/// Exponents are taken relative to the greatest so far, `reference`, which cancels in every quotient. The
/// chunk ends before a key that would raise it so far that earlier keys of the chunk, which are all that
/// earlier queries see, would vanish.
template <class T>
HEED_NOINLINE Index key_features(const ProjectedFeatures<T>& features, const FeatureSizes& sizes,
                                 const T* rows, Index count, T* out, T& reference) {
  T shift[chunk_tokens];
  project(features, sizes, rows, count, out);
  T base = reference, next = reference;
  Index kept = 0;
  for (; kept < count; ++kept) {
    const T* x = out + kept * sizes.row();
    shift[kept] = key_shift(features, sizes, rows + kept * sizes.d_row());
    const T most = finite_maximum(x, sizes.features) - shift[kept];
    if (kept > 0 && most > base + chunk_slack<T>) break;
    if (kept == 0 && most > base && most <= std::numeric_limits<T>::max()) base = most;
    if (most > next && most <= std::numeric_limits<T>::max()) next = most;
  }
  reference = next;
  for (Index r = 0; r < kept; ++r) exponentiate(out + r * sizes.row(), sizes.features, shift[r] + reference);
  clear_rest(out, kept, sizes.row(), sizes.features);
  return kept;
}

template <class T>
HEED_NOINLINE void key_features_again(const ProjectedFeatures<T>& features, const FeatureSizes& sizes,
                                      const T* rows, Index count, T* out, T reference) {
  project(features, sizes, rows, count, out);
  for (Index r = 0; r < count; ++r)
    exponentiate(out + r * sizes.row(), sizes.features,
                 key_shift(features, sizes, rows + r * sizes.d_row()) + reference);
  clear_rest(out, count, sizes.row(), sizes.features);
}

/// dx = Σ_f dφ_f φ_f (ω_f - scale · x). For queries the second term is 0: the output does not depend on their
/// factor, so that Σ_f dφ_f φ_f = 0.
template <bool keys, class T>
HEED_NOINLINE void row_gradients(const ProjectedFeatures<T>& features, const FeatureSizes& sizes,
                                 const T* rows, const T* values, Index count, T* gradients, T* out) {
  const Index row = sizes.row(), d_row = sizes.d_row();
  for (Index c = 0; c < count * row; c += Pack<T>::width)
    store(gradients + c, load(gradients + c) * load(values + c));
  multiply_rows<false>(count, gradients, row, Index(1), features.by_feature, d_row, sizes.features,
                       whole_packs<T>(sizes.d), out, d_row);
  if constexpr (keys)
    for (Index r = 0; r < count; ++r) {
      T sum = T(0);
      for (Index f = 0; f < sizes.features; ++f) sum += gradients[r * row + f];
      sum *= features.scale;
      for (Index c = 0; c < sizes.d; ++c) out[r * d_row + c] -= sum * rows[r * d_row + c];
    }
}
