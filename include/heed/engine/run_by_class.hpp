// SPDX-License-Identifier: MIT
/// @file
/// Runs a problem whose mask has gaps (mask/gaps.hpp) class by class, each on rows that lie `step` rows
/// apart: forward and backward. A union of two masks takes two runs, the second of which goes on where the
/// first ended.
#ifndef HEED_ENGINE_RUN_BY_CLASS_HPP
#define HEED_ENGINE_RUN_BY_CLASS_HPP

#include <cstddef>
#include <type_traits>
#include <utility>

#include <heed/core/spec.hpp>
#include <heed/core/workspace.hpp>
#include <heed/engine/run_backward.hpp>
#include <heed/engine/run_forward.hpp>
#include <heed/mask/gaps.hpp>

namespace heed::inline HEED_ABI::detail {

/// Which masks of a spec have gaps, and whether the engine can make use of them: not where policies write or
/// draw something for each pair or row by its number in the sequence.
template <class Spec>
struct Gaps;
template <class... P>
struct Gaps<Spec<P...>> {
  static constexpr auto gaps = order_of<GapsOf<P>::found...>();
  static constexpr auto parts = order_of<PartsOf<P>::found...>();
  static constexpr bool possible =
      !Spec<P...>::selects_rows && count_of<dropout_tag, P...> + count_of<bias_gradient_tag, P...> +
                                           count_of<parameter_gradient_tag, P...> +
                                           count_of<relative_bias_gradient_tag, P...> +
                                           count_of<score_gradient_tag, P...> ==
                                       0;
  static constexpr bool one = possible && gaps.size == 1;
  static constexpr bool two = possible && gaps.size == 0 && parts.size == 1;
};

template <std::size_t at, class Mask, class... P, std::size_t... I>
auto with_mask(const Spec<P...>& spec, const Mask& mask, std::index_sequence<I...>) {
  const auto part = [&]<std::size_t i>(std::integral_constant<std::size_t, i>) -> decltype(auto) {
    if constexpr (i == at)
      return (mask);
    else
      return (detail::get<i>(spec.parts()));
  };
  return heed::spec(part(std::integral_constant<std::size_t, I>())...);
}
/// The spec with policy number `at` replaced.
template <std::size_t at, class Mask, class... P>
auto with_mask(const Spec<P...>& spec, const Mask& mask) {
  return with_mask<at>(spec, mask, std::index_sequence_for<P...>{});
}

/// A spec among the tokens of one class.
template <class Spec>
struct SpecInClass : Spec {
  const Shape& shape;
  Index sequence;
  TokenClass tokens;

  SpecInClass(const Spec& spec, const Shape& s, Index number, const TokenClass& t)
      : Spec(spec), shape(s), sequence(number), tokens(t) {}

  template <class T>
  auto bind(const Place& in_class) const {
    const Place place = shape.place(sequence, in_class.head);
    return among_tokens(Spec::template bind<T>(place), place.keys);
  }

