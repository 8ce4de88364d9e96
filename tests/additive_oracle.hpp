// SPDX-License-Identifier: MIT
// Holds additive attention and its gradients against plain loops in the next wider type. With u the unit
// roundoff, W = |scale| Σ|w| and n the keys that a row sees:
//
//   scores      r = 1 / (1 + EF) carries 2 u of each exponential, 2 u of product and sum and 4 u of the reciprocal,
//   so
//               t = 1 - 2 r is off by 10 u at most; partial sums never exceed W, so adding up A of them costs
//               5 √A u W, and rounding factor and weights 2 u W:  δ = (12 + 5 √A) u W + u (2 max|s| + 2)
//   output      (2 δ + (7 + 5 √n) u) Σ_j p_j |v_j|, as for dot products
//   gradients   with w = 2 δ + (7 + 5 √n) u and the error e_ij of ds_ij as in gradient_oracle.hpp, each 1 -
//   t²
//               off by 20 u and N or M of them added up:
//                 dq, dk   Σ |scale w_a| (e (1 - t²) + |ds| (20 u + (w + 5 √N u)(1 - t²)))
//                 dw       Σ |scale| (e + |ds| (10 u + w + 5 √(N·M, at most 6144) u))
//
// Terms multiply δ by their slope.
#ifndef HEED_TESTS_ADDITIVE_ORACLE_HPP
#define HEED_TESTS_ADDITIVE_ORACLE_HPP

#include "oracle.hpp"

#include <heed/attention_backward.hpp>
#include <heed/score/additive.hpp>

namespace heed_test {

template <class T>
class AdditiveOracle {
 public:
  explicit AdditiveOracle(const char* name) : name_(name) {}
  ~AdditiveOracle() {
    std::printf(
        "%s, %s, %s: %d cases, worst ratio to the bound: out %.3f, dq %.3f, dk %.3f, dv %.3f, dw %.3f\n",
        name_, sizeof(T) == 4 ? "float" : "double", heed::name(heed::instruction_set()), cases_, worst_[0],
        worst_[1], worst_[2], worst_[3], worst_[4]);
    EXPECT_GT(compared_, 0) << name_ << ": nothing was compared";
  }
  AdditiveOracle(const AdditiveOracle&) = delete;
  AdditiveOracle& operator=(const AdditiveOracle&) = delete;

  /// Weights for all heads of a case, or for each.
  static Eigen::Matrix<T, Eigen::Dynamic, 1> weights(const Case& c, bool of_each_head) {
    Dice dice(c.seed + 9);
    return dice.matrix<T>((of_each_head ? c.heads : 1) * c.d, 1, 2 / std::sqrt(static_cast<double>(c.d)));
  }

  template <class Spec>
  void forward(const Case& c, const Spec& spec) {
    run<false>(c, spec);
  }
  template <class Spec>
  void backward(const Case& c, const Spec& spec) {
    run<true>(c, spec);
  }

 private:
  using Wide = typename WiderOf<T>::type;
  static constexpr double u = std::numeric_limits<T>::epsilon() / 2;

