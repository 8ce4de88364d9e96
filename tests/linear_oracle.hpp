// SPDX-License-Identifier: MIT
// Linear attention by its definition: all pairs, in long double, over the same policies.
#ifndef HEED_TESTS_LINEAR_ORACLE_HPP
#define HEED_TESTS_LINEAR_ORACLE_HPP

#include "oracle.hpp"

#include <heed/heed.hpp>
#include <heed/linear_attention.hpp>

namespace heed_test {

using Wide = long double;

/// φ of one row of a head.
struct EluFeatures {
  std::vector<Wide> operator()(const std::vector<Wide>& x) const {
    std::vector<Wide> y;
    for (Wide a : x) y.push_back(a > 0 ? a + 1 : std::exp(a));
    return y;
  }
};
struct PositiveFeatures {
  Eigen::MatrixXd omega;
  Wide scale;
  std::vector<Wide> operator()(const std::vector<Wide>& x) const {
    std::vector<Wide> y;
    Wide norm = 0;
    for (Wide a : x) norm += a * a;
    for (Index f = 0; f < omega.rows(); ++f) {
      Wide dot = 0;
      for (Index c = 0; c < omega.cols(); ++c) dot += omega(f, c) * x[static_cast<std::size_t>(c)];
      y.push_back(std::exp(std::sqrt(scale) * dot - scale * norm / 2));
    }
    return y;
  }
};

struct LinearCase {
  Index n, m, d, d_v, heads = 1, key_heads = 1;
  std::vector<Index> q_offsets = {}, k_offsets = {};  // of sequences, or empty
};

/// Exact outputs, and Σ_j w_j |v_j| / Σ_j w_j of every element. visible(i, j, sequence).
template <class Phi, class Visible, class Q, class K, class V>
std::pair<Matrix<Wide>, Matrix<Wide>> linear_oracle(const LinearCase& c, const Phi& phi,
                                                    const Visible& visible, const Q& q, const K& k,
                                                    const V& v) {
  Matrix<Wide> out = Matrix<Wide>::Zero(c.n, c.heads * c.d_v), size = out;
  const auto features = [&](const auto& x, Index row, Index head) {
    std::vector<Wide> r;
    for (Index t = 0; t < c.d; ++t) r.push_back(static_cast<Wide>(x(row, head * c.d + t)));
    return phi(r);
  };
  const std::vector<Index> qs = c.q_offsets.empty() ? std::vector<Index>{0, c.n} : c.q_offsets;
  const std::vector<Index> ks = c.k_offsets.empty() ? std::vector<Index>{0, c.m} : c.k_offsets;
  for (std::size_t s = 0; s + 1 < qs.size(); ++s)
    for (Index h = 0; h < c.heads; ++h) {
      const Index g = h / (c.heads / c.key_heads);
      std::vector<std::vector<Wide>> keys;
      for (Index j = ks[s]; j < ks[s + 1]; ++j) keys.push_back(features(k, j, g));
      for (Index i = qs[s]; i < qs[s + 1]; ++i) {
        const auto query = features(q, i, h);
        Wide sum = 0;
        for (Index j = ks[s]; j < ks[s + 1]; ++j) {
          if (!visible(i - qs[s], j - ks[s], static_cast<Index>(s))) continue;
          Wide w = 0;
          for (std::size_t f = 0; f < query.size(); ++f)
            w += query[f] * keys[static_cast<std::size_t>(j - ks[s])][f];
          sum += w;
          for (Index t = 0; t < c.d_v; ++t) {
            const Wide x = static_cast<Wide>(v(j, g * c.d_v + t));
            out(i, h * c.d_v + t) += w * x;
            size(i, h * c.d_v + t) += w * std::abs(x);
          }
        }
        if (sum == 0) continue;
        for (Index t = 0; t < c.d_v; ++t) {
          out(i, h * c.d_v + t) /= sum;
          size(i, h * c.d_v + t) /= sum;
        }
      }
    }
  return {out, size};
}

}  // namespace heed_test

#endif
