// SPDX-License-Identifier: MIT
// The backward pass with a selection that needs whole rows. For each tile of queries scores and weights are
// computed again, then
//
//     dP = dO Vᵀ        dS = slope ∘ (dP - Σ slope dP / Σ slope)        dV = Pᵀ dO    dQ = dS K    dK = dSᵀ Q
//
// pair by pair where few pairs have weight, else as products of whole blocks.

/// The arrays of one tile, [row][query lane].
template <class T>
struct RowGradients {
  RowBlock<T> block;
  T* slopes;  // of the selection
  T* ds;
  RowSlopes<T> terms;
  // Of a weight function, or null: its derivatives by the weight, and by the number of the query's row.
  T* function_slopes = nullptr;
  T* function_moved = nullptr;

  template <class Spec, class Rules>
  static constexpr Index arrays() {
    return 4 + (Rules::has_terms ? 2 : 0) + (Rules::parameters > 0 ? 1 : 0) + (Spec::changes_weights ? 2 : 0);
  }
  template <class Spec, class Rules>
  static RowGradients in(T* memory, Index longest) {
    RowGradients g{RowBlock<T>(memory, longest, arrays<Spec, Rules>()), nullptr, nullptr, {}};
    Index n = 1;
    g.block.weights = g.block.array(n++);
    g.slopes = g.block.array(n++);
    g.ds = g.block.array(n++);
    if constexpr (Rules::has_terms) {
      g.terms.through = g.block.array(n++);
      g.terms.after = g.block.array(n++);
    }
    if constexpr (Rules::parameters > 0) g.terms.scaled = g.block.array(n++);
    if constexpr (Spec::changes_weights) {
      g.function_slopes = g.block.array(n++);
      g.function_moved = g.block.array(n++);
    }
    return g;
  }
};

/// The lanes of a row in which something is to be done.
template <class T>
HEED_INLINE unsigned lanes_of(const RowGradients<T>& g, Index at) {
  unsigned lanes = nonzero_lanes(load(g.block.weights + at)) | nonzero_lanes(load(g.slopes + at));
  if (g.function_moved != nullptr) lanes |= nonzero_lanes(load(g.function_moved + at));
  return lanes;
}

/// The derivative by the numbers of the rows, Σ_j dP ∂f/∂x, and dP by the weights before the function.
template <class T, class DX>
HEED_NOINLINE void through_function(const RowGradients<T>& g, const TileRows& rows, const DX& dx) {
  for (int pack = 0; pack < rows.packs; ++pack) {
    const Index lane = pack * Pack<T>::width;
    LongSum<T> sum;
    for (Index n = 0; n < g.block.kept_rows[pack]; ++n) {
      const Index at = g.block.kept_of(pack)[n] * Index(tile_lanes<T>) + lane;
      const Pack<T> dp = load(g.ds + at);
      const Pack<T> moved = load(g.function_moved + at);
      sum.add(where_equal(moved, zero<T>(), zero<T>(), dp * moved));
      store(g.ds + at, dp * load(g.function_slopes + at));
    }
    if constexpr (!std::is_same_v<DX, std::nullptr_t>) {
      alignas(64) T sums[Pack<T>::width];
      store(sums, sum.total());
      for (Index l = 0; l < Pack<T>::width && rows.begin + lane + l < rows.end; ++l) {
        auto& x = dx(rows.begin + lane + l);
        x += static_cast<std::remove_cvref_t<decltype(x)>>(sums[l]);
      }
    }
  }
}

/// dP of the pairs that are kept, 0 beside them; with dropout, by the weight before it.
template <class T, class Rules>
HEED_NOINLINE void kept_weight_gradients(const RowGradients<T>& g, const GradientTile<T>& tile,
                                         const TileRows& rows, const Rules& rules, const KeyBlock<T>& keys) {
  const Index columns = whole_packs<T>(tile.d_v);
  for (int pack = 0; pack < rows.packs; ++pack)
    for (Index n = 0; n < g.block.kept_rows[pack]; ++n) {
      const Index r = g.block.kept_of(pack)[n], at = r * tile_lanes<T> + pack * Pack<T>::width;
      const Position key = g.block.keys[r];
      store(g.ds + at, zero<T>());
      if (key < 0) continue;
      const T* value = keys.v + key * keys.v_row;
      for (unsigned lanes = lanes_of(g, at); lanes != 0; lanes &= lanes - 1) {
        const int l = __builtin_ctz(lanes);
        const Index query = pack * Pack<T>::width + l;
        T dp = dot(tile.out_rows + query * columns, Index(1), value, Index(1), tile.d_v);
        if constexpr (Rules::drops)
          dp *= rules.dropped.template factor<T>(static_cast<Position>(rows.begin + query), key);
        g.ds[at + l] = dp;
      }
    }
}

