// SPDX-License-Identifier: MIT
#ifndef TRANSLATE_DATES_GRU_HPP
#define TRANSLATE_DATES_GRU_HPP

// The recurrent layer: gated recurrent units, one step of many sequences at a time.

#include <cmath>
#include <random>
#include <vector>

#include "../training/parameter.hpp"

namespace translate_dates {

using namespace training;

/// From the state h of a sequence and what it reads, x = (x_r, x_z, x_n), the next state:
///
///     r = σ(x_r + h U_r)        z = σ(x_z + h U_z)        n = tanh(x_n + r ∘ h U_n)        h' = n + z ∘ (h −
///     n)
///
/// z says how much of the old state stays, r how much of it the new one n is made with. Source: 1406.1078;
/// with r after the product with U_n, not before it, so that one product h U serves all three.
///
/// Rows hold the steps of all sequences, R of them; a step is any range of rows. Whoever drives the steps
/// fills in `x` and `previous` before each of them.
template <class T>
class Gru {
 public:
  Parameter<T> recurrent;  // U, H × 3H
  Matrix<T> x, dx;         // R × 3H, what is read, and the gradient by it
  Matrix<T> previous;      // R × H, h
  Matrix<T> states;        // R × H, h'

  Gru(Index units, std::mt19937_64& random)
      : recurrent(units, 3 * units, 1 / std::sqrt(static_cast<double>(units)), random) {}

  Index units() const { return recurrent.value.rows(); }

  void resize(Index rows) {
    for (Matrix<T>* m : {&x, &dx, &gates_, &products_, &dproducts_}) m->resize(rows, 3 * units());
    for (Matrix<T>* m : {&previous, &states}) m->resize(rows, units());
  }

  /// Writes states, rows [first, first + n).
  void step(Index first, Index n) {
    const Index h = units();
    auto products = products_.middleRows(first, n), gates = gates_.middleRows(first, n);
    const auto in = x.middleRows(first, n), before = previous.middleRows(first, n);
    products.noalias() = before * recurrent.value;
    gates.leftCols(2 * h) = (in.leftCols(2 * h) + products.leftCols(2 * h)).array().logistic();
    const auto r = gates.leftCols(h).array(), z = gates.middleCols(h, h).array();
    gates.rightCols(h) = (in.rightCols(h).array() + r * products.rightCols(h).array()).tanh();
    const auto made = gates.rightCols(h).array();
    states.middleRows(first, n) = made + z * (before.array() - made);
  }

  /// Writes dx, rows [first, first + n).
  /// @param dh n × H, the gradient by these states; afterwards that by the states before
  void step_back(Index first, Index n, Matrix<T>& dh) {
    const Index h = units();
    const auto gates = gates_.middleRows(first, n), products = products_.middleRows(first, n);
    auto d = dx.middleRows(first, n), dproducts = dproducts_.middleRows(first, n);
    const auto r = gates.leftCols(h).array(), z = gates.middleCols(h, h).array(),
               made = gates.rightCols(h).array();
    const auto before = previous.middleRows(first, n).array();
    d.rightCols(h) = dh.array() * (1 - z) * (1 - made.square());
    d.middleCols(h, h) = dh.array() * (before - made) * z * (1 - z);
    d.leftCols(h) = d.rightCols(h).array() * products.rightCols(h).array() * r * (1 - r);
    dproducts.leftCols(2 * h) = d.leftCols(2 * h);
    dproducts.rightCols(h) = d.rightCols(h).array() * r;
    dh.array() *= z;
    dh.noalias() += dproducts * recurrent.value.transpose();
  }

  /// After all steps back: the gradient by U, a single product over all rows.
  void finish() { recurrent.gradient.noalias() = previous.transpose() * dproducts_; }

 private:
  Matrix<T> gates_;                 // R × 3H: r, z, n
  Matrix<T> products_, dproducts_;  // R × 3H: h U
};

/// What a network reads one character at a time: a row of numbers for each character. (The product of a
/// matrix with a vector of zeros and a single one, at the character's number.)
template <class T>
struct Table {
  Parameter<T> rows;  // characters × columns

  Table(Index characters, Index columns, std::mt19937_64& random) : rows(characters, columns, 0.5, random) {}

  /// @param x N × columns, written
  template <class X>
  void forward(const std::vector<int>& characters, X&& x) const {
    for (Index i = 0; i < x.rows(); ++i) x.row(i) = rows.value.row(characters[static_cast<std::size_t>(i)]);
  }
  /// @param dx N × columns, of the N characters of all steps
  void backward(const std::vector<int>& characters, const Matrix<T>& dx) {
    rows.gradient.setZero();  // a character stands in many places, or in none
    for (Index i = 0; i < dx.rows(); ++i)
      rows.gradient.row(characters[static_cast<std::size_t>(i)]) += dx.row(i);
  }
};

}  // namespace translate_dates

#endif
