// SPDX-License-Identifier: MIT
// Score terms and masks in the backward pass: final scores as in edit_scores.inl, and their derivatives, from
// the same functions run on dual numbers; the gradient of a bias.

/// Final scores in base 2 of one pack, in place of the scaled ones, and the derivatives of the terms; 0 where
/// a pair is invisible. Arrays are [key][lanes], at the pack's lane.
template <bool in_base_2 = true, class T, class Rules>
HEED_NOINLINE HEED_FLATTEN void edit_pack_with_slopes(const Rules& rules_in_memory, T* scores, T* through,
                                                      T* after, Index keys, Position i, Position j,
                                                      int queries, bool full) {
  constexpr int width = Pack<T>::width;
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const Rules rules = rules_in_memory;
  if constexpr (Rules::template adds_from_memory<T>)
    if (full && queries == width) {
      const auto& term = get<0>(rules.terms);
      add_from_memory<in_base_2>(scores, keys, term.data + i * term.row_stride + j * term.col_stride,
                                 term.row_stride, term.col_stride);
      for (Index t = 0; t < keys * tile_lanes<T>; t += tile_lanes<T>) {
        const Pack<T> slope =
            where_equal(load(scores + t), broadcast(hidden), zero<T>(), broadcast(T(1)));
        store(through + t, slope);
        store(after + t, slope);
      }
      return;
    }
  for (Index t = 0; t < keys; ++t, ++j) {
    const Index at = t * tile_lanes<T>;
    alignas(64) T in[width], out[width], first[width], second[width];
    store(in, load(scores + at));
    std::int32_t seen[width];
    std::int32_t all = 1;
    if (queries == width) {
      for (int l = 0; l < width; ++l) seen[l] = full || rules.visible(i + l, j) ? 1 : 0;
    } else {
      for (int l = 0; l < width; ++l) seen[l] = l < queries && (full || rules.visible(i + l, j)) ? 1 : 0;
    }
    for (int l = 0; l < width; ++l) all &= seen[l];
    const auto differentiate = [&](int l) {
      const dual<T> a = rules.score_through_bias(dual<T>(in[l], T(1)), i + l, j);
      const dual<T> b = rules.score_after_bias(dual<T>(a.value, T(1)), i + l, j);
      const bool lives = b.value != hidden;
      out[l] = b.value;
      first[l] = lives ? a.tangent[0] : T(0);
      second[l] = lives ? b.tangent[0] : T(0);
    };
    if (all != 0) {
      for (int l = 0; l < width; ++l) differentiate(l);
    } else {
      for (int l = 0; l < width; ++l) {
        out[l] = hidden;
        first[l] = second[l] = T(0);
        if (seen[l] != 0) differentiate(l);
      }
    }
    if constexpr (in_base_2)
      store(scores + at, score_in_base_2(load(out)));
    else
      store(scores + at, load(out));
    store(through + at, load(first));
    store(after + at, load(second));
  }
}

/// Adds Σ ds ∂s/∂θ to the gradients of the terms' parameters: the terms run once more, with a direction for
/// each of them. ds is the gradient of the final scores, `seen` are those; `scaled` is what the terms were
/// given. For one pack.
template <class T, class Rules>
HEED_NOINLINE HEED_FLATTEN void add_parameter_gradients(const Rules& rules_in_memory, const T* scaled,
                                                        const T* seen, const T* ds, Index keys, Position i,
                                                        Position j, double* sums) {
  constexpr int width = Pack<T>::width, n = Rules::parameters;
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  const Rules rules = rules_in_memory;
  T total[n][width] = {};
  for (Index t = 0; t < keys; ++t, ++j) {
    const Index at = t * tile_lanes<T>;
    T in[width], gradient[width];
    std::int32_t lives[width];
    std::int32_t all = 1;
    for (int l = 0; l < width; ++l) {
      in[l] = scaled[at + l];
      gradient[l] = ds[at + l];
      lives[l] = seen[at + l] != hidden ? 1 : 0;
      all &= lives[l];
    }
    const auto add = [&](int l) {
      const dual<T, n + 1> s = rules.score(dual<T, n + 1>(in[l], T(1)), i + l, j);
      for (int k = 0; k < n; ++k) total[k][l] += gradient[l] * s.tangent[k + 1];
    };
    if (all != 0) {
      for (int l = 0; l < width; ++l) add(l);
    } else {
      for (int l = 0; l < width; ++l)
        if (lives[l] != 0) add(l);
    }
  }
  for (int k = 0; k < n; ++k)
    for (int l = 0; l < width; ++l) sums[k] += static_cast<double>(total[k][l]);
}

