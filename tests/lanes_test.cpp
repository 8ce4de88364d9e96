// SPDX-License-Identifier: MIT
// The vector kernels of every compiled instruction set that the machine has: powers of two, transposes,
// products.
#include "oracle.hpp"

#include <sstream>
#include <stdexcept>

// Always-inline kernels can be called only by functions of the same target, so the checks are compiled once
// for each.
#if HEED_WITH_GENERIC
namespace heed_test::generic {
namespace lanes = heed::detail::generic;
#include "lanes_test.inl"
}  // namespace heed_test::generic
TEST(Lanes, GenericFloat) { heed_test::generic::check_all<float>("generic"); }
TEST(Lanes, GenericDouble) { heed_test::generic::check_all<double>("generic"); }
#endif

#if HEED_WITH_AVX2
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace heed_test::avx2 {
namespace lanes = heed::detail::avx2;
#include "lanes_test.inl"
}  // namespace heed_test::avx2
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
TEST(Lanes, Avx2Float) {
  if (!heed::available(heed::InstructionSet::avx2)) GTEST_SKIP();
  heed_test::avx2::check_all<float>("avx2");
}
TEST(Lanes, Avx2Double) {
  if (!heed::available(heed::InstructionSet::avx2)) GTEST_SKIP();
  heed_test::avx2::check_all<double>("avx2");
}
#endif

#if HEED_WITH_AVX512
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
namespace heed_test::avx512 {
namespace lanes = heed::detail::avx512;
#include "lanes_test.inl"
}  // namespace heed_test::avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
TEST(Lanes, Avx512Float) {
  if (!heed::available(heed::InstructionSet::avx512)) GTEST_SKIP();
  heed_test::avx512::check_all<float>("avx512");
}
TEST(Lanes, Avx512Double) {
  if (!heed::available(heed::InstructionSet::avx512)) GTEST_SKIP();
  heed_test::avx512::check_all<double>("avx512");
}
#endif

TEST(Lanes, TheSetThatRunsIsAvailable) {
  EXPECT_TRUE(heed::available(heed::instruction_set()));
  EXPECT_STRNE(heed::name(heed::instruction_set()), "");
  // The environment decides.
  const char* wish = std::getenv("HEED_INSTRUCTION_SET");
  if (wish != nullptr && *wish != '\0') {
    EXPECT_STREQ(heed::name(heed::instruction_set()), wish);
  }
}

TEST(Lanes, AWishForASetIsGrantedOrRefused) {
  using heed::detail::choose_instruction_set;
  const auto best = choose_instruction_set(nullptr);
  EXPECT_TRUE(heed::available(best));
  EXPECT_EQ(choose_instruction_set(""), best);
  std::string there;
  for (const auto set :
       {heed::InstructionSet::generic, heed::InstructionSet::avx2, heed::InstructionSet::avx512})
    if (heed::available(set)) there += (there.empty() ? "" : ", ") + std::string(heed::name(set));
  const auto refuses = [&](const char* wish) {
    try {
      choose_instruction_set(wish);
      ADD_FAILURE() << wish << " goes unheard";
    } catch (const std::invalid_argument& e) {
      EXPECT_EQ(e.what(), "heed: the environment variable HEED_INSTRUCTION_SET is \"" + std::string(wish) +
                              "\", this program on this processor has: " + there);
    }
  };
  for (const auto set :
       {heed::InstructionSet::generic, heed::InstructionSet::avx2, heed::InstructionSet::avx512}) {
    if (heed::available(set)) {
      EXPECT_EQ(choose_instruction_set(heed::name(set)), set);
    } else {
      refuses(heed::name(set));
    }
  }
  for (const char* wish : {"avx", "AVX2", "avx2 ", "sse9"}) refuses(wish);
}

TEST(Lanes, ASetPrintsItsName) {
  std::ostringstream text;
  text << heed::InstructionSet::generic << ' ' << heed::InstructionSet::avx2 << ' '
       << heed::InstructionSet::avx512;
  EXPECT_EQ(text.str(), "generic avx2 avx512");
}