/// Dropout on the weights that are kept.
template <class T, class Rules>
HEED_NOINLINE void drop_kept(const RowGradients<T>& g, const TileRows& rows, const Rules& rules) {
  for (int pack = 0; pack < rows.packs; ++pack)
    for (Index n = 0; n < g.block.kept_rows[pack]; ++n) {
      const Index r = g.block.kept_of(pack)[n], at = r * tile_lanes<T> + pack * Pack<T>::width;
      if (g.block.keys[r] < 0) continue;
      for (unsigned lanes = nonzero_lanes(load(g.block.weights + at)); lanes != 0; lanes &= lanes - 1) {
        const int l = __builtin_ctz(lanes);
        const Index i = rows.begin + pack * Pack<T>::width + l;
        g.block.weights[at + l] *=
            rules.dropped.template factor<T>(static_cast<Position>(i), g.block.keys[r]);
      }
    }
}

/// ds = slope ∘ (dP - their mean) where something is kept.
template <class T>
HEED_NOINLINE void center_gradients(const RowGradients<T>& g, int packs) {
  for (int pack = 0; pack < packs; ++pack) {
    const Position* kept = g.block.kept_of(pack);
    const Index count = g.block.kept_rows[pack];
    const auto at = [&](Index n) { return kept[n] * Index(tile_lanes<T>) + pack * Pack<T>::width; };
    LongSum<T> weighed, all;
    for (Index n = 0; n < count; ++n) {
      const Pack<T> slope = load(g.slopes + at(n));
      weighed.add(slope * load(g.ds + at(n)));
      all.add(slope);
    }
    const Pack<T> slopes = all.total(), one = broadcast(T(1));
    const Pack<T> mean = weighed.total() / where_equal(slopes, zero<T>(), one, slopes);
    for (Index n = 0; n < count; ++n) {
      const Pack<T> slope = load(g.slopes + at(n));
      const Pack<T> ds = slope * (load(g.ds + at(n)) - mean);
      store(g.ds + at(n), where_equal(slope, zero<T>(), zero<T>(), ds));
    }
  }
}

/// Adds the derivative by alpha: Σ dP ((p - ŝ) / β² - (p log p - ŝ Σ p log p) / β), β = α - 1, ŝ the slopes
/// over their sum (1909.00015). The weights are the undropped ones.
template <class T>
HEED_NOINLINE double alpha_gradient_of(const RowGradients<T>& g, const TileRows& rows, double alpha) {
  const double beta = alpha - 1;
  double total = 0;
  for (int pack = 0; pack < rows.packs; ++pack) {
    const Position* kept = g.block.kept_of(pack);
    for (int l = 0; l < Pack<T>::width; ++l) {
      if (rows.begin + pack * Pack<T>::width + l >= rows.end) break;
      double entropy = 0, slopes = 0, difference = 0, logarithms = 0, weighed = 0;
      for (Index n = 0; n < g.block.kept_rows[pack]; ++n) {
        const Index at = kept[n] * tile_lanes<T> + pack * Pack<T>::width + l;
        const double p = static_cast<double>(g.block.weights[at]), s = static_cast<double>(g.slopes[at]);
        const double dp = static_cast<double>(g.ds[at]);
        if (p == 0) continue;
        const double p_log_p = p * std::log(p);
        entropy += p_log_p;
        slopes += s;
        weighed += dp * s;
        difference += dp * p;
        logarithms += dp * p_log_p;
      }
      if (slopes == 0) continue;
      weighed /= slopes;
      total += (difference - weighed) / (beta * beta) - (logarithms - weighed * entropy) / beta;
    }
  }
  return total;
}

