// SPDX-License-Identifier: MIT
/// @file
/// entmax(α): between softmax (α = 1) and sparsemax (α = 2), and beyond.
#ifndef HEED_SELECT_ENTMAX_HPP
#define HEED_SELECT_ENTMAX_HPP

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/functions.hpp>
#include <heed/select/row_selection.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// α = 1.5. With z = s - max s and τ' = τ - max s / 2 + 1, in [0, 1).
struct BoundEntmax15 {
  static constexpr SelectionKind kind = SelectionKind::threshold;
  static constexpr Slopes slopes = Slopes::kept;

  HEED_INLINE double alpha() const { return 1.5; }
  template <class S>
  HEED_INLINE WeightAndSlope<S> at(const S& z, const S& tau) const {
    const S base = S(S(1) + S(S(z * S(0.5)) - tau));
    const S root = base > S(0) ? base : S(0);
    return {S(root * root), root};
  }
};

/// Any α > 1. With z = s - max s, β = α - 1 and τ' = τ - β max s + 1: weights are (1 + βz - τ')^(1/β),
/// computed as exp(log(1 + x) / β), with a logarithm that is exact for small x (α near 1 makes x small and
/// 1/β great); the slope is a weight over its base.
struct BoundEntmax {
  static constexpr SelectionKind kind = SelectionKind::threshold;
  static constexpr Slopes slopes = Slopes::kept;
  double beta;

  HEED_INLINE double alpha() const { return beta + 1; }
  template <class S>
  HEED_INLINE WeightAndSlope<S> at(const S& z, const S& tau) const {
    const S x = S(S(S(beta) * z) - tau);
    const S base = S(S(1) + x);
    // log(1 + x) for small x: what rounding took from 1 + x is added to the logarithm. All without a branch;
    // a base of 0 or less only must not become NaN.
    const S positive = at_least(base, S(1e-30)), inverse = S(S(1) / positive);
    const S logarithm = S(heed::log(positive) + S(S(x - S(base - S(1))) * inverse));
    // Subnormal powers would take a hundred cycles each.
    const S power = S(heed::exp(at_least(S(logarithm * S(1 / beta)), S(-87))));
    const S weight = S(power * has_weight(base));
    return {weight, S(weight * inverse)};
  }

 private:
  // By bits and by a product, because a choice that feeds another keeps g++ from making vectors of them.
  template <class S>
  static HEED_INLINE S at_least(const S& x, const S& least) {
    if constexpr (std::is_same_v<S, float> || std::is_same_v<S, double>)
      return blend(x > least, x, least);
    else
      return x > least ? x : least;
  }
  template <class S>
  static HEED_INLINE S has_weight(const S& base) {
    if constexpr (std::is_floating_point_v<S>)
      return static_cast<S>(static_cast<std::int32_t>(base > S(0)));
    else
      return base > S(0) ? S(1) : S(0);
  }
};

}  // namespace detail

/// The policy made by entmax15().
struct Entmax15 : row_selection_tag {
  detail::BoundEntmax15 bind_selection(const Place&) const { return {}; }
};

/// The policy made by entmax(alpha).
template <class Holder>
class Entmax : public row_selection_tag {
 public:
  explicit Entmax(Holder alphas) : alphas_(std::move(alphas)) {}

  void check(const Shape& shape) const {
    const Index count = size();
    if (count != 1 && count != shape.heads)
      detail::fail("entmax: ", count, " values of alpha for ", shape.heads, " heads");
    for (Index h = 0; h < count; ++h)
      if (!(at(h) >= 1 + 0x1p-20 && at(h) <= 64))
        detail::fail("entmax: alpha is ", at(h),
                     ", it must be above 1 and at most 64; softmax() is alpha = 1");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    // One for all heads is as many equal ones.
    bool equal = true;
    for (Index h = 1; h < size(); ++h) equal = equal && at(h) == at(0);
    for (Index h = 0; h < (equal && size() > 0 ? 1 : size()); ++h) n(at(h));
  }
  detail::BoundEntmax bind_selection(const Place& place) const {
    return {at(size() == 1 ? 0 : place.head) - 1};
  }

 private:
  Index size() const {
    if constexpr (requires { alphas_.get().size(); })
      return static_cast<Index>(alphas_.get().size());
    else
      return 1;
  }
  double at(Index h) const {
    if constexpr (requires { alphas_.get().size(); })
      return static_cast<double>(alphas_.get().data()[h * detail::list_stride(alphas_.get())]);
    else
      return (void)h, static_cast<double>(alphas_.get());
  }

  Holder alphas_;
};

/// p_j = [s_j / 2 - τ]₊², τ such that they sum to 1: entmax with α = 1.5, halfway between softmax and
/// sparsemax (1905.05702). A key whose score lies 2 or more below the best has weight exactly 0. Everything
/// else as with sparsemax(); the gradient is ds_j = √p_j (dp_j - Σ √p dp / Σ √p).
inline Entmax15 entmax15() { return {}; }

/// p_j = [(α - 1) s_j - τ]₊^(1/(α-1)), τ such that they sum to 1 (1905.05702): sparser the greater α, softmax
/// as α falls to 1. α > 1, at least 1 + 2⁻²⁰ and at most 64, else std::invalid_argument; one number, or one
/// for each query head (a contiguous list or Eigen vector), copied when the policy is made. Its
/// gradient: alpha_gradient(). Keys whose score lies 1/(α - 1) or more below the best have weight exactly 0.
/// Found by Newton's method inside a bracket, above α = 2 by bisection; a logarithm and an exponential for
/// each pair and step, so that entmax15() and sparsemax() are several times as fast for their α.
///
/// A great α is ill-conditioned, whatever the method: with errors δ in the differences of scores (their own
/// rounding is u·abs(s) at least) and the unit roundoff u (6e-8 in float, 1.1e-16 in double) a weight is
/// known to within
///
///     abs(Δp) ≈ (δ + u/(α-1)) · p^(2-α), and at most about p itself
///
/// which for α above 2 grows as p falls: weights below u^(1/(α-1)) have no digits of their own. In float that
/// is 0.157 for α = 10 (so much may a weight be off) and 2e-4 for α = 3, in double 0.017 and 1e-8. Their sum
/// is 1 all the same, and equal scores have equal weights.
template <class A>
auto entmax(A&& alpha) {
  if constexpr (requires { alpha.data(), alpha.size(); }) {
    auto list = detail::own_list(alpha);
    return Entmax<decltype(list)>(std::move(list));
  } else {
    using Number = detail::Owned<std::remove_cvref_t<A>>;
    return Entmax<Number>(Number(std::forward<A>(alpha)));
  }
}
inline auto entmax(std::initializer_list<double> alphas) { return entmax(std::vector<double>(alphas)); }

}  // namespace heed::inline HEED_ABI

#endif
