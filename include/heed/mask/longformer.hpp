// SPDX-License-Identifier: MIT
/// @file
/// longformer(width, globals): a sliding window and a few tokens that see and are seen from everywhere.
#ifndef HEED_MASK_LONGFORMER_HPP
#define HEED_MASK_LONGFORMER_HPP

#include <initializer_list>
#include <utility>

#include <heed/config.hpp>
#include <heed/mask/algebra.hpp>
#include <heed/mask/dilated.hpp>
#include <heed/mask/global_tokens.hpp>
#include <heed/mask/window.hpp>

namespace heed::inline HEED_ABI {

/// Longformer (2004.05150): window(width, width) | global_tokens(globals). `width` keys to each side, half of
/// the paper's w; `globals` is a count or a list of positions. (The paper's global tokens have projections of
/// their own: with these, make two calls and merge() them.) Cost: a width for each token and a row and a
/// column for each global one.
template <class G>
auto longformer(Index width, G&& globals) {
  return window(width, width) | global_tokens(std::forward<G>(globals));
}
inline auto longformer(Index width, std::initializer_list<Index> globals) {
  return window(width, width) | global_tokens(globals);
}
/// With gaps: dilated(width, step) | global_tokens(globals).
template <class G>
auto longformer(Index width, G&& globals, Index step) {
  return dilated(width, step) | global_tokens(std::forward<G>(globals));
}
inline auto longformer(Index width, std::initializer_list<Index> globals, Index step) {
  return dilated(width, step) | global_tokens(globals);
}

}  // namespace heed::inline HEED_ABI

#endif