/// weights = 2^(scores - lse), exactly 0 where a score is -inf.
template <int packs, class T>
HEED_NOINLINE void weigh_scores(const GradientTile<T>& tile, int lane, Index keys, const T* scores,
                                T* weights) {
  for (int v = 0; v < packs; ++v) {
    const int at = lane + v * Pack<T>::width;
    const Pack<T> maximum = load(tile.maximum + at), minus_log_sum = load(tile.minus_log_sum + at);
    for (Index t = 0; t < keys; ++t)
      store(weights + t * tile_lanes<T> + at,
            weight_again(load(scores + t * tile_lanes<T> + at), maximum, minus_log_sum));
  }
}

/// With Z what dropout multiplies the weights by: from P and P ∘ (dP - D) to Z ∘ P and P ∘ (Z ∘ dP - D), for
/// one pack.
template <class T, class Rules>
HEED_NOINLINE HEED_FLATTEN void drop_gradients(const Rules& rules_in_memory, T* weights, T* ds,
                                               const T* minus_d, Index keys, Position i, Position j) {
  const Rules rules = rules_in_memory;
  with_dropout<T>(rules, keys, i, j, [&](Index t, const T* factors) {
    const Index at = t * tile_lanes<T>;
    for (int l = 0; l < Pack<T>::width; ++l) {
      const T p = weights[at + l], z = factors[l];
      ds[at + l] = z * ds[at + l] + (T(1) - z) * p * minus_d[l];
      weights[at + l] = z * p;
    }
  });
}

/// Sets to 0 what NaN elsewhere has made of invisible pairs.
template <class T>
HEED_NOINLINE void clear_hidden(const GradientBlocks<T>& blocks, Index keys) {
  constexpr T hidden = -std::numeric_limits<T>::infinity();
  for (Index t = 0; t < keys * tile_lanes<T>; ++t)
    if (blocks.seen[t] == hidden) blocks.weights[t] = blocks.ds[t] = T(0);
}

/// a[key][lane] *= b[key][lane].
template <int packs, class T>
HEED_NOINLINE void multiply_block(T* a, const T* b, int lane, Index keys) {
  for (Index t = 0; t < keys; ++t)
    for (int v = 0; v < packs; ++v) {
      const Index at = t * tile_lanes<T> + lane + v * Pack<T>::width;
      store(a + at, load(a + at) * load(b + at));
    }
}

/// Adds the gradients of the scores to a bias's gradient, summed over the axes along which it is broadcast.
template <class T, class B>
HEED_NOINLINE void add_bias_gradient(const PairGradient<B>& db, const T* ds, Index queries, Index keys,
                                     Index i, Index j) {
  if (db.column != 0) {
    for (Index t = 0; t < keys; ++t) {
      B* to = db.data + (j + t) * db.column + i * db.row;
      const T* from = ds + t * tile_lanes<T>;
      if (db.row == 0) {
        T total = T(0);
        for (Index l = 0; l < queries; ++l) total += from[l];
        *to += static_cast<B>(total);
      } else {
        for (Index l = 0; l < queries; ++l) to[l * db.row] += static_cast<B>(from[l]);
      }
    }
    return;
  }
  for (Index l = 0; l < queries; ++l) {
    T total = T(0);
    for (Index t = 0; t < keys; ++t) total += ds[t * tile_lanes<T> + l];
    db.data[(i + l) * db.row] += static_cast<B>(total);
  }
}

/// Adds the gradients of the scores to those of a bias looked up by relative position: diagonal by diagonal,
/// along which that is constant, and from one diagonal to the next in double.
template <class T, class Buckets>
HEED_NOINLINE HEED_FLATTEN void add_bucket_gradient(const BucketGradient<Buckets>& gradient, const T* ds,
                                                    Index queries, Index keys, Index i, Index j) {
  T diagonals[block_keys + tile_lanes<T>] = {};
  // Query i + l and key j + t: diagonal l - t, counted from the last key's.
  for (Index t = 0; t < keys; ++t) {
    T* to = diagonals + (keys - 1 - t);
    const T* from = ds + t * tile_lanes<T>;
    for (Index l = 0; l < queries; ++l) to[l] += from[l];
  }
  for (Index n = 0; n < keys + queries - 1; ++n) {
    const auto difference = static_cast<Position>(i - j + n - (keys - 1));
    gradient.sums[gradient.bucket(difference, 0)] += static_cast<double>(diagonals[n]);
  }
}
