// SPDX-License-Identifier: MIT
#ifndef TRAINING_CROSS_ENTROPY_HPP
#define TRAINING_CROSS_ENTROPY_HPP

// The loss.

#include <cmath>
#include <vector>

#include "parameter.hpp"

namespace training {

/// Mean over rows of log Σ_c exp(logits_ic) − logits_i,target: the surprise at the next character, in nats.
/// @param logits N × vocabulary, N ≥ 1
/// @param targets N characters
/// @param dlogits where the gradient goes, N × vocabulary: (softmax(logits_i) − [c = target]) / N; or null
template <class T>
double cross_entropy(const Matrix<T>& logits, const std::vector<int>& targets, Matrix<T>* dlogits = nullptr) {
  if (dlogits != nullptr) dlogits->resize(logits.rows(), logits.cols());
  double sum = 0;
  Eigen::Array<T, 1, Eigen::Dynamic> weights;
  for (Index i = 0; i < logits.rows(); ++i) {
    const int target = targets[static_cast<std::size_t>(i)];
    const T most = logits.row(i).maxCoeff();
    weights = (logits.row(i).array() - most).exp();
    const T total = weights.sum();
    sum += static_cast<double>(std::log(total) + most - logits(i, target));
    if (dlogits != nullptr) {
      dlogits->row(i).array() = weights / (total * static_cast<T>(logits.rows()));
      (*dlogits)(i, target) -= 1 / static_cast<T>(logits.rows());
    }
  }
  return sum / static_cast<double>(logits.rows());
}

}  // namespace training

#endif