  template <bool differentiates, class Spec>
  void run(const Case& c, const Spec& spec) {
    ++cases_;
    const Inputs<T> in(c);
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
    heed::detail::reference_forward<Wide>(spec, shape, wq, wk, wv, exact,
                                          static_cast<Matrix<Wide>*>(nullptr));
    Dice dice(c.seed + 5);
    const Matrix<T> dout_values = dice.matrix<T>(shape.queries, shape.heads * shape.d_v);

    Bounds bounds(shape);
    for (Index s = 0; s < shape.sequences; ++s)
      for (Index h = 0; h < shape.heads; ++h)
        add_bounds<differentiates>(shape, shape.place(s, h), spec, in, dout_values, bounds);
    compare(c, 0, out.view(), exact, bounds.out);
    if constexpr (differentiates) {
      const Guarded<T> dout(dout_values, c.out);
      Guarded<T> dq(shape.queries, in.q.cols(), c.k), dk(shape.keys, in.k.cols(), c.q),
          dv(shape.keys, in.v.cols(), c.out), dw(shape.heads, shape.d, c.v);
      heed::attention_backward(dout.view(), q.view(), k.view(), v.view(), out.view(), saved, spec,
                               heed::into(dq.view(), dk.view(), dv.view()), heed::score_gradient(dw.view()),
                               heed::use(workspace_));
      if (!dq.intact() || !dk.intact() || !dv.intact() || !dw.intact())
        ADD_FAILURE() << name_ << ": wrote beside the gradients, " << c.text();
      const RowMatrix<Wide> wd = dout_values.template cast<Wide>();
      Matrix<Wide> eq = Matrix<Wide>::Zero(wq.rows(), wq.cols()),
                   ek = Matrix<Wide>::Zero(wk.rows(), wk.cols()),
                   ev = Matrix<Wide>::Zero(wv.rows(), wv.cols()),
                   ew = Matrix<Wide>::Zero(shape.heads, shape.d);
      heed::detail::reference_backward<false, Wide>(
          spec, shape, wd, wq, wk, wv, static_cast<const Matrix<Wide>*>(nullptr), eq, ek, ev,
          heed::detail::Nothing(), {}, {}, [&](Index head, Index a, const Wide& x) { ew(head, a) += x; });
      compare(c, 1, dq.view(), eq, bounds.dq);
      compare(c, 2, dk.view(), ek, bounds.dk);
      compare(c, 3, dv.view(), ev, bounds.dv);
      compare(c, 4, dw.view(), ew, bounds.dw);
    }
  }

  struct Bounds {
    Matrix<double> out, dq, dk, dv, dw;
    explicit Bounds(const heed::Shape& s)
        : out(Matrix<double>::Zero(s.queries, s.heads * s.d_v)),
          dq(Matrix<double>::Zero(s.queries, s.heads * s.d)),
          dk(Matrix<double>::Zero(s.keys, s.key_heads * s.d)),
          dv(Matrix<double>::Zero(s.keys, s.key_heads * s.d_v)),
          dw(Matrix<double>::Zero(s.heads, s.d)) {}
  };

  template <class Exact>
  void compare(const Case& c, int which, const Matrix<T>& got, const Exact& exact,
               const Matrix<double>& bound) {
    static const char* const names[] = {"out", "dq", "dk", "dv", "dw"};
    for (Index i = 0; i < got.rows(); ++i)
      for (Index j = 0; j < got.cols(); ++j) {
        const double off = static_cast<double>(std::abs(static_cast<Wide>(got(i, j)) - exact(i, j)));
        const double ratio = off == 0 ? 0 : off / bound(i, j);
        ++compared_;
        if (!(ratio <= 1) && failures_++ < 10)
          ADD_FAILURE() << name_ << ": " << names[which] << "(" << i << ", " << j << ") is " << got(i, j)
                        << ", exactly " << static_cast<double>(exact(i, j)) << ", ratio " << ratio << "; "
                        << c.text();
        worst_[which] = std::max(worst_[which], ratio);
      }
  }

