// SPDX-License-Identifier: MIT
// Policies copy small lists, own other rvalues and refer to other lvalues: nothing dangles, nothing large is
// copied without need.
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>
#include <vector>

#include <heed/core/spec.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/block_sparse.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/prefix.hpp>
#include <heed/mask/windows.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/additive.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/score_with.hpp>
#include <heed/select/entmax.hpp>
#include <heed/select/local.hpp>
#include <heed/select/sink.hpp>

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

/// A list of a function's own, given to a policy by name, is gone when the policy is used: here it is
/// overwritten, which shows without a sanitizer.
TEST(Stored, SmallListsAreCopiedAlways) {
  std::vector<Index> offsets{0, 2, 5}, l{4}, rows{0, 1}, columns{0}, lefts{1}, rights{0};
  std::vector<float> numbers{0.5f};
  Eigen::VectorXf spans(1), slopes(1);
  spans << 2.5f;
  slopes << 0.25f;
  Eigen::Vector2f theta(3, 4);
  std::array<double, 1> single{7};
  double alpha = 1.5;
  const auto sequences = heed::sequences(offsets);
  const auto cross = heed::sequences(offsets, offsets);
  const auto lengths = heed::lengths(l);
  const auto first = heed::prefix(l);
  const auto blocks = heed::block_sparse(4, rows, columns);
  const auto windows = heed::windows(lefts, rights), around = heed::windows(lefts);
  const auto sloped = heed::alibi(slopes);
  const auto sunk = heed::sink(numbers);
  const auto sharp = heed::entmax(alpha);
  const auto sharper = heed::entmax(single);
  const auto added = heed::additive(numbers);
  const auto f = [](auto s, const auto& p, auto, auto) { return s + p[0]; };
  const auto with_two = heed::score_with(f, theta);
  const auto with_one = heed::score_with(f, single);
  const auto reaching = heed::adaptive_span(spans, 1.0);

  for (auto* list : {&offsets, &l, &rows, &columns, &lefts, &rights})
    for (Index& x : *list) x = 77;
  numbers[0] = 77;
  spans << 77;
  slopes << 77;
  theta << 77, 77;
  single[0] = alpha = 77;

  for (const heed::Sequences& s : {sequences, cross}) {
    const auto shape = heed::detail::make_shape(heed::spec(s), 5, 1, 5, 1, 5, 1);
    EXPECT_EQ(shape.query_offsets[1], 2);
    EXPECT_EQ(shape.key_offsets[1], 2);
  }
  EXPECT_EQ(lengths.bind(place).length, 4);
  EXPECT_EQ(first.bind(place).length, 4);
  EXPECT_EQ(blocks.bind(place).columns.items[0], 0);
  EXPECT_EQ(windows.bind(place).low, 0);  // 1 to the left of i + 1
  EXPECT_EQ(windows.bind(place).high, 1);
  EXPECT_EQ(around.bind(place).high, 2);
  EXPECT_EQ(scored(sloped, 0, 3), -0.5f);
  EXPECT_EQ(sunk.value<float>(0), 0.5f);
  EXPECT_EQ(sharp.bind_selection(place).alpha(), 1.5);
  EXPECT_EQ(sharper.bind_selection(place).alpha(), 7);
  EXPECT_EQ(added.weights(0, 1).at<float>(0), 0.5f);
  EXPECT_EQ(scored(with_two, 0, 0), 3);
  EXPECT_EQ(scored(with_one, 0, 0), 7);
  EXPECT_FLOAT_EQ(reaching.bind<float>(place).score(0.0f, 2, 0),
                  std::log(0.5f));  // 3 back: (1 + 2.5 - 3) / 1
}

/// Copies of a policy share its list: a call that copies it allocates nothing.
TEST(Stored, CopiesOfAPolicyShareItsList) {
  const auto policy = heed::lengths({4});
  const auto copy = heed::spec(policy, heed::alibi({0.5}));
  const std::vector<float> numbers{0.5f};
  const auto weights = heed::additive(numbers), again = weights;
  EXPECT_EQ(weights.weights(0, 1).data, again.weights(0, 1).data);
  EXPECT_NE(weights.weights(0, 1).data, numbers.data());
  EXPECT_TRUE(copy.bind<float>(place).visible(0, 3));
}

/// The centers of local_p() are a number for each query, and kept as a bias is.
TEST(Stored, CentersOfARvalueAreOwned) {
  const auto policy = heed::local_p(Eigen::MatrixXf::Constant(3, 1, 2.0f).eval(), 1.0);
  const Eigen::MatrixXf other = Eigen::MatrixXf::Constant(3, 1, 9.0f);
  EXPECT_TRUE(policy.bind<float>(place).visible(2, 3));
  EXPECT_FALSE(policy.bind<float>(place).visible(2, 0));
}

TEST(Stored, OffsetsOfAnyInteger) {
  const auto offsets_of = [](const heed::Sequences& s) {
    return heed::detail::make_shape(heed::spec(s), 5, 1, 5, 1, 5, 1).query_offsets;
  };
  const std::vector<Index> exact{0, 2, 5};
  const auto expect = [&](const heed::Sequences& s) {
    EXPECT_NE(offsets_of(s), exact.data());
    for (int n = 0; n < 3; ++n) EXPECT_EQ(offsets_of(s)[n], exact[static_cast<std::size_t>(n)]);
  };
  expect(heed::sequences(exact));
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
