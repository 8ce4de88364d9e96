// SPDX-License-Identifier: MIT
// What lanes_test.cpp asks of one instruction set. Included once for each, inside a namespace of the test's
// own and under the set's target; `lanes` names the kernels.

template <class T>
struct Exp2Report {
  double worst = 0;
  T worst_at = 0;
  std::string wrong;  // arguments beyond the range of normal results that are answered wrongly
};

template <class T>
HEED_NOINLINE void exp2_pack(const T* in, T* out) {
  lanes::store(out, lanes::exp2(lanes::load(in)));
}

/// Errors in units of the last place of the exact result.
template <class T>
HEED_NOINLINE Exp2Report<T> check_exp2(long per_exponent) {
  using Wide = typename WiderOf<T>::type;
  constexpr int width = lanes::Pack<T>::width;
  constexpr int digits = std::numeric_limits<T>::digits;
  const T low = static_cast<T>(std::numeric_limits<T>::min_exponent - 1),
          high = static_cast<T>(std::numeric_limits<T>::max_exponent - 1);
  Exp2Report<T> report;
  Dice dice(91);
  T in[width], out[width];
  int filled = 0;
  const auto flush = [&] {
    for (int l = filled; l < width; ++l) in[l] = T(0);
    exp2_pack(in, out);
    for (int l = 0; l < filled; ++l) {
      const Wide exact = std::exp2(static_cast<Wide>(in[l]));
      const Wide unit = std::ldexp(Wide(1), std::ilogb(exact) - digits + 1);
      const double error = static_cast<double>(std::abs(static_cast<Wide>(out[l]) - exact) / unit);
      if (!(error <= report.worst)) {
        report.worst = error;
        report.worst_at = in[l];
      }
    }
    filled = 0;
  };
  const auto ask = [&](T x) {
    if (x < low || x > high) return;
    in[filled++] = x;
    if (filled == width) flush();
  };
  // Results of every exponent, densely; arguments of every exponent; the neighbours of every whole number.
  for (T whole = low; whole <= high; whole += T(1)) {
    ask(whole);
    ask(std::nextafter(whole, low - 1));
    ask(std::nextafter(whole, high + 1));
    for (long t = 0; t < per_exponent; ++t) ask(whole + static_cast<T>(dice.uniform()));
  }
  for (int e = std::numeric_limits<T>::min_exponent - 10; e < 11; ++e)
    for (int t = 0; t < 50; ++t) {
      const T x = std::ldexp(static_cast<T>(1 + dice.uniform()), e);
      ask(x);
      ask(-x);
    }
  flush();

  const T infinity = std::numeric_limits<T>::infinity();
  const auto expect = [&](bool good, T x, T y) {
    if (!good && report.wrong.size() < 200)
      report.wrong += std::to_string(x) + " gives " + std::to_string(y) + "; ";
  };
  const T zeros[] = {-infinity, std::numeric_limits<T>::lowest(), T(-1e30), -2 * high,
                     static_cast<T>(std::numeric_limits<T>::min_exponent - digits - 2)};
  for (const T x : zeros)
    for (int at = 0; at < width; ++at) {
      for (int l = 0; l < width; ++l) in[l] = T(1);
      in[at] = x;
      exp2_pack(in, out);
      for (int l = 0; l < width; ++l)
        expect(l == at ? out[l] == T(0) && !std::signbit(out[l]) : std::abs(out[l] - 2) < T(1e-6), in[l],
               out[l]);
    }
  const T greats[] = {infinity, std::numeric_limits<T>::max(), high + 1, high + 100};
  for (const T x : greats) {
    for (int l = 0; l < width; ++l) in[l] = x;
    exp2_pack(in, out);
    for (int l = 0; l < width; ++l) expect(out[l] == infinity, x, out[l]);
  }
  for (int l = 0; l < width; ++l)
    in[l] = l == 0 || l == width - 1 ? std::numeric_limits<T>::quiet_NaN() : T(3);
  exp2_pack(in, out);
  for (int l = 0; l < width; ++l)
    expect(l == 0 || l == width - 1 ? out[l] != out[l] : std::abs(out[l] - 8) < T(1e-5), in[l], out[l]);
  // Below the range of normal results: between 0 and the smallest of them.
  for (T x = low - 1; x > low - 60; x -= T(0.37)) {
    for (int l = 0; l < width; ++l) in[l] = x;
    exp2_pack(in, out);
    for (int l = 0; l < width; ++l) expect(out[l] >= 0 && out[l] <= std::numeric_limits<T>::min(), x, out[l]);
  }
  return report;
}

