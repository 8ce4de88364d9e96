// SPDX-License-Identifier: MIT
// Holds selections that need whole rows against their definitions in the next wider type, forward and
// backward. With δ the error of a score (oracle.hpp), g_j the derivative of a weight by its score, taken 4δ
// further up and with 4δ on top, n the keys that the row sees and w = 2δ + (7 + 5√n)u:
//
//     |out - exact| <= Σ_j (2δ g_j + (7 + 5√n)u p_j)|v_j|
//     dV: Σ_i (2δ g_ij + (7 + 5√n)u p_ij)|dO_i|
//     dQ: Σ_j (4w g_ij + b_ij)(|dP_ij| + |D_i| + |dO_i||v_j|)|k_j|, dK likewise
//
// where b_ij is by how much g_ij changes between scores 4δ below and above. Terms here have slopes of at
// most 1. A row whose choice hangs on less than the error of its scores is given no weight: its output is not
// looked at, its incoming gradient is 0. (Equal scores are no such case: the first wins.)
#ifndef HEED_TESTS_SELECTION_ORACLE_HPP
#define HEED_TESTS_SELECTION_ORACLE_HPP

#include "batches.hpp"
#include "oracle.hpp"

#include <heed/attention_backward.hpp>
#include <heed/core/when.hpp>
#include <heed/mask/causal.hpp>
#include <heed/position/alibi.hpp>

namespace heed_test {

template <class T>
class SelectionOracle {
  using Wide = typename WiderOf<T>::type;
  static constexpr double u = std::numeric_limits<T>::epsilon() / 2;

 public:
  explicit SelectionOracle(const char* name) : name_(name) {}
  ~SelectionOracle() {
    std::printf(
        "%s, %s, %s: %ld rows, %ld too close to call; worst ratio to the bound: %.3f, dq %.3f, dk %.3f, dv "
        "%.3f\n",
        name_, sizeof(T) == 4 ? "float" : "double", heed::name(heed::instruction_set()), rows_, close_,
        worst_[3], worst_[0], worst_[1], worst_[2]);
    EXPECT_GT(rows_, 100) << name_ << ": too little was compared";
    EXPECT_LE(close_, rows_ / 10) << name_ << ": too little was decided";
  }
  SelectionOracle(const SelectionOracle&) = delete;
  SelectionOracle& operator=(const SelectionOracle&) = delete;

  template <class Spec>
  void check(const Case& c, const Spec& spec) {
    const Inputs<T> in(c);
    const heed::Shape shape = heed::detail::make_shape(spec, in.q.rows(), in.q.cols(), in.k.rows(),
                                                       in.k.cols(), in.v.rows(), in.v.cols());
    const RowMatrix<Wide> q = in.q.template cast<Wide>(), k = in.k.template cast<Wide>(),
                          v = in.v.template cast<Wide>();
    Dice dice(c.seed + 5);
    Matrix<T> dout_values = dice.matrix<T>(shape.queries, shape.heads * shape.d_v);
    Sums sums(shape);
    Matrix<double> out_bound = Matrix<double>::Zero(shape.queries, shape.heads * shape.d_v);
    for (Index s = 0; s < shape.sequences; ++s)
      for (Index h = 0; h < shape.heads; ++h)
        for (Index i = 0; i < shape.place(s, h).queries; ++i)
          judge_row(spec, shape, shape.place(s, h), i, q, k, v, dout_values, out_bound, sums);

    const Guarded<T> gq(in.q, c.q), gk(in.k, c.k), gv(in.v, c.v), dout(dout_values, c.out);
    Guarded<T> out(shape.queries, shape.heads * shape.d_v, c.out), dq(shape.queries, in.q.cols(), c.k),
        dk(shape.keys, in.k.cols(), c.q), dv(shape.keys, in.v.cols(), c.v);
    heed::Saved<T> saved;
    heed::attention_into(out.view(), gq.view(), gk.view(), gv.view(), workspace_, spec, heed::save(saved));
    heed::attention_backward(dout.view(), gq.view(), gk.view(), gv.view(), out.view(), saved, spec,
                             heed::into(dq.view(), dk.view(), dv.view()), heed::use(workspace_));
    if (!out.intact() || !dq.intact() || !dk.intact() || !dv.intact())
      ADD_FAILURE() << name_ << ": wrote beside its results, " << c.text();

    RowMatrix<Wide> exact(shape.queries, shape.heads * shape.d_v);
    Matrix<Wide>* none = nullptr;
    heed::detail::reference_forward<Wide>(spec, shape, q, k, v, exact, none);
    RowMatrix<Wide> eq(q.rows(), q.cols()), ek(k.rows(), k.cols()), ev(v.rows(), v.cols());
    eq.setZero(), ek.setZero(), ev.setZero();
    const RowMatrix<Wide> d = dout_values.template cast<Wide>();
    const auto nothing = [](const heed::Place&, Index, Index, const Wide&) {};
    heed::detail::reference_backward<false, Wide>(spec, shape, d, q, k, v, none, eq, ek, ev, nothing);
    compare(3, "out", c, out.view(), exact, out_bound);
    compare(0, "dq", c, dq.view(), eq, sums.dq);
    compare(1, "dk", c, dk.view(), ek, sums.dk);
    compare(2, "dv", c, dv.view(), ev, sums.dv);
  }

