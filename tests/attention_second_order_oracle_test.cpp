// SPDX-License-Identifier: MIT
// attention_jvp() and attention_double_backward() against the plain loops on dual numbers in a wider type,
// which know nothing of their formulas.
#include "oracle.hpp"

#include <heed/heed.hpp>

namespace {

using namespace heed_test;

/// Errors are measured in units of u times the greatest element, or what so many rows of ordinary numbers
/// come to (with a single key most derivatives are 0).
template <class T>
class SecondOracle {
 public:
  explicit SecondOracle(const char* name) : name_(name) {}
  ~SecondOracle() {
    std::printf("%s, %s, %s: worst error in u of the greatest element: output %.1f, gradients %.1f\n", name_,
                sizeof(T) == 4 ? "float" : "double", heed::name(heed::instruction_set()), worst_[0],
                worst_[1]);
    EXPECT_GT(compared_, 0);
  }

  /// `direction`: what forward mode gets beside the spec.
  template <class Spec, class... Direction>
  void check(const Case& c, const Spec& still_spec, bool with_lse, const Direction&... direction) {
    const auto spec = heed::spec(still_spec, direction...);
    using Wide = typename WiderOf<T>::type;
    const Inputs<T> in(c);
    Dice dice(c.seed + 9);
    const Index columns = c.heads * c.d_v;
    const Matrix<T> uq_values = dice.matrix<T>(c.n, in.q.cols()),
                    uk_values = dice.matrix<T>(c.m, in.k.cols()),
                    uv_values = dice.matrix<T>(c.m, in.v.cols()), dout_values = dice.matrix<T>(c.n, columns),
                    dlse = with_lse ? dice.matrix<T>(c.n, c.heads) : Matrix<T>(Matrix<T>::Zero(c.n, c.heads));
    const Guarded<T> q(in.q, c.q), k(in.k, c.k), v(in.v, c.v), uq(uq_values, c.k), uk(uk_values, c.v),
        uv(uv_values, c.out), dout(dout_values, c.out);
    const auto got = heed::attention_jvp(q.view(), k.view(), v.view(), uq.view(), uk.view(), uv.view(), spec);
    heed::Saved<T> saved;
    const Matrix<T> out = heed::attention(q.view(), k.view(), v.view(), still_spec, heed::save(saved));
    const auto twice =
        heed::attention_double_backward(dout.view(), q.view(), k.view(), v.view(), out, saved, uq.view(),
                                        uk.view(), uv.view(), spec, heed::lse_gradient(dlse));

    const auto wide = [](const Matrix<T>& m) { return Matrix<Wide>(m.template cast<Wide>()); };
    const auto exact = heed::attention_jvp(wide(in.q), wide(in.k), wide(in.v), wide(uq_values),
                                           wide(uk_values), wide(uv_values), spec);
    using Dual = heed::dual<Wide>;
    const heed::Shape shape = heed::detail::make_shape(spec, in.q.rows(), in.q.cols(), in.k.rows(),
                                                       in.k.cols(), in.v.rows(), in.v.cols());
    const auto moving = [](const Matrix<T>& x, const Matrix<T>& way) {
      return [&x, &way](Index i, Index j) {
        return Dual(static_cast<Wide>(x(i, j)), static_cast<Wide>(way(i, j)));
      };
    };
    const auto still = [](const Matrix<T>& x) {
      return [&x](Index i, Index j) { return Dual(static_cast<Wide>(x(i, j))); };
    };
    const auto wq = moving(in.q, uq_values), wk = moving(in.k, uk_values), wv = moving(in.v, uv_values);
    const auto wd = still(dout_values), wl = still(dlse);
    Eigen::Matrix<Dual, -1, -1> gq(c.n, in.q.cols()), gk(c.m, in.k.cols()), gv(c.m, in.v.cols());
    heed::detail::reference_backward<false, Dual>(spec, shape, wd, wq, wk, wv, &wl, gq, gk, gv,
                                                  heed::detail::Nothing());
    const auto tangents = [](const auto& m) {
      Matrix<Wide> t(m.rows(), m.cols());
      for (Index i = 0; i < m.rows(); ++i)
        for (Index j = 0; j < m.cols(); ++j) t(i, j) = m(i, j).tangent[0];
      return t;
    };
    compare(c, "out", 0, got.out, exact.out);
    compare(c, "out_tangent", 0, got.out_tangent, exact.out_tangent);
    compare(c, "lse_tangent", 0, got.lse_tangent, exact.lse_tangent);
    compare(c, "by dout", 0, twice.dout, exact.out_tangent);
    compare(c, "by lse_gradient", 0, twice.lse_gradient, exact.lse_tangent);
    compare(c, "by q", 1, twice.q, tangents(gq));
    compare(c, "by k", 1, twice.k, tangents(gk));
    compare(c, "by v", 1, twice.v, tangents(gv));
    for (Index i = 0; i < got.lse.size(); ++i)
      EXPECT_TRUE(got.lse.data()[i] == saved.lse.data()[i] ||
                  std::abs(got.lse.data()[i] - saved.lse.data()[i]) <=
                      1000 * u * std::max<T>(1, std::abs(saved.lse.data()[i])))
          << c.text();
  }

