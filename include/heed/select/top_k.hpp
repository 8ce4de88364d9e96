// SPDX-License-Identifier: MIT
/// @file
/// top_k(k), top_p(p), argmax(): softmax over the best keys only.
#ifndef HEED_SELECT_TOP_K_HPP
#define HEED_SELECT_TOP_K_HPP

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/select/row_selection.hpp>

namespace heed::inline HEED_ABI {

/// The policy made by top_k().
struct TopK : row_selection_tag {
  Index k;

  explicit TopK(Index count) : k(count) {}
  void check(const Shape&) const {
    if (k < 1) detail::fail("top_k: k is ", k, ", it must be at least 1");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(k);
  }
  detail::BoundRank bind_selection(const Place&) const { return {k, 1, detail::Slopes::kept, false}; }
};

/// The policy made by top_p().
struct TopP : row_selection_tag {
  double p;

  explicit TopP(double mass) : p(mass) {}
  void check(const Shape&) const {
    if (!(p > 0 && p <= 1)) detail::fail("top_p: p is ", p, ", it must be above 0 and at most 1");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(p);
  }
  detail::BoundRank bind_selection(const Place&) const {
    if (p == 1) return {};
    return {0, p, detail::Slopes::kept, true};
  }
};

/// The policy made by argmax().
struct Argmax : row_selection_tag {
  bool through = false;

  template <class Numbers>
  void identify(Numbers& n) const {
    n(through);
  }
  detail::BoundRank bind_selection(const Place&) const {
    return {1, 1, through ? detail::Slopes::softmax : detail::Slopes::none, false};
  }
};

/// Softmax over the k greatest scores of a row; all other weights are exactly 0, and their values are not
/// read. Among equal scores the lowest index wins; a row that sees fewer than k keys keeps all it sees. k < 1
/// is an std::invalid_argument. The gradient is softmax's on what was kept. `save` keeps the log-sum-exp of
/// what was kept; a sink competes like a key. Memory as with sparsemax().
inline TopK top_k(Index k) { return TopK(k); }

/// Softmax over the fewest greatest scores whose softmax weights add up to at least p (nucleus, 1904.09751),
/// 0 < p <= 1, else std::invalid_argument; otherwise as top_k().
inline TopP top_p(double p) { return TopP(p); }

/// Weight 1 for the greatest score, the first of equal ones: a table looked up. dv is exact; the scores have
/// no gradient,
inline Argmax argmax() { return {}; }
/// or, by name, that of softmax.
inline Argmax argmax(straight_through_t) {
  Argmax policy;
  policy.through = true;
  return policy;
}

}  // namespace heed::inline HEED_ABI

#endif
