// expect: no mask can hide a token from a query
// expect: Linformer's keys are mixtures of all tokens: they have no relative positions
// expect: pooled keys are means of several tokens: they have no relative positions
// expect: call::pooled_attention.( P =)? [a-zA-Z0-9_:]*PerHead
// expect: merges softmaxes over parts of the keys: it takes no other selection and no weight_with
// expect: shaw_attention.. is made of dot products with tables
// expect: each would have the sink
// expect: call::shaw_attention_backward.( P =)? [a-zA-Z0-9_:]*ScoreGradient<
// expect: call::native_sparse_attention.( P =)? [a-zA-Z0-9_:]*Dropout
// expect: monotonic_attention.. scores by dot products
// expect: call::monotonic_attention.( P =)? [a-zA-Z0-9_:]*WeightWith<
// expect: call::linear_attention.( P =)? [a-zA-Z0-9_:]*PerHead
// SPDX-License-Identifier: MIT
#define HEED_GENERIC_ONLY
#include <heed/heed.hpp>

int main() {
  using namespace heed;
  Eigen::MatrixXf x = Eigen::MatrixXf::Zero(3, 2);
  const Eigen::Vector2f w(1, 1);
  Saved<float> saved;
  const auto twice = weight_with([](auto p, auto, auto) { return p + p; });
  (void)linformer_attention(x, x, x, x, x, causal(), when(true, t5_bias(x)));
  (void)pooled_attention(x, x, x, strides({2}), spec(alibi()));
  (void)pooled_attention(x, x, x, strides({2}), per_head);
  (void)shaw_attention(x, x, x, x, x, spec(top_k(2)), additive(w), sink(0));
  (void)shaw_attention_backward(x, x, x, x, x, x, x, saved, score_gradient(x));
  (void)native_sparse_attention(x, x, x, x, {}, dropout(0.5, 1));
  (void)monotonic_attention(x, x, x, monotonic(), additive(w));
  (void)monotonic_attention(x, x, x, monotonic(), twice);
  (void)linear_attention(x, x, x, per_head);
}
