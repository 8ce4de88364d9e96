// SPDX-License-Identifier: MIT
#ifndef TRAINING_CLOCK_HPP
#define TRAINING_CLOCK_HPP

// How long a training has taken.

#include <chrono>

namespace training {

class Clock {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace training

#endif
