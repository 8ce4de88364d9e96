// SPDX-License-Identifier: MIT
#ifndef TRAINING_PARAMETER_HPP
#define TRAINING_PARAMETER_HPP

// What is learnt.

#include <Eigen/Core>
#include <random>
#include <string>

namespace training {

using Eigen::Index;

/// Rows are characters, or sequences.
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// What is learnt: a tensor and the derivative of the loss by it, which a backward pass overwrites.
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

template <class T>
struct NamedParameter {
  std::string name;
  Parameter<T>* parameter;
};

}  // namespace training

#endif