template <class T>
HEED_NOINLINE bool check_transpose() {
  constexpr int width = lanes::Pack<T>::width;
  T in[width][width], out[width][width];
  for (int i = 0; i < width; ++i)
    for (int j = 0; j < width; ++j) in[i][j] = static_cast<T>(i * 100 + j);
  lanes::Pack<T> r[width];
  for (int i = 0; i < width; ++i) r[i] = lanes::load(in[i]);
  lanes::transpose(r);
  for (int i = 0; i < width; ++i) lanes::store(out[i], r[i]);
  bool good = true;
  for (int i = 0; i < width; ++i)
    for (int j = 0; j < width; ++j) good = good && out[j][i] == in[i][j];
  return good;
}

/// rows_to_lanes and lanes_to_rows against loops, in guarded memory.
template <class T>
HEED_NOINLINE bool check_moves() {
  constexpr int width = lanes::Pack<T>::width;
  Dice dice(92);
  bool good = true;
  for (int layout = 0; layout < layouts; ++layout)
    for (int count = 1; count <= width; ++count)
      for (const Index columns : {Index(1), Index(width - 1), Index(width), Index(2 * width + 3)}) {
        const Matrix<T> values = dice.matrix<T>(count, columns);
        Guarded<T> rows(values, static_cast<Layout>(layout));
        const auto view = rows.view();
        const Index row = view.innerStride(), column = view.outerStride();
        const Index stride = width + 3;
        std::vector<T> moved(static_cast<std::size_t>(columns * stride), T(7));
        lanes::rows_to_lanes(static_cast<const T*>(view.data()), row, column, count, columns, T(3),
                             moved.data(), stride);
        for (Index t = 0; t < columns; ++t)
          for (Index l = 0; l < stride; ++l)
            good = good && moved[static_cast<std::size_t>(t * stride + l)] == (l < count   ? values(l, t) * 3
                                                                               : l < width ? T(0)
                                                                                           : T(7));
        T factor[width];
        for (int l = 0; l < width; ++l) factor[l] = static_cast<T>(l + 1);
        Guarded<T> back(count, columns, static_cast<Layout>(layout));
        lanes::lanes_to_rows(static_cast<const T*>(moved.data()), stride, factor, count, columns,
                             back.view().data(), row, column);
        good = good && back.intact();
        for (Index t = 0; t < columns; ++t)
          for (Index l = 0; l < count; ++l) good = good && back.view()(l, t) == values(l, t) * 3 * factor[l];
      }
  return good;
}

/// Worst error of dot_rows in units of u Σ|q||k| √d.
template <class T>
HEED_NOINLINE double check_dots() {
  constexpr double u = std::numeric_limits<T>::epsilon() / 2;
  Dice dice(93);
  double worst = 0;
  for (Index rows = 1; rows <= 8; ++rows)
    for (const Index keys : {1, 2, 3, 5, 16, 31, 32})
      for (const Index d : {1, 3, 7, 8, 15, 16, 17, 64, 100}) {
        const RowMatrix<T> q = dice.matrix<T>(rows, d);
        const Guarded<T> k(dice.matrix<T>(keys, d), Layout::padded_rows);
        Guarded<T> scores(rows, keys, Layout::padded_rows);
        lanes::dot_rows(rows, q.data(), d, k.view().data(), d + 5, keys, d, scores.view().data(), keys + 5);
        if (!scores.intact()) return std::numeric_limits<double>::infinity();
        const Matrix<double> wide_q = q.template cast<double>(), wide_k = k.view().template cast<double>();
        for (Index r = 0; r < rows; ++r)
          for (Index j = 0; j < keys; ++j) {
            const long double exact =
                wide_q.row(r).cast<long double>().dot(wide_k.row(j).cast<long double>());
            const double size = wide_q.row(r).cwiseAbs().dot(wide_k.row(j).cwiseAbs());
            const double off =
                static_cast<double>(std::abs(static_cast<long double>(scores.view()(r, j)) - exact));
            worst = std::max(worst, off / (u * size * std::sqrt(static_cast<double>(d))));
          }
      }
  return worst;
}

