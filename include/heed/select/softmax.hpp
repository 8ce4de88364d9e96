// SPDX-License-Identifier: MIT
/// @file
/// softmax(): weights are exponentials over their sum.
#ifndef HEED_SELECT_SOFTMAX_HPP
#define HEED_SELECT_SOFTMAX_HPP

#include <heed/config.hpp>
#include <heed/core/policy.hpp>

namespace heed::inline HEED_ABI {

/// The policy made by softmax().
struct Softmax : selection_tag {};

/// p_j = exp(s_j) / Σ exp(s) over the keys that the query sees (1706.03762). The default selection.
inline Softmax softmax() { return {}; }

}  // namespace heed::inline HEED_ABI

#endif
