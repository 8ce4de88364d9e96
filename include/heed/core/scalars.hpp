// SPDX-License-Identifier: MIT
/// @file
/// Which scalars the engine computes, and what the others accumulate in.
#ifndef HEED_CORE_SCALARS_HPP
#define HEED_CORE_SCALARS_HPP

#include <type_traits>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI::detail {

/// Scalars that the engine computes.
template <class Scalar>
inline constexpr bool on_engine = std::is_same_v<Scalar, float> || std::is_same_v<Scalar, double>;

/// What sums are taken in: 16-bit numbers are storage only.
template <class Scalar>
using Accumulator =
    std::conditional_t<std::is_same_v<Scalar, Eigen::half> || std::is_same_v<Scalar, Eigen::bfloat16>, float,
                       Scalar>;

/// Scalars that take the engine's path: its own, and 16-bit numbers, which are converted to float and back
/// (engine/converted.hpp). Every other takes the reference path.
template <class Scalar>
inline constexpr bool through_engine = on_engine<Accumulator<Scalar>>;

}  // namespace heed::inline HEED_ABI::detail

#endif
