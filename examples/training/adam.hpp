// SPDX-License-Identifier: MIT
#ifndef TRAINING_ADAM_HPP
#define TRAINING_ADAM_HPP

// From gradients to better parameters.

#include <algorithm>
#include <cmath>
#include <vector>

#include "parameter.hpp"

namespace training {

/// rate · (step + 1) / warm_up over the first steps, then half a cosine down to a tenth of it.
/// @param progress how much of the training is over, 0 … 1
inline double learning_rate(double rate, long step, long warm_up, double progress) {
  const double pi = 3.14159265358979;
  const double fall = 0.55 + 0.45 * std::cos(pi * std::clamp(progress, 0.0, 1.0));
  return rate * fall * std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(warm_up));
}

/// m = β1 m + (1 − β1) g, v = β2 v + (1 − β2) g², parameter −= rate · m̂ / (√v̂ + ε), where m̂ = m / (1 − β1ᵗ)
/// and v̂ = v / (1 − β2ᵗ) undo the start from zero. Source: 1412.6980.
template <class T>
class Adam {
 public:
  /// @param longest gradients whose norm, over all parameters together, is greater are shortened to it
  explicit Adam(double longest = 1.0) : longest_(longest) {}

  /// Changes every parameter of the model by its gradient. Returns the norm of the gradients before clipping.
  template <class Model>
  double step(Model& model, double rate) {
    double square = 0;
    const auto parameters = model.parameters();
    for (const auto& p : parameters) square += static_cast<double>(p.parameter->gradient.squaredNorm());
    const double norm = std::sqrt(square);
    const T shrink = static_cast<T>(norm > longest_ ? longest_ / norm : 1.0);

    ++steps_;
    const double t = static_cast<double>(steps_);
    const T correct_m = static_cast<T>(1 / (1 - std::pow(static_cast<double>(beta1), t)));
    const T correct_v = static_cast<T>(1 / (1 - std::pow(static_cast<double>(beta2), t)));
    for (std::size_t n = 0; n < parameters.size(); ++n) {
      Parameter<T>& p = *parameters[n].parameter;
      if (n == m_.size()) {
        m_.push_back(Matrix<T>::Zero(p.value.rows(), p.value.cols()));
        v_.push_back(m_.back());
      }
      auto m = m_[n].array(), v = v_[n].array();
      m = beta1 * m + (1 - beta1) * shrink * p.gradient.array();
      v = beta2 * v + (1 - beta2) * (shrink * p.gradient.array()).square();
      p.value.array() -= static_cast<T>(rate) * correct_m * m / ((correct_v * v).sqrt() + epsilon);
    }
    return norm;
  }

 private:
  static constexpr T beta1 = T(0.9), beta2 = T(0.98), epsilon = T(1e-8);
  double longest_;
  long steps_ = 0;
  std::vector<Matrix<T>> m_, v_;  // in the order of parameters()
};

}  // namespace training

#endif
