// SPDX-License-Identifier: MIT
#ifndef CHARACTER_MODEL_LAYERS_HPP
#define CHARACTER_MODEL_LAYERS_HPP

// The layers that act on every row by itself, each with its gradient written out. N is the number of rows
// (characters of the whole batch), and dx stands for the derivative of the loss by x, in the shape of x.

#include <Eigen/Core>
#include <cmath>

#include "../training/linear.hpp"
#include "../training/parameter.hpp"

namespace character_model {

using namespace training;

/// y_i = n_i ∘ gain + bias with n_i = (x_i − mean(x_i)) / √(variance(x_i) + ε): every row gets mean 0 and
/// variance 1, then a learnt scale and offset for each column. Source: 1607.06450.
template <class T>
struct LayerNorm {
  Parameter<T> gain;  // 1 × d
  Parameter<T> bias;  // 1 × d

  explicit LayerNorm(Index d) : gain(1, d, T(1)), bias(1, d, T(0)) {}

  /// @param x N × d
  /// @param y N × d, written
  void forward(const Matrix<T>& x, Matrix<T>& y) {
    n_.resize(x.rows(), x.cols());
    inverse_deviation_.resize(x.rows());
    y.resize(x.rows(), x.cols());
    for (Index i = 0; i < x.rows(); ++i) {
      auto n = n_.row(i);
      n.array() = x.row(i).array() - x.row(i).mean();
      const T variance = n.squaredNorm() / static_cast<T>(x.cols());
      inverse_deviation_[i] = 1 / std::sqrt(variance + epsilon);
      n *= inverse_deviation_[i];
      y.row(i) = n.cwiseProduct(gain.value.row(0)) + bias.value.row(0);
    }
  }

  /// With g = dy ∘ gain: dx = (g − mean(g) − n mean(g ∘ n)) / √(variance + ε). What is taken away are the
  /// parts of g that would change the row's mean and its length, which y does not depend on.
  /// @param dy N × d
  /// @param dx N × d, added to: the layer stands at the start of a branch, whose gradient joins that of the
  ///   residual stream
  void backward(const Matrix<T>& dy, Matrix<T>& dx) {
    gain.gradient = dy.cwiseProduct(n_).colwise().sum();
    bias.gradient = dy.colwise().sum();
    Eigen::Matrix<T, 1, Eigen::Dynamic> g;
    for (Index i = 0; i < dy.rows(); ++i) {
      g = dy.row(i).cwiseProduct(gain.value.row(0));
      const T along_ones = g.mean(), along_n = g.dot(n_.row(i)) / static_cast<T>(g.size());
      dx.row(i).array() += inverse_deviation_[i] * (g.array() - along_ones - n_.row(i).array() * along_n);
    }
  }

 private:
  static constexpr T epsilon = T(1e-5);
  Matrix<T> n_;
  Eigen::Matrix<T, Eigen::Dynamic, 1> inverse_deviation_;
};

/// y = x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))), element by element: x where it is large, 0 where it is very
/// negative, smooth between. Source: 1606.08415.
template <class T>
struct Gelu {
  /// @param x any shape
  /// @param y the shape of x, written
  void forward(const Matrix<T>& x, Matrix<T>& y) {
    const T a = T(0.7978845608028654), b = T(0.044715);
    y.resize(x.rows(), x.cols());
    const auto in = x.array();
    auto out = y.array();
    out = (a * in * (1 + b * in.square())).tanh();
    // The tangent is dear: the slope is made while it is at hand, and is all that the backward pass needs.
    slope_ = (1 + out + in * (1 - out.square()) * (a * (1 + 3 * b * in.square()))) / 2;
    out = in * (1 + out) / 2;
  }

  /// dx = dy ∘ slope, in place.
  void backward(Matrix<T>& dy) const { dy.array() *= slope_.array(); }

 private:
  Matrix<T> slope_;
};

}  // namespace character_model

#endif
