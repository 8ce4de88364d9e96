// SPDX-License-Identifier: MIT
// Compiled with -O3 -march=native, to be compared with plain -O2. Only pointers cross the border: Eigen's
// matrices may be aligned differently on either side.

#include <heed/heed.hpp>

namespace measure {

void attention_native(float* out, const float* q, const float* k, const float* v, Eigen::Index queries,
                      Eigen::Index keys, Eigen::Index heads, Eigen::Index d) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  static heed::Workspace workspace;
  heed::attention_into(
      Eigen::Map<Matrix>(out, queries, heads * d), Eigen::Map<const Matrix>(q, queries, heads * d),
      Eigen::Map<const Matrix>(k, keys, heads * d), Eigen::Map<const Matrix>(v, keys, heads * d), workspace,
      heed::heads(heads), heed::on(heed::serial()));
}

}  // namespace measure
