// SPDX-License-Identifier: MIT
/// @file
/// heads(): several heads side by side in columns.
#ifndef HEED_LAYOUT_HEADS_HPP
#define HEED_LAYOUT_HEADS_HPP

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>

namespace heed::inline HEED_ABI {

/// The policy made by heads().
struct Heads : layout_tag {
  Index heads;
  Index key_heads;

  Heads(Index query_heads, Index shared_heads) : heads(query_heads), key_heads(shared_heads) {}
};

/// Multi-head attention (1706.03762): columns [h·d, (h+1)·d) of q and k belong to head h, columns [h·d_v,
/// (h+1)·d_v) of v and out likewise.
inline Heads heads(Index query_heads) { return Heads(query_heads, query_heads); }

/// Grouped queries (2305.13245; one key head: 1911.02150): query head h uses key head h / (query_heads /
/// key_heads). q is N x (query_heads · d), k is M x (key_heads · d), v is M x (key_heads · d_v), out is N x
/// (query_heads · d_v). Throws std::invalid_argument from the call if query_heads is no multiple of
/// key_heads, or columns are not of heads.
inline Heads heads(Index query_heads, Index key_heads) { return Heads(query_heads, key_heads); }

}  // namespace heed::inline HEED_ABI

#endif