 private:
  static constexpr T u = std::numeric_limits<T>::epsilon() / 2;

  template <class A, class B>
  void compare(const Case& c, const char* which, int kind, const A& got, const B& exact) {
    using Wide = typename B::Scalar;
    Wide most = std::sqrt(static_cast<Wide>(c.n * c.heads + 1));
    for (Index i = 0; i < exact.size(); ++i) most = std::max<Wide>(most, std::abs(exact.data()[i]));
    const double bar = 100;
    for (Index i = 0; i < exact.rows(); ++i)
      for (Index j = 0; j < exact.cols(); ++j) {
        const Wide off = std::abs(static_cast<Wide>(got(i, j)) - exact(i, j));
        const double ratio = off == 0 ? 0 : static_cast<double>(off / (most * u));
        ++compared_;
        if (!(ratio <= bar) && failures_++ < 5)
          ADD_FAILURE() << name_ << ": " << which << "(" << i << ", " << j << ") is " << got(i, j)
                        << ", exactly " << static_cast<double>(exact(i, j)) << ", " << ratio
                        << " u of the greatest; " << c.text();
        worst_[kind] = std::max(worst_[kind], ratio);
      }
  }

  const char* name_;
  double worst_[2] = {0, 0};
  int failures_ = 0;
  long compared_ = 0;
};

template <class T>
Case moderate(std::uint64_t family, Index t) {
  Case c = draw_case<T>(family, t);
  if (c.scores == Scores::wide || c.scores == Scores::rising) c.scores = Scores::ordinary;
  return c;
}

template <class T>
void plain() {
  SecondOracle<T> oracle("second order");
  for (Index t = 0; t < sweep(90); ++t) {
    const Case c = moderate<T>(101, t);
    oracle.check(c, heed::spec(heed::heads(c.heads, c.key_heads)), t % 2 == 0);
  }
}

/// Everything that enters the formulas at once: a mask, terms with a second derivative, a bias with a
/// direction, a sink, dropout.
template <class T>
void everything() {
  SecondOracle<T> oracle("second order, everything");
  Dice dice(102);
  for (Index t = 0; t < sweep(90); ++t) {
    const Case c = moderate<T>(103, t);
    const Matrix<T> b = dice.matrix<T>(c.n, c.m), moves = dice.matrix<T>(t % 3 == 0 ? 1 : c.n, c.m);
    oracle.check(c,
                 heed::spec(heed::heads(c.heads, c.key_heads), heed::when(t % 2 == 0, heed::causal()),
                            heed::when(t % 5 < 3, heed::softcap(2.5)), heed::bias(b), heed::sink(0.5),
                            heed::dropout(t % 4 == 0 ? 0.3 : 0, c.seed)),
                 t % 2 == 0, heed::bias_tangent(moves));
  }
}

TEST(AttentionSecondOrder, FloatPlain) { plain<float>(); }
TEST(AttentionSecondOrder, DoublePlain) { plain<double>(); }
TEST(AttentionSecondOrder, FloatEverything) { everything<float>(); }
TEST(AttentionSecondOrder, DoubleEverything) { everything<double>(); }

}  // namespace
