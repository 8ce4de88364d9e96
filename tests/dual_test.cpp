// SPDX-License-Identifier: MIT
// Dual numbers: every operation's derivative, mixed arithmetic, constants, scalars of other kinds.
#include <gtest/gtest.h>

#include <cmath>
#include <type_traits>

#include <heed/dual.hpp>

#include <unsupported/Eigen/AutoDiff>

namespace {

using heed::dual;

static_assert(std::is_trivially_copyable_v<dual<float>>);
static_assert(std::is_convertible_v<int, dual<float>> && std::is_convertible_v<double, dual<float>>);
static_assert(!std::is_convertible_v<dual<float>, float>, "that would drop the derivative");

/// f's derivative at x against central differences.
template <class F>
void check(const char* name, F f, double x) {
  const dual<double> y = f(dual<double>(x, 1.0));
  const double h = 1e-6 * (1 + std::abs(x));
  EXPECT_DOUBLE_EQ(y.value, f(dual<double>(x)).value) << name;
  EXPECT_EQ(f(dual<double>(x)).tangent[0], 0) << name << ": a constant has no slope";
  EXPECT_NEAR(y.tangent[0], (f(dual<double>(x + h)).value - f(dual<double>(x - h)).value) / (2 * h), 1e-7)
      << name;
}

TEST(Dual, DerivativesOfEverything) {
  for (const double x : {-2.3, -0.4, 0.7, 1.9}) {
    check(
        "sum", [](auto s) { return s + 2 + s - 0.5f; }, x);
    check(
        "product", [](auto s) { return 3 * s * s * s - s * 2; }, x);
    check(
        "quotient", [](auto s) { return (s + 1) / (s * s + 2) + s / 20 + 1 / (s + 5); }, x);
    check(
        "minus", [](auto s) { return -s + +s * s; }, x);
    check(
        "exp", [](auto s) { return heed::exp(s / 2); }, x);
    check(
        "log", [](auto s) { return heed::log(s * s + 1); }, x);
    check(
        "tanh", [](auto s) { return heed::tanh(s * 0.8); }, x);
    check(
        "abs", [](auto s) { return heed::abs(s) * s; }, x);
    check(
        "max", [](auto s) { return heed::max(s, 0.1) + heed::min(s * s, decltype(s)(1)); }, x);
    check(
        "select", [](auto s) { return s > 0 ? s * s : decltype(s)(-1e9f); }, x);
    check(
        "heed::select", [](auto s) { return heed::select(s < 1, s * 3, 2.0f); }, x);
    check(
        "compound",
        [](auto s) {
          auto t = s;
          t *= s;
          t += 1;
          t /= s + 4;
          t -= s;
          return t;
        },
        x);
  }
}

TEST(Dual, SeveralDirections) {
  const dual<float, 2> x(3.0f, 1.0f, 0), y(5.0f, 1.0f, 1);
  const dual<float, 2> z = x * y + y;
  EXPECT_EQ(z.value, 20);
  EXPECT_EQ(z.tangent[0], 5);
  EXPECT_EQ(z.tangent[1], 4);
}

/// Constants must be clean also where the scalar's own default is no number.
TEST(Dual, OtherScalars) {
  using Scalar = Eigen::AutoDiffScalar<Eigen::Vector2d>;
  const dual<Scalar> nothing, constant(2.5);
  EXPECT_EQ(nothing.value.value(), 0);
  EXPECT_EQ(nothing.tangent[0].value(), 0);
  EXPECT_EQ(constant.tangent[0].value(), 0);
  const dual<Scalar> x(Scalar(0.6, 2, 0), Scalar(1));
  const dual<Scalar> y = heed::tanh(x * x);  // y' = 2x (1 - tanh²), and its own derivative
  const double t = std::tanh(0.36), slope = 1 - t * t;
  EXPECT_NEAR(y.tangent[0].value(), 1.2 * slope, 1e-14);
  EXPECT_NEAR(y.tangent[0].derivatives()(0), 2 * slope - 1.2 * 1.2 * 2 * t * slope, 1e-14);
  const dual<long double> z = heed::exp(dual<long double>(1.0L, 1.0L));
  EXPECT_NEAR(static_cast<double>(z.tangent[0]), std::exp(1.0), 1e-15);
}

}  // namespace
