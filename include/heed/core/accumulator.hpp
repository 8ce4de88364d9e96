// SPDX-License-Identifier: MIT
/// @file
/// What numbers of a scalar are added up in.
#ifndef HEED_CORE_ACCUMULATOR_HPP
#define HEED_CORE_ACCUMULATOR_HPP

#include <type_traits>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI::detail {

/// What the reference path accumulates in: 16-bit numbers are storage only.
template <class Scalar>
using Accumulator =
    std::conditional_t<std::is_same_v<Scalar, Eigen::half> || std::is_same_v<Scalar, Eigen::bfloat16>, float,
                       Scalar>;

}  // namespace heed::inline HEED_ABI::detail

#endif
