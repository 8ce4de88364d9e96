// SPDX-License-Identifier: MIT
// weight_with, local_p and adaptive_span: worked numbers, plain loops, central differences.
#include "oracle.hpp"

#include <heed/attention_backward.hpp>
#include <heed/attention_weights.hpp>
#include <heed/functions.hpp>
#include <heed/mask/causal.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/dropout.hpp>
#include <heed/select/entmax.hpp>
#include <heed/select/local.hpp>
#include <heed/select/sink.hpp>
#include <heed/select/sparsemax.hpp>
#include <heed/select/weight_with.hpp>

namespace {

using namespace heed_test;

/// make(x) is a spec with x, N × H, as the numbers of its rows. Gradients against central differences and,
/// with the output, against plain loops.
template <bool has_numbers, class Make>
void check(const char* name, Index n, Index m, Index heads, const Make& make) {
  SCOPED_TRACE(name);
  Dice dice(static_cast<std::uint64_t>(n + m));
  const Index d = 4, d_v = 3;
  Matrix<double> q = dice.matrix<double>(n, heads * d), k = dice.matrix<double>(m, heads * d),
                 v = dice.matrix<double>(m, heads * d_v), x(n, heads);
  const Matrix<double> dout = dice.matrix<double>(n, heads * d_v);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<double>(m) * dice.uniform();
  const auto spec = heed::spec(make(x), heed::heads(heads));
  heed::Saved<double> saved;
  const Matrix<double> out = heed::attention(q, k, v, spec, heed::save(saved));
  Matrix<double> dq(n, heads * d), dk(m, heads * d), dv(m, heads * d_v), dx = Matrix<double>::Zero(n, heads);
  const auto into = heed::into(dq, dk, dv);
  if constexpr (has_numbers)
    heed::attention_backward(dout, q, k, v, out, saved, spec, into, heed::weight_parameter_gradient(dx));
  else
    heed::attention_backward(dout, q, k, v, out, saved, spec, into);
  const auto differentiate = [&](Matrix<double>& at, const Matrix<double>& got, const char* what) {
    for (Index i = 0; i < at.size(); ++i) {
      const double here = at.data()[i], h = 1e-6;
      at.data()[i] = here + h;
      const double above = heed::attention(q, k, v, make(x), heed::heads(heads)).cwiseProduct(dout).sum();
      at.data()[i] = here - h;
      const double below = heed::attention(q, k, v, make(x), heed::heads(heads)).cwiseProduct(dout).sum();
      at.data()[i] = here;
      EXPECT_NEAR(got.data()[i], (above - below) / (2 * h), 1e-7) << what << " " << i;
    }
  };
  differentiate(q, dq, "dq");
  differentiate(k, dk, "dk");
  differentiate(v, dv, "dv");
  if (has_numbers) differentiate(x, dx, "dx");

  using Wide = long double;
  const Matrix<Wide> wq = q.cast<Wide>(), wk = k.cast<Wide>(), wv = v.cast<Wide>(), wd = dout.cast<Wide>();
  heed::Saved<Wide> wide_saved;
  const Matrix<Wide> wide = heed::attention(wq, wk, wv, spec, heed::save(wide_saved));
  const auto exact = heed::attention_backward(wd, wq, wk, wv, wide, wide_saved, spec);
  EXPECT_LT((out.cast<Wide>() - wide).cwiseAbs().maxCoeff(), 1e-12L);
  EXPECT_LT((dq.cast<Wide>() - exact.dq).cwiseAbs().maxCoeff(), 1e-12L);
  EXPECT_LT((dk.cast<Wide>() - exact.dk).cwiseAbs().maxCoeff(), 1e-12L);
  EXPECT_LT((dv.cast<Wide>() - exact.dv).cwiseAbs().maxCoeff(), 1e-12L);
}

const auto square = [](auto w, auto, auto) { return w * w + 0.01 * w; };
const auto lift = [](auto w, auto i, auto j) { return w * 2.0 + 0.1 * double(i - j); };
const auto bend = [](auto w, auto x, auto, auto j) { return w * heed::exp(-x * 0.1) + x * double(j) * 0.01; };

TEST(WeightWith, Gradients) {
  const Index sizes[][2] = {{9, 13}, {40, 30}, {1, 5}};
  for (const auto& s : sizes) {
    check<false>("square", s[0], s[1], 1, [](Matrix<double>&) { return heed::weight_with(square); });
    // A weight of 0 becomes something else.
    check<false>("lift", s[0], s[1], 2, [](Matrix<double>&) {
      return heed::spec(heed::weight_with(lift), heed::sparsemax(), heed::causal());
    });
    check<false>("everything", s[0], s[1], 1, [](Matrix<double>&) {
      return heed::spec(heed::weight_with(square), heed::entmax15(), heed::dropout(0.3, 2), heed::sink(0.2),
                        heed::softcap(3.0));
    });
    check<true>("a number of each row", s[0], s[1], 2, [](Matrix<double>& x) {
      return heed::spec(heed::weight_with(bend, x), heed::causal(heed::top_left));
    });
    check<true>("local_p", s[0], s[1], 2, [](Matrix<double>& x) { return heed::local_p(x, 4.0); });
  }
}

/// The identity changes nothing, and f is never asked about a hidden pair.
TEST(WeightWith, SeesVisiblePairsAlone) {
  Dice dice(3);
  const Matrix<float> q = dice.matrix<float>(70, 8), k = dice.matrix<float>(90, 8);
  const auto f = [](auto w, auto i, auto j) {
    if (j > i + 20) throw std::logic_error("a hidden pair");
    return w;
  };
  EXPECT_TRUE(heed::attention(q, k, k, heed::weight_with(f), heed::causal())
                  .isApprox(heed::attention(q, k, k, heed::causal()), 1e-5f));
  EXPECT_THROW((void)heed::attention(q, k, k, heed::weight_with(f)), std::logic_error);
}

/// attention_weights() shows what the values are mixed by.
TEST(WeightWith, WeightsAreThoseThatMix) {
  Dice dice(97);
  const Matrix<double> q = dice.matrix<double>(9, 6), k = dice.matrix<double>(11, 6),
                       v = dice.matrix<double>(11, 3);
  const auto check = [&](const auto& variant) {
    const Matrix<double> w = heed::attention_weights(q, k, variant);
    EXPECT_TRUE(heed::attention(q, k, v, variant).isApprox(w * v, 1e-12));
    EXPECT_FALSE(w.isApprox(heed::attention_weights(q, k, heed::causal()), 1e-3));
  };
  check(heed::spec(heed::causal(),
                   heed::weight_with([](auto w, auto i, auto j) { return w * w + (i - j) * 0.01; })));
  const Matrix<double> centers = dice.matrix<double>(9, 1).array() + 5;
  check(heed::spec(heed::local_p(centers, 2)));
}

/// Center 4.3, D = 2: the Gaussian at 3 to 6.
TEST(LocalP, WorkedNumbers) {
  const Matrix<double> zero = Matrix<double>::Zero(1, 1), k = Matrix<double>::Zero(12, 1),
                       v = Matrix<double>::Identity(12, 12);
  const Matrix<double> p = Matrix<double>::Constant(1, 1, 4.3);
  const Matrix<double> w = 4 * heed::attention(zero, k, v, heed::local_p(p, 2));
  const double want[] = {0, 0, 0, .429557, .955997, .782705, .235746, 0, 0, 0, 0, 0};
  for (Index j = 0; j < 12; ++j) EXPECT_NEAR(w(0, j), want[j], 1e-6) << j;
}

TEST(LocalP, Refuses) {
  const Matrix<double> q = Matrix<double>::Zero(3, 2);
  const Matrix<double> few = Matrix<double>::Zero(2, 1), fits = Matrix<double>::Zero(3, 1),
                       nan = Matrix<double>::Constant(3, 1, std::nan(""));
  EXPECT_THROW((void)heed::attention(q, q, q, heed::local_p(few, 2)), std::invalid_argument);
  EXPECT_THROW((void)heed::attention(q, q, q, heed::local_p(fits, 0)), std::invalid_argument);
  EXPECT_THROW((void)heed::attention(q, q, q, heed::local_p(nan, 2)), std::invalid_argument);
  EXPECT_THROW((void)heed::attention(q, q, q, heed::weight_with(bend, few)), std::invalid_argument);
}

/// z = 3, R = 2, x = 0 to 6.
TEST(AdaptiveSpan, WorkedNumbers) {
  const Matrix<double> zero = Matrix<double>::Zero(7, 1), v = Matrix<double>::Identity(7, 7);
  const Eigen::VectorXd z = Eigen::VectorXd::Constant(1, 3.0);
  const Matrix<double> w = heed::attention(zero, zero, v, heed::adaptive_span(z, 2));
  const double m[] = {1, 1, 1, 1, .5, 0, 0};
  for (Index x = 0; x < 7; ++x) EXPECT_NEAR(w(6, 6 - x) / w(6, 6), m[x], 1e-12) << x;
  EXPECT_DOUBLE_EQ(heed::adaptive_span_penalty(z, 0.5, 6), 0.25);
}

TEST(AdaptiveSpan, GradientOfTheSpans) {
  Dice dice(4);
  const Matrix<double> q = dice.matrix<double>(30, 8), k = dice.matrix<double>(33, 8),
                       v = dice.matrix<double>(33, 6), dout = dice.matrix<double>(30, 6);
  Eigen::VectorXd z(2);
  z << 3.3, 11.7;
  heed::Saved<double> saved;
  Matrix<double> dz(2, 1);
  const Matrix<double> out =
      heed::attention(q, k, v, heed::heads(2), heed::adaptive_span(z, 2.5), heed::save(saved));
  (void)heed::attention_backward(dout, q, k, v, out, saved, heed::heads(2), heed::adaptive_span(z, 2.5),
                                 heed::parameter_gradient(dz));
  for (Index h = 0; h < 2; ++h) {
    const double here = z(h);
    const auto loss = [&](double at) {
      z(h) = at;
      return heed::attention(q, k, v, heed::heads(2), heed::adaptive_span(z, 2.5)).cwiseProduct(dout).sum();
    };
    const double slope = (loss(here + 1e-6) - loss(here - 1e-6)) / 2e-6;
    z(h) = here;
    EXPECT_NEAR(dz(h, 0), slope, 1e-8) << h;
  }
  z(1) = -1;
  EXPECT_THROW((void)heed::attention(q, k, v, heed::heads(2), heed::adaptive_span(z, 2.5)),
               std::invalid_argument);
}

}  // namespace
