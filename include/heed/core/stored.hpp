// SPDX-License-Identifier: MIT
/// @file
/// How a policy keeps what it is given. Small lists are copied, always: a function that makes a policy may
/// return it. Of what is large (a number for each pair or token) and of functors, rvalues are owned and
/// lvalues referred to, which must outlive the policy.
#ifndef HEED_CORE_STORED_HPP
#define HEED_CORE_STORED_HPP

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/operand.hpp>

namespace heed::inline HEED_ABI::detail {

/// Small enough to be copied into every bound object. A functor copied into the kernel's frame keeps its
/// captures in registers; one behind a pointer has them read again after every store that may alias them.
template <class T>
inline constexpr bool is_light = std::is_trivially_copyable_v<T> && sizeof(T) <= 64;

/// Refers to an lvalue.
template <class T>
class Referred {
 public:
  explicit Referred(const T& value) : value_(&value) {}
  const T& get() const { return *value_; }

 private:
  const T* value_;
};

/// Owns an rvalue: light ones inside, others shared, so that copying a spec neither allocates nor moves what
/// a bound object points to.
template <class T>
class Owned {
 public:
  explicit Owned(T&& value) : value_(std::make_shared<const T>(std::move(value))) {}
  explicit Owned(const T& value) : value_(std::make_shared<const T>(value)) {}
  const T& get() const { return *value_; }

 private:
  std::shared_ptr<const T> value_;
};

template <class T>
  requires is_light<T>
class Owned<T> {
 public:
  explicit Owned(const T& value) : value_(value) {}
  const T& get() const { return value_; }

 private:
  T value_;
};

template <class A>
constexpr auto holder_of() {
  if constexpr (std::is_function_v<std::remove_reference_t<A>>) {
    return std::type_identity<Owned<std::decay_t<A>>>{};
  } else if constexpr (std::is_lvalue_reference_v<A>) {
    return std::type_identity<Referred<std::remove_cvref_t<A>>>{};
  } else {
    return std::type_identity<Owned<std::remove_cvref_t<A>>>{};
  }
}
/// The holder for an argument deduced as `A&&`. A function is held as a pointer.
template <class A>
using stored = typename decltype(holder_of<A>())::type;

/// A user's functor inside a bound object: itself if light, else a pointer into its holder.
template <class F, bool light = is_light<F>>
struct BoundFunctor {
  F functor;
  explicit HEED_INLINE BoundFunctor(const F& f) : functor(f) {}
  HEED_INLINE const F& get() const { return functor; }
};
template <class F>
struct BoundFunctor<F, false> {
  const F* functor;
  explicit HEED_INLINE BoundFunctor(const F& f) : functor(&f) {}
  HEED_INLINE const F& get() const { return *functor; }
};
template <class Holder>
using bound_functor = BoundFunctor<std::remove_cvref_t<decltype(std::declval<const Holder&>().get())>>;

/// A strided view of a matrix, without Eigen: what a bound object may hold.
template <class Scalar>
struct MatrixView {
  const Scalar* data = nullptr;
  Index rows = 0;
  Index cols = 0;
  Index row_stride = 0;
  Index col_stride = 0;

  HEED_INLINE const Scalar& operator()(Index i, Index j) const {
    return data[i * row_stride + j * col_stride];
  }
};

template <class Derived>
MatrixView<typename Derived::Scalar> view_of(const Derived& m) {
  const Index inner = m.innerStride();
  const Index outer = m.outerStride();
  return Derived::IsRowMajor
             ? MatrixView<typename Derived::Scalar>{m.data(), m.rows(), m.cols(), outer, inner}
             : MatrixView<typename Derived::Scalar>{m.data(), m.rows(), m.cols(), inner, outer};
}

/// A matrix held by a plain object somewhere: the user's (referred to) or ours (owned).
template <class Holder>
class PlainMatrix {
 public:
  explicit PlainMatrix(Holder holder) : holder_(std::move(holder)) {}
  auto view() const { return view_of(holder_.get()); }

 private:
  Holder holder_;
};

/// A view is kept as a view, as Eigen does: it refers to memory that its maker keeps alive.
template <class Scalar>
class ViewedMatrix {
 public:
  explicit ViewedMatrix(MatrixView<Scalar> view) : view_(view) {}
  MatrixView<Scalar> view() const { return view_; }

 private:
  MatrixView<Scalar> view_;
};

template <class Xpr>
inline constexpr bool is_plain = std::is_base_of_v<Eigen::PlainObjectBase<Xpr>, Xpr>;
template <class Xpr>
inline constexpr bool is_eigen_ref = false;
template <class Plain, int Options, class Stride>
inline constexpr bool is_eigen_ref<Eigen::Ref<Plain, Options, Stride>> = true;

/// Plain lvalues are referred to and plain rvalues owned; maps, blocks and transposes stay views; any other
/// expression is evaluated once. A temporary Ref is copied too, because it may itself hold the copy that it
/// refers to.
template <class A>
auto store_matrix(A&& m) {
  using Xpr = std::remove_cvref_t<A>;
  using Plain = typename Xpr::PlainObject;
  if constexpr (is_plain<Xpr>) {
    return PlainMatrix<stored<A>>(stored<A>(std::forward<A>(m)));
  } else if constexpr (directly_accessible<Xpr> && (std::is_lvalue_reference_v<A> || !is_eigen_ref<Xpr>)) {
    return ViewedMatrix<typename Xpr::Scalar>(view_of(m));
  } else {
    return PlainMatrix<Owned<Plain>>(Owned<Plain>(Plain(m)));
  }
}

/// A contiguous list of integers: std::vector, std::array, std::span, an Eigen vector.
template <class R>
concept integer_list = requires(const std::remove_cvref_t<R>& r) {
  r.size();
  requires std::is_integral_v<std::remove_cvref_t<decltype(*r.data())>>;
};

/// An Eigen vector may have a stride; every other list is contiguous.
template <class R>
Index list_stride(const R& r) {
  if constexpr (requires { r.innerStride(); }) {
    static_assert(R::IsVectorAtCompileTime,
                  "heed: a list must be a vector: one row or one column, at compile time");
    return r.innerStride();
  } else {
    return 1;
  }
}

/// The list, converted to To. Always owned.
template <class To, class R>
std::vector<To> copy_list(const R& r) {
  const Index n = static_cast<Index>(r.size());
  const Index stride = list_stride(r);
  std::vector<To> list(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) list[static_cast<std::size_t>(i)] = static_cast<To>(r.data()[i * stride]);
  return list;
}

/// A copy of a small list, numbers as they are. Copies of the policy share it, so that none allocates.
template <class R>
auto own_list(const R& r) {
  using X = std::remove_cvref_t<decltype(*r.data())>;
  return Owned<std::vector<X>>(copy_list<X>(r));
}

/// Row numbers, as the engine reads them. Copies share them.
class IndexList {
 public:
  template <integer_list R>
  static IndexList copy(const R& r) {
    return copy(copy_list<Index>(r));
  }
  static IndexList copy(std::vector<Index> values) {
    IndexList list;
    list.owned_ = std::make_shared<const std::vector<Index>>(std::move(values));
    list.data_ = list.owned_->data();
    list.size_ = static_cast<Index>(list.owned_->size());
    return list;
  }
  const Index* data() const { return data_; }
  Index size() const { return size_; }
  Index operator[](Index i) const { return data_[i]; }

 private:
  std::shared_ptr<const std::vector<Index>> owned_;
  const Index* data_ = nullptr;
  Index size_ = 0;
};

}  // namespace heed::inline HEED_ABI::detail

#endif