/// The same of the register tile, for every number of rows.
template <int packs, class T>
HEED_NOINLINE double check_tile() {
  constexpr double u = std::numeric_limits<T>::epsilon() / 2;
  constexpr Index columns = packs * lanes::Pack<T>::width;
  Dice dice(94);
  double worst = 0;
  for (Index rows = 1; rows <= 50; ++rows)
    for (const Index n : {0, 1, 2, 31}) {
      const RowMatrix<T> b = dice.matrix<T>(n, columns), before = dice.matrix<T>(rows, columns);
      const Matrix<T> a = dice.matrix<T>(rows, n);
      for (const Layout layout : {Layout::padded_rows, Layout::columns, Layout::upside_down}) {
        const Guarded<T> ga(a, layout);
        Guarded<T> stored(rows, columns, Layout::padded_rows), added(before, Layout::padded_rows);
        lanes::product_rows<packs, false>(rows, ga.view().data(), ga.view().innerStride(),
                                          ga.view().outerStride(), b.data(), columns, n, stored.view().data(),
                                          columns + 5);
        lanes::product_rows<packs, true>(rows, ga.view().data(), ga.view().innerStride(),
                                         ga.view().outerStride(), b.data(), columns, n, added.view().data(),
                                         columns + 5);
        if (!stored.intact() || !added.intact()) return std::numeric_limits<double>::infinity();
        const Matrix<double> wa = a.template cast<double>(), wb = b.template cast<double>();
        for (Index r = 0; r < rows; ++r)
          for (Index l = 0; l < columns; ++l) {
            long double exact = 0;
            double size = 1e-30;
            for (Index t = 0; t < n; ++t) {
              exact += static_cast<long double>(wa(r, t)) * wb(t, l);
              size += std::abs(wa(r, t) * wb(t, l));
            }
            const double start = static_cast<double>(before(r, l));
            const double unit = u * std::sqrt(static_cast<double>(n + 1));
            worst = std::max(
                worst, static_cast<double>(std::abs(static_cast<long double>(stored.view()(r, l)) - exact)) /
                           (unit * size));
            worst = std::max(
                worst,
                static_cast<double>(std::abs(static_cast<long double>(added.view()(r, l)) - start - exact)) /
                    (unit * (size + std::abs(start))));
          }
      }
    }
  return worst;
}

/// tanh, exp_twice and reciprocal on one pack.
template <class T>
HEED_NOINLINE void tanh_pack(const T* in, T* out) {
  lanes::store(out, lanes::tanh(lanes::load(in)));
}
template <class T>
HEED_NOINLINE void tanh_together_pack(const T* in, T* out) {
  lanes::Pack<T> x[3] = {lanes::zero<T>(), lanes::load(in), lanes::broadcast(T(1))};
  lanes::tanh_together(x);
  lanes::store(out, x[1]);
}
template <class T>
HEED_NOINLINE void exp_twice_pack(const T* in, T* out) {
  lanes::store(out, lanes::exp_twice(lanes::load(in)));
}
template <class T>
HEED_NOINLINE void reciprocal_pack(const T* in, T* out) {
  lanes::store(out, lanes::reciprocal(lanes::load(in)));
}

/// A function's documented range and error, and the arguments to try.
template <class T>
struct Claim {
  const char* name;
  void (*pack)(const T*, T*);
  typename WiderOf<T>::type (*exact)(typename WiderOf<T>::type);
  double low, high;  // of |x|
  bool negative;     // too
  double most;       // error allowed
  bool in_ulp;       // of the result, or else in units of roundoff of it
};

/// Worst error of a function over arguments of every exponent in its range, densely where it bends.
template <class T>
HEED_NOINLINE double worst_error(const Claim<T>& claim, int per_exponent) {
  using Wide = typename WiderOf<T>::type;
  constexpr int width = lanes::Pack<T>::width, digits = std::numeric_limits<T>::digits;
  Dice dice(95);
  T in[width], out[width];
  double worst = 0;
  int filled = 0;
  const auto ask = [&](double x) {
    const T a = static_cast<T>(x);
    if (!(std::abs(a) >= claim.low && std::abs(a) <= claim.high)) return;
    in[filled++] = a;
    if (filled < width) return;
    filled = 0;
    claim.pack(in, out);
    for (int l = 0; l < width; ++l) {
      const Wide exact = claim.exact(static_cast<Wide>(in[l]));
      const int exponent = std::max(std::ilogb(exact), std::numeric_limits<T>::min_exponent - 1);
      const Wide unit = claim.in_ulp ? std::ldexp(Wide(1), exponent - digits + 1)
                                     : std::abs(exact) * std::numeric_limits<T>::epsilon() / 2;
      const double error = static_cast<double>(std::abs(static_cast<Wide>(out[l]) - exact) / unit);
      if (!(error <= worst)) worst = error;
    }
  };
  for (int e = std::numeric_limits<T>::min_exponent - 1; e < std::numeric_limits<T>::max_exponent; ++e)
    for (int t = 0; t < (e > -8 && e < 10 ? per_exponent : 20); ++t) {
      const double x = std::ldexp(1 + dice.uniform(), e);
      ask(x);
      if (claim.negative) ask(-x);
    }
  for (int l = 0; l < width; ++l) ask(claim.low > 0 ? claim.low : claim.high);
  return worst;
}

