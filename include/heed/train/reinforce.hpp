// SPDX-License-Identifier: MIT
/// @file
/// reinforce_gradient(): from rewards of keys that were drawn to the gradient of the scores they were drawn
/// by.
#ifndef HEED_TRAIN_REINFORCE_HPP
#define HEED_TRAIN_REINFORCE_HPP

#include <cmath>
#include <type_traits>
#include <vector>

#include <heed/attention_weights.hpp>
#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/stored.hpp>
#include <heed/train/entropy.hpp>

namespace heed::inline HEED_ABI {

/// The weights of the two terms (1502.03044 has λ_e = .002).
struct Reinforce {
  double reward = 1;   ///< λ_r
  double entropy = 0;  ///< λ_e: rewards spread weights, against settling too early
};

/// Hard attention is trained by rewards (REINFORCE; 1502.03044): query i draws key a_i with the probabilities
/// p_i of its row and earns r_i, and
///
///     ds_ij = λ_r (r_i - b) (1[j = a_i] - p_ij) + λ_e ∂H_i/∂s_ij
///
/// is, on average over the draws, the gradient of λ_r E[r] + λ_e H by the scores. That is an objective:
/// ascend it. A loss that is descended takes -ds, or its costs as r and a negative λ_e. From here dq = scale
/// · ds k and dk = scale · dsᵀ q.
///
/// @param p N × M, the weights that the keys were drawn by. A row of zeros, a query that sees nothing, gives
///   zeros, whatever was chosen
/// @param chosen the key of each row: a list of N integers, or an integer matrix of N × S for S draws a row,
///   over which the mean is taken. -1 is no draw, and adds 0
/// @param reward as many numbers, N or N × S: the log-likelihood of what came of it, say; or N × 1 for N × S
///   draws, a reward that they share
/// @param baseline b, such as MovingBaseline::value(): lowers the variance, changes no expectation
/// @throws std::invalid_argument for sizes that differ and for keys that do not exist
///
/// O(N·M·S), in double for float; allocates the result, in the storage order of p.
template <class P, class C, class R>
typename P::PlainObject reinforce_gradient(const Eigen::MatrixBase<P>& p_argument,
                                           const Eigen::MatrixBase<C>& chosen_argument,
                                           const Eigen::MatrixBase<R>& reward_argument, double baseline = 0,
                                           const Reinforce& options = {}) {
  using Scalar = typename P::Scalar;
  using Wide = detail::WeightsType<Scalar>;
  static_assert(std::is_integral_v<typename C::Scalar>, "heed: the chosen keys are integers");
  detail::InPlace<P> p(p_argument.derived());
  detail::InPlace<C> chosen(chosen_argument.derived());
  detail::InPlace<R> reward(reward_argument.derived());
  if (chosen.rows() != p.rows())
    detail::fail("reinforce_gradient: chosen has ", chosen.rows(), " rows, p has ", p.rows());
  if (reward.rows() != p.rows() || (reward.cols() != chosen.cols() && reward.cols() != 1))
    detail::fail("reinforce_gradient: reward is ", reward.rows(), " x ", reward.cols(), ", chosen is ",
                 chosen.rows(), " x ", chosen.cols());
  const Index draws = chosen.cols();
  for (Index i = 0; i < p.rows(); ++i)
    for (Index n = 0; n < draws; ++n)
      if (static_cast<Index>(chosen.coeff(i, n)) < -1 || static_cast<Index>(chosen.coeff(i, n)) >= p.cols())
        detail::fail("reinforce_gradient: row ", i, " has chosen key ",
                     static_cast<Index>(chosen.coeff(i, n)), ", there are ", p.cols());

  typename P::PlainObject ds(p.rows(), p.cols());
  using std::log;
  for (Index i = 0; i < p.rows(); ++i) {
    bool blind = true;
    for (Index j = 0; j < p.cols(); ++j) {
      ds.coeffRef(i, j) = Scalar(0);
      blind = blind && p.coeff(i, j) == Scalar(0);
    }
    if (blind) continue;
    const auto advantage = [&](Index n) {
      const Wide r = static_cast<Wide>(reward.coeff(i, reward.cols() == 1 ? 0 : n));
      return Wide(Wide(options.reward / static_cast<double>(draws)) * Wide(r - Wide(baseline)));
    };
    Wide sum(0);
    for (Index n = 0; n < draws; ++n)
      if (static_cast<Index>(chosen.coeff(i, n)) >= 0) sum += advantage(n);
    const Wide h = options.entropy == 0 ? Wide(0) : detail::row_entropy<Wide>(p, i);
    for (Index j = 0; j < p.cols(); ++j) {
      const Wide p_ij = static_cast<Wide>(p.coeff(i, j));
      Wide x = Wide(-Wide(sum * p_ij));
      for (Index n = 0; n < draws; ++n)
        if (static_cast<Index>(chosen.coeff(i, n)) == j) x += advantage(n);
      if (options.entropy != 0 && !(p_ij == Wide(0)))
        x -= Wide(Wide(options.entropy) * Wide(p_ij * Wide(Wide(log(p_ij)) + h)));
      ds.coeffRef(i, j) = static_cast<Scalar>(x);
    }
  }
  return ds;
}

/// The same with the chosen keys in a list (std::vector, std::array, …), one for each row.
template <class P, detail::integer_list C, class R>
  requires(!std::is_base_of_v<Eigen::EigenBase<C>, C>)
typename P::PlainObject reinforce_gradient(const Eigen::MatrixBase<P>& p, const C& chosen,
                                           const Eigen::MatrixBase<R>& reward, double baseline = 0,
                                           const Reinforce& options = {}) {
  const std::vector<Index> list = detail::copy_list<Index>(chosen);
  using Keys = Eigen::Matrix<Index, Eigen::Dynamic, 1>;
  return reinforce_gradient(p, Eigen::Map<const Keys>(list.data(), static_cast<Index>(list.size())), reward,
                            baseline, options);
}

}  // namespace heed::inline HEED_ABI

#endif
