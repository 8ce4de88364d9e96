// SPDX-License-Identifier: MIT
/// @file
/// global_tokens(positions): tokens that everybody sees and that see everybody.
#ifndef HEED_MASK_GLOBAL_TOKENS_HPP
#define HEED_MASK_GLOBAL_TOKENS_HPP

#include <algorithm>
#include <initializer_list>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

struct BoundGlobalTokens {
  const KeyRange* first;  ///< runs of global positions, in order, with gaps between them
  const KeyRange* last;
  Index offset, keys;

  HEED_INLINE bool visible(Position i, Position j) const {
    return bool(int(is_global(j)) | int(is_global(i + offset)));
  }
  HEED_NOINLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    const KeyRange* run = run_after(i0 + offset);
    if (run != last && run->begin < i1 + offset) return clip(0, keys, from, keys);
    return stretch(from);
  }
  HEED_NOINLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    const KeyRange* run = run_after(i0 + offset);
    if (run != last && run->begin <= i0 + offset && run->end >= i1 + offset) return clip(0, keys, from, keys);
    return stretch(from);
  }

 private:
  /// The first run that ends after a position.
  HEED_INLINE const KeyRange* run_after(Index position) const {
    const KeyRange* run = first;
    for (Index count = last - first; count > 0;) {
      const Index half = count / 2;
      const bool before = run[half].end <= position;
      run = before ? run + half + 1 : run;
      count = before ? count - half - 1 : half;
    }
    return run;
  }
  HEED_INLINE bool is_global(Index position) const {
    const KeyRange* run = run_after(position);
    return run != last && run->begin <= position;
  }
  HEED_INLINE KeyRange stretch(Index from) const {
    const KeyRange* run = run_after(from);
    return run == last ? KeyRange{keys, keys} : clip(run->begin, run->end, from, keys);
  }
};

/// Where they are the first positions, comparisons tell all, and a loop over queries vectorises.
struct BoundFirstTokens {
  Position count;                ///< keys
  Position first_row, last_row;  ///< queries [first_row, last_row) stand at these positions
  Index keys;

  HEED_INLINE bool visible(Position i, Position j) const {
    return bool(int(j < count) | (int(i >= first_row) & int(i < last_row)));
  }
  HEED_INLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    return clip(0, i1 > first_row && i0 < last_row ? keys : count, from, keys);
  }
  HEED_INLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    return clip(0, i0 >= first_row && i1 <= last_row ? keys : count, from, keys);
  }
};

}  // namespace detail

/// The policy made by global_tokens(count).
struct FirstTokens : mask_tag {
  static constexpr const char* made_by = "global_tokens";
  Index count;
  Alignment alignment;

  FirstTokens(Index c, Alignment a) : count(c), alignment(a) {}

  void check(const Shape&) const {
    if (count < 0) detail::fail("global_tokens: the count is ", count, ", it must not be negative");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(count, alignment);
  }
  detail::BoundFirstTokens bind(const Place& place) const {
    const Index offset = detail::clamp_position(alignment.resolve(place.queries, place.keys));
    const Position all = detail::clamp_position(count);
    // No rows, said so that no tile has any: a tile may well straddle an empty range.
    if (all < 1) return {0, 0, 0, place.keys};
    return {all, detail::clamp_position(-offset), detail::clamp_position(all - offset), place.keys};
  }
};

/// The policy made by global_tokens(positions).
class GlobalTokens : public mask_tag {
 public:
  explicit GlobalTokens(std::vector<Index> positions, Alignment a = {}) : alignment_(a) {
    std::sort(positions.begin(), positions.end());
    std::vector<KeyRange> runs;
    for (const Index p : positions) {
      if (p > std::numeric_limits<Position>::max()) break;  // no sequence has it
      if (runs.empty() || p > runs.back().end)
        runs.push_back({p, p + 1});
      else if (p == runs.back().end)
        ++runs.back().end;
    }
    runs_ = std::make_shared<const std::vector<KeyRange>>(std::move(runs));
  }

  void check(const Shape&) const {
    if (!runs_->empty() && runs_->front().begin < 0)
      detail::fail("global_tokens: position ", runs_->front().begin, " is negative");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(alignment_, runs_->size());
    for (const KeyRange& run : *runs_) n(run.begin, run.end);
  }
  detail::BoundGlobalTokens bind(const Place& place) const {
    return {runs_->data(), runs_->data() + runs_->size(),
            detail::clamp_position(alignment_.resolve(place.queries, place.keys)), place.keys};
  }

 private:
  Alignment alignment_;
  std::shared_ptr<const std::vector<KeyRange>> runs_;
};

/// Global attention (2004.05150, 2007.14062): query i sees key j where j or i + off is among the positions,
/// with off = M - N. Positions count inside each sequence, in any order; those that a sequence does not have
/// are nobody's. Any list of integers, read when the policy is made: O(n log n) time, O(n) memory. To be
/// united with a local pattern: `window(w, w) | global_tokens({0, 17})`. Negative positions are an
/// std::invalid_argument.
template <detail::integer_list R>
GlobalTokens global_tokens(R&& positions) {
  return GlobalTokens(detail::copy_list<Index>(positions));
}
template <detail::integer_list R>
GlobalTokens global_tokens(R&& positions, top_left_t) {
  return GlobalTokens(detail::copy_list<Index>(positions), {false, 0});
}
/// The same with a given off: queries off, off + 1, ... of a sequence whose keys are all there.
template <detail::integer_list R>
GlobalTokens global_tokens(R&& positions, Index offset) {
  return GlobalTokens(detail::copy_list<Index>(positions), {false, offset});
}
inline GlobalTokens global_tokens(std::initializer_list<Index> positions) {
  return GlobalTokens(std::vector<Index>(positions));
}
/// The first `count` positions. A negative count is an std::invalid_argument.
inline FirstTokens global_tokens(Index count) { return FirstTokens(count, {}); }
/// The same with off = 0.
inline FirstTokens global_tokens(Index count, top_left_t) { return FirstTokens(count, {false, 0}); }
/// The same with a given off.
inline FirstTokens global_tokens(Index count, Index offset) { return FirstTokens(count, {false, offset}); }

}  // namespace heed::inline HEED_ABI

#endif
