// SPDX-License-Identifier: MIT
/// @file
/// t5_bias(): a learnt number for each head and bucket of distances; buckets widen with the distance.
#ifndef HEED_POSITION_T5_BUCKETS_HPP
#define HEED_POSITION_T5_BUCKETS_HPP

#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/saturate.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>
#include <heed/gradients.hpp>

namespace heed::inline HEED_ABI {

/// What can be chosen about buckets of relative positions.
struct T5Buckets {
  bool bidirectional =
      true;  ///< half of the buckets for keys after the query; otherwise those share bucket 0
  Index buckets = 32;
  Index distance = 128;  ///< from here on, at the latest, everything shares the last bucket
};

namespace detail {

/// A natural number of any size: limbs of 32 bits, the lowest first, without leading zeros.
class Natural {
 public:
  void multiply(std::uint32_t factor) {
    std::uint64_t carry = 0;
    for (std::uint32_t& limb : limbs_) {
      carry += static_cast<std::uint64_t>(limb) * factor;
      limb = static_cast<std::uint32_t>(carry);
      carry >>= 32;
    }
    if (carry > 0) limbs_.push_back(static_cast<std::uint32_t>(carry));
  }
  bool at_least(const Natural& other) const {
    if (limbs_.size() != other.limbs_.size()) return limbs_.size() > other.limbs_.size();
    for (std::size_t n = limbs_.size(); n-- > 0;)
      if (limbs_[n] != other.limbs_[n]) return limbs_[n] > other.limbs_[n];
    return true;
  }

 private:
  std::vector<std::uint32_t> limbs_ = {1};
};

/// base^exponent · more^times.
inline Natural product_of_powers(Index base, Index exponent, Index more, Index times) {
  Natural x;
  for (Index n = 0; n < exponent; ++n) x.multiply(static_cast<std::uint32_t>(base));
  for (Index n = 0; n < times; ++n) x.multiply(static_cast<std::uint32_t>(more));
  return x;
}

/// The smallest distance x with exact + floor(log(x / exact) / log(distance / exact) · wide) >= exact + step,
/// which is x^wide >= distance^step · exact^(wide - step). Integers decide where a logarithm might round to
/// the wrong side.
inline Index first_distance(Index exact, Index distance, Index wide, Index step) {
  const double guess =
      static_cast<double>(exact) * std::pow(static_cast<double>(distance) / static_cast<double>(exact),
                                            static_cast<double>(step) / static_cast<double>(wide));
  const double nearest = std::round(guess);
  if (std::abs(guess - nearest) > 1e-6) return static_cast<Index>(std::ceil(guess));
  const auto x = static_cast<Index>(nearest);
  const Natural needed = product_of_powers(distance, step, exact, wide - step);
  return product_of_powers(x, wide, 1, 0).at_least(needed) ? x : x + 1;
}

/// The bucket of every relative position between -limit and limit; what lies beyond shares the last one's.
struct BucketTable {
  std::vector<Position> of;  ///< 2 · limit + 1
  Index limit = 0;
  Index buckets = 0;

  explicit BucketTable(const T5Buckets& options) : buckets(options.buckets) {
    constexpr Index most_buckets = 1024, most_distance = Index(1) << 20;
    const Index side = options.bidirectional ? options.buckets / 2 : options.buckets, exact = side / 2;
    if (side < 2 || options.buckets > most_buckets || (options.bidirectional && options.buckets % 2 != 0))
      fail("t5_bias: ", options.buckets, " buckets, ",
           options.bidirectional ? "an even number from 4" : "a number from 2", " to ", most_buckets,
           " is needed");
    if (options.distance <= exact || options.distance > most_distance)
      fail("t5_bias: the distance is ", options.distance, ", it must be above ", exact, " and at most ",
           most_distance);
    std::vector<Index> begins;  // of every bucket on one side
    for (Index b = 0; b < side; ++b)
      begins.push_back(b <= exact ? b : first_distance(exact, options.distance, side - exact, b - exact));
    limit = begins.back();
    of.resize(static_cast<std::size_t>(2 * limit + 1));
    Index bucket = 0;
    for (Index x = 0; x <= limit; ++x) {
      while (bucket + 1 < side && begins[static_cast<std::size_t>(bucket) + 1] <= x) ++bucket;
      of[static_cast<std::size_t>(limit - x)] = static_cast<Position>(bucket);
      if (x > 0)
        of[static_cast<std::size_t>(limit + x)] =
            static_cast<Position>(options.bidirectional ? side + bucket : 0);
    }
  }
  Position at(Index relative) const {
    const Index x = relative < -limit ? -limit : relative > limit ? limit : relative;
    return of[static_cast<std::size_t>(limit + x)];
  }
};

/// Which element of a table pair (i, j) takes: that of the bucket of j - i - off.
struct BoundBuckets {
  const Position* centre;  ///< the bucket of relative position 0
  Position limit, offset;

