// SPDX-License-Identifier: MIT
// heed::exp, log, tanh: the error bounds that functions.hpp states, enforced against long double; special
// values.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <type_traits>

#include <Eigen/Core>
#include <unsupported/Eigen/AutoDiff>

#include <heed/functions.hpp>

namespace {

/// Distance to the exact result in units of the type's spacing there.
template <class T>
double ulps(T got, long double exact) {
  if (std::isnan(exact)) return std::isnan(got) ? 0 : 1e30;
  const T rounded = static_cast<T>(exact);
  if (std::isinf(rounded))
    return got == rounded || got == std::copysign(std::numeric_limits<T>::max(), rounded) ? 0 : 1e30;
  if (std::isinf(got))
    return got > 0 && exact > 0.9999999L * static_cast<long double>(std::numeric_limits<T>::max()) ? 0 : 1e30;
  int exponent = std::numeric_limits<T>::min_exponent;
  if (exact != 0) std::frexp(exact, &exponent);
  exponent = std::max(exponent, std::numeric_limits<T>::min_exponent);
  const long double spacing = std::ldexp(1.0L, exponent - std::numeric_limits<T>::digits);
  return static_cast<double>(std::fabs(static_cast<long double>(got) - exact) / spacing);
}

enum class Function { exp, log, tanh };

template <class T>
T ours(Function f, T x) {
  return f == Function::exp ? heed::exp(x) : f == Function::log ? heed::log(x) : heed::tanh(x);
}
long double exact(Function f, long double x) {
  return f == Function::exp ? std::exp(x) : f == Function::log ? std::log(x) : std::tanh(x);
}

/// The table of functions.hpp.
struct Row {
  const char* name;
  Function function;
  double low, high;
  bool by_exponent;  ///< draws 2^[low, high] instead of [low, high]
  double greatest_ulp;
};
const Row rows[] = {
    {"exp", Function::exp, -110, 95, false, 1.25},  {"exp", Function::exp, -750, 712, false, 1.25},
    {"exp", Function::exp, -1, 1, false, 1.25},     {"exp", Function::exp, -100, 9, true, 1.25},
    {"log", Function::log, -1074, 1023.9, true, 1}, {"log", Function::log, -149, 127.9, true, 1},
    {"log", Function::log, 0.5, 2, false, 1},       {"log", Function::log, 0.99, 1.01, false, 1},
    {"tanh", Function::tanh, -25, 25, false, 3},    {"tanh", Function::tanh, -1, 1, false, 3},
    {"tanh", Function::tanh, -140, 20, true, 3},
};

template <class T>
void hold_to_table(int draws) {
  std::mt19937_64 engine(5);
  for (const Row& row : rows) {
    std::uniform_real_distribution<double> uniform(row.low, row.high);
    double worst = 0;
    T at = 0;
    for (int n = 0; n < draws; ++n) {
      const double u = uniform(engine);
      const T x = static_cast<T>(row.by_exponent ? std::exp2(u) : u);
      const double error = ulps(ours(row.function, x), exact(row.function, static_cast<long double>(x)));
      if (error > worst) worst = error, at = x;
    }
    EXPECT_LE(worst, row.greatest_ulp) << row.name << " on [" << row.low << ", " << row.high << "] at " << at;
    ::testing::Test::RecordProperty(row.name, std::to_string(worst));
  }
}

TEST(Functions, FloatStaysInsideItsTable) { hold_to_table<float>(100000); }
TEST(Functions, DoubleStaysInsideItsTable) { hold_to_table<double>(100000); }

/// Every 4099th float there is, NaN and infinities among them.
TEST(Functions, FloatOverAllBitPatterns) {
  for (const Function f : {Function::exp, Function::log, Function::tanh}) {
    const double bound = f == Function::exp ? 1.25 : f == Function::log ? 1 : 3;
    double worst = 0;
    float at = 0;
    for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += 4099) {
      const auto pattern = static_cast<std::uint32_t>(bits);
      float x;
      std::memcpy(&x, &pattern, sizeof x);
      const double error = ulps(ours(f, x), exact(f, static_cast<long double>(x)));
      if (error > worst) worst = error, at = x;
    }
    EXPECT_LE(worst, bound) << "function " << static_cast<int>(f) << " at " << at;
  }
}