/// dV += P dO and, where scores are dot products, dK += dS Q and dQ += dS K, pair by pair.
template <bool products, class T>
HEED_NOINLINE void add_kept_gradients(const RowGradients<T>& g, const GradientTile<T>& tile,
                                      const TileRows& rows, const GradientKeys<T>& keys, T* recent, T* done,
                                      T* sums) {
  const Index d = tile.d, d_v = tile.d_v, columns = whole_packs<T>(d), value_columns = whole_packs<T>(d_v);
  for (int pack = 0; pack < rows.packs; ++pack) {
    int count[Pack<T>::width] = {};
    for (Index n = 0; n < g.block.kept_rows[pack]; ++n) {
      const Index r = g.block.kept_of(pack)[n], at = r * tile_lanes<T> + pack * Pack<T>::width;
      const Position key = g.block.keys[r];
      if (key < 0) continue;
      // Sums over the lanes first: one chain over all queries would round too much.
      T* const dk = sums;
      T* const dv = sums + columns;
      for (Index c = 0; c < columns + value_columns; c += Pack<T>::width) store(sums + c, zero<T>());
      const T* k = keys.in.k + key * keys.in.k_row;
      for (unsigned lanes = lanes_of(g, at); lanes != 0; lanes &= lanes - 1) {
        const int l = __builtin_ctz(lanes);
        const Index query = pack * Pack<T>::width + l;
        const T w = g.block.weights[at + l], ds = g.ds[at + l];
        if (w != T(0)) add_scaled(w, tile.out_rows + query * value_columns, value_columns, dv);
        if (!products || ds == T(0)) continue;
        add_scaled(ds, tile.query_rows + query * columns, columns, dk);
        T* const dq = recent + query * columns;
        add_scaled(ds, k, d, dq);
        if (++count[l] == short_sum) {
          count[l] = 0;
          add_scaled(T(1), dq, columns, done + query * columns);
          for (Index c = 0; c < columns; c += Pack<T>::width) store(dq + c, zero<T>());
        }
      }
      if constexpr (products) add_scaled(T(1), dk, d, keys.dk + key * keys.dk_row);
      add_scaled(T(1), dv, d_v, keys.dv + key * keys.dv_row);
    }
  }
}

/// Calls f(packs, row of the block, key, count) for stretches of keys, packs a constant.
template <class T, class F>
HEED_INLINE void by_stretches_and_packs(const RowBlock<T>& block, int packs, const F& f) {
  by_stretches(block, block_keys, [&](Index r, Index key, Index count) {
    if (packs == 1) f(std::integral_constant<int, 1>(), r, key, count);
    if (packs == 2) f(std::integral_constant<int, 2>(), r, key, count);
    if constexpr (tile_packs >= 4) {
      if (packs == 3) f(std::integral_constant<int, 3>(), r, key, count);
      if (packs == 4) f(std::integral_constant<int, 4>(), r, key, count);
    }
  });
}

/// Whole blocks instead of pairs: gradients of values, and of queries and keys through their scores.
template <class T>
HEED_NOINLINE void add_all_value_gradients(const RowGradients<T>& g, const GradientTile<T>& tile,
                                           const TileRows& rows, const GradientKeys<T>& keys) {
  GradientBlocks<T> blocks(g.ds);
  by_stretches(g.block, block_keys, [&](Index r, Index key, Index count) {
    blocks.weights = g.block.weights + r * tile_lanes<T>;
    add_value_gradients(tile, 0, rows.end - rows.begin, keys.from(key, count), blocks);
  });
}
/// Over pairs with a gradient alone where not everything is finite, or few have one: scores are lost then.
template <class T, class Scorer>
HEED_NOINLINE void add_all_score_gradients(const RowGradients<T>& g, const Scorer& scorer,
                                           const GradientTile<T>& tile, const TileRows& rows,
                                           const GradientKeys<T>& keys, bool dense, double* dw) {
  if (!dense)
    for (Index t = 0; t < g.block.rows * tile_lanes<T>; t += Pack<T>::width)
      store(g.block.scores + t, where_equal(load(g.ds + t), zero<T>(),
                                            broadcast(-std::numeric_limits<T>::infinity()), zero<T>()));
  by_stretches_and_packs(g.block, rows.packs, [&](auto packs, Index r, Index key, Index count) {
    add_score_gradients<packs>(scorer, tile, 0, rows.end - rows.begin, keys.from(key, count),
                               static_cast<const T*>(g.ds + r * tile_lanes<T>),
                               dense ? static_cast<const T*>(nullptr) : g.block.scores + r * tile_lanes<T>,
                               dw);
  });
}

