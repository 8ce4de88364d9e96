// SPDX-License-Identifier: MIT
// additive() and weight_normed(): worked numbers, equal forms, errors, scalars.
#include "oracle.hpp"

#include <array>
#include <stdexcept>
#include <string>
#include <unsupported/Eigen/AutoDiff>

#include <heed/attention_backward.hpp>
#include <heed/attention_weights.hpp>
#include <heed/core/when.hpp>
#include <heed/mask/causal.hpp>
#include <heed/score/additive.hpp>
#include <heed/score/scale.hpp>

namespace {

using namespace heed_test;

template <class F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

template <class T>
void worked_numbers() {
  Matrix<T> q(2, 2), k(2, 2), v(2, 2), want(2, 2);
  q << T(1), T(0), T(0), T(1);
  k << T(0), T(1), T(1), T(0);
  v << T(1), T(2), T(3), T(4);
  want << T(1.727), T(2.727), T(2.272), T(3.272);
  const std::vector<T> w = {T(1), T(1)};
  const Matrix<T> y = heed::attention(q, k, v, heed::additive(w));
  const Matrix<T> p = heed::attention_weights(q, k, heed::additive(w));
  for (int i = 0; i < 2; ++i)
    for (int j = 0; j < 2; ++j) {
      EXPECT_NEAR(static_cast<double>(y(i, j)), static_cast<double>(want(i, j)),
                  sizeof(T) == 2 ? 0.003 : 0.0006);
      EXPECT_NEAR(static_cast<double>(p(i, j)), i == j ? 0.636 : 0.364, 0.0006);
    }
}

TEST(Additive, WorkedNumbers) {
  worked_numbers<float>();
  worked_numbers<double>();
  worked_numbers<long double>();
  worked_numbers<Eigen::half>();
}

/// Lists, vectors, temporaries, one set for all heads or one for each.
TEST(Additive, WeightsOfAnyKind) {
  Dice dice(1);
  const Index d = 5;
  const Eigen::MatrixXd q = dice.matrix<double>(20, 2 * d), k = dice.matrix<double>(31, 2 * d),
                        v = dice.matrix<double>(31, 8);
  const Eigen::VectorXd w = dice.matrix<double>(d, 1);
  // The weights alone: plain loops, which read w as the engine does, and compile sooner.
  const auto with = [&](const auto& policy) { return heed::attention_weights(q, k, heed::heads(2), policy); };
  const Eigen::MatrixXd want = with(heed::additive(w));
  Eigen::VectorXd both(2 * d);
  both << w, w;
  Eigen::MatrixXd spread = Eigen::MatrixXd::Zero(3, d);
  spread.row(1) = w.transpose();
  std::array<double, 5> list;
  for (std::size_t a = 0; a < 5; ++a) list[a] = w(static_cast<Index>(a));
  EXPECT_TRUE(with(heed::additive(both)) == want);
  EXPECT_TRUE(with(heed::additive(Eigen::VectorXd(w))) == want);
  EXPECT_TRUE(with(heed::additive(list)) == want);
  EXPECT_TRUE(with(heed::additive(spread.row(1))) == want);
  EXPECT_TRUE(with(heed::additive({list[0], list[1], list[2], list[3], list[4]})) == want);
  EXPECT_TRUE(with(heed::additive(Eigen::VectorXf(w.cast<float>()))).isApprox(want, 1e-6));
  // Each head has its own.
  both.tail(d) *= -2;
  const Eigen::MatrixXd apart = with(heed::additive(both));
  EXPECT_TRUE(apart.leftCols(31) == want.leftCols(31));
  EXPECT_TRUE(apart.rightCols(31).isApprox(
      heed::attention_weights(q.rightCols(d), k.rightCols(d), heed::additive(Eigen::VectorXd(-2 * w)))));
  const Eigen::MatrixXd y = heed::attention(q, k, v, heed::heads(2), heed::additive(both));
  for (int h = 0; h < 2; ++h)
    EXPECT_TRUE(
        y.middleCols(4 * h, 4).isApprox(apart.middleCols(31 * h, 31) * v.middleCols(4 * h, 4), 1e-13));
  // The scale is 1 unless given, also where when() takes it away.
  EXPECT_TRUE(with(heed::spec(heed::additive(w), heed::scale(1.0))) == want);
  EXPECT_TRUE(with(heed::spec(heed::additive(w), heed::when(false, heed::scale(3.0)))) == want);
  EXPECT_TRUE(
      with(heed::spec(heed::additive(Eigen::VectorXd(w / 2)), heed::scale(2.0))).isApprox(want, 1e-14));
}

/// vᵀ tanh(W [h; h̄]) with W = [W₁ W₂].
TEST(Additive, ConcatenationIsTheSameWithTheMatrixCutInTwo) {
  Dice dice(2);
  const Eigen::MatrixXd h = dice.matrix<double>(6, 4), bar = dice.matrix<double>(9, 3),
                        both = dice.matrix<double>(10, 7), v = dice.matrix<double>(9, 2);
  const Eigen::VectorXd w = dice.matrix<double>(10, 1);
  Eigen::MatrixXd scores(6, 9);
  for (Index i = 0; i < 6; ++i)
    for (Index j = 0; j < 9; ++j) {
      Eigen::VectorXd joined(7);
      joined << h.row(i).transpose(), bar.row(j).transpose();
      scores(i, j) = w.dot((both * joined).array().tanh().matrix());
    }
  Eigen::MatrixXd p = scores.array().exp();
  for (Index i = 0; i < 6; ++i) p.row(i) /= p.row(i).sum();
  const Eigen::MatrixXd y = heed::attention(h * both.leftCols(4).transpose(),
                                            bar * both.rightCols(3).transpose(), v, heed::additive(w));
  EXPECT_TRUE(y.isApprox(p * v, 1e-13));
}

TEST(Additive, WeightNormed) {
  Dice dice(3);
  const Eigen::VectorXd v = dice.matrix<double>(7, 1), dw = dice.matrix<double>(7, 1);
  const double g = -1.7;
  const Eigen::VectorXd w = heed::weight_normed(v, g);
  EXPECT_NEAR(w.norm(), 1.7, 1e-14);
  EXPECT_TRUE(w.isApprox(g * v / v.norm(), 1e-14));
  const auto gradient = heed::weight_normed_gradient(dw, v, g);
  const double step = 1e-6;
  EXPECT_NEAR(gradient.dg,
              dw.dot(heed::weight_normed(v, g + step) - heed::weight_normed(v, g - step)) / (2 * step), 1e-8);
  for (Index a = 0; a < 7; ++a) {
    Eigen::VectorXd up = v, down = v;
    up(a) += step;
    down(a) -= step;
    EXPECT_NEAR(gradient.dv(a),
                dw.dot(heed::weight_normed(up, g) - heed::weight_normed(down, g)) / (2 * step), 1e-8);
  }
  EXPECT_NEAR(gradient.dv.dot(v), 0, 1e-13);  // along v nothing changes
  EXPECT_NE(message_of([] { (void)heed::weight_normed(Eigen::VectorXd::Zero(3), 1.0); }).find("length 0"),
            std::string::npos);
  EXPECT_NE(message_of([&] {
              (void)heed::weight_normed_gradient(Eigen::VectorXd::Zero(3), v, 1.0);
            }).find("3 numbers, v has 7"),
            std::string::npos);
}

TEST(Additive, Errors) {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(3, 8), k = Eigen::MatrixXf::Zero(5, 8);
  const auto says = [](const std::string& text, const char* part) {
    EXPECT_NE(text.find(part), std::string::npos) << text;
  };
  const std::vector<float> few(3), more(16);
  says(message_of([&] { (void)heed::attention(q, k, k, heed::additive(few)); }),
       "additive: w has 3 numbers, q has 8 columns for each of 1 heads");
  says(message_of([&] { (void)heed::attention(q, k, k, heed::heads(4, 2), heed::additive(few)); }),
       "k has 8 columns");
  says(message_of([&] { (void)heed::attention(q, k, k, heed::additive(more)); }), "w has 16 numbers");
  std::vector<float> bad(8);
  bad[6] = std::numeric_limits<float>::quiet_NaN();
  says(message_of([&] { (void)heed::attention(q, k, k, heed::additive(bad)); }), "number 6 of w is nan");
  heed::Saved<float> saved;
  const std::vector<float> w(8);
  const Eigen::MatrixXf y = heed::attention(q, k, k, heed::additive(w), heed::save(saved));
  Eigen::VectorXf dw(7);
  says(message_of([&] {
         (void)heed::attention_backward(y, q, k, k, y, saved, heed::additive(w), heed::score_gradient(dw));
       }),
       "score_gradient is 7 x 1, there are 8 weights for each of 1 heads");
}

/// The plain loops: an automatic-differentiation scalar forward, long double backward.
TEST(Additive, OtherScalars) {
  Dice dice(9);
  const Eigen::MatrixXd q = dice.matrix<double>(4, 6), k = dice.matrix<double>(5, 6),
                        v = dice.matrix<double>(5, 2), dout = dice.matrix<double>(4, 2);
  const Eigen::VectorXd w = dice.matrix<double>(3, 1);
  const auto spec = heed::spec(heed::heads(2), heed::causal(), heed::additive(w));
  const Eigen::MatrixXd values = v.leftCols(2);
  heed::Saved<double> saved;
  const Eigen::MatrixXd y = heed::attention(q, k, values, spec, heed::save(saved));
  Eigen::VectorXd dw(3);
  const auto g = heed::attention_backward(dout, q, k, values, y, saved, spec, heed::score_gradient(dw));

  using Active = Eigen::AutoDiffScalar<Eigen::VectorXd>;
  Matrix<Active> aq(4, 6), ak = k.cast<Active>(), av = values.cast<Active>();
  for (Index t = 0; t < q.size(); ++t)
    aq.data()[t] = Active(q.data()[t], static_cast<int>(q.size()), static_cast<int>(t));
  const Matrix<Active> ay = heed::attention(aq, ak, av, spec);
  Eigen::VectorXd slope = Eigen::VectorXd::Zero(q.size());
  for (Index t = 0; t < y.size(); ++t) {
    EXPECT_NEAR(ay.data()[t].value(), y.data()[t], 1e-14);
    if (ay.data()[t].derivatives().size() > 0) slope += dout.data()[t] * ay.data()[t].derivatives();
  }
  for (Index t = 0; t < q.size(); ++t) EXPECT_NEAR(slope(t), g.dq.data()[t], 1e-14);

  using Long = Matrix<long double>;
  const Long lq = q.cast<long double>(), lk = k.cast<long double>(), lv = values.cast<long double>();
  heed::Saved<long double> long_saved;
  const Long ly = heed::attention(lq, lk, lv, spec, heed::save(long_saved));
  Eigen::Matrix<long double, Eigen::Dynamic, 1> ldw(3);
  const auto lg = heed::attention_backward(Long(dout.cast<long double>()), lq, lk, lv, ly, long_saved, spec,
                                           heed::score_gradient(ldw));
  EXPECT_TRUE(lg.dq.cast<double>().isApprox(g.dq, 1e-13));
  EXPECT_TRUE(lg.dk.cast<double>().isApprox(g.dk, 1e-13));
  EXPECT_TRUE(lg.dv.cast<double>().isApprox(g.dv, 1e-13));
  EXPECT_TRUE(ldw.cast<double>().isApprox(dw, 1e-13));
}

TEST(Additive, EmptyProblems) {
  const std::vector<double> w = {1, 2};
  const Eigen::MatrixXd none(0, 2), some = Eigen::MatrixXd::Ones(12, 2);
  EXPECT_EQ(heed::attention(none, some, some, heed::additive(w)).rows(), 0);
  EXPECT_TRUE(heed::attention(some, none, none, heed::additive(w)) == Eigen::MatrixXd::Zero(12, 2));
  heed::Saved<double> saved;
  const Eigen::MatrixXd y = heed::attention(some, none, none, heed::additive(w), heed::save(saved));
  Eigen::Vector2d dw(5, 5);
  const auto g =
      heed::attention_backward(some, some, none, none, y, saved, heed::additive(w), heed::score_gradient(dw));
  EXPECT_TRUE(g.dq == Eigen::MatrixXd::Zero(12, 2));
  EXPECT_TRUE(dw == Eigen::Vector2d::Zero());
}

}  // namespace
