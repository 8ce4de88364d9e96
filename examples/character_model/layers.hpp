// SPDX-License-Identifier: MIT
#ifndef CHARACTER_MODEL_LAYERS_HPP
#define CHARACTER_MODEL_LAYERS_HPP

// The layers that act on every row by itself, each with its gradient written out. N is the number of rows
// (characters of the whole batch), and dx stands for the derivative of the loss by x, in the shape of x.

#include <Eigen/Core>
#include <cmath>
#include <random>

namespace character_model {

using Eigen::Index;

/// Rows are characters.
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// What is learnt: a tensor and the derivative of the loss by it. Each tensor is used once in a forward pass,
/// so a backward pass overwrites the gradient.
template <class T>
struct Parameter {
  Matrix<T> value, gradient;

  Parameter(Index rows, Index columns, T everywhere)
      : value(Matrix<T>::Constant(rows, columns, everywhere)), gradient(Matrix<T>::Zero(rows, columns)) {}
  /// Normally distributed around 0. Drawn in double, so that all scalars start from the same numbers.
  Parameter(Index rows, Index columns, double deviation, std::mt19937_64& random)
      : Parameter(rows, columns, T(0)) {
    std::normal_distribution<double> normal(0, deviation);
    for (Index i = 0; i < value.size(); ++i) value.data()[i] = static_cast<T>(normal(random));
  }
};

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
