// SPDX-License-Identifier: MIT
/// @file
/// performer(features, seed): positive random features, whose products estimate the weights of softmax
/// attention.
#ifndef HEED_LINEAR_PERFORMER_HPP
#define HEED_LINEAR_PERFORMER_HPP

#include <cmath>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/engine/linear_problem.hpp>
#include <heed/random.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// Two independent normal numbers from 64 random bits (Box and Muller, Ann. Math. Stat. 29, 1958).
struct NormalPair {
  double first, second;
  explicit NormalPair(Words bits) {
    constexpr double two_pi = 6.283185307179586476925;
    const double radius = std::sqrt(-2 * std::log((bits.first + 0.5) * 0x1p-32));
    const double angle = two_pi * bits.second * 0x1p-32;
    first = radius * std::cos(angle);
    second = radius * std::sin(angle);
  }
};

/// Row r of a matrix of normal numbers, which depend on key, r and column alone.
inline Eigen::VectorXd normal_row(Words key, Index r, Index columns) {
  Eigen::VectorXd row(columns);
  for (Index c = 0; c < columns; c += 2) {
    const NormalPair x(threefry({static_cast<std::uint32_t>(r), static_cast<std::uint32_t>(c / 2)}, key));
    row(c) = x.first;
    if (c + 1 < columns) row(c + 1) = x.second;
  }
  return row;
}

}  // namespace detail

/// The directions ω of performer(features, seed) for queries of d columns: features × d. In blocks of d rows
/// they are orthogonal, and each is as long as a vector of d normal numbers: normal vectors, drawn apart from
/// each other, with a smaller variance than independent ones have (2009.14794, section 3.2). They depend on
/// seed, features' number and d alone, up to rounding the same on every machine.
inline Eigen::MatrixXd performer_projection(Index features, Index d, std::uint64_t seed) {
  const Words key{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  const Words directions = threefry({0, 1}, key), lengths = threefry({0, 2}, key);
  Eigen::MatrixXd omega(features, d);
  for (Index r = 0; r < features; ++r) {
    const Index block = r / d * d;
    Eigen::VectorXd row = detail::normal_row(directions, r, d);
    // Gram-Schmidt, twice: the second round removes what rounding left.
    for (int round = 0; round < 2; ++round)
      for (Index b = block; b < r; ++b) row -= omega.row(b).dot(row) * omega.row(b).transpose();
    omega.row(r) = row.normalized();
  }
  for (Index r = 0; r < features; ++r) omega.row(r) *= detail::normal_row(lengths, r, d).norm();
  return omega;
}

/// The policy made by performer().
class Performer : public feature_tag {
 public:
  static constexpr bool projects = true;

  Performer(Index features, std::uint64_t seed) : features_(features), draws_(std::make_shared<Draws>()) {
    draws_->seed = seed;
  }
  explicit Performer(Eigen::MatrixXd projection)
      : features_(projection.rows()), draws_(std::make_shared<Draws>()) {
    given_ = projection.cols();
    draws_->all.push_back(std::make_unique<const Eigen::MatrixXd>(std::move(projection)));
  }

  Index features(Index) const { return features_; }

  void check(const Shape& shape) const {
    if (features_ < 1) detail::fail("performer: ", features_, " features, at least 1 is needed");
    if (given_ >= 0 && given_ != shape.d)
      detail::fail("performer: the projection has ", given_, " columns, queries have ", shape.d);
  }

  /// Drawn at the first call with this d, and kept for as long as this policy or a copy of it lives.
  const Eigen::MatrixXd& projection(Index d) const {
    const std::lock_guard lock(draws_->mutex);
    for (const auto& omega : draws_->all)
      if (omega->cols() == d) return *omega;
    draws_->all.push_back(
        std::make_unique<const Eigen::MatrixXd>(performer_projection(features_, d, draws_->seed)));
    return *draws_->all.back();
  }

  /// Numbers of type T that fill() writes.
  Index size(Index d, bool gradients) const {
    return d * detail::in_sixteens(features_) + (gradients ? features_ * detail::in_sixteens(d) : 0);
  }

  /// The projection as the kernels read it, with its transpose where gradients are wanted.
  template <class T>
  detail::ProjectedFeatures<T> fill(Index d, T scale, T* memory, bool gradients) const {
    const Eigen::MatrixXd& omega = projection(d);
    const double root = std::sqrt(static_cast<double>(scale)), log2_e = 1.4426950408889634074;
    const Index row = detail::in_sixteens(features_), d_row = detail::in_sixteens(d);
    T *const by_column = memory, *const by_feature = memory + d * row;
    using Column = Eigen::Matrix<T, Eigen::Dynamic, 1>;
    for (Index c = 0; c < d; ++c) {
      Eigen::Map<Column>(by_column + c * row, features_) =
          (omega.col(c) * (root * log2_e)).template cast<T>();
      for (Index f = features_; f < row; ++f) by_column[c * row + f] = T(0);
    }
    for (Index f = 0; gradients && f < features_; ++f)
      for (Index c = 0; c < d_row; ++c)
        by_feature[f * d_row + c] = c < d ? static_cast<T>(omega(f, c) * root) : T(0);
    return {by_column, gradients ? by_feature : nullptr, scale};
  }

 private:
  struct Draws {
    std::uint64_t seed = 0;
    std::mutex mutex;
    std::vector<std::unique_ptr<const Eigen::MatrixXd>> all;
  };

  Index features_;
  Index given_ = -1;
  std::shared_ptr<Draws> draws_;
};

/// Makes linear_attention() an estimate of softmax attention: φ(x) = exp(ωᵀx' - |x'|²/2) for `features`
/// random directions ω, with x' = √scale · x (d^{-1/4} x by default). The mean of φ(q) · φ(k) over ω is
/// exp(scale · q·k), and its features are positive, so that denominators cannot cancel (FAVOR+, 2009.14794).
/// The factor features^{-1/2} and each query's |x'|² cancel in the quotient and are left out. Exponents are
/// taken relative to the greatest of the query, and among keys to the greatest so far: nothing overflows, and
/// a later key cannot wipe out what an earlier query saw.
///
/// Error: that of a mean of `features` draws. It falls as features^{-1/2}, and its variance grows as the
/// exponential of scale · |q + k|². With 256 tokens of d = 64 normal numbers of size 0.3 it is 23 %, 11
/// %, 5.4 % and 2.7 % of the output at 32, 128, 512 and 2048 features, of size 0.5 it is 86 %, 55 %, 33 % and
/// 18 %; of size 1 it is no estimate at all: a model must be trained with it (tests/linear_error_test.cpp).
/// Rounding: features are good to about 10 √d · u · |ω||x'|, relative.
///
/// Keep the policy and use it again, `auto p = heed::performer(128, 7);`: the directions are drawn at the
/// first call, in features · d · min(features, d) steps, and belong to it and its copies. Threads may share
/// it. features < 1 is an std::invalid_argument, from the call.
inline Performer performer(Index features, std::uint64_t seed) { return Performer(features, seed); }

/// The same with directions of the caller's, features × d; copied.
template <class D>
Performer performer(const Eigen::MatrixBase<D>& projection) {
  return Performer(Eigen::MatrixXd(projection.template cast<double>()));
}

}  // namespace heed::inline HEED_ABI

#endif