/// dP of all pairs.
template <class T>
HEED_NOINLINE void all_weight_gradients(const RowGradients<T>& g, const GradientTile<T>& tile,
                                        const TileRows& rows, const KeyBlock<T>& keys) {
  by_stretches_and_packs(g.block, rows.packs, [&](auto packs, Index r, Index key, Index count) {
    product_rows<packs, false>(count, keys.v + key * keys.v_row, keys.v_row, Index(1), tile.gradient,
                               Index(tile_lanes<T>), tile.d_v, g.ds + r * tile_lanes<T>,
                               Index(tile_lanes<T>));
  });
  if (g.block.rows > 0 && g.block.keys[g.block.rows - 1] < 0)
    std::memset(g.ds + (g.block.rows - 1) * tile_lanes<T>, 0, tile_lanes<T> * sizeof(T));
}

/// Numbers of scratch for one tile: its queries and gradients, the arrays of its rows, and sums.
template <class T, class Spec>
Index rows_gradient_numbers(const Shape& s) {
  using Rules = std::remove_cvref_t<decltype(std::declval<const Spec&>().template bind<T>(Place{}))>;
  return GradientTile<T>::size(s.d, s.d_v) +
         RowBlock<T>::size(s.longest, RowGradients<T>::template arrays<Spec, Rules>()) +
         2 * whole_packs<T>(s.d) * tile_lanes<T> + whole_packs<T>(s.d) + whole_packs<T>(s.d_v);
}