template <class T>
HEED_NOINLINE void check_tanh(const char* set) {
  using Wide = typename WiderOf<T>::type;
  constexpr bool single = sizeof(T) == 4;
  constexpr int width = lanes::Pack<T>::width;
  const Claim<T> claims[] = {
      {"tanh", tanh_pack<T>, [](Wide x) -> Wide { return std::tanh(x); }, 0,
       std::numeric_limits<double>::max(), true, 3, true},
      {"tanh_together", tanh_together_pack<T>, [](Wide x) -> Wide { return std::tanh(x); }, 0,
       std::numeric_limits<double>::max(), true, single ? 6. : 3., true},
      {"exp_twice", exp_twice_pack<T>, [](Wide x) -> Wide { return std::exp(2 * x); }, 0, single ? 42. : 350.,
       true, 2, false},
      {"reciprocal", reciprocal_pack<T>, [](Wide x) -> Wide { return 1 / x; }, 1, single ? 0x1p122 : 0x1p1010,
       false, 4, false},
  };
  for (const Claim<T>& claim : claims) {
    const double worst = worst_error(claim, small ? 500 : single ? 40000 : 20000);
    std::printf("%s, %s, %s: worst error %.3f, allowed %g\n", claim.name, single ? "float" : "double", set,
                worst, claim.most);
    EXPECT_LE(worst, claim.most) << claim.name << " " << set;
  }
  // Odd, within ±1, ±1 at infinity, zeros keep their sign, NaN stays in its lane.
  Dice dice(96);
  T in[width], out[width], other[width];
  for (int turn = 0; turn < 2000; ++turn) {
    for (int l = 0; l < width; ++l)
      in[l] = static_cast<T>(std::ldexp(dice.normal(), static_cast<int>(dice.below(9)) - 3));
    if (turn == 0) in[0] = T(0), in[1] = std::numeric_limits<T>::infinity();
    if (turn == 1) in[0] = std::numeric_limits<T>::max(), in[1] = std::numeric_limits<T>::denorm_min();
    tanh_pack(in, out);
    for (int l = 0; l < width; ++l) in[l] = -in[l];
    tanh_pack(in, other);
    T together[2][width];
    tanh_together_pack(in, together[0]);
    for (int l = 0; l < width; ++l) in[l] = -in[l];
    tanh_together_pack(in, together[1]);
    for (int l = 0; l < width; ++l) in[l] = -in[l];
    for (int l = 0; l < width; ++l) {
      EXPECT_EQ(together[0][l], -together[1][l]) << in[l];
      EXPECT_LE(std::abs(together[0][l]), 1 + 6 * std::numeric_limits<T>::epsilon()) << in[l];
      EXPECT_EQ(out[l], -other[l]) << in[l];
      EXPECT_EQ(std::signbit(other[l]), std::signbit(in[l])) << in[l];
      EXPECT_LE(std::abs(out[l]), T(1)) << in[l];
    }
    if (turn == 0) {
      EXPECT_EQ(out[1], T(1));
    }
  }
  in[0] = std::numeric_limits<T>::quiet_NaN();
  for (int l = 1; l < width; ++l) in[l] = T(1);
  for (const auto& claim : claims) {
    claim.pack(in, out);
    EXPECT_TRUE(out[0] != out[0]) << claim.name;
    for (int l = 1; l < width; ++l)
      EXPECT_NEAR(static_cast<double>(out[l]), static_cast<double>(claim.exact(Wide(1))), 1e-5) << claim.name;
  }
}

template <class T>
HEED_NOINLINE void check_all(const char* set) {
  check_tanh<T>(set);
  const char* scalar = sizeof(T) == 4 ? "float" : "double";
  const Exp2Report<T> report = check_exp2<T>(small ? 50 : sizeof(T) == 4 ? 4000 : 500);
  std::printf("exp2, %s, %s: worst error %.3f ULP at %.17g\n", scalar, set, report.worst,
              static_cast<double>(report.worst_at));
  EXPECT_LE(report.worst, 2) << set << " " << scalar;
  EXPECT_EQ(report.wrong, "") << set << " " << scalar;
  EXPECT_TRUE(check_transpose<T>()) << set << " " << scalar;
  EXPECT_TRUE(check_moves<T>()) << set << " " << scalar;
  const double dots = check_dots<T>(), one = check_tile<1, T>(), two = check_tile<2, T>();
  double most = std::max(one, two);
  if constexpr (lanes::tile_packs == 4) most = std::max({most, check_tile<3, T>(), check_tile<4, T>()});
  std::printf("products, %s, %s: worst error %.3f (dots), %.3f (tiles) of u √n Σ|a||b|\n", scalar, set, dots,
              most);
  EXPECT_LE(dots, 1.5) << set << " " << scalar;
  EXPECT_LE(most, 1.5) << set << " " << scalar;
}
