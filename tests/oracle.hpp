// SPDX-License-Identifier: MIT
// Holds attention against plain loops in the next wider type, under the bound of the documentation: with u
// the unit roundoff, A = Σ_j p_j |v_j|, n the keys that the row sees and δ = 5 √d u |scale| max_j Σ|q||k| + u
// (2 max|s| + 2),
//
//     |out - exact| <= (2 δ + (7 + 5 √n) u) A      for every element (the exponential is good to 2 ULP),
//
// and, over a sweep of cases, the worst error in units of that bound is at most twice that of the computation
// that stores all scores in the same type, give or take 4 u A. (In a single small case either may be lucky:
// two rows decide.)
#ifndef HEED_TESTS_ORACLE_HPP
#define HEED_TESTS_ORACLE_HPP

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include <heed/attention.hpp>
#include <heed/layout/heads.hpp>

#include "guarded.hpp"

namespace heed_test {

/// Numbers that are the same with every compiler and library.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15u + 0x1234567u) {}
  std::uint64_t bits() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  /// In [0, n).
  Index below(Index n) { return static_cast<Index>(bits() % static_cast<std::uint64_t>(n)); }
  bool coin() { return below(2) == 0; }
  /// In [0, 1).
  double uniform() { return static_cast<double>(bits() >> 11) * 0x1p-53; }
  /// Nearly normal: mean 0, variance 1.
  double normal() { return (uniform() + uniform() + uniform() + uniform() - 2) * std::sqrt(3.0); }
  template <class T>
  const T& of(const std::vector<T>& list) {
    return list[static_cast<std::size_t>(below(static_cast<Index>(list.size())))];
  }
  template <class T>
  Matrix<T> matrix(Index rows, Index columns, double scale = 1) {
    Matrix<T> m(rows, columns);
    for (Index j = 0; j < columns; ++j)
      for (Index i = 0; i < rows; ++i) m(i, j) = static_cast<T>(scale * normal());
    return m;
  }

 private:
  std::uint64_t state_;
};

#if defined(HEED_TEST_SMALL)
inline constexpr bool small = true;
inline const std::vector<Index> lengths_list = {0, 1, 2, 3, 7, 8, 9, 17, 31, 65, 97, 129, 197};
inline const std::vector<Index> dimensions_list = {1, 3, 40, 64, 72, 96};
#else
inline constexpr bool small = false;
inline const std::vector<Index> lengths_list = {0,  1,  2,  3,   7,   8,   9,   15,  16,  17,  31,  33,
                                                63, 64, 65, 113, 127, 128, 129, 197, 239, 799, 1023};
inline const std::vector<Index> dimensions_list = {1, 3, 40, 64, 72, 80, 96, 128, 192, 256};
#endif

/// What the scores look like.
enum class Scores {
  ordinary,  // standard deviation about 1
  wide,      // about 8: few keys matter
  equal,     // all 0
  rising,    // each key beats the ones before: the running maximum never rests
};

struct Case {
  Index n = 1, m = 1, d = 1, d_v = 1, heads = 1, key_heads = 1;
  Layout q = Layout::rows, k = Layout::rows, v = Layout::rows, out = Layout::rows;
  Scores scores = Scores::ordinary;
  std::uint64_t seed = 0;

  std::string text() const {
    char line[256];
    std::snprintf(line, sizeof line,
                  "n %d m %d d %d d_v %d heads %d/%d layouts %d %d %d %d scores %d seed %d", int(n), int(m),
                  int(d), int(d_v), int(heads), int(key_heads), int(q), int(k), int(v), int(out), int(scores),
                  int(seed));
    return line;
  }
};

/// Multiply-adds that one case may cost the oracle.
template <class T>
inline constexpr double affordable = small            ? 1.5e5
                                     : sizeof(T) == 4 ? 3e6
                                                      : 1e6;

