// SPDX-License-Identifier: MIT
/// @file
/// Which variant a call is, in a few numbers: so that a backward pass can tell whether its forward pass was
/// of the same.
///
/// Kinds of policies are told apart by the names of their classes, not by addresses: names are the same in
/// every file of a program. A class says what else tells one of its policies from another by
///
///     template <class Numbers>
///     void identify(Numbers& n) const { n(left, right, alignment); }
///
/// Of a function only that there is one, because two lambdas of the same text have different types; of
/// matrices only the size.
#ifndef HEED_CORE_FINGERPRINT_HPP
#define HEED_CORE_FINGERPRINT_HPP

#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/saved.hpp>
#include <heed/core/scalars.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/spec.hpp>
#include <heed/core/stored.hpp>
#include <heed/core/when.hpp>
#include <heed/mask/algebra.hpp>

namespace heed::inline HEED_ABI::detail {

constexpr bool is_of_name(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/// Where the name of the class P begins in what the compiler calls a function of P: behind its namespaces,
/// and without its arguments.
constexpr std::size_t class_name_begin(const char* text) {
  std::size_t at = 0;
  while (!(text[at] == 'P' && text[at + 1] == ' ' && text[at + 2] == '=')) ++at;
  std::size_t begin = at + 4;
  for (at = begin; text[at] != '\0' && text[at] != '<' && text[at] != ']' && text[at] != ';'; ++at)
    if (text[at] == ':' && text[at + 1] == ':') begin = at + 2;
  return begin;
}
constexpr std::uint64_t hash_name(const char* name) {
  std::uint64_t h = 0xcbf29ce484222325u;
  for (; is_of_name(*name); ++name) h = (h ^ static_cast<unsigned char>(*name)) * 0x100000001b3u;
  return h;
}
template <class P>
HEED_INLINE const char* class_name() {
  constexpr std::size_t begin = class_name_begin(__PRETTY_FUNCTION__);
  return &__PRETTY_FUNCTION__[begin];
}
/// Policies that mean the same share a name: `static constexpr const char* same_as`.
template <class P>
HEED_INLINE std::uint64_t class_hash() {
  if constexpr (requires { P::same_as; }) {
    constexpr std::uint64_t hash = hash_name(P::same_as);
    return hash;
  } else {
    constexpr std::uint64_t hash = hash_name(__PRETTY_FUNCTION__ + class_name_begin(__PRETTY_FUNCTION__));
    return hash;
  }
}
HEED_INLINE constexpr std::uint64_t mix(std::uint64_t h, std::uint64_t x) {
  h = (h ^ x) * 0x9e3779b97f4a7c15u;
  return h ^ (h >> 32);
}

/// What tells a policy from others, 0 for one that does nothing, and the function that makes such policies,
/// for messages: `static constexpr const char* made_by`, or else the name of the class.
template <class P>
struct Identity {
  HEED_INLINE static std::uint64_t number(const P& p, const Shape& shape);
  HEED_INLINE static const char* name(const P&) {
    if constexpr (requires { P::made_by; })
      return P::made_by;
    else
      return class_name<P>();
  }
};

/// Takes the numbers of a policy, one after the other.
class PolicyNumbers {
 public:
  PolicyNumbers(std::uint64_t start, const Shape& shape) : sum_(start), shape_(shape) {}

  template <class... X>
  HEED_INLINE void operator()(const X&... x) {
    (add(x), ...);
  }
  /// A short list of numbers, contiguous or an Eigen vector.
  template <class R>
  void list(const R& r) {
    const Index count = static_cast<Index>(r.size()), step = list_stride(r);
    add(count);
    for (Index n = 0; n < count; ++n) add(r.data()[n * step]);
  }
  std::uint64_t sum() const { return sum_; }

 private:
  template <class X>
  HEED_INLINE void add(const X& x) {
    if constexpr (std::is_integral_v<X> || std::is_enum_v<X>)
      sum_ = mix(sum_, static_cast<std::uint64_t>(x));
    else if constexpr (std::is_floating_point_v<X>)
      sum_ = mix(sum_, std::bit_cast<std::uint64_t>(static_cast<double>(x) + 0.0));
    else if constexpr (std::is_same_v<X, Alignment>)
      add_alignment(x);
    else if constexpr (policy<X>)
      sum_ = mix(sum_, Identity<X>::number(x, shape_));
    // Other scalars have no numbers that every one of them could be told by.
  }
  /// causal() and causal(top_left) are the same where queries and keys are as many.
  HEED_INLINE void add_alignment(const Alignment& a) {
    if (shape_.sequences == 1) return add(a.resolve(shape_.queries, shape_.keys));
    add(a.from_end);
    add(a.from_end ? Index(0) : a.offset);
  }

  std::uint64_t sum_;
  const Shape& shape_;
};

template <class P>
HEED_INLINE std::uint64_t Identity<P>::number(const P& p, const Shape& shape) {
  if constexpr (requires { p.idle(); })
    if (p.idle()) return 0;
  PolicyNumbers numbers(class_hash<P>(), shape);
  if constexpr (requires { p.identify(numbers); }) p.identify(numbers);
  return numbers.sum();
}

// Masks intersect, and unite, in any order and however they are bracketed: their numbers are added up.
template <class A, class B>
struct Identity<AndMask<A, B>> {
  static std::uint64_t number(const AndMask<A, B>& m, const Shape& shape) {
    return Identity<A>::number(m.a, shape) + Identity<B>::number(m.b, shape);
  }
  static const char* name(const AndMask<A, B>& m) { return Identity<A>::name(m.a); }
};
template <class M>
struct Union {
  static std::uint64_t sum(const M& m, const Shape& shape) { return Identity<M>::number(m, shape); }
};
template <class A, class B>
struct Union<OrMask<A, B>> {
  static std::uint64_t sum(const OrMask<A, B>& m, const Shape& shape) {
    return Union<A>::sum(m.a, shape) + Union<B>::sum(m.b, shape);
  }
};
template <class A, class B>
struct Identity<OrMask<A, B>> {
  static std::uint64_t number(const OrMask<A, B>& m, const Shape& shape) {
    return mix('|', Union<OrMask<A, B>>::sum(m, shape));
  }
  static const char* name(const OrMask<A, B>& m) { return Identity<A>::name(m.a); }
};
template <class A>
struct Identity<NotMask<A>> {
  static std::uint64_t number(const NotMask<A>& m, const Shape& shape) {
    return mix('!', Identity<A>::number(m.a, shape));
  }
  static const char* name(const NotMask<A>& m) { return Identity<A>::name(m.a); }
};
template <class When>
struct IdentityWhen {
  static std::uint64_t number(const When& w, const Shape& shape) {
    return w.active ? Identity<std::remove_cvref_t<decltype(w.policy)>>::number(w.policy, shape) : 0;
  }
  static const char* name(const When& w) {
    return Identity<std::remove_cvref_t<decltype(w.policy)>>::name(w.policy);
  }
};
template <class P>
struct Identity<MaskWhen<P>> : IdentityWhen<MaskWhen<P>> {};
template <class P>
struct Identity<TermWhen<P>> : IdentityWhen<TermWhen<P>> {};

HEED_INLINE bool has_part(const Fingerprint& f, int part) { return (f.present >> part & 1u) != 0; }
HEED_INLINE void begin_part(Fingerprint& f, Fingerprint::Part part, const char* name) {
  f.present |= 1u << part;
  f.number[part] = 0;
  f.name[part] = name;
}
inline bool same_part(const Fingerprint& a, const Fingerprint& b, int part) {
  return has_part(a, part) == has_part(b, part) && (!has_part(a, part) || a.number[part] == b.number[part]);
}

template <class Wide, class P>
HEED_INLINE void add_to_fingerprint(Fingerprint& f, const P& p, const Shape& shape) {
  const auto add = [&](Fingerprint::Part part) {
    const std::uint64_t number = Identity<P>::number(p, shape);
    if (number == 0) return;
    if (!has_part(f, part)) begin_part(f, part, Identity<P>::name(p));
    f.number[part] += number;
  };
  (void)add;
  if constexpr (mask<P>) {
    add(Fingerprint::mask);  // they intersect, in any order
  } else if constexpr (std::derived_from<P, score_tag>) {
    add(Fingerprint::score);
  } else if constexpr (std::derived_from<P, row_selection_tag>) {
    add(Fingerprint::selection);
  } else if constexpr (std::derived_from<P, weight_function_tag>) {
    add(Fingerprint::weight_function);
  } else if constexpr (std::derived_from<P, dropout_tag>) {
    add(Fingerprint::dropout);
  } else if constexpr (std::derived_from<P, sink_tag> && std::is_floating_point_v<Wide>) {
    PolicyNumbers numbers(0, shape);
    bool any = false;
    for (Index h = 0; h < shape.heads; ++h) {
      const Wide logit = p.template value<Wide>(h);
      any |= logit != -std::numeric_limits<Wide>::infinity();
      numbers(logit);
    }
    if (!any) return;
    begin_part(f, Fingerprint::sink, "sink");
    f.number[Fingerprint::sink] = numbers.sum();
  }
}

/// Terms, in the order in which they act: those of one stage commute where they add.
template <class P>
HEED_INLINE void add_term_to_fingerprint(Fingerprint& f, const P& p, const Shape& shape) {
  if constexpr (!std::derived_from<P, bias_tangent_tag>) {
    const std::uint64_t number = Identity<P>::number(p, shape);
    if (number == 0) return;
    constexpr int at = bound_t<P>::stage;
    if (!has_part(f, Fingerprint::terms)) begin_part(f, Fingerprint::terms, Identity<P>::name(p));
    std::uint64_t& all = f.number[Fingerprint::terms];
    if constexpr (at == stage::position || at == stage::bias)
      all += number;
    else
      all = mix(all, number);
  }
}

template <class Wide, class... P, std::size_t... I, std::size_t... K>
HEED_INLINE void add_all_to_fingerprint(Fingerprint& f, const Spec<P...>& spec, const Shape& shape,
                                        std::index_sequence<I...>, std::index_sequence<K...>) {
  constexpr auto terms = term_order<P...>();
  (void)terms, (void)spec, (void)shape, (void)f;
  (add_to_fingerprint<Wide>(f, detail::get<I>(spec.parts()), shape), ...);
  (add_term_to_fingerprint(f, detail::get<terms.at[K]>(spec.parts()), shape), ...);
}

/// Of a call in which scores are multiplied by `scale`.
template <class Scale, class... P>
HEED_INLINE void take_fingerprint(Fingerprint& f, const Spec<P...>& spec, const Shape& shape,
                                  const Scale& scale) {
  f.taken = true;
  f.queries = shape.queries, f.keys = shape.keys;
  f.heads = shape.heads, f.key_heads = shape.key_heads;
  f.d = shape.d, f.d_v = shape.d_v;
  f.sequences = shape.sequences;
  if constexpr (std::is_floating_point_v<Scale>) f.scale = static_cast<double>(scale);
  f.present = 0;
  if (shape.sequences != 1) {
    begin_part(f, Fingerprint::sequence_rows, "sequences");
    PolicyNumbers rows(0, shape);
    for (Index s = 0; s <= shape.sequences; ++s) rows(shape.query_offsets[s], shape.key_offsets[s]);
    f.number[Fingerprint::sequence_rows] = rows.sum();
  }
  add_all_to_fingerprint<Scale>(f, spec, shape, std::index_sequence_for<P...>{},
                                std::make_index_sequence<term_order<P...>().size>{});
}

/// "causal()" from Causal, "top_k()" from TopK.
inline std::string spoken_name(const char* name) {
  std::string spoken;
  for (const char* c = name; is_of_name(*c); ++c) {
    const bool upper = *c >= 'A' && *c <= 'Z';
    if (upper && c != name && !(c[-1] >= 'A' && c[-1] <= 'Z')) spoken += '_';
    spoken += upper ? static_cast<char>(*c - 'A' + 'a') : *c;
  }
  return spoken + "()";
}

HEED_NOINLINE inline void refuse_variant(const char* who, const Fingerprint& saved, const Fingerprint& now) {
  const auto before = [&] { return std::string(who) + ": the forward pass that saved this had "; };
  const auto sizes = [&](const char* what, Index a, Index b) {
    if (a != b) fail(before(), a, what, ", this call has ", b);
  };
  sizes(" query heads", saved.heads, now.heads);
  sizes(" key heads", saved.key_heads, now.key_heads);
  sizes(" sequences", saved.sequences, now.sequences);
  sizes(" rows of q", saved.queries, now.queries);
  sizes(" rows of k", saved.keys, now.keys);
  sizes(" columns of q a head", saved.d, now.d);
  sizes(" columns of v a head", saved.d_v, now.d_v);
  constexpr const char* kinds[] = {"mask",    "score term", "additive score", "selection", "weight function",
                                   "dropout", "sink",       "sequences"};
  if (!same_part(saved, now, Fingerprint::sequence_rows))
    fail(before(), "sequences() of other lengths than this call");
  for (int part = 0; part < Fingerprint::parts; ++part) {
    if (same_part(saved, now, part)) continue;
    const auto name = [&](const Fingerprint& f) {
      return has_part(f, part) ? spoken_name(f.name[part]) : std::string("no ") + kinds[part];
    };
    const std::string old_name = name(saved), new_name = name(now);
    if (old_name != new_name) fail(before(), old_name, ", this call has ", new_name);
    fail(before(), "another ", kinds[part], ": ", old_name,
         " with other numbers than this call, or beside others");
  }
  // Last, because another kind of score has another scale if none is given.
  fail(before(), "a scale of ", saved.scale, ", this call has ", now.scale);
}

/// Has some log-sum-exp been changed since the forward pass?
template <class Scalar>
HEED_NOINLINE bool lse_changed(const Saved<Scalar>& saved) {
  const bool parts = saved.log_sum.size() == saved.lse.size();
  if (saved.maximum.size() != saved.lse.size()) return true;
  const Scalar none = Scalar(-std::numeric_limits<double>::infinity());
  for (Index h = 0; h < saved.lse.cols(); ++h)
    for (Index i = 0; i < saved.lse.rows(); ++i) {
      const Scalar lse = saved.lse(i, h), maximum = saved.maximum(i, h);
      Scalar kept = maximum;
      if constexpr (std::is_floating_point_v<Scalar>)
        if (parts) {
          const Scalar log_sum = saved.log_sum(i, h);
          kept = lse == none && maximum == Scalar(0) && log_sum == Scalar(0) ? none
                                                                             : join_log_sum(maximum, log_sum);
        }
      if (!(kept == lse) && (kept == kept || lse == lse)) return true;
    }
  return false;
}

/// Throws std::invalid_argument where the call that saved was of another variant. What was merged, or filled
/// in by hand, is not asked.
template <class Scalar, class Scale, class... P>
void check_variant(const char* who, const Saved<Scalar>& saved, const Spec<P...>& spec, const Shape& shape,
                   const Scale& scale) {
  const Fingerprint& before = saved.variant;
  if (!before.taken) return;
  Fingerprint now;
  take_fingerprint(now, spec, shape, scale);
  bool same = before.queries == now.queries && before.keys == now.keys && before.heads == now.heads &&
              before.key_heads == now.key_heads && before.d == now.d && before.d_v == now.d_v &&
              before.sequences == now.sequences && before.scale == now.scale && before.present == now.present;
  if (now.present != 0)
    for (int part = 0; part < Fingerprint::parts; ++part) same &= same_part(before, now, part);
  if (!same && !lse_changed(saved)) refuse_variant(who, before, now);
}

/// For scalars whose weights are computed again from q, k and v alone (16 bits; plain loops): another
/// log-sum-exp than theirs would be ignored.
template <class Scalar>
void check_own_lse(const char* who, const Saved<Scalar>& saved) {
  if constexpr (!on_engine<Scalar>)
    if (saved.lse.size() > 0 && lse_changed(saved))
      fail(who, ": saved.lse is not as the forward pass saved it; only float and double go by a log-sum-exp ",
           "that was merged or filled in");
}

/// Makes room for what a forward pass saves, and says which variant it is.
template <bool in_parts, class Scalar, class Scale, class... P>
void open_saved(Saved<Scalar>& saved, const Spec<P...>& spec, const Shape& shape, const Scale& scale) {
  // Eigen divides whenever it resizes.
  const auto fit = [&](auto& m) {
    if (m.rows() != shape.queries || m.cols() != shape.heads) m.resize(shape.queries, shape.heads);
  };
  fit(saved.lse);
  if constexpr (in_parts) fit(saved.maximum), fit(saved.log_sum);
  take_fingerprint(saved.variant, spec, shape, scale);
}
/// In the end, where the log-sum-exp has no parts: a copy tells whether it is changed later.
template <class Scalar>
void close_saved(Saved<Scalar>& saved) {
  saved.maximum = saved.lse;
  saved.log_sum.resize(0, 0);
}

}  // namespace heed::inline HEED_ABI::detail

#endif
