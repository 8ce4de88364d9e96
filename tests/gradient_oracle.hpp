// SPDX-License-Identifier: MIT
// Holds attention_backward against plain loops in the next wider type. Without terms of the score, under the
// bound of the documentation, for every element: with u, δ and n as in oracle.hpp, w = 2δ + (7 + 5√n)u, A =
// P|V| and E = P ∘ { w(|dP - D| + |dO|·A) + 5√d_v u (|dO||V|ᵀ + |dO|·A) },
//
//     dV: w Pᵀ|dO|        dQ: |scale| (E|K| + w|dS||K|)        dK: |scale| (E + w|dS|)ᵀ|Q|
//
// With terms E and |dS| are multiplied by the terms' slope, whose own error adds 16u P(|dP - D| + |dO|·A),
// and 256 u of the greatest element are given on top.
#ifndef HEED_TESTS_GRADIENT_ORACLE_HPP
#define HEED_TESTS_GRADIENT_ORACLE_HPP

#include "oracle.hpp"

#include <heed/attention_backward.hpp>

namespace heed_test {

template <class T>
class GradientOracle {
 public:
  explicit GradientOracle(const char* name) : name_(name) {}
  ~GradientOracle() {
    std::printf("%s, %s, %s: %d cases, worst ratio to the bound: dq %.3f, dk %.3f, dv %.3f\n", name_,
                sizeof(T) == 4 ? "float" : "double", heed::name(heed::instruction_set()), cases_, worst_[0],
                worst_[1], worst_[2]);
    EXPECT_GT(compared_, 0) << name_ << ": nothing was compared";
  }
  GradientOracle(const GradientOracle&) = delete;
  GradientOracle& operator=(const GradientOracle&) = delete;

  template <class Spec>
  void check(const Case& c, const Spec& spec, bool with_lse = false) {
    using Wide = typename WiderOf<T>::type;
    ++cases_;
    const Inputs<T> in(c);
    const heed::Shape shape = heed::detail::make_shape(spec, in.q.rows(), in.q.cols(), in.k.rows(),
                                                       in.k.cols(), in.v.rows(), in.v.cols());
    Dice dice(c.seed + 5);
    const Matrix<T> dout_values = dice.matrix<T>(shape.queries, shape.heads * shape.d_v);
    const Matrix<T> dlse = with_lse ? dice.matrix<T>(shape.queries, shape.heads)
                                    : Matrix<T>(Matrix<T>::Zero(shape.queries, shape.heads));
    const Guarded<T> q(in.q, c.q), k(in.k, c.k), v(in.v, c.v), dout(dout_values, c.out);
    Guarded<T> out(shape.queries, shape.heads * shape.d_v, c.v), dq(shape.queries, in.q.cols(), c.k),
        dk(shape.keys, in.k.cols(), c.q), dv(shape.keys, in.v.cols(), c.out);
    heed::Saved<T> saved;
    heed::attention_into(out.view(), q.view(), k.view(), v.view(), workspace_, spec, heed::save(saved));
    const auto run = [&](const auto&... more) {
      heed::attention_backward(dout.view(), q.view(), k.view(), v.view(), out.view(), saved, spec,
                               heed::into(dq.view(), dk.view(), dv.view()), heed::use(workspace_), more...);
    };
    if (with_lse)
      run(heed::lse_gradient(dlse));
    else
      run();
    if (!dq.intact() || !dk.intact() || !dv.intact())
      ADD_FAILURE() << name_ << ": wrote beside the gradients, " << c.text();

    const RowMatrix<Wide> wq = in.q.template cast<Wide>(), wk = in.k.template cast<Wide>(),
                          wv = in.v.template cast<Wide>(), wd = dout_values.template cast<Wide>();
    const Matrix<Wide> wl = dlse.template cast<Wide>();
    Matrix<Wide> eq(wq.rows(), wq.cols()), ek(wk.rows(), wk.cols()), ev(wv.rows(), wv.cols());
    eq.setZero();
    ek.setZero();
    ev.setZero();
    const auto nothing = [](const heed::Place&, Index, Index, const Wide&) {};
    heed::detail::reference_backward<false, Wide>(spec, shape, wd, wq, wk, wv, &wl, eq, ek, ev, nothing);

    const Matrix<T> got[3] = {dq.view(), dk.view(), dv.view()};
    const Matrix<Wide> exact[3] = {eq, ek, ev};
    Matrix<double> bound[3] = {Matrix<double>::Zero(eq.rows(), eq.cols()),
                               Matrix<double>::Zero(ek.rows(), ek.cols()),
                               Matrix<double>::Zero(ev.rows(), ev.cols())};
    for (Index s = 0; s < shape.sequences; ++s)
      for (Index h = 0; h < shape.heads; ++h)
        add_bounds(shape, shape.place(s, h), spec, in, dout_values, dlse, bound);
    if constexpr (Spec::has_terms)
      for (int g = 0; g < 3; ++g) {
        const Wide most = exact[g].size() == 0 ? Wide(0) : exact[g].cwiseAbs().maxCoeff();
        bound[g] = bound[g].cwiseMax(static_cast<double>(most) * 256 * u);
      }
    for (int g = 0; g < 3; ++g)
      for (Index i = 0; i < got[g].rows(); ++i)
        for (Index j = 0; j < got[g].cols(); ++j) {
          const double off = static_cast<double>(std::abs(static_cast<Wide>(got[g](i, j)) - exact[g](i, j)));
          const double ratio = off == 0 ? 0 : off / bound[g](i, j);
          ++compared_;
          if (!(ratio <= 1) && failures_++ < 10)
            ADD_FAILURE() << name_ << ": d"
                          << "qkv"[g] << "(" << i << ", " << j << ") is " << got[g](i, j) << ", exactly "
                          << static_cast<double>(exact[g](i, j)) << ", ratio " << ratio << "; " << c.text();
          worst_[g] = std::max(worst_[g], ratio);
        }
  }

