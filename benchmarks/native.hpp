// SPDX-License-Identifier: MIT
#ifndef HEED_BENCHMARKS_NATIVE_HPP
#define HEED_BENCHMARKS_NATIVE_HPP

#include <Eigen/Core>

namespace measure {

using RowMajorMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// attention() compiled with -O3 -march=native (native.cpp), called from code that is not.
void attention_native(float* out, const float* q, const float* k, const float* v, Eigen::Index queries,
                      Eigen::Index keys, Eigen::Index heads, Eigen::Index d);

inline void attention_native(RowMajorMatrix& out, const RowMajorMatrix& q, const RowMajorMatrix& k,
                             const RowMajorMatrix& v, Eigen::Index heads) {
  attention_native(out.data(), q.data(), k.data(), v.data(), q.rows(), k.rows(), heads, q.cols() / heads);
}

}  // namespace measure

#endif
