// SPDX-License-Identifier: MIT
#ifndef TRAINING_LINEAR_HPP
#define TRAINING_LINEAR_HPP

// The linear layer. N is the number of rows, and dx stands for the derivative of the loss by x, in the shape
// of x.

#include <cmath>
#include <random>

#include "parameter.hpp"

namespace training {

/// y = x W + b
template <class T>
struct Linear {
  Parameter<T> weight;  // in × out
  Parameter<T> bias;    // 1 × out

  /// @param gain deviation of the outputs at the start, for inputs of deviation 1
  Linear(Index in, Index out, double gain, std::mt19937_64& random)
      : weight(in, out, gain / std::sqrt(static_cast<double>(in)), random), bias(1, out, T(0)) {}

  /// @param x N × in
  /// @param y N × out, written
  void forward(const Matrix<T>& x, Matrix<T>& y) const {
    y.noalias() = x * weight.value;
    y.rowwise() += bias.value.row(0);
  }

  /// dW = xᵀ dy, db = Σ_i dy_i, dx = dy Wᵀ
  /// @param x N × in, as it was in the forward pass
  /// @param dy N × out
  /// @param dx N × in, written
  void backward(const Matrix<T>& x, const Matrix<T>& dy, Matrix<T>& dx) {
    weight.gradient.noalias() = x.transpose() * dy;
    bias.gradient = dy.colwise().sum();
    dx.noalias() = dy * weight.value.transpose();
  }
};

}  // namespace training

#endif
