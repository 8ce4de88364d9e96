// expect: call::attention.( P =)? [a-zA-Z0-9_:]*BiasGradient<
// expect: this function takes no bias_gradient\(\): it belongs to attention_backward
// expect: call::attention.( P =)? [a-zA-Z0-9_:]*PairTerm<[a-zA-Z0-9_:]*bias_tangent_tag
// expect: call::attention.( P =)? [a-zA-Z0-9_:]*Performer
// expect: call::attention_weights.( P =)? [a-zA-Z0-9_:]*Save<
// expect: call::attention_weights.( P =)? [a-zA-Z0-9_:]*BiasGradient<
// expect: call::attention_weights.( P =)? [a-zA-Z0-9_:]*ScoreGradient<
// expect: call::attention_double_backward.( P =)? [a-zA-Z0-9_:]*ScoreGradient<
// expect: call::attention_double_backward.( P =)? [a-zA-Z0-9_:]*AlphaGradient<
// expect: call::attention_double_backward.( P =)? [a-zA-Z0-9_:]*WeightParameterGradient<
// expect: call::attention_jvp.( P =)? [a-zA-Z0-9_:]*LseGradient<
// expect: call::attention_backward.( P =)? [a-zA-Z0-9_:]*Save<
// expect: attention_jvp differentiates softmax
// expect: attention_jvp moves dot products only
// expect: attention_double_backward moves dot products only
// SPDX-License-Identifier: MIT
#define HEED_GENERIC_ONLY
#include <heed/heed.hpp>

int main() {
  using namespace heed;
  Eigen::MatrixXf x = Eigen::MatrixXf::Zero(2, 2);
  const Eigen::Vector2f w(1, 1);
  Saved<float> saved;
  (void)attention(x, x, x, bias_gradient(x), when(true, bias_tangent(x)), performer(8, 1));
  (void)attention_weights(x, x, save(saved), bias_gradient(x), score_gradient(x));
  (void)attention_backward(x, x, x, x, x, saved, save(saved));
  (void)attention_jvp(x, x, x, x, x, x, lse_gradient(x), sparsemax(), additive(w));
  (void)attention_double_backward(x, x, x, x, x, saved, x, x, x, score_gradient(x), alpha_gradient(x),
                                  weight_parameter_gradient(x), additive(w));
}
