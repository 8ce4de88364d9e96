// SPDX-License-Identifier: MIT
/// @file
/// Eigen::Array multiplies element by element, so it is no matrix; a function that takes matrices says in one
/// line what to write instead.
#ifndef HEED_CORE_ARRAYS_HPP
#define HEED_CORE_ARRAYS_HPP

#include <type_traits>

#include <heed/config.hpp>

namespace heed::inline HEED_ABI::detail {

template <class... A>
concept some_array = (false || ... || std::is_base_of_v<Eigen::ArrayBase<A>, A>);

/// The body of an overload for arguments some of which are arrays. It returns a matrix, so that fewer errors
/// follow.
template <class First, class... More>
auto refuse_arrays() {
  static_assert(
      !some_array<First, More...>,
      "heed: this function takes matrices: for an Eigen::Array x write x.matrix(), which copies nothing");
  return Eigen::Matrix<typename First::Scalar, Eigen::Dynamic, Eigen::Dynamic>();
}

}  // namespace heed::inline HEED_ABI::detail

#endif
