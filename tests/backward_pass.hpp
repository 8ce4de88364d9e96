// SPDX-License-Identifier: MIT
#ifndef HEED_TESTS_BACKWARD_PASS_HPP
#define HEED_TESTS_BACKWARD_PASS_HPP

#include "oracle.hpp"

#include <heed/attention_backward.hpp>

namespace heed_test {

/// Random operands and what a forward pass made of them.
template <class T>
struct Pass {
  Matrix<T> q, k, v, dout, out;
  heed::Saved<T> saved;

  template <class... P>
  Pass(Index n, Index m, Index d, Index d_v, Index heads, Index key_heads, const P&... policies) {
    Dice dice(static_cast<std::uint64_t>(n * 1000 + m));
    q = dice.matrix<T>(n, heads * d);
    k = dice.matrix<T>(m, key_heads * d);
    v = dice.matrix<T>(m, key_heads * d_v);
    dout = dice.matrix<T>(n, heads * d_v);
    out = heed::attention(q, k, v, heed::heads(heads, key_heads), policies..., heed::save(saved));
  }
  template <class... P>
  auto gradients(const P&... policies) const {
    return heed::attention_backward(dout, q, k, v, out, saved, policies...);
  }
};

}  // namespace heed_test

#endif