  HEED_INLINE Position operator()(Position i, Position j) const {
    // i - j + off cannot overflow: check_offset() sees to it.
    const Position behind = (i - j) + offset;
    const Position near = behind < limit ? behind : limit;
    return centre[-(near > -limit ? near : -limit)];
  }
};

template <class Scalar>
struct BoundT5Bias {
  static constexpr int stage = heed::stage::position;
  static constexpr bool may_hide = false;
  static constexpr bool adds_by_distance = true;
  const Scalar* row;
  Position stride;  // 32 bits: wider ones take a third of the speed
  BoundBuckets bucket;

  template <class S>
  HEED_INLINE S operator()(S s, Position i, Position j) const {
    return add_to_score(s, added<S>(i, j));
  }
  template <class S>
  HEED_INLINE S added(Position i, Position j) const {
    return static_cast<S>(row[bucket(i, j) * stride]);
  }
};

}  // namespace detail

/// The bucket of key position - query position (1910.10683): with n buckets a side (half of them all if
/// bidirectional, and keys after the query in the second half; else keys after the query are at distance 0)
/// and e = n / 2, distance x < e has bucket x, and longer ones bucket
/// min(e + floor(log(x / e) / log(distance / e) · (n - e)), n - 1).
///
/// Exact: edges are found in integers. Every call works out all of them; t5_bias() does so once.
/// @throws std::invalid_argument for fewer than 2 buckets (4 if bidirectional), more than 1024, an odd
///   number if bidirectional, and for a distance that is not above e or above 2^20
inline Index t5_bucket(Index relative, const T5Buckets& options = {}) {
  return detail::BucketTable(options).at(relative);
}

/// The policy made by t5_bias().
template <class Matrix>
class T5Bias : public relative_bias_tag {
 public:
  T5Bias(Matrix table, const T5Buckets& options, Alignment alignment)
      : table_(std::move(table)),
        buckets_(std::make_shared<const detail::BucketTable>(options)),
        alignment_(alignment) {}

  Index buckets() const { return buckets_->buckets; }
  detail::BoundBuckets bind_buckets(const Place& place) const {
    return {buckets_->of.data() + buckets_->limit, static_cast<Position>(buckets_->limit),
            detail::clamp_position(alignment_.resolve(place.queries, place.keys))};
  }

  void check(const Shape& shape) const {
    const auto t = table_.view();
    if ((t.rows != shape.heads && t.rows != 1) || t.cols != buckets())
      detail::fail("t5_bias: the table is ", t.rows, " x ", t.cols, ", there are ", shape.heads,
                   " heads and ", buckets(), " buckets: it must be ", shape.heads, " x ", buckets(),
                   " or 1 x ", buckets());
    const Index widest = static_cast<Index>(std::numeric_limits<Position>::max()) / buckets();
    if (t.col_stride > widest || t.col_stride < -widest)
      detail::fail("t5_bias: the columns of the table lie ", t.col_stride, " elements apart, at most ",
                   widest, " are possible");
    detail::check_offset("t5_bias", alignment_, shape);
    check_size(std::numeric_limits<long double>::max(), "it must be finite");
  }
  /// Every element must exist in the accumulator.
  template <class T>
  void check_value() const {
    if constexpr (std::is_floating_point_v<T>)
      check_size(static_cast<long double>(std::numeric_limits<T>::max()), "too great for the scalar of q");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(table_.view().rows, table_.view().cols, buckets_->limit, buckets_->of.back(), alignment_);
  }
  auto bind(const Place& place) const {
    const auto t = table_.view();
    using Scalar = std::remove_cvref_t<decltype(*t.data)>;
    return detail::BoundT5Bias<Scalar>{t.data + (t.rows == 1 ? 0 : place.head) * t.row_stride,
                                       static_cast<Position>(t.col_stride), bind_buckets(place)};
  }

