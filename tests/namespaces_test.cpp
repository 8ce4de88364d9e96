// SPDX-License-Identifier: MIT
// A program that opens the namespaces of Heed, Eigen and the standard library: plain names mean one thing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <complex>
#include <iomanip>
#include <iterator>
#include <numeric>
#include <random>
#include <sstream>
#include <type_traits>
#include <vector>

#include <Eigen/Dense>

#include <heed/heed.hpp>

using namespace heed;
using namespace Eigen;
using namespace std;

namespace {

TEST(Namespaces, FunctionsOfNumbers) {
  EXPECT_NEAR(exp(1.0), M_E, 1e-15);
  EXPECT_NEAR(exp(1.0f), M_E, 1e-6);
  EXPECT_NEAR(double(exp(1.0L)), M_E, 1e-15);
  EXPECT_NEAR(exp(1), M_E, 1e-15);
  EXPECT_EQ(log(1.0) + log(1.0f) + log(1), 0);
  EXPECT_EQ(tanh(0.0) + tanh(0.0f) + tanh(0), 0);
  EXPECT_EQ(abs(-1.0), 1);
  EXPECT_EQ(abs(-1.5f), 1.5f);
  EXPECT_EQ(abs(-2), 2);
  EXPECT_EQ(abs(-3L), 3);
  EXPECT_EQ(abs(short(-4)), 4);
  EXPECT_EQ(sqrt(4.0) + sqrt(4), 4);
  EXPECT_EQ(max(1.0, 2.0), 2);
  EXPECT_EQ(min(1, 2), 1);
  EXPECT_EQ(max({1, 3, 2}), 3);
  EXPECT_EQ(min(1.0f, 2.0f, std::greater<float>()), 2);
  EXPECT_NEAR(abs(exp(complex<double>(0, 1))), 1, 1e-15);
  EXPECT_EQ(log(ArrayXd::Ones(3)).sum(), 0);
  EXPECT_EQ(abs(ArrayXf(-ArrayXf::Ones(3))).sum(), 3);
  EXPECT_EQ(max(half(1), half(2)), half(2));
  // Those of Heed by their full name, for every type, and by argument for its own.
  EXPECT_NEAR(heed::exp(1.0), M_E, 1e-15);
  EXPECT_NEAR(heed::exp(1), M_E, 1e-15);
  EXPECT_TRUE((is_same_v<decltype(heed::exp(1.0f)), float> && is_same_v<decltype(heed::log(2)), double>));
  EXPECT_EQ(heed::abs(-2), 2);
  EXPECT_EQ(heed::max(1, 2.5), 2.5);
  EXPECT_EQ(heed::select(true, 1, 2.5), 1);
  const dual<double> x(0.0, 1.0);
  EXPECT_EQ(exp(x).tangent[0], 1);
  EXPECT_EQ(tanh(x).tangent[0], 1);
  EXPECT_EQ(abs(-exp(x)).value, 1);
  EXPECT_EQ(max(x, 1.0).value, 1);
}

TEST(Namespaces, NamesOfTheOthers) {
  const vector<int> v = {1, 2, 3}, w = {4};
  EXPECT_EQ(accumulate(v.begin(), v.end(), 0), 6);
  vector<int> both, one;
  merge(v.begin(), v.end(), w.begin(), w.end(), back_inserter(both));
  EXPECT_EQ(both.size(), 4u);
  mt19937 dice(1);
  std::sample(v.begin(), v.end(), back_inserter(one), 1, dice);
  EXPECT_EQ(one.size(), 1u);
  ostringstream text;
  text << fixed << setprecision(1) << 2.0;
  EXPECT_EQ(text.str(), "2.0");
  const VectorXd x = VectorXd::LinSpaced(4, 0, 3);
  EXPECT_EQ(x(last), 3);
  EXPECT_EQ(x(seq(1, last))(0), 1);
  EXPECT_EQ(MatrixXd::Identity(3, 3)(all, last).sum(), 1);
}

/// What README says, in its own words.
TEST(Namespaces, NamesOfHeed) {
  const MatrixXf q = MatrixXf::Random(5, 4), k = MatrixXf::Random(6, 4), v = MatrixXf::Random(6, 4);
  const Index n = q.rows();
  Workspace workspace;
  Saved<float> saved;
  MatrixXf y = attention(q, k, v, heads(2), causal(), alibi(), scale(0.5), softcap(30), save(saved));
  const auto again = spec(heads(2), causal(), alibi(), scale(0.5), softcap(30));
  MatrixXf dq = MatrixXf::Zero(n, 4), dk = MatrixXf::Zero(6, 4), dv = MatrixXf::Zero(6, 4);
  attention_backward(y, q, k, v, y, saved, again, into(dq, dk, dv), accumulating, use(workspace));
  const auto gradients = attention_backward(y, q, k, v, y, saved, again);
  EXPECT_EQ(dq, gradients.dq);
  EXPECT_EQ(merge(y, saved.lse, y, saved.lse).out.rows(), n);
  EXPECT_EQ(attention_weights(q, k, causal(), rows({1, 3}), head(0)).rows(), 2);

  // Names that stand for policies: masks and selections, made and looked at, which is cheaper to compile than
  // an attention with each.
  EXPECT_EQ(visible_pairs(sliding_window(2), 4, 4), 7);
  EXPECT_EQ(visible_pairs(fixed(2, 1), 4, 4), 8);
  EXPECT_EQ(visible_pairs(prefix(1) | window(0, 0), 4, 4), 7);
  EXPECT_EQ(visible_pairs(strided(2) & causal() & !lengths({0}), 2, 2), 3);
  (void)spec(sample(7, 2), dropout(0.5, 1), sink(0), sequences({0, 5}, {0, 6}), on(serial()));
}

}  // namespace
