// SPDX-License-Identifier: MIT
/// @file
/// MovingBaseline: what reward to expect, for REINFORCE.
#ifndef HEED_TRAIN_MOVING_BASELINE_HPP
#define HEED_TRAIN_MOVING_BASELINE_HPP

#include <cmath>

#include <heed/config.hpp>
#include <heed/core/error.hpp>

namespace heed::inline HEED_ABI {

/// b <- factor · b + (1 - factor) · reward: the average of the rewards so far, each worth `factor` of the
/// next one (1502.03044, with a factor of .9). Subtracted from the rewards it changes no expectation of their
/// gradient, as long as it does not depend on the keys that are drawn, hence: first reinforce_gradient(),
/// then update().
class MovingBaseline {
 public:
  /// @param factor in [0, 1)
  /// @param first the value before any reward
  explicit MovingBaseline(double factor = 0.9, double first = 0) : factor_(factor), value_(first) {
    if (!(factor >= 0 && factor < 1))
      detail::fail("MovingBaseline: the factor is ", factor, ", it must be at least 0 and below 1");
  }

  double value() const { return value_; }
  /// @throws std::invalid_argument for a reward that is not finite: it would stay for ever
  void update(double reward) {
    if (!std::isfinite(reward)) detail::fail("MovingBaseline: the reward is ", reward, ", it must be finite");
    value_ = factor_ * value_ + (1 - factor_) * reward;
  }
  /// The mean of a vector or matrix of rewards, as one; none leave the baseline as it is.
  template <class R>
  void update(const Eigen::MatrixBase<R>& rewards) {
    if (rewards.size() > 0) update(static_cast<double>(rewards.template cast<double>().mean()));
  }

 private:
  double factor_, value_;
};

}  // namespace heed::inline HEED_ABI

#endif