/// One tile of queries against the keys of its head.
template <class T, class Spec>
HEED_NOINLINE void rows_gradient_tile(const BackwardProblem<T>& p, const Spec& spec, const Place& place,
                                      const TileRows& rows, const ScorerOf<T, Spec>& scorer,
                                      const GradientKeys<T>& keys, T* scratch) {
  using Scorer = ScorerOf<T, Spec>;
  constexpr int width = Pack<T>::width;
  const auto rules = spec.template bind<T>(place);
  using Rules = std::remove_cvref_t<decltype(rules)>;
  const auto selection = spec.bind_selection(place);
  using Selection = std::remove_cvref_t<decltype(selection)>;
  const auto bias = bias_gradient_of(spec, place);
  const auto buckets = bucket_gradient_of(p, spec, place);
  constexpr bool wants_bias = !std::is_same_v<std::remove_cvref_t<decltype(bias)>, std::nullptr_t>;
  constexpr bool wants_buckets = !std::is_same_v<std::remove_cvref_t<decltype(buckets)>, std::nullptr_t>;
  const Index d = p.shape.d, d_v = p.shape.d_v, columns = whole_packs<T>(d);

  const GradientTile<T> tile(scratch, d, d_v);
  scratch += GradientTile<T>::size(d, d_v);
  RowGradients<T> g = RowGradients<T>::template in<Spec, Rules>(scratch, p.shape.longest);
  scratch += RowBlock<T>::size(p.shape.longest, RowGradients<T>::template arrays<Spec, Rules>());
  T* const recent = scratch;
  T* const done = recent + columns * tile_lanes<T>;
  T* const sums = done + columns * tile_lanes<T>;
  load_gradient_tile(tile, p, place, rows, scorer.query_factor());
  turn_gradient_tile(scorer, tile, rows.packs);
  const Operand<const T> k{keys.in.k, keys.in.k_row, 1}, v{keys.in.v, keys.in.v_row, 1};
  score_rows(g.block, scorer, tile.query, d, rows, rules, k, place.keys, spec.template sink<T>(place.head),
             g.terms);

  T summary[tile_lanes<T>];
  for (int pack = 0; pack < rows.packs; ++pack)
    select_rows(selection, g.block, pack, g.slopes, summary, rows.begin + pack * width);
  if (selection.slopes != Slopes::kept) {
    clear_rest(g.block, rows.packs, g.block.weights);
    for (int pack = 0; pack < rows.packs; ++pack) {
      const RowLanes<T> in{g.block.scores + pack * width, g.block.rows, nullptr,
                           g.slopes + pack * width,       nullptr,      nullptr};
      if (selection.slopes == Slopes::softmax) {
        softmax_slopes(in);
        for (Index r = 0; r < g.block.rows; ++r) g.block.kept_of(pack)[r] = static_cast<Position>(r);
        g.block.kept_rows[pack] = g.block.pairs = g.block.rows;
      } else {
        for (Index r = 0; r < g.block.rows; ++r) in.put(g.slopes + pack * width, r, zero<T>());
      }
    }
    if (selection.slopes == Slopes::softmax) g.block.pairs *= rows.packs * width;
  }

  if constexpr (Spec::changes_weights) {
    // Slopes are 0 where the selection left nothing.
    if (selection.slopes == Slopes::kept) clear_rest(g.block, rows.packs, g.slopes);
    change_weights(spec.bind_weight_function(place), g.block, rows, g.slopes, g.function_slopes,
                   g.function_moved);
  }

  const bool dense = *tile.finite && is_dense<true>(g.block, rows, v, d_v) && [&] {
    bool finite = true;
    by_stretches(g.block, g.block.rows, [&](Index, Index key, Index count) {
      finite = finite && all_finite<true>(k.data + key * k.row, k.row, Index(1), count, d);
    });
    return finite;
  }();
  if (dense) {
    clear_rest(g.block, rows.packs, g.block.weights);
    clear_rest(g.block, rows.packs, g.slopes);
    all_weight_gradients(g, tile, rows, keys.in);
    for (int pack = 0; pack < rows.packs; ++pack) {
      Position* const kept = g.block.kept_of(pack);
      for (Index r = 0; r < g.block.rows; ++r) kept[r] = static_cast<Position>(r);
      g.block.kept_rows[pack] = g.block.rows;
    }
  }
  if (!dense) kept_weight_gradients(g, tile, rows, rules, keys.in);
  if constexpr (Rules::drops)
    if (dense) drop_rows(rules, g.block, rows, g.ds);
  if constexpr (Selection::kind == SelectionKind::threshold)
    if (p.alpha_sums != nullptr)
      p.alpha_sums[place.sequence * place.heads + place.head] +=
          alpha_gradient_of(g, rows, selection.alpha());
  if constexpr (Rules::drops) {
    if (dense)
      drop_rows(rules, g.block, rows, g.block.weights);
    else
      drop_kept(g, rows, rules);
  }
  if constexpr (Spec::changes_weights) {
    const auto gradient = spec.template find<weight_parameter_gradient_tag>();
    if constexpr (std::is_same_v<std::remove_cv_t<decltype(gradient)>, std::nullptr_t>)
      through_function(g, rows, nullptr);
    else
      through_function(
          g, rows, [&](Index i) -> auto& { return (*gradient)(place.query_begin + i, place.head); });
  }
  center_gradients(g, rows.packs);
  if (p.sink_sums != nullptr && g.block.rows > 0 && g.block.keys[g.block.rows - 1] < 0) {
    const T* ds = g.ds + (g.block.rows - 1) * tile_lanes<T>;
    double& sum = p.sink_sums[place.sequence * place.heads + place.head];
    for (int pack = 0; pack < rows.packs; ++pack) {
      const Index count = g.block.kept_rows[pack];
      if (count == 0 || g.block.kept_of(pack)[count - 1] != g.block.rows - 1) continue;
      for (Index l = pack * width; l < (pack + 1) * width && rows.begin + l < rows.end; ++l)
        sum += static_cast<double>(ds[l]);
    }
  }

  if constexpr (Rules::has_terms || wants_bias || wants_buckets) {
    clear_rest(g.block, rows.packs, g.ds);
    by_stretches(g.block, block_keys, [&](Index r, Index key, Index count) {
      T* const ds = g.ds + r * tile_lanes<T>;
      const Index queries = rows.end - rows.begin;
      const auto multiply = [&](const T* by) {
        for (int pack = 0; pack < rows.packs; ++pack)
          multiply_block<1>(ds, by + r * tile_lanes<T>, pack * width, count);
      };
      if constexpr (Rules::parameters > 0)
        if (p.parameter_sums != nullptr)
          for (int at = 0; at < rows.packs * width; at += width)
            add_parameter_gradients(
                rules, g.terms.scaled + r * tile_lanes<T> + at, g.block.scores + r * tile_lanes<T> + at,
                ds + at, count, static_cast<Position>(rows.begin + at), static_cast<Position>(key),
                p.parameter_sums + (place.sequence * place.heads + place.head) * Index(Rules::parameters));
      if constexpr (Rules::has_terms) multiply(g.terms.after);
      if constexpr (wants_bias) add_bias_gradient(bias, ds, queries, count, rows.begin, key);
      if constexpr (wants_buckets) add_bucket_gradient(buckets, ds, queries, count, rows.begin, key);
      if constexpr (Rules::has_terms) multiply(g.terms.through);
    });
  }

  double* const dw =
      p.score_sums == nullptr ? nullptr : p.score_sums + (place.sequence * place.heads + place.head) * d;
  const Index count = rows.end - rows.begin;
  if (dense) {
    add_all_value_gradients(g, tile, rows, keys);
  } else {
    std::memset(recent, 0, static_cast<std::size_t>(2 * columns * tile_lanes<T>) * sizeof(T));
    add_kept_gradients<Scorer::fused>(g, tile, rows, keys, recent, done, sums);
  }
  if (dense || !Scorer::fused) {
    clear_rest(g.block, rows.packs, g.ds);
    add_all_score_gradients(g, scorer, tile, rows, keys, dense, dw);
    return store_gradient_tile(scorer, tile, p.scale, p.dq, p.accumulate, place, rows);
  }
  for (Index t = 0; t < count * columns; t += width)
    store(recent + t, (load(recent + t) + load(done + t)) * broadcast(p.scale));
  const Operand<T> dq = p.dq.at(place.query_begin + rows.begin, place.head * d);
  if (p.accumulate)
    put_rows<true>(recent, columns, dq, count, d);
  else
    put_rows<false>(recent, columns, dq, count, d);
}