/// The case of a number: its first coordinates walk through the lists, so that every size comes up, the
/// others are drawn.
/// @param turn for a sweep of `count` cases, from 0
template <class T>
Case draw_case(std::uint64_t family, Index turn, bool heads_too = true) {
  Dice dice(family * 1000003u + static_cast<std::uint64_t>(turn));
  const auto at = [](const std::vector<Index>& list, Index i) {
    return list[static_cast<std::size_t>(i) % list.size()];
  };
  const Index sizes = static_cast<Index>(lengths_list.size());
  for (int attempt = 0;; ++attempt) {
    Case c;
    c.seed = dice.bits() % 1000000;
    c.n = turn % 3 == 0 ? at(lengths_list, turn / 3) : dice.of(lengths_list);
    c.m = turn % 3 == 1                   ? at(lengths_list, turn / 3)
          : turn % 6 == 0 && attempt == 0 ? c.n
                                          : dice.of(lengths_list);
    if (turn / 3 >= sizes && turn % 4 == 0) c.n = 1 + dice.below(9);  // the streamed path
    c.d = turn % 3 == 2 ? at(dimensions_list, turn / 3) : dice.of(dimensions_list);
    c.d_v = dice.below(3) > 0 ? c.d : dice.of(dimensions_list);
    if (heads_too && dice.below(3) == 0) {
      c.key_heads = 1 + dice.below(3);
      c.heads = c.key_heads * (1 + dice.below(4));
    }
    const auto layout = [&] {
      return dice.below(3) == 0 ? Layout::rows : static_cast<Layout>(dice.below(layouts));
    };
    c.q = layout();
    c.k = layout();
    c.v = layout();
    c.out = layout();
    const Index kind = dice.below(6);
    c.scores = kind == 0   ? Scores::wide
               : kind == 1 ? Scores::equal
               : kind == 2 ? Scores::rising
                           : Scores::ordinary;
    if (turn % 6 == 5) {  // tiny problems, and very few keys, have a path of their own
      c.n = 1 + dice.below(9);
      c.m = dice.coin() ? 1 + dice.below(9) : 1 + dice.below(3);
      c.d = 1 + dice.below(dice.coin() ? 12 : 80);
      c.d_v = 1 + dice.below(dice.coin() ? 12 : 80);
      if (dice.below(4) != 0) c.q = c.k = c.v = c.out = turn % 4 == 1 ? Layout::rows : Layout::padded_rows;
    }
    const double cost = static_cast<double>(c.n * c.m) * static_cast<double>(c.heads * (c.d + c.d_v));
    if (cost <= affordable<T>) return c;
  }
}

/// Queries, keys and values of a case, tight and column-major.
template <class T>
struct Inputs {
  Matrix<T> q, k, v;

  explicit Inputs(const Case& c) {
    Dice dice(c.seed + 77);
    q = dice.matrix<T>(c.n, c.heads * c.d);
    k = dice.matrix<T>(c.m, c.key_heads * c.d);
    v = dice.matrix<T>(c.m, c.key_heads * c.d_v);
    if (c.scores == Scores::wide) q *= T(8);
    if (c.scores == Scores::equal) q.setZero();
    if (c.scores == Scores::rising) {
      q = q.cwiseAbs();
      for (Index j = 0; j < c.m; ++j)
        k.row(j) = k.row(j).cwiseAbs() * (T(12) * static_cast<T>(j + 1) / static_cast<T>(c.m));
    }
  }
};

template <class T>
struct WiderOf;
template <>
struct WiderOf<float> {
  using type = double;
};
template <>
struct WiderOf<double> {
  using type = long double;
};

/// a b, each element one chain of sums. (Not Eigen's product: g++ 12 warns inside it under -march=native.)
template <class A, class B>
Matrix<typename A::Scalar> product(const A& a, const B& b) {
  Matrix<typename A::Scalar> c = Matrix<typename A::Scalar>::Zero(a.rows(), b.cols());
  for (Index j = 0; j < b.cols(); ++j)
    for (Index t = 0; t < a.cols(); ++t) c.col(j) += a.col(t) * b(t, j);
  return c;
}

/// One sweep of cases of scalar T; remembers how near to the bound they came.
template <class T>
class Oracle {
 public:
  explicit Oracle(const char* name) : name_(name) {}
  ~Oracle() {
    std::printf(
        "%s, %s, %s: %d cases, worst ratio to the bound: %.3f (log-sum-exp %.3f; stored scores %.3f); root "
        "mean square %.2f of "
        "stored scores\n",
        name_, sizeof(T) == 4 ? "float" : "double", heed::name(heed::instruction_set()), cases_, worst_,
        worst_lse_, worst_stored_, std::sqrt(squares_ / squares_stored_));
    ::testing::Test::RecordProperty("worst_ratio_to_the_bound", std::to_string(worst_));
    EXPECT_GT(compared_, 0) << name_ << ": nothing was compared";
    EXPECT_LE(worst_, 2 * worst_stored_ + slack_) << name_ << ": the second gate";
  }
  Oracle(const Oracle&) = delete;
  Oracle& operator=(const Oracle&) = delete;

  /// The case in its own layouts, with its own data.
  template <class Spec>
  void check(const Case& c, const Spec& spec) {
    check(c, Inputs<T>(c), spec);
  }

