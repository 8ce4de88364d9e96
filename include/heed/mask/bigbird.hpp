// SPDX-License-Identifier: MIT
/// @file
/// bigbird(): blocks near by, blocks that are global, and blocks drawn by lot.
#ifndef HEED_MASK_BIGBIRD_HPP
#define HEED_MASK_BIGBIRD_HPP

#include <cstdint>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/mask/algebra.hpp>
#include <heed/mask/chunked.hpp>
#include <heed/mask/global_tokens.hpp>
#include <heed/mask/random_blocks.hpp>

namespace heed::inline HEED_ABI {

/// The policy made by bigbird().
class BigBird : public mask_tag {
  using Blocks = OrMask<OrMask<Chunked, FirstTokens>, RandomBlocks>;

 public:
  static constexpr const char* made_by = "bigbird";

  BigBird(Index block, Index window_blocks, Index global_blocks, Index random_count, std::uint64_t seed)
      : block_(block),
        window_(window_blocks),
        global_(global_blocks),
        blocks_(chunked(block, window_blocks / 2, window_blocks / 2) |
                global_tokens(tokens(block, global_blocks)) | random_blocks(block, random_count, seed)) {}

  void check(const Shape& shape) const {
    if (block_ < 1) detail::fail("bigbird: the block size is ", block_, ", it must be at least 1");
    if (window_ < 1 || window_ % 2 == 0)
      detail::fail("bigbird: a window of ", window_, " blocks, it must be odd: as many to either side");
    if (global_ < 0) detail::fail("bigbird: ", global_, " global blocks, that must not be negative");
    blocks_.check(shape);
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(block_, window_, global_, blocks_);
  }
  auto bind(const Place& place) const { return blocks_.bind(place); }

 private:
  /// All of any sequence where there are more blocks than it can have.
  static Index tokens(Index block, Index count) {
    constexpr Index far = Index{1} << 40;
    return block < 1 || count < 1 ? 0 : count > far / block ? far : count * block;
  }

  Index block_, window_, global_;
  Blocks blocks_;
};

/// BigBird (2007.14062), by blocks of `block` positions, i + off for queries with off = M - N: a query sees
/// the `window_blocks` blocks around its own (odd: 3 in the paper), the first `global_blocks` blocks, whose
/// own queries see everything (the paper's ITC), and `random_blocks` blocks that each head and block of
/// queries draws anew; they may fall on blocks that are visible anyway. So it is
///
///     chunked(block, w, w) | global_tokens(g * block) | random_blocks(block, r, seed)
///
/// and costs O(N · block · (window_blocks + 2 global_blocks + random_blocks)). A block size below 1, an even
/// window and negative numbers are an std::invalid_argument.
inline BigBird bigbird(Index block, Index window_blocks, Index global_blocks, Index random_blocks,
                       std::uint64_t seed) {
  return BigBird(block, window_blocks, global_blocks, random_blocks, seed);
}

}  // namespace heed::inline HEED_ABI

#endif
