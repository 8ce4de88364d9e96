// SPDX-License-Identifier: MIT
// Reads the golden files of tests/data.
#ifndef HEED_TESTS_GOLDEN_HPP
#define HEED_TESTS_GOLDEN_HPP

#include "oracle.hpp"

#include <cstdlib>
#include <fstream>
#include <map>

namespace heed_test {

/// The entries of one file, by name.
inline std::map<std::string, Matrix<double>> read_golden(const std::string& name) {
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

inline const char* const golden_files[] = {"full",          "values_of_another_width",
                                           "causal",        "causal_more_keys",
                                           "masked",        "bias",
                                           "bias_per_head", "bias_per_key",
                                           "grouped_heads", "alibi",
                                           "softcap",       "one_query",
                                           "tiles"};

}  // namespace heed_test

#endif