  template <class Spec>
  void check(const Case& c, const Inputs<T>& in, const Spec& spec) {
    using Wide = typename WiderOf<T>::type;
    ++cases_;
    const heed::Shape shape = heed::detail::make_shape(spec, in.q.rows(), in.q.cols(), in.k.rows(),
                                                       in.k.cols(), in.v.rows(), in.v.cols());

    const Guarded<T> q(in.q, c.q), k(in.k, c.k), v(in.v, c.v);
    Guarded<T> out(shape.queries, shape.heads * shape.d_v, c.out);
    heed::Saved<T> saved;
    heed::attention_into(out.view(), q.view(), k.view(), v.view(), workspace_, spec, heed::save(saved));
    if (!out.intact()) ADD_FAILURE() << name_ << ": wrote beside the output, " << c.text();

    const RowMatrix<Wide> wq = in.q.template cast<Wide>(), wk = in.k.template cast<Wide>(),
                          wv = in.v.template cast<Wide>();
    RowMatrix<Wide> exact(shape.queries, shape.heads * shape.d_v);
    Matrix<Wide> exact_lse(shape.queries, shape.heads);
    heed::detail::reference_forward<Wide>(spec, shape, wq, wk, wv, exact, &exact_lse);

    for (Index s = 0; s < shape.sequences; ++s)
      for (Index h = 0; h < shape.heads; ++h) {
        const heed::Place place = shape.place(s, h);
        const Index key_head = h / (shape.heads / shape.key_heads);
        const Index n = place.queries, m = place.keys, d = shape.d, d_v = shape.d_v;
        compare(c, n, m, d_v, spec.template sink<double>(h), spec.template bind<double>(place),
                spec.template bind<T>(place), spec.template scale<T>(d),
                in.q.block(place.query_begin, h * d, n, d), in.k.block(place.key_begin, key_head * d, m, d),
                in.v.block(place.key_begin, key_head * d_v, m, d_v),
                out.view().block(place.query_begin, h * d_v, n, d_v),
                saved.lse.col(h).segment(place.query_begin, n),
                exact.block(place.query_begin, h * d_v, n, d_v).template cast<double>(),
                exact_lse.col(h).segment(place.query_begin, n).template cast<double>(),
                exact.block(place.query_begin, h * d_v, n, d_v));
      }
  }

  double worst() const { return worst_; }