 private:
  struct Sums {
    Matrix<double> dq, dk, dv;
    explicit Sums(const heed::Shape& s)
        : dq(Matrix<double>::Zero(s.queries, s.heads * s.d)),
          dk(Matrix<double>::Zero(s.keys, s.key_heads * s.d)),
          dv(Matrix<double>::Zero(s.keys, s.key_heads * s.d_v)) {}
  };
  using Row = std::vector<heed::detail::Weight<Wide>>;

  template <class Bound>
  static bool too_close(const Bound& bound, const Row& scores, Index i, double delta, double sums) {
    using heed::detail::SelectionKind;
    Row sorted = scores;
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const auto& a, const auto& b) { return a.value > b.value; });
    const auto apart = [&](std::size_t n) {  // is it clear that n scores are greater than the rest?
      if (n == 0 || n >= sorted.size()) return true;
      const double gap = static_cast<double>(sorted[n - 1].value - sorted[n].value);
      return gap == 0 || gap > 4 * delta;
    };
    if constexpr (Bound::kind == SelectionKind::threshold) {
      // Sparsemax's slope jumps from 0 to 1.
      if (bound.alpha() != 2) return false;
      Row row = scores;
      std::vector<Wide> slopes(row.size());
      const double tau = static_cast<double>(heed::detail::threshold_row(bound, row, slopes));
      for (const auto& w : scores)
        if (std::abs(static_cast<double>(w.value) - tau) < 8 * delta) return true;
      return false;
    } else if constexpr (Bound::kind == SelectionKind::rank) {
      if (bound.by_mass && bound.mass == 1) return false;
      if (!bound.by_mass)
        return !apart(static_cast<std::size_t>(std::min<Index>(bound.count, Index(sorted.size()))));
      Row all = sorted;
      heed::detail::softmax_row(all);
      double mass = 0;
      for (std::size_t n = 0; n < all.size(); ++n) {
        mass += static_cast<double>(all[n].value);
        if (std::abs(mass - bound.mass) < 4 * (delta + sums)) return true;
        if (mass > bound.mass) return !apart(n + 1);
      }
      return false;
    } else {
      Row all = scores;
      heed::detail::softmax_row(all);
      for (int n = 0; n < bound.count; ++n) {
        double mass = 0;
        const double x = bound.template uniform<>(static_cast<heed::Position>(i), n);
        for (const auto& w : all) {
          mass += static_cast<double>(w.value);
          if (std::abs(mass - x) < 4 * (delta + sums)) return true;
        }
      }
      return false;
    }
  }

  template <class Spec, class Q>
  void judge_row(const Spec& spec, const heed::Shape& shape, const heed::Place& place, Index i, const Q& q,
                 const Q& k, const Q& v, Matrix<T>& dout, Matrix<double>& out_bound, Sums& sums) {
    const auto rules = spec.template bind<Wide>(place);
    const auto bound = spec.bind_selection(place);
    const Index d = shape.d, d_v = shape.d_v, key_head = place.head / (shape.heads / shape.key_heads);
    const Index token = place.query_begin + i;
    const double scale = std::abs(spec.template scale<double>(d));
    Row row;
    heed::detail::score_row(spec, rules, shape, place, spec.template scale<Wide>(d), i, q, k, row);
    ++rows_;
    if (row.empty()) return;
    const auto key = [&](const auto& w) { return place.key_begin + w.key; };
    const auto q_row = q.row(token).segment(place.head * d, d);
    double most_size = 0, most_score = 0;
    for (const auto& w : row) {
      const auto k_row = k.row(key(w)).segment(key_head * d, d);
      most_size = std::max(most_size, scale * static_cast<double>(q_row.cwiseAbs().dot(k_row.cwiseAbs())));
      most_score = std::max(most_score, std::abs(static_cast<double>(w.value)));
    }
    most_score = std::max(most_score, most_size);
    const double delta = 5 * std::sqrt(static_cast<double>(d)) * u * most_size + u * (2 * most_score + 2);
    const double rounding = (7 + 5 * std::sqrt(static_cast<double>(row.size()))) * u;
    Row scores = row;
    const double sink = spec.template sink<double>(place.head);
    if (sink != -std::numeric_limits<double>::infinity()) scores.push_back({-1, static_cast<Wide>(sink)});
    auto d_row = dout.row(token).segment(place.head * d_v, d_v);
    auto o_bound = out_bound.row(token).segment(place.head * d_v, d_v);
    if (too_close(bound, scores, i, delta, rounding)) {
      ++close_;
      d_row.setZero();
      o_bound.setConstant(std::numeric_limits<double>::infinity());
      return;
    }
    const auto selected = heed::detail::select_row(spec, place, i, row);
    double mean = 0;
    double all_slopes = static_cast<double>(selected.sink_slope);
    std::vector<double> dp(row.size()), slope(row.size()), bend(row.size(), 0.0);
    Wide top = scores[0].value;
    for (const auto& w : scores) top = std::max(top, w.value);
    for (std::size_t n = 0; n < row.size(); ++n) {
      slope[n] = static_cast<double>(selected.slopes[n]);
      if constexpr (std::remove_cvref_t<decltype(bound)>::kind == heed::detail::SelectionKind::threshold) {
        const Wide tau = (selected.summary - top) * static_cast<Wide>(bound.alpha() - 1) + 1;
        const Wide z = scores[n].value - top + static_cast<Wide>(4 * delta);
        slope[n] = std::max(slope[n], static_cast<double>(bound.template at<Wide>(z, tau).slope)) + 4 * delta;
        bend[n] = slope[n] -
                  static_cast<double>(bound.template at<Wide>(z - static_cast<Wide>(8 * delta), tau).slope);
      }
      double z = 1;
      if constexpr (rules.drops)
        z = rules.dropped.template factor<double>(static_cast<heed::Position>(i), row[n].key);
      const auto v_row = v.row(key(row[n])).segment(key_head * d_v, d_v);
      const Wide exact_dp = d_row.template cast<Wide>().dot(v_row);
      dp[n] = z * static_cast<double>(exact_dp);
      mean += static_cast<double>(selected.slopes[n]) * dp[n];
      all_slopes += static_cast<double>(selected.slopes[n]);
    }
    if (all_slopes > 0) mean /= all_slopes;
    for (std::size_t n = 0; n < row.size(); ++n) {
      double z = 1;
      if constexpr (rules.drops)
        z = rules.dropped.template factor<double>(static_cast<heed::Position>(i), row[n].key);
      const auto v_row = v.row(key(row[n])).segment(key_head * d_v, d_v).template cast<double>().cwiseAbs();
      const auto o_row = d_row.template cast<double>().cwiseAbs();
      const bool hard = bound.slopes == heed::detail::Slopes::none;
      const double moves = hard || bound.slopes == heed::detail::Slopes::softmax ? 0 : slope[n];
      const double weight = z * (2 * delta * moves + rounding * static_cast<double>(row[n].value));
      o_bound += weight * v_row;
      sums.dv.row(key(row[n])).segment(key_head * d_v, d_v) += weight * o_row;
      const double ds = (4 * (2 * delta + rounding) * slope[n] + bend[n]) * scale *
                        (std::abs(dp[n]) + std::abs(mean) + z * o_row.dot(v_row));
      sums.dq.row(token).segment(place.head * d, d) +=
          ds * k.row(key(row[n])).segment(key_head * d, d).template cast<double>().cwiseAbs();
      sums.dk.row(key(row[n])).segment(key_head * d, d) += ds * q_row.template cast<double>().cwiseAbs();
    }
  }

  template <class Got, class Exact>
  void compare(int which, const char* what, const Case& c, const Got& got, const Exact& exact,
               const Matrix<double>& bound) {
    for (Index i = 0; i < got.rows(); ++i)
      for (Index j = 0; j < got.cols(); ++j) {
        if (bound(i, j) == std::numeric_limits<double>::infinity()) continue;
        const double off = static_cast<double>(std::abs(static_cast<Wide>(got(i, j)) - exact(i, j)));
        const double ratio = off == 0 ? 0 : off / bound(i, j);
        if (!(ratio <= 1) && failures_++ < 10)
          ADD_FAILURE() << name_ << ": " << what << "(" << i << ", " << j << ") is " << got(i, j)
                        << ", exactly " << static_cast<double>(exact(i, j)) << ", ratio " << ratio << "; "
                        << c.text();
        worst_[which] = std::max(worst_[which], ratio);
      }
  }

  const char* name_;
  heed::Workspace workspace_;
  double worst_[4] = {};
  long rows_ = 0, close_ = 0;
  int failures_ = 0;
};

/// Ragged sequences, heads in groups, half of the time causal, and every fourth with ALiBi.
template <class T, class Make>
void sweep_selection(const char* name, std::uint64_t family, Index cases, const Make& make) {
  SelectionOracle<T> oracle(name);
  for (Index t = 0; t < sweep(cases); ++t) {
    const Batch b = draw_batch<T>(family, t);
    oracle.check(b.c, heed::spec(heed::heads(b.c.heads, b.c.key_heads), heed::sequences(b.q, b.k),
                                 heed::when(t % 2 == 0, heed::causal()),
                                 heed::when(t % 4 == 1, heed::alibi()), make(t)));
  }
}

}  // namespace heed_test

#endif
