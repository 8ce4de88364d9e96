// SPDX-License-Identifier: MIT
/// @file
/// random_blocks(size, count, seed): every block of queries sees a few blocks of keys drawn by lot.
#ifndef HEED_MASK_RANDOM_BLOCKS_HPP
#define HEED_MASK_RANDOM_BLOCKS_HPP

#include <cstdint>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// A number whose every bit depends on every bit of x (the finaliser of splitmix64).
HEED_INLINE constexpr std::uint64_t scatter(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

/// The blocks of keys are cut into `draws` parts, as even as can be, and each block of queries draws one of
/// each part: the draws are distinct and in order, and which part a block lies in tells what to compare it
/// with, so nothing is stored.
struct BoundRandomBlocks {
  Index size, blocks, draws, offset, keys;
  std::uint64_t seed;  ///< of this head

  HEED_INLINE bool visible(Position i, Position j) const {
    return sees(floor_quotient(i + offset, size), quotient(j, size));
  }
  HEED_NOINLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    const Index r0 = floor_quotient(i0 + offset, size), r1 = floor_quotient(i1 - 1 + offset, size) + 1;
    Index begin = blocks;
    for (Index r = r0; r < r1; ++r) {
      const Index next = next_block(r, quotient(from, size));
      begin = next < begin ? next : begin;
    }
    Index end = begin;
    for (bool grows = begin < blocks; grows;) {
      ++end;
      grows = false;
      for (Index r = r0; r < r1 && !grows; ++r) grows = end < blocks && sees(r, end);
    }
    return clip(begin * size, end * size, from, keys);
  }
  HEED_NOINLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    const Index r0 = floor_quotient(i0 + offset, size), r1 = floor_quotient(i1 - 1 + offset, size) + 1;
    Index begin = quotient(from, size);
    for (Index agreed = 0; agreed < r1 - r0 && begin < blocks;) {
      const Index next = next_block(r0 + agreed, begin);
      agreed = next == begin ? agreed + 1 : 0;
      begin = next;
    }
    Index end = begin;
    for (bool grows = begin < blocks; grows;) {
      ++end;
      grows = end < blocks;
      for (Index r = r0; r < r1 && grows; ++r) grows = sees(r, end);
    }
    return clip(begin * size, end * size, from, keys);
  }

 private:
  HEED_INLINE Index part_begin(Index part) const { return quotient(part * blocks + draws - 1, draws); }
  /// What a block of queries drew of a part that is not empty.
  HEED_INLINE Index draw(Index row, Index part) const {
    const Index begin = part_begin(part);
    const auto room = static_cast<std::uint64_t>(part_begin(part + 1) - begin);
    const std::uint64_t x = scatter(seed + scatter(static_cast<std::uint64_t>(row) * 0x9e3779b97f4a7c15u +
                                                   static_cast<std::uint64_t>(part)));
    return begin + static_cast<Index>((x >> 32) * room >> 32);
  }
  HEED_INLINE bool sees(Index row, Index block) const {
    return draws > 0 && draw(row, quotient(block * draws, blocks)) == block;
  }
  /// The first block at or after `block` that the row sees, or `blocks`.
  HEED_INLINE Index next_block(Index row, Index block) const {
    while (draws > 0 && block < blocks) {
      const Index part = quotient(block * draws, blocks), drawn = draw(row, part);
      if (drawn >= block) return drawn;
      block = part_begin(part + 1);
    }
    return blocks;
  }
};

}  // namespace detail

/// The policy made by random_blocks().
struct RandomBlocks : mask_tag {
  Index size;
  Index count;
  std::uint64_t seed;
  Alignment alignment;

  RandomBlocks(Index b, Index c, std::uint64_t s, Alignment a) : size(b), count(c), seed(s), alignment(a) {}

  void check(const Shape&) const {
    if (size < 1) detail::fail("random_blocks: the block size is ", size, ", it must be at least 1");
    if (count < 0) detail::fail("random_blocks: ", count, " blocks, that must not be negative");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(size, count, seed, alignment);
  }
  detail::BoundRandomBlocks bind(const Place& place) const {
    constexpr Index far = Index{1} << 40;
    const Index keys_each = size < far ? size : far;
    const Index blocks = (place.keys + keys_each - 1) / keys_each;
    return {keys_each,
            blocks,
            count < blocks ? count : blocks,
            detail::clamp_position(alignment.resolve(place.queries, place.keys)),
            place.keys,
            detail::scatter(seed + 0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(place.head + 1))};
  }
};

/// The random part of BigBird (2007.14062): positions i + off, off = M - N, fall into blocks of `size`, and
/// each block of queries sees `count` blocks of keys (or all there are), one drawn uniformly from each of
/// `count` nearly equal parts of the sequence. The draw depends on the seed, the head, the block of queries
/// and the number of keys, and on nothing else: not on threads, tiles or the machine. It stores nothing. size
/// < 1 and count < 0 are an std::invalid_argument.
inline RandomBlocks random_blocks(Index size, Index count, std::uint64_t seed) {
  return RandomBlocks(size, count, seed, {});
}
/// The same with off = 0.
inline RandomBlocks random_blocks(Index size, Index count, std::uint64_t seed, top_left_t) {
  return RandomBlocks(size, count, seed, {false, 0});
}

}  // namespace heed::inline HEED_ABI

#endif