template <class T>
void special_values() {
  constexpr T inf = std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  constexpr T tiny = std::numeric_limits<T>::denorm_min(), big = std::numeric_limits<T>::max();
  EXPECT_EQ(heed::exp(T(0)), T(1));
  EXPECT_EQ(heed::exp(-T(0)), T(1));
  EXPECT_EQ(heed::exp(-inf), T(0));
  EXPECT_EQ(heed::exp(-big), T(0));
  EXPECT_EQ(heed::exp(inf), inf);
  EXPECT_EQ(heed::exp(big), inf);
  EXPECT_TRUE(std::isnan(heed::exp(nan)));
  EXPECT_EQ(heed::log(T(1)), T(0));
  EXPECT_EQ(heed::log(T(0)), -inf);
  EXPECT_EQ(heed::log(-T(0)), -inf);
  EXPECT_EQ(heed::log(inf), inf);
  EXPECT_TRUE(std::isnan(heed::log(T(-1))));
  EXPECT_TRUE(std::isnan(heed::log(-inf)));
  EXPECT_TRUE(std::isnan(heed::log(nan)));
  EXPECT_LE(ulps(heed::log(tiny), std::log(static_cast<long double>(tiny))), 1);
  EXPECT_EQ(heed::tanh(T(0)), T(0));
  EXPECT_TRUE(std::signbit(heed::tanh(-T(0))));
  EXPECT_EQ(heed::tanh(tiny), tiny);
  EXPECT_EQ(heed::tanh(-tiny), -tiny);
  EXPECT_EQ(heed::tanh(inf), T(1));
  EXPECT_EQ(heed::tanh(-inf), T(-1));
  EXPECT_EQ(heed::tanh(big), T(1));
  EXPECT_TRUE(std::isnan(heed::tanh(nan)));
  for (T x : {T(0.1), T(0.7), T(3), T(8.5)}) EXPECT_EQ(heed::tanh(-x), -heed::tanh(x));
  EXPECT_EQ(heed::abs(T(-2)), T(2));
  EXPECT_EQ(heed::abs(-inf), inf);
  EXPECT_FALSE(std::signbit(heed::abs(-T(0))));
}

TEST(Functions, SpecialValuesOfFloat) { special_values<float>(); }
TEST(Functions, SpecialValuesOfDouble) { special_values<double>(); }

TEST(Functions, MaxMinSelect) {
  EXPECT_EQ(heed::max(2.0f, 3.0f), 3.0f);
  EXPECT_EQ(heed::min(2.0f, 3.0f), 2.0f);
  EXPECT_EQ(heed::max(-1, 0.5), 0.5);
  EXPECT_EQ(heed::select(true, 1.0f, 2.0f), 1.0f);
  EXPECT_EQ(heed::select(false, 1.0f, 2.0f), 2.0f);
  EXPECT_EQ(heed::abs(-3), 3);
  EXPECT_EQ(heed::max(std::nanf(""), 1.0f), 1.0f);
  static_assert(std::is_same_v<decltype(heed::max(1, 2.0f)), float>);
  static_assert(std::is_same_v<decltype(heed::exp(1.0f)), float>);
  static_assert(std::is_same_v<decltype(heed::exp(1)), double>);
}

/// One functor, every scalar: the functions of a type's own namespace are found.
TEST(Functions, OtherScalars) {
  using Dual = Eigen::AutoDiffScalar<Eigen::Matrix<double, 1, 1>>;
  const auto f = [](auto s) {
    using S = decltype(s);
    return S(heed::exp(s) + heed::log(S(heed::abs(s))) * heed::tanh(s));
  };
  const auto at = [&](double x) { return std::exp(x) + std::log(std::fabs(x)) * std::tanh(x); };
  const Dual x(-0.7, 1, 0);
  EXPECT_NEAR(f(x).value(), at(-0.7), 1e-15);
  EXPECT_NEAR(f(x).derivatives()(0), (at(-0.7 + 1e-6) - at(-0.7 - 1e-6)) / 2e-6, 1e-8);
  EXPECT_NEAR(static_cast<double>(f(-0.7L)), at(-0.7), 1e-15);
  EXPECT_NEAR(f(-0.7), at(-0.7), 1e-15);
  EXPECT_NEAR(static_cast<double>(f(-0.7f)), at(-0.7), 1e-6);
  EXPECT_EQ(heed::max(x, 0.0).value(), 0);
  EXPECT_EQ(heed::min(0.0, x).derivatives()(0), 1);
  EXPECT_EQ(heed::select(true, x, 1.0).value(), -0.7);
}

}  // namespace
