// SPDX-License-Identifier: MIT
// Policies own rvalues and refer to lvalues: nothing dangles, nothing is copied without need.
#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include <heed/core/spec.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/score_with.hpp>

namespace {

using heed::Index;
using heed::Place;

const Place place{3, 4, 0, 0, 1, 1, 0, 0, 4};

template <class Policy>
float scored(const Policy& policy, heed::Position i, heed::Position j) {
  const auto spec = heed::spec(policy);
  return spec.template bind<float>(place).score(0.0f, i, j);
}

/// The temporaries are gone when the policy is asked (the address sanitizer watches).
TEST(Stored, RvaluesAreOwned) {
  const auto make = [] {
    Eigen::MatrixXf b = Eigen::MatrixXf::Constant(3, 4, 2.5f);
    std::vector<float> table(100, 3.0f);
    return heed::spec(heed::bias(std::move(b)), heed::score_with([table](auto s, auto i, auto j) {
                        return s + table[static_cast<std::size_t>(i + j)];
                      }),
                      heed::alibi(std::vector<float>{0.5f}), heed::lengths(std::vector<int>{3}),
                      heed::documents(std::vector<int>{1, 2, 3}, std::vector<int>{2, 2, 1, 1}));
  };
  auto original = std::make_unique<std::remove_cvref_t<decltype(make())>>(make());
  const auto copy = *original;
  original.reset();
  const auto rules = copy.bind<float>(place);
  EXPECT_FLOAT_EQ(rules.score(1.0f, 0, 3), 1 + 2.5f - 0.5f * 2 + 3);
  EXPECT_TRUE(rules.visible(0, 2));
  EXPECT_FALSE(rules.visible(0, 3));
  EXPECT_FALSE(rules.visible(0, 0));
}

TEST(Stored, OwningPoliciesAreCopiedWithoutCopyingWhatTheyOwn) {
  const auto policy = heed::bias(Eigen::MatrixXf::Constant(3, 4, 1.0f).eval());
  const auto copy = policy;
  EXPECT_EQ(policy.bind(place).data, copy.bind(place).data);
}

TEST(Stored, LvaluesAreReferredTo) {
  Eigen::MatrixXf b = Eigen::MatrixXf::Zero(3, 4);
  const auto policy = heed::bias(b);
  EXPECT_EQ(policy.bind(place).data, b.data());
  b(1, 2) = 7;
  EXPECT_EQ(scored(policy, 1, 2), 7);
  // Also after the matrix has moved its memory.
  b = Eigen::MatrixXf::Constant(6, 8, 2).topLeftCorner(3, 4).eval();
  EXPECT_EQ(policy.bind(place).data, b.data());

  std::vector<int> l{4};
  const auto lengths = heed::lengths(l);
  l[0] = 2;
  EXPECT_FALSE(lengths.bind(place).visible(0, 2));

  float shift = 1;
  const auto functor = [&shift](auto s, auto, auto) { return s + shift; };
  const auto term = heed::score_with(functor);
  shift = 5;
  EXPECT_EQ(scored(term, 0, 0), 5);
}

TEST(Stored, ViewsStayViewsAndExpressionsAreEvaluated) {
  Eigen::MatrixXf big = Eigen::MatrixXf::Random(10, 10);
  EXPECT_EQ(heed::bias(big.block(2, 3, 3, 4)).bind(place).data, &big(2, 3));
  const auto transposed = heed::bias(big.block(2, 3, 4, 3).transpose());
  EXPECT_EQ(transposed.bind(place).data, &big(2, 3));
  EXPECT_EQ(scored(transposed, 2, 1), big(3, 5));
  const Eigen::Map<const Eigen::MatrixXf, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>> map(
      big.data(), 3, 4, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(20, 2));
  EXPECT_EQ(scored(heed::bias(map), 2, 3), big(4, 6));
  const auto reversed = heed::bias(big.topLeftCorner(3, 4).rowwise().reverse());
  EXPECT_EQ(scored(reversed, 1, 0), big(1, 3));
  const auto sum = heed::bias(big.topLeftCorner(3, 4) + big.topLeftCorner(3, 4));
  EXPECT_EQ(scored(sum, 1, 2), 2 * big(1, 2));
  Eigen::Matrix<float, 3, 4, Eigen::RowMajor> fixed = big.topLeftCorner(3, 4);
  EXPECT_EQ(scored(heed::bias(fixed), 2, 1), big(2, 1));
  EXPECT_EQ(scored(heed::bias(Eigen::Matrix<float, 3, 4>(fixed)), 2, 1), big(2, 1));
  // A temporary Ref that had to copy takes its copy with it.
  std::optional<decltype(heed::bias(Eigen::Ref<const Eigen::MatrixXf>(fixed)))> policy;
  policy.emplace(heed::bias(Eigen::Ref<const Eigen::MatrixXf>(fixed)));
  EXPECT_EQ(scored(*policy, 2, 1), big(2, 1));
}

TEST(Stored, OffsetsOfAnyInteger) {
  const auto offsets_of = [](const heed::Sequences& s) {
    return heed::detail::make_shape(heed::spec(s), 5, 1, 5, 1, 5, 1).query_offsets;
  };
  const std::vector<Index> exact{0, 2, 5};
  EXPECT_EQ(offsets_of(heed::sequences(exact)), exact.data());
  const auto expect = [&](const heed::Sequences& s) {
    EXPECT_NE(offsets_of(s), exact.data());
    for (int n = 0; n < 3; ++n) EXPECT_EQ(offsets_of(s)[n], exact[static_cast<std::size_t>(n)]);
  };
  expect(heed::sequences({0, 2, 5}));
  expect(heed::sequences(std::vector<Index>{0, 2, 5}));
  expect(heed::sequences(std::vector<int>{0, 2, 5}));
  expect(heed::sequences(std::array<unsigned char, 3>{0, 2, 5}));
  expect(heed::sequences(Eigen::Vector3i(0, 2, 5)));
  const std::array<std::uint32_t, 3> small{0, 2, 5};
  expect(heed::sequences(std::span<const std::uint32_t>(small)));
  Eigen::MatrixXi table(2, 3);
  table << 0, 2, 5, 9, 9, 9;
  expect(heed::sequences(table.row(0)));
}

float minus_one(float s, heed::Position, heed::Position) { return s - 1; }

TEST(Stored, FunctionsAndPointersToFunctions) {
  EXPECT_EQ(scored(heed::score_with(minus_one), 0, 0), -1);
  EXPECT_EQ(scored(heed::score_with(&minus_one), 0, 0), -1);
  auto* pointer = &minus_one;
  EXPECT_EQ(scored(heed::score_with(pointer), 0, 0), -1);
}

/// Move-only functors and large ones work; large ones are not copied for each sequence and head.
TEST(Stored, MoveOnlyAndLargeFunctors) {
  struct Counted {
    std::array<int, 64> table{};
    int* copies;
    explicit Counted(int* c) : copies(c) {}
    Counted(const Counted& other) : table(other.table), copies(other.copies) { ++*copies; }
    Counted(Counted&& other) noexcept : table(other.table), copies(other.copies) {}
    float operator()(float s, heed::Position, heed::Position) const { return s + 1; }
  };
  int copies = 0;
  const auto spec = heed::spec(heed::score_with(Counted(&copies)));
  EXPECT_EQ(spec.bind<float>(place).score(1.0f, 0, 0), 2.0f);
  EXPECT_EQ(copies, 0);
  auto owner = std::make_unique<float>(4.0f);
  const auto unique =
      heed::spec(heed::score_with([owner = std::move(owner)](auto s, auto, auto) { return s + *owner; }));
  const auto copy = unique;
  EXPECT_EQ(copy.bind<float>(place).score(1.0f, 0, 0), 5.0f);
}

}  // namespace