 private:
  static constexpr double u = std::numeric_limits<T>::epsilon() / 2;

  template <class Spec>
  static void add_bounds(const heed::Shape& shape, const heed::Place& place, const Spec& spec,
                         const Inputs<T>& in, const Matrix<T>& dout_values, const Matrix<T>& dlse,
                         Matrix<double> (&bound)[3]) {
    const Index n = place.queries, m = place.keys, d = shape.d, d_v = shape.d_v;
    const Index qh = place.head * d, oh = place.head * d_v, group = shape.heads / shape.key_heads;
    const Index kh = place.head / group * d, vh = place.head / group * d_v;
    if (n == 0 || m == 0) return;
    const double scale = std::abs(spec.template scale<double>(d)), sign = spec.template scale<double>(d);
    const auto rules = spec.template bind<double>(place);
    const Matrix<double> q = in.q.block(place.query_begin, qh, n, d).template cast<double>(),
                         k = in.k.block(place.key_begin, kh, m, d).template cast<double>(),
                         v = in.v.block(place.key_begin, vh, m, d_v).template cast<double>(),
                         o = dout_values.block(place.query_begin, oh, n, d_v).template cast<double>();
    const Matrix<double> s = sign * product(q, k.transpose());
    Matrix<double> dp = product(o, v.transpose());
    const Matrix<double> size = scale * product(q.cwiseAbs().eval(), k.cwiseAbs().transpose().eval());
    Matrix<double> dp_size = product(o.cwiseAbs().eval(), v.cwiseAbs().transpose().eval());
    double kept = 1;
    if constexpr (std::remove_cvref_t<decltype(rules)>::drops) {
      kept = rules.dropped.kept;
      dp_size *= kept;
      for (Index i = 0; i < n; ++i)
        for (Index j = 0; j < m; ++j)
          dp(i, j) *= rules.dropped.template factor<double>(static_cast<heed::Position>(i),
                                                            static_cast<heed::Position>(j));
    }
    const double sums_v = 5 * std::sqrt(static_cast<double>(d_v)) * u;
    for (Index i = 0; i < n; ++i) {
      std::vector<double> p(static_cast<std::size_t>(m), 0.0), slope(p);
      double top = -std::numeric_limits<double>::infinity(), most_size = 0, most_score = 0;
      Index seen = 0;
      for (Index j = 0; j < m; ++j) {
        const auto row = static_cast<heed::Position>(i), column = static_cast<heed::Position>(j);
        double& x = p[static_cast<std::size_t>(j)];
        x = -std::numeric_limits<double>::infinity();
        if (!rules.visible(row, column)) continue;
        const heed::dual<double> y = rules.score(heed::dual<double>(s(i, j), 1.0), row, column);
        x = y.value;
        if (std::isinf(x)) continue;
        slope[static_cast<std::size_t>(j)] = std::abs(y.tangent[0]);
        most_size = std::max(most_size, size(i, j));
        most_score = std::max({most_score, std::abs(x), std::abs(s(i, j))});
        top = std::max(top, x);
        ++seen;
      }
      if (seen == 0) continue;
      const double sink = spec.template sink<double>(place.head);
      top = std::max(top, sink);
      double sum = std::exp(sink - top), mean = 0, mix = 0;
      for (Index j = 0; j < m; ++j)
        sum += p[static_cast<std::size_t>(j)] = std::exp(p[static_cast<std::size_t>(j)] - top);
      for (Index j = 0; j < m; ++j) {
        double& x = p[static_cast<std::size_t>(j)];
        x /= sum;
        mean += x * dp(i, j);
        mix += x * dp_size(i, j);  // |dO| · A
      }
      const double delta = 5 * std::sqrt(static_cast<double>(d)) * u * most_size + u * (2 * most_score + 2);
      const double w = 2 * delta + (7 + 5 * std::sqrt(static_cast<double>(seen))) * u;
      const double dl = static_cast<double>(dlse(place.query_begin + i, place.head));
      for (Index j = 0; j < m; ++j) {
        // Weights below the smallest normal number are 0.
        const double p_ij = p[static_cast<std::size_t>(j)], g = slope[static_cast<std::size_t>(j)];
        const double x = g == 0 ? p_ij : std::max<double>(p_ij, std::numeric_limits<T>::min() / w);
        const double gap = std::abs(dp(i, j) - mean + dl);
        const double e = x * (w * (gap + mix) + sums_v * (dp_size(i, j) + mix) + u * std::abs(dl)) * g +
                         w * x * gap * g +
                         (Spec::has_terms ? 16 * u * x * (gap + mix) : 0);  // tanh' = 1 - tanh² near 0
        bound[2].row(place.key_begin + j).segment(vh, d_v) += w * x * kept * o.row(i).cwiseAbs();
        bound[0].row(place.query_begin + i).segment(qh, d) += scale * e * k.row(j).cwiseAbs();
        bound[1].row(place.key_begin + j).segment(kh, d) += scale * e * q.row(i).cwiseAbs();
      }
    }
  }

  const char* name_;
  heed::Workspace workspace_;
  double worst_[3] = {0, 0, 0};
  int cases_ = 0, failures_ = 0;
  long compared_ = 0;
};

}  // namespace heed_test

#endif
