// SPDX-License-Identifier: MIT
// Additive scores under selections that need whole rows: gradients against central differences, output
// against plain loops.
#include "oracle.hpp"

#include <heed/attention_backward.hpp>
#include <heed/mask/causal.hpp>
#include <heed/score/additive.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/dropout.hpp>
#include <heed/select/entmax.hpp>
#include <heed/select/sink.hpp>
#include <heed/select/sparsemax.hpp>

namespace {

using namespace heed_test;

template <class Selection>
void check(const Selection& selection) {
  const Index sizes[][2] = {{9, 13}, {40, 70}, {1, 5}};
  for (const auto& size : sizes) {
    Dice dice(static_cast<std::uint64_t>(size[0]));
    const Index n = size[0], m = size[1], a = 5, d_v = 3, heads = 2;
    Matrix<double> q = dice.matrix<double>(n, heads * a), k = dice.matrix<double>(m, heads * a),
                   v = dice.matrix<double>(m, heads * d_v);
    const Matrix<double> dout = dice.matrix<double>(n, heads * d_v);
    Eigen::VectorXd w = dice.matrix<double>(a, 1, 2), dw(a);
    // additive() copies w, which changes below.
    const auto spec_now = [&] { return heed::spec(heed::additive(w), heed::heads(heads), selection); };
    const auto spec = spec_now();
    heed::Saved<double> saved;
    const Matrix<double> out = heed::attention(q, k, v, spec, heed::save(saved));
    Matrix<double> dq(n, heads * a), dk(m, heads * a), dv(m, heads * d_v);
    heed::attention_backward(dout, q, k, v, out, saved, spec, heed::into(dq, dk, dv),
                             heed::score_gradient(dw));
    const auto differentiate = [&](auto& x, const auto& got, const char* what) {
      for (Index i = 0; i < x.size(); ++i) {
        const double here = x.data()[i], h = 1e-6;
        x.data()[i] = here + h;
        const double above = heed::attention(q, k, v, spec_now()).cwiseProduct(dout).sum();
        x.data()[i] = here - h;
        const double below = heed::attention(q, k, v, spec_now()).cwiseProduct(dout).sum();
        x.data()[i] = here;
        EXPECT_NEAR(got.data()[i], (above - below) / (2 * h), 2e-8)
            << what << " " << i << " of " << n << " x " << m;
      }
    };
    differentiate(q, dq, "dq");
    differentiate(k, dk, "dk");
    differentiate(v, dv, "dv");
    differentiate(w, dw, "dw");
    using Wide = long double;
    const Matrix<Wide> exact = heed::attention(Matrix<Wide>(q.cast<Wide>()), Matrix<Wide>(k.cast<Wide>()),
                                               Matrix<Wide>(v.cast<Wide>()), spec);
    EXPECT_LT((out.cast<Wide>() - exact).cwiseAbs().maxCoeff(), 1e-13L);
  }
}

TEST(AdditiveSelections, Sparse) { check(heed::spec(heed::sparsemax(), heed::sink(0.3))); }
TEST(AdditiveSelections, DenseAndEdited) {
  check(heed::spec(heed::entmax(1.05), heed::causal(heed::top_left), heed::softcap(2.0),
                   heed::dropout(0.2, 3)));
}

}  // namespace