/// Task t: one key head of one sequence, or as many as share a bias's gradient.
template <class T, class Spec>
HEED_NOINLINE void rows_backward_task(const BackwardProblem<T>& p, const Spec& spec, Index t, T* scratch) {
  const Shape& shape = p.shape;
  const Index group = shape.heads / shape.key_heads, all = shape.sequences * shape.key_heads;
  const Index together = p.all_together ? all : p.heads_together ? shape.key_heads : 1;
  const BackwardScratch<T> room(p, rows_gradient_numbers<T, Spec>(shape));
  for (Index n = t * together; n < (t + 1) * together; ++n) {
    const Index sequence = n / shape.key_heads, key_head = n % shape.key_heads;
    const Place keys_place = shape.place(sequence, key_head * group);
    T* scorer_memory = nullptr;
    const GradientKeys<T> keys =
        open_keys(p, room, keys_place, key_head, scratch + room.tiles, &scorer_memory);
    for (Index head = key_head * group; head < (key_head + 1) * group; ++head) {
      const Place place = shape.place(sequence, head);
      using Scorer = ScorerOf<T, Spec>;
      Scorer::fill(scorer_memory, spec, head, shape.d, p.scale, p.scale);
      const Scorer scorer(scorer_memory, shape.d, p.scale);
      for (Index tile = 0;; ++tile) {
        const TileRows rows = tile_of_sequence<T>(place.queries, tile, row_packs<T>(shape.longest));
        if (rows.packs == 0) break;
        rows_gradient_tile(p, spec, place, rows, scorer, keys, scratch);
      }
    }
    close_keys(p, room, keys_place, key_head, keys);
  }
}

template <class T, class Spec>
HEED_NOINLINE std::size_t rows_backward_bytes(const BackwardProblem<T>& p, const Spec&) {
  const BackwardScratch<T> room(p, rows_gradient_numbers<T, Spec>(p.shape));
  const Index scorer = ScorerOf<T, Spec>::numbers(p.shape.d) * static_cast<Index>(sizeof(T));
  return (static_cast<std::size_t>(room.bytes() + scorer) + 63) / 64 * 64;
}
