// SPDX-License-Identifier: MIT
/// @file
/// sink(s): one more logit a head, which takes weight and gives no value.
#ifndef HEED_SELECT_SINK_HPP
#define HEED_SELECT_SINK_HPP

#include <cmath>
#include <initializer_list>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/saturate.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

/// The policy made by sink(x).
template <class X>
struct Sink : sink_tag {
  X logit;

  explicit Sink(X x) : logit(std::move(x)) {}
  void check(const Shape&) const { check_logit(logit, ""); }
  template <class T>
  T value(Index) const {
    return detail::narrowed<T>(logit);
  }
  template <class L>
  static void check_logit(const L& x, const char* which) {
    if constexpr (std::is_floating_point_v<L>) {
      if (!(x <= std::numeric_limits<L>::max()))
        detail::fail("sink", which, " is ", static_cast<double>(x), ", it must be finite, or -inf for none");
    }
  }
};

/// The policy made by sink(list).
template <class Holder>
class Sinks : public sink_tag {
 public:
  explicit Sinks(Holder logits) : logits_(std::move(logits)) {}

  void check(const Shape& shape) const {
    const Index count = static_cast<Index>(logits_.get().size());
    if (count != shape.heads) detail::fail("sink: ", count, " logits for ", shape.heads, " heads");
    for (Index h = 0; h < count; ++h) Sink<double>::check_logit(at(h), " of a head");
  }
  template <class T>
  T value(Index head) const {
    return detail::narrowed<T>(at(head));
  }

 private:
  const auto& at(Index h) const { return logits_.get().data()[h * detail::list_stride(logits_.get())]; }

  Holder logits_;
};

/// p_j = e^{s_j} / (e^{sink} + Σ e^s): a row may attend to nothing in particular (2309.17453). Neither scaled
/// nor capped nor biased; the log-sum-exp holds it, and is the sink alone where a query sees no key. The same
/// for all heads; -inf is none, and great numbers saturate as scores do (bias.hpp). What is NaN or +inf is an
/// std::invalid_argument.
template <class X>
  requires(!requires(const std::remove_cvref_t<X>& x) { x.data(), x.size(); })
auto sink(X&& x) {
  using Value = std::remove_cvref_t<X>;
  if constexpr (std::is_integral_v<Value>) {
    return Sink<double>(static_cast<double>(x));
  } else {
    return Sink<Value>(std::forward<X>(x));
  }
}
/// One for each query head: a contiguous list or an Eigen vector, copied when the policy is made (so make it
/// anew after a step of training). Another count is an std::invalid_argument.
template <class R>
  requires requires(const std::remove_cvref_t<R>& r) { r.data(), r.size(); }
auto sink(R&& logits) {
  auto list = detail::own_list(logits);
  return Sinks<decltype(list)>(std::move(list));
}
inline auto sink(std::initializer_list<double> logits) { return sink(std::vector<double>(logits)); }

}  // namespace heed::inline HEED_ABI

#endif