 private:
  void check_size(long double most, const char* otherwise) const {
    const auto t = table_.view();
    if constexpr (std::is_floating_point_v<std::remove_cvref_t<decltype(*t.data)>>)
      for (Index h = 0; h < t.rows; ++h)
        for (Index b = 0; b < t.cols; ++b)
          if (!(std::abs(t(h, b)) <= most))
            detail::fail("t5_bias: element ", h, ", ", b, " of the table is ", static_cast<double>(t(h, b)),
                         ", ", otherwise);
  }

  Matrix table_;
  std::shared_ptr<const detail::BucketTable> buckets_;
  Alignment alignment_;
};

namespace detail {

template <class B>
auto make_t5_bias(B&& table, const T5Buckets& options, Alignment alignment) {
  static_assert(std::is_base_of_v<Eigen::DenseBase<std::remove_cvref_t<B>>, std::remove_cvref_t<B>>,
                "heed: the table of t5_bias() is a dense Eigen expression, heads x buckets or 1 x buckets");
  auto matrix = store_matrix(std::forward<B>(table));
  return T5Bias<decltype(matrix)>(std::move(matrix), options, alignment);
}

}  // namespace detail

/// s_ij <- s_ij + table(h, t5_bucket(j - i - off)) with off = M - N, for the h-th query head: the relative
/// positions of 1910.10683, after scale and softcap. (T5 itself takes scale(1).)
/// @param table H × buckets, or 1 × buckets for all heads: any dense expression of any scalar. Plain lvalues
///   are referred to, rvalues owned, views kept as views
/// @throws std::invalid_argument for what t5_bucket() refuses (at once), and, when attention is called, for a
///   table of another size or with an element that is not finite
///
/// attention_backward() gives the table's gradient with t5_bias_gradient(dtable). Cost: two lookups a
/// diagonal of a block of pairs, or a pair where other terms stand beside it, the first in a list of at most
/// 2 · distance + 1 integers that is made here and shared by copies.
template <class B>
auto t5_bias(B&& table, const T5Buckets& options = {}) {
  return detail::make_t5_bias(std::forward<B>(table), options, {});
}
/// The same with off = 0.
template <class B>
auto t5_bias(B&& table, const T5Buckets& options, top_left_t) {
  return detail::make_t5_bias(std::forward<B>(table), options, {false, 0});
}
/// The same with a given off.
template <class B>
auto t5_bias(B&& table, const T5Buckets& options, Index offset) {
  return detail::make_t5_bias(std::forward<B>(table), options, {false, offset});
}

/// The policy made by t5_bias_gradient().
template <class Scalar>
struct T5BiasGradient : relative_bias_gradient_tag {
  detail::Target<Scalar> target;

  void check_size(const Shape& shape, Index buckets) const {
    if ((target.rows != shape.heads && target.rows != 1) || target.columns != buckets)
      detail::fail("t5_bias_gradient is ", target.rows, " x ", target.columns, ", there are ", shape.heads,
                   " heads and ", buckets, " buckets: it must be ", shape.heads, " x ", buckets, " or 1 x ",
                   buckets);
  }
  Scalar& operator()(Index head, Index bucket) const {
    return *target.at.at(target.rows == 1 ? 0 : head, bucket).data;
  }
};

/// Writes the derivative by the table of the call's t5_bias() (one inside when() is not found): element (h,
/// b) gets the sum of the gradients of all scores of head h whose positions fall into bucket b. H × buckets,
/// or 1 × buckets for the sum over heads, whichever the table itself is. Referred to; overwritten unless
/// `accumulating` is given. Float and double are added up in double over blocks of keys and queries, for each
/// sequence and head on its own, and then in order: bits are equal for any number of threads. Memory:
/// sequences · H · buckets numbers of 8 bytes.
template <class DB>
auto t5_bias_gradient(DB&& dtable) {
  detail::check_writable<DB>();
  using Scalar = typename std::remove_cvref_t<DB>::Scalar;
  T5BiasGradient<Scalar> policy;
  policy.target = detail::Target<Scalar>::of(dtable);
  return policy;
}

}  // namespace heed::inline HEED_ABI

#endif
