// SPDX-License-Identifier: MIT
// Against golden files that another framework made (tests/data/generate.py).
#include "oracle.hpp"

#include <cstring>
#include <fstream>
#include <map>

#include <heed/core/when.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/softcap.hpp>

namespace {

using namespace heed_test;

std::map<std::string, Matrix<double>> read(const std::string& name) {
  std::map<std::string, Matrix<double>> entries;
  std::ifstream file(std::string(HEED_TEST_DATA) + "/" + name + ".txt");
  EXPECT_TRUE(file.good()) << name;
  std::string key, number;
  Index rows = 0, columns = 0;
  while (file >> key >> rows >> columns) {
    Matrix<double> m(rows, columns);
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j) {
        file >> number;
        m(i, j) = std::strtod(number.c_str(), nullptr);
      }
    entries[key] = m;
  }
  return entries;
}

template <class T>
void compare(const char* name, double tolerance) {
  const auto golden = read(name);
  const auto has = [&](const char* key) { return golden.count(key) > 0; };
  const auto at = [&](const char* key) { return golden.at(key); };
  ASSERT_TRUE(has("out") && has("lse")) << name;
  const Matrix<T> q = at("q").template cast<T>(), k = at("k").template cast<T>(),
                  v = at("v").template cast<T>();
  const Matrix<T> bias = has("bias") ? Matrix<T>(at("bias").template cast<T>()) : Matrix<T>();
  const Matrix<bool> mask = has("mask") ? Matrix<bool>((at("mask").array() != 0).matrix()) : Matrix<bool>();
  heed::Saved<T> saved;
  const auto heads =
      heed::heads(static_cast<Index>(at("heads")(0, 0)), static_cast<Index>(at("key_heads")(0, 0)));
  const auto run = [&](const auto& seen) {
    return Matrix<T>(heed::attention(
        q, k, v, heads, seen, heed::when(has("bias"), heed::bias(bias)),
        heed::when(std::strcmp(name, "alibi") == 0, heed::alibi()),
        heed::when(has("softcap"),
                   heed::softcap(has("softcap") ? static_cast<T>(at("softcap")(0, 0)) : T(1))),
        heed::when(has("scale"), heed::scale(has("scale") ? static_cast<T>(at("scale")(0, 0)) : T(1))),
        heed::save(saved)));
  };
  const auto expect = [&](const Matrix<T>& out) {
    const double off = (out.template cast<double>() - at("out")).cwiseAbs().maxCoeff(),
                 lse = (saved.lse.template cast<double>() - at("lse")).cwiseAbs().maxCoeff();
    EXPECT_LE(off, tolerance) << name;
    EXPECT_LE(lse, tolerance) << name;
  };
  expect(run(heed::when(has("mask"), heed::dense_mask(mask))));
  if (std::strstr(name, "causal") != nullptr || std::strcmp(name, "alibi") == 0 ||
      std::strcmp(name, "tiles") == 0)
    expect(run(heed::causal()));
}

const char* const files[] = {"full",          "values_of_another_width",
                             "causal",        "causal_more_keys",
                             "masked",        "bias",
                             "bias_per_head", "bias_per_key",
                             "grouped_heads", "alibi",
                             "softcap",       "one_query",
                             "tiles"};

TEST(AttentionGolden, Double) {
  for (const char* file : files) compare<double>(file, 4e-15);
}

TEST(AttentionGolden, Float) {
  for (const char* file : files) compare<float>(file, 3e-6);
}

}  // namespace