 private:
  template <class Rules, class OwnRules, class Exact>
  void compare(const Case& c, Index n, Index m, Index d_v, double sink, const Rules& rules,
               const OwnRules& own_rules, T scale, const Matrix<T>& q, const Matrix<T>& k, const Matrix<T>& v,
               const Matrix<T>& out, const Matrix<T>& lse, const Matrix<double>& rounded,
               const Matrix<double>& exact_lse, const Exact& exact) {
    constexpr double u = std::numeric_limits<T>::epsilon() / 2;
    constexpr double hidden = -std::numeric_limits<double>::infinity();
    if (n == 0 || m == 0) {
      for (Index i = 0; i < n; ++i) expect_nothing(c, i, out, lse, sink);
      return;
    }
    const Matrix<double> dq = q.template cast<double>(), dk = k.template cast<double>();
    Matrix<double> p = static_cast<double>(scale) * product(dq, dk.transpose());
    const Matrix<double> size = std::abs(static_cast<double>(scale)) *
                                product(dq.cwiseAbs().eval(), dk.cwiseAbs().transpose().eval());
    Matrix<T> stored = product(q, k.transpose());
    std::vector<double> error(static_cast<std::size_t>(n));
    std::vector<Index> seen(static_cast<std::size_t>(n), 0);
    for (Index i = 0; i < n; ++i) {
      double most_size = 0, most_score = 0, top = hidden;
      T own_top = -std::numeric_limits<T>::infinity();
      for (Index j = 0; j < m; ++j) {
        const auto row = static_cast<heed::Position>(i), column = static_cast<heed::Position>(j);
        const bool visible = rules.visible(row, column);
        const double score = visible ? rules.score(p(i, j), row, column) : hidden;
        stored(i, j) = visible ? own_rules.score(scale * stored(i, j), row, column)
                               : -std::numeric_limits<T>::infinity();
        if (score != hidden) {
          most_size = std::max(most_size, size(i, j));
          most_score = std::max({most_score, std::abs(score), std::abs(p(i, j))});
          ++seen[static_cast<std::size_t>(i)];
        }
        p(i, j) = score;
        top = std::max(top, score);
        own_top = std::max(own_top, stored(i, j));
      }
      if (seen[static_cast<std::size_t>(i)] == 0) {
        p.row(i).setZero();
        stored.row(i).setZero();
        expect_nothing(c, i, out, lse, sink);
        continue;
      }
      if (sink != hidden) {
        top = std::max(top, sink);
        own_top = std::max(own_top, static_cast<T>(sink));
        most_score = std::max(most_score, std::abs(sink));
      }
      double sum = sink == hidden ? 0 : std::exp(sink - top);
      T own_sum = sink == hidden ? T(0) : std::exp(static_cast<T>(sink) - own_top);
      for (Index j = 0; j < m; ++j) {
        p(i, j) = std::exp(p(i, j) - top);
        stored(i, j) = std::exp(stored(i, j) - own_top);
        sum += p(i, j);
        own_sum += stored(i, j);
      }
      p.row(i) /= sum;
      stored.row(i) /= own_sum;
      if constexpr (Rules::drops)
        for (Index j = 0; j < m; ++j) {
          const auto row = static_cast<heed::Position>(i), column = static_cast<heed::Position>(j);
          p(i, j) *= rules.dropped.template factor<double>(row, column);
          stored(i, j) *= rules.dropped.template factor<T>(row, column);
        }
      const double delta =
          5 * std::sqrt(static_cast<double>(q.cols())) * u * most_size + u * (2 * most_score + 2);
      const double sums = (7 + 5 * std::sqrt(static_cast<double>(seen[static_cast<std::size_t>(i)]))) * u;
      error[static_cast<std::size_t>(i)] = 2 * delta + sums;
      const double lse_error = std::abs(static_cast<double>(lse(i, 0)) - exact_lse(i, 0));
      const double ratio = lse_error / (delta + sums + 3 * u * std::abs(exact_lse(i, 0)));
      if (!(ratio <= 1) && failures_++ < 10)
        ADD_FAILURE() << name_ << ": log-sum-exp of row " << i << " is " << lse(i, 0) << ", exactly "
                      << exact_lse(i, 0) << ", ratio " << ratio << "; " << c.text();
      worst_lse_ = std::max(worst_lse_, ratio);
    }
    const Matrix<double> dv = v.template cast<double>().cwiseAbs();
    const Matrix<double> a = product(p, dv);
    const Matrix<T> mixed = product(stored, v);
    for (Index i = 0; i < n; ++i) {
      if (seen[static_cast<std::size_t>(i)] == 0) continue;
      for (Index e = 0; e < d_v; ++e) {
        using Wide = typename WiderOf<T>::type;
        const double off = static_cast<double>(std::abs(static_cast<Wide>(out(i, e)) - exact(i, e)));
        const double off_stored = static_cast<double>(std::abs(static_cast<Wide>(mixed(i, e)) - exact(i, e)));
        const double unit =
            error[static_cast<std::size_t>(i)] * (a(i, e) > 0 ? a(i, e) : std::numeric_limits<double>::min());
        const double ratio = off / unit, stored_ratio = off_stored / unit;
        ++compared_;
        if (!(ratio <= 1) && failures_++ < 10)
          ADD_FAILURE() << name_ << ": element " << i << ", " << e << " is " << out(i, e) << ", exactly "
                        << rounded(i, e) << ", ratio " << ratio << "; " << c.text();
        if (ratio > worst_) {
          worst_ = ratio;
          slack_ = 4 * u / error[static_cast<std::size_t>(i)];
        }
        worst_stored_ = std::max(worst_stored_, stored_ratio);
        squares_ += ratio * ratio;
        squares_stored_ += stored_ratio * stored_ratio;
      }
    }
  }

  void expect_nothing(const Case& c, Index i, const Matrix<T>& out, const Matrix<T>& lse, double sink) {
    ++compared_;
    const double off = std::abs(static_cast<double>(lse(i, 0)) - sink);
    const bool right = out.row(i).isZero(T(0)) &&
                       (static_cast<double>(lse(i, 0)) == sink ||
                        off <= 4 * static_cast<double>(std::numeric_limits<T>::epsilon()) * std::abs(sink));
    if (!right && failures_++ < 10)
      ADD_FAILURE() << name_ << ": row " << i << " sees nothing, its log-sum-exp is " << lse(i, 0) << "; "
                    << c.text();
  }

  const char* name_;
  heed::Workspace workspace_;
  double worst_ = 0, worst_lse_ = 0, worst_stored_ = 0, slack_ = 0, squares_ = 0, squares_stored_ = 0;
  int cases_ = 0, failures_ = 0;
  long compared_ = 0;
};

/// Cases of a sweep; the machine under sanitizers takes a fifth.
inline constexpr Index sweep(Index cases) { return small ? (cases + 4) / 5 : cases; }

}  // namespace heed_test

#endif
