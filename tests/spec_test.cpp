// SPDX-License-Identifier: MIT
// Specs: any order, flattening, run-time choice, and what the engine asks of them.
#include <gtest/gtest.h>

#include <cmath>
#include <type_traits>
#include <vector>

#include <heed/core/saved.hpp>
#include <heed/core/spec.hpp>
#include <heed/core/when.hpp>
#include <heed/layout/heads.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/mask_where.hpp>
#include <heed/mask/window.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>
#include <heed/select/softmax.hpp>

namespace {

using heed::Index;
using heed::KeyRange;
using heed::Place;

const Place place{8, 8, 1, 0, 2, 2, 0, 0, 8};

TEST(Spec, EmptySpecIsPlainAttention) {
  const auto spec = heed::spec();
  static_assert(!decltype(spec)::has_mask && !decltype(spec)::has_terms && !decltype(spec)::may_hide);
  const auto rules = spec.bind<float>(place);
  EXPECT_TRUE(rules.visible(0, 7));
  EXPECT_EQ(rules.key_ranges(0, 4, 3), (KeyRange{3, 8}));
  EXPECT_EQ(rules.full_ranges(0, 4, 0), (KeyRange{0, 8}));
  EXPECT_EQ(rules.full_ranges(0, 4, 8), (KeyRange{8, 8}));
  EXPECT_EQ(rules.score(1.5f, 0, 0), 1.5f);
  EXPECT_EQ(spec.scale<float>(16), 0.25f);
  EXPECT_EQ(spec.scale<long double>(3), 1 / std::sqrt(3.0L));
}

TEST(Spec, FlattensAndFindsInAnyOrder) {
  heed::Saved<float> saved;
  const auto inner = heed::spec(heed::causal(), heed::save(saved));
  const auto spec = heed::spec(heed::scale(2), heed::spec(inner, heed::softmax()), heed::heads(4, 2));
  EXPECT_EQ(heed::detail::find<heed::save_tag>(spec)->target, &saved);
  EXPECT_EQ(spec.save()->target, &saved);
  EXPECT_EQ(heed::detail::find<heed::layout_tag>(spec)->key_heads, 2);
  EXPECT_EQ(spec.scale<float>(16), 2.0f);
  static_assert(std::is_same_v<decltype(spec.executor()), std::nullptr_t>);
  static_assert(std::is_same_v<decltype(heed::spec().save()), std::nullptr_t>);
  static_assert(decltype(spec)::has_mask);
  static_assert(heed::policy<decltype(spec)>);
  EXPECT_FALSE(spec.bind<float>(place).visible(0, 1));
}

TEST(Spec, RulesAreTriviallyCopyable) {
  const Eigen::MatrixXf b = Eigen::MatrixXf::Zero(8, 8);
  std::vector<int> ids(8, 1);
  const float slope = 2;
  const auto spec =
      heed::spec(heed::bias(b), heed::documents(ids) & !heed::causal(), heed::lengths({4}), heed::alibi(),
                 heed::when(true, heed::softcap(3.0f)),
                 heed::mask_where([&](auto i, auto j) { return ids[static_cast<std::size_t>(i)] != j; }),
                 heed::score_with([=](auto s, auto, auto) { return s * slope; }));
  using Rules = decltype(spec.bind<float>(place));
  static_assert(std::is_trivially_copyable_v<Rules>);
  static_assert(std::is_trivially_copy_constructible_v<Rules>);
  static_assert(Rules::has_mask && Rules::has_terms && Rules::may_hide);
  static_assert(!decltype(heed::spec(heed::alibi(), heed::softcap(1)))::may_hide);
  static_assert(decltype(heed::spec(heed::alibi(), heed::softcap(1)))::has_terms);
}

TEST(Spec, WhenChoosesAtRunTime) {
  const Eigen::MatrixXf wrong = Eigen::MatrixXf::Zero(3, 3);
  for (const bool flag : {false, true}) {
    const auto spec = heed::spec(heed::when(flag, heed::causal(heed::top_left)),
                                 heed::when(flag, heed::scale(3)), heed::when(flag, heed::softcap(1.0)));
    const auto rules = spec.bind<float>(place);
    EXPECT_EQ(rules.visible(2, 3), !flag);
    EXPECT_TRUE(rules.visible(3, 2));
    EXPECT_EQ(rules.key_ranges(0, 2, 0), (KeyRange{0, flag ? 2 : 8}));
    EXPECT_EQ(rules.full_ranges(2, 4, 0), (KeyRange{0, flag ? 3 : 8}));
    EXPECT_EQ(spec.scale<double>(4), flag ? 3 : 0.5);
    EXPECT_NEAR(rules.score(2.0f, 0, 0), flag ? std::tanh(2.0f) : 2.0f, 1e-6f);
  }
  // What is off is neither checked nor bound.
  const auto off =
      heed::spec(heed::when(false, heed::bias(wrong)), heed::when(false, heed::lengths({1, 2, 3})),
                 heed::when(false, heed::scale(NAN)));
  EXPECT_NO_THROW(heed::detail::make_shape(off, 8, 2, 8, 2, 8, 2));
  EXPECT_EQ(off.bind<float>(place).score(1.0f, 7, 7), 1.0f);
  EXPECT_THROW(heed::detail::make_shape(heed::spec(heed::when(true, heed::bias(wrong))), 8, 2, 8, 2, 8, 2),
               std::invalid_argument);
}

TEST(Spec, ScoreWithSeesHeadAndSequence) {
  const Place there{8, 8, 3, 2, 4, 4, 0, 0, 8};
  const auto three =
      heed::spec(heed::score_with([](auto s, auto i, auto j) { return s + static_cast<float>(10 * i + j); }));
  const auto four =
      heed::spec(heed::score_with([](auto s, auto, auto, auto h) { return s + static_cast<float>(h); }));
  const auto five = heed::spec(heed::score_with(
      [](auto s, auto, auto, auto h, auto n) { return s + static_cast<float>(10 * h + n); }));
  EXPECT_EQ(three.bind<float>(there).score(0.5f, 2, 1), 21.5f);
  EXPECT_EQ(four.bind<float>(there).score(0.5f, 2, 1), 3.5f);
  EXPECT_EQ(five.bind<float>(there).score(0.5f, 2, 1), 32.5f);
}

/// A user's own mask: visible() alone is enough.
struct Diagonal : heed::mask_tag {
  struct Bound {
    HEED_INLINE bool visible(heed::Position i, heed::Position j) const { return i == j; }
  };
  Bound bind(const Place&) const { return {}; }
};

TEST(Spec, TakesAMaskOfOnesOwn) {
  const auto spec = heed::spec(Diagonal{}, heed::causal());
  const auto rules = spec.bind<float>(place);
  EXPECT_TRUE(rules.visible(3, 3));
  EXPECT_FALSE(rules.visible(3, 2));
  EXPECT_EQ(rules.key_ranges(2, 4, 0), (KeyRange{0, 4}));
  EXPECT_TRUE(rules.full_ranges(2, 4, 0).empty());
  EXPECT_TRUE(heed::spec(!Diagonal{}).bind<float>(place).visible(3, 2));
}

}  // namespace