  template <bool differentiates, class Spec>
  static void add_bounds(const heed::Shape& shape, const heed::Place& place, const Spec& spec,
                         const Inputs<T>& in, const Matrix<T>& dout, Bounds& bounds) {
    const Index n = place.queries, m = place.keys, d = shape.d, d_v = shape.d_v;
    const Index key_head = place.head / (shape.heads / shape.key_heads);
    const Index qh = place.head * d, oh = place.head * d_v, kh = key_head * d, vh = key_head * d_v;
    const double scale = spec.template scale<double>(d);
    const auto rules = spec.template bind<double>(place);
    const auto w = spec.template find<heed::score_tag>()->weights(place.head, d);
    double size = 0;
    for (Index a = 0; a < d; ++a) size += std::abs(scale * w.template at<double>(a));
    const double adding_up = 5 * std::sqrt(static_cast<double>(std::max(n, m))) * u;
    const double adding_all = 5 * std::sqrt(static_cast<double>(std::min<Index>(n * m, 6144))) * u;
    const double sums_v = 5 * std::sqrt(static_cast<double>(d_v)) * u;
    std::vector<double> p(static_cast<std::size_t>(m)), slope(p), dp(p), dp_size(p), factor(p);
    const auto of = [](std::vector<double>& x, Index j) -> double& { return x[static_cast<std::size_t>(j)]; };
    for (Index i = 0; i < n; ++i) {
      const Index row = place.query_begin + i;
      const auto position = static_cast<heed::Position>(i);
      double top = spec.template sink<double>(place.head), most = 0, steepest = 0;
      Index seen = 0;
      for (Index j = 0; j < m; ++j) {
        of(p, j) = -std::numeric_limits<double>::infinity();
        const auto column = static_cast<heed::Position>(j);
        if (!rules.visible(position, column)) continue;
        const double s = heed::detail::reference_score(spec, shape, place.head, scale, in.q, row, in.k,
                                                       place.key_begin + j);
        const heed::dual<double> y = rules.score(heed::dual<double>(s, 1.0), position, column);
        if (std::isinf(y.value)) continue;
        of(p, j) = y.value;
        of(slope, j) = std::abs(y.tangent[0]);
        of(factor, j) = 1;
        if constexpr (std::remove_cvref_t<decltype(rules)>::drops)
          of(factor, j) = rules.dropped.template factor<double>(position, column);
        most = std::max({most, std::abs(s), std::abs(y.value)});
        steepest = std::max(steepest, of(slope, j));
        top = std::max(top, y.value);
        ++seen;
      }
      if (seen == 0) continue;
      double sum = std::exp(spec.template sink<double>(place.head) - top);
      for (Index j = 0; j < m; ++j) sum += of(p, j) = std::exp(of(p, j) - top);
      const double delta = (12 + 5 * std::sqrt(static_cast<double>(d))) * u * size * std::max(1.0, steepest) +
                           u * (2 * most + 2);
      const double width = 2 * delta + (7 + 5 * std::sqrt(static_cast<double>(seen))) * u;
      double mean = 0, mix = 0;
      for (Index j = 0; j < m; ++j) {
        if (of(p, j) == 0) continue;
        of(p, j) /= sum;
        of(dp, j) = of(dp_size, j) = 0;
        for (Index x = 0; x < d_v; ++x) {
          const double value = static_cast<double>(in.v(place.key_begin + j, vh + x)),
                       g = static_cast<double>(dout(row, oh + x));
          bounds.out(row, oh + x) += width * of(p, j) * of(factor, j) * std::abs(value);
          bounds.dv(place.key_begin + j, vh + x) +=
              (width + adding_up) * of(p, j) * of(factor, j) * std::abs(g) +
              std::numeric_limits<T>::min() * std::abs(g);
          of(dp, j) += of(factor, j) * g * value;
          of(dp_size, j) += of(factor, j) * std::abs(g * value);
        }
        mean += of(p, j) * of(dp, j);
        mix += of(p, j) * of(dp_size, j);
      }
      if constexpr (differentiates)
        for (Index j = 0; j < m; ++j) {
          if (of(p, j) == 0) continue;
          const double x = std::max<double>(of(p, j), std::numeric_limits<T>::min() / width);
          const double gap = std::abs(of(dp, j) - mean), g = of(slope, j);
          const double ds = x * gap * g;
          const double e = x * (width * (gap + mix) + sums_v * (of(dp_size, j) + mix)) * g + width * ds +
                           (Spec::has_terms ? 16 * u * x * (gap + mix) : 0);
          for (Index a = 0; a < d; ++a) {
            const double t = std::tanh(static_cast<double>(in.q(row, qh + a)) +
                                       static_cast<double>(in.k(place.key_begin + j, kh + a)));
            const double h = 1 - t * t;
            const double b = std::abs(scale * w.template at<double>(a)) *
                             (e * (h + 20 * u) + ds * (20 * u + (width + adding_up) * h));
            bounds.dq(row, qh + a) += b;
            bounds.dk(place.key_begin + j, kh + a) += b;
            bounds.dw(place.head, a) += std::abs(scale) * (e + ds * (10 * u + width + adding_all));
          }
        }
    }
  }

  const char* name_;
  heed::Workspace workspace_;
  double worst_[5] = {0, 0, 0, 0, 0};
  int cases_ = 0, failures_ = 0;
  long compared_ = 0;
};

}  // namespace heed_test

#endif