 private:
  template <class T, class Mask, class... Terms>
  HEED_INLINE auto among_tokens(const Rules<T, NothingDropped, Mask, Terms...>& rules, Index keys) const {
    return among_tokens(rules, keys, std::index_sequence_for<Terms...>{});
  }
  template <class T, class Mask, class... Terms, std::size_t... I>
  HEED_INLINE auto among_tokens(const Rules<T, NothingDropped, Mask, Terms...>& rules, Index keys,
                                std::index_sequence<I...>) const {
    return make_rules<T>(tokens.keys, NothingDropped{}, among(tokens, keys, rules.mask),
                         TermInClass<Terms>(detail::get<I>(rules.terms), tokens)...);
  }
};

/// Calls run(shape of a class, spec in it, the first row of its queries, of its keys, rows from one to the
/// next) for all classes of all sequences.
template <class Spec, class Run>
void for_each_class(const Shape& shape, const Spec& spec, const Dilated& dilated, const Run& run) {
  for (Index s = 0; s < shape.sequences; ++s) {
    const Place place = shape.place(s, 0);
    const BoundDilated gaps = dilated.bind(place);
    for (Index number = 0; number < place.queries && number < gaps.step; ++number) {
      const TokenClass tokens(gaps, place, number);
      Shape in_class = shape;
      in_class.queries = tokens.queries;
      in_class.keys = in_class.longest = tokens.keys;
      in_class.sequences = 1;
      in_class.query_offsets = in_class.key_offsets = nullptr;
      run(in_class, SpecInClass<Spec>(spec, shape, s, tokens), place.query_begin + tokens.first_query,
          place.key_begin + (tokens.keys > 0 ? tokens.first_key : 0), tokens.step);
    }
  }
}

/// Every `step`-th row from `first` on.
template <class T>
LogSums<T> every(const LogSums<T>& x, Index first, Index step) {
  if (x.data == nullptr) return x;
  LogSums<T> some = x.at(first, 0);
  some.row *= step;
  return some;
}
template <class T>
Operand<T> every(const Operand<T>& x, Index first, Index step) {
  return x.data == nullptr ? x : Operand<T>{x.data + first * x.row, x.row * step, x.column};
}

template <class T, class Spec>
void run_classes(const ForwardProblem<T>& p, const Spec& spec, const Dilated& dilated, Workspace* workspace) {
  for_each_class(p.shape, spec, dilated,
                 [&](const Shape& shape, const auto& in_class, Index query, Index key, Index step) {
                   const ForwardProblem<T> part{shape,
                                                p.scale,
                                                every(p.q, query, step),
                                                every(p.k, key, step),
                                                every(p.v, key, step),
                                                every(p.out, query, step),
                                                every(p.lse, query, step),
                                                p.continues};
                   run_forward(part, in_class, workspace);
                 });
}

/// run_forward() for specs whose mask has gaps.
template <class T, class Spec>
void run_forward_by_class(ForwardProblem<T> p, const Spec& spec, Workspace* workspace) {
  using Split = Gaps<Spec>;
  Workspace own;
  if (workspace == nullptr) workspace = &own;
  if constexpr (Split::one) {
    constexpr std::size_t at = Split::gaps.at[0];
    const auto& mask = detail::get<at>(spec.parts());
    run_classes(p, spec, GapsOf<std::remove_cvref_t<decltype(mask)>>::of(mask), workspace);
  } else {
    constexpr std::size_t at = Split::parts.at[0];
    const auto& mask = detail::get<at>(spec.parts());
    using Parts = PartsOf<std::remove_cvref_t<decltype(mask)>>;
    const auto second = Parts::with_gaps(mask);
    // The first run leaves its log-sum-exp to the second.
    if (p.lse.data == nullptr) {
      const Index numbers = p.shape.queries * p.shape.heads;
      T* const memory =
          reinterpret_cast<T*>(workspace->keep(static_cast<std::size_t>(3 * numbers) * sizeof(T)));
      p.lse = {memory, p.shape.heads, 1, memory + numbers, memory + 2 * numbers};
    }
    run_forward(p, with_mask<at>(spec, Parts::without_gaps(mask)), workspace);
    p.continues = true;
    run_classes(p, with_mask<at>(spec, second), GapsOf<std::remove_cvref_t<decltype(second)>>::of(second),
                workspace);
  }
}

template <class T, class Spec>
void run_classes(const BackwardProblem<T>& p, const Spec& spec, const Dilated& dilated,
                 Workspace* workspace) {
  for_each_class(p.shape, spec, dilated,
                 [&](const Shape& shape, const auto& in_class, Index query, Index key, Index step) {
                   BackwardProblem<T> part{shape,
                                           p.scale,
                                           every(p.q, query, step),
                                           every(p.k, key, step),
                                           every(p.v, key, step),
                                           every(p.out, query, step),
                                           every(p.dout, query, step),
                                           every(p.lse, query, step),
                                           every(p.dlse, query, step),
                                           every(p.dq, query, step),
                                           every(p.dk, key, step),
                                           every(p.dv, key, step),
                                           p.accumulate,
                                           p.continues};
                   run_backward(part, in_class, workspace);
                 });
}

/// run_backward() for specs whose mask has gaps.
template <class T, class Spec>
void run_backward_by_class(BackwardProblem<T>& p, const Spec& spec, Workspace* workspace) {
  using Split = Gaps<Spec>;
  Workspace own;
  if (workspace == nullptr) workspace = &own;
  if constexpr (Split::one) {
    constexpr std::size_t at = Split::gaps.at[0];
    const auto& mask = detail::get<at>(spec.parts());
    // A class of keys whose queries do not exist has no run.
    if (!p.accumulate) {
      set_to_zero(p.dk, p.shape.keys, p.shape.key_heads * p.shape.d);
      set_to_zero(p.dv, p.shape.keys, p.shape.key_heads * p.shape.d_v);
      set_to_zero(p.dq, p.shape.queries, p.shape.heads * p.shape.d);
      p.accumulate = true;
    }
    run_classes(p, spec, GapsOf<std::remove_cvref_t<decltype(mask)>>::of(mask), workspace);
  } else {
    constexpr std::size_t at = Split::parts.at[0];
    const auto& mask = detail::get<at>(spec.parts());
    using Parts = PartsOf<std::remove_cvref_t<decltype(mask)>>;
    const auto second = Parts::with_gaps(mask);
    run_backward(p, with_mask<at>(spec, Parts::without_gaps(mask)), workspace);
    p.accumulate = p.continues = true;
    run_classes(p, with_mask<at>(spec, second), GapsOf<std::remove_cvref_t<decltype(second)>>::of(second),
                workspace);
  }
}

}  // namespace heed::inline HEED_ABI::detail

#endif
