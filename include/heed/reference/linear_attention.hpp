// SPDX-License-Identifier: MIT
/// @file
/// Linear attention in plain loops, token by token, for every scalar without an engine. Read this to learn
/// how it works: the features of keys are multiplied with their values and added up once, and every query
/// asks the sum.
///
///     S += φ(k_j) v_jᵀ,  z += φ(k_j)         for the keys that query i sees and query i - 1 did not
///     o_i = φ(q_i)ᵀ S / φ(q_i)ᵀ z
///
/// Source: 2006.16236.
#ifndef HEED_REFERENCE_LINEAR_ATTENTION_HPP
#define HEED_REFERENCE_LINEAR_ATTENTION_HPP

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include <heed/config.hpp>
#include <heed/dual.hpp>
#include <heed/linear/linear_spec.hpp>
#include <heed/reference/attention_backward.hpp>

namespace heed::inline HEED_ABI::detail {

/// A matrix of Wide, row by row.
template <class Wide>
struct WideRows {
  Index columns;
  std::vector<Wide> numbers;
  WideRows(Index rows, Index width)
      : columns(width), numbers(static_cast<std::size_t>(rows * width), Wide(0)) {}
  Wide* row(Index r) { return numbers.data() + r * columns; }
  const Wide* row(Index r) const { return numbers.data() + r * columns; }
};

template <class Wide, class M>
WideRows<Wide> rows_of(const M& m, Index row, Index column, Index rows, Index columns) {
  WideRows<Wide> x(rows, columns);
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) x.row(r)[c] = static_cast<Wide>(m(row + r, column + c));
  return x;
}

template <class Wide, class Holder>
struct ReferenceMap {
  const FeatureMap<Holder>& map;
  ReferenceMap(const FeatureMap<Holder>& policy, Index, const Wide&) : map(policy) {}

  WideRows<Wide> features(const WideRows<Wide>& x, Index rows, bool) const {
    WideRows<Wide> y(rows, x.columns);
    for (Index n = 0; n < rows * x.columns; ++n) y.row(0)[n] = static_cast<Wide>(map.functor()(x.row(0)[n]));
    return y;
  }
  /// From gradients of features to gradients of rows.
  WideRows<Wide> gradient(const WideRows<Wide>& x, const WideRows<Wide>&, const WideRows<Wide>& dy,
                          Index rows) const {
    WideRows<Wide> dx(rows, x.columns);
    for (Index n = 0; n < rows * x.columns; ++n) {
      const auto y = static_cast<dual<Wide>>(map.functor()(dual<Wide>(x.row(0)[n], Wide(1))));
      dx.row(0)[n] = Wide(dy.row(0)[n] * y.tangent[0]);
    }
    return dx;
  }
};

template <class Wide>
struct ReferenceProjection {
  const Eigen::MatrixXd& omega;
  Wide scale, root;
  ReferenceProjection(const Performer& policy, Index d, const Wide& factor)
      : omega(policy.projection(d)), scale(factor) {
    using std::sqrt;
    root = Wide(sqrt(factor));
  }

  /// exp(ωᵀx' - |x'|²/2), for queries relative to the greatest of each, for keys of all of them.
  WideRows<Wide> features(const WideRows<Wide>& x, Index rows, bool keys) const {
    using std::exp;
    WideRows<Wide> y(rows, omega.rows());
    const double lowest = -std::numeric_limits<double>::max();
    std::vector<Wide> most(static_cast<std::size_t>(rows), Wide(static_cast<double>(lowest)));
    Wide greatest = Wide(static_cast<double>(lowest));
    for (Index r = 0; r < rows; ++r) {
      Wide norm(0);
      for (Index c = 0; c < x.columns; ++c) norm += Wide(x.row(r)[c] * x.row(r)[c]);
      Wide& m = most[static_cast<std::size_t>(r)];
      for (Index f = 0; f < omega.rows(); ++f) {
        Wide dot(0);
        for (Index c = 0; c < x.columns; ++c) dot += Wide(Wide(omega(f, c)) * x.row(r)[c]);
        Wide& e = y.row(r)[f];
        e = Wide(Wide(root * dot) - Wide(Wide(Wide(0.5) * scale) * norm));
        if (e > m) m = e;
      }
      if (m > greatest) greatest = m;
    }
    for (Index r = 0; r < rows; ++r)
      for (Index f = 0; f < omega.rows(); ++f)
        y.row(r)[f] = Wide(exp(Wide(y.row(r)[f] - (keys ? greatest : most[static_cast<std::size_t>(r)]))));
    return y;
  }
  WideRows<Wide> gradient(const WideRows<Wide>& x, const WideRows<Wide>& y, const WideRows<Wide>& dy,
                          Index rows) const {
    WideRows<Wide> dx(rows, x.columns);
    for (Index r = 0; r < rows; ++r)
      for (Index f = 0; f < omega.rows(); ++f) {
        const Wide de = Wide(dy.row(r)[f] * y.row(r)[f]);
        for (Index c = 0; c < x.columns; ++c)
          dx.row(r)[c] += Wide(de * Wide(Wide(root * Wide(omega(f, c))) - Wide(scale * x.row(r)[c])));
      }
    return dx;
  }
};

template <class Wide, class Holder, class Spec>
auto reference_features(const FeatureMap<Holder>& policy, const Spec&, Index d) {
  return ReferenceMap<Wide, Holder>(policy, d, Wide(1));
}
template <class Wide, class Spec>
auto reference_features(const Performer& policy, const Spec& spec, Index d) {
  return ReferenceProjection<Wide>(policy, d, performer_scale<Wide>(spec, d));
}

/// The sum of the keys so far: S and z, z as a last column.
template <class Wide>
struct ReferenceState {
  WideRows<Wide> sums;
  ReferenceState(Index features, Index d_v) : sums(features, d_v + 1) {}

  void add(const Wide* phi, const Wide* v) {
    const Index d_v = sums.columns - 1, features = static_cast<Index>(sums.numbers.size()) / sums.columns;
    for (Index f = 0; f < features; ++f) {
      for (Index c = 0; c < d_v; ++c) sums.row(f)[c] += Wide(phi[f] * v[c]);
      sums.row(f)[d_v] += phi[f];
    }
  }
  /// φᵀ [S, z]
  std::vector<Wide> asked(const Wide* phi) const {
    std::vector<Wide> answer(static_cast<std::size_t>(sums.columns), Wide(0));
    const Index features = static_cast<Index>(sums.numbers.size()) / sums.columns;
    for (Index f = 0; f < features; ++f)
      for (Index c = 0; c < sums.columns; ++c)
        answer[static_cast<std::size_t>(c)] += Wide(phi[f] * sums.row(f)[c]);
    return answer;
  }
};

/// Calls head(place, bounds, key head) for every sequence and query head.
template <class Spec, class F>
void for_linear_heads(const Spec& spec, const Shape& shape, const F& head) {
  for (Index s = 0; s < shape.sequences; ++s)
    for (Index h = 0; h < shape.heads; ++h) {
      const Place place = shape.place(s, h);
      head(place, bounds_of(spec, place), h / (shape.heads / shape.key_heads));
    }
}

/// out = linear_attention(q, k, v). Cost: tokens · features · d_v a head.
template <class Wide, class Spec, class Policy, class Q, class K, class V, class Out>
void reference_linear(const Spec& spec, const Policy& policy, const Shape& shape, const Q& q, const K& k,
                      const V& v, Out&& out) {
  const auto map = reference_features<Wide>(policy, spec, shape.d);
  const Index d = shape.d, d_v = shape.d_v;
  for_linear_heads(spec, shape, [&](const Place& place, const LinearBounds& bounds, Index key_head) {
    const Index keys = bounds.seen_keys(place.queries);
    const auto q_rows = rows_of<Wide>(q, place.query_begin, place.head * d, place.queries, d);
    const auto k_rows = rows_of<Wide>(k, place.key_begin, key_head * d, keys, d);
    const auto v_rows = rows_of<Wide>(v, place.key_begin, key_head * d_v, keys, d_v);
    const auto phi_q = map.features(q_rows, place.queries, false), phi_k = map.features(k_rows, keys, true);
    ReferenceState<Wide> state(phi_q.columns, d_v);
    Index j = 0;
    for (Index i = 0; i < place.queries; ++i) {
      for (; j < keys && j - i <= bounds.offset; ++j) state.add(phi_k.row(j), v_rows.row(j));
      const auto answer = state.asked(phi_q.row(i));
      const Wide& sum = answer.back();
      for (Index c = 0; c < d_v; ++c) {
        using Scalar = std::remove_cvref_t<decltype(out(0, 0))>;
        const Wide x = sum == Wide(0) ? Wide(0) : Wide(answer[static_cast<std::size_t>(c)] / sum);
        out(place.query_begin + i, place.head * d_v + c) = static_cast<Scalar>(x);
      }
    }
  });
}

/// dq, dk and dv, which hold zeros or what is to be added to. Once forward for dq, then in reverse, with the
/// sum of the queries that see a key, for dk and dv:
///
///     dφ(q_i) = S g_i + z e_i,  g_i = do_i / w_i,  e_i = -do_i · o_i / w_i,  w_i = φ(q_i) · z
///     R += φ(q_i) g_iᵀ,  r += φ(q_i) e_i;    dφ(k_j) = R v_j + r,    dv_j = Rᵀ φ(k_j)
template <class Wide, class Spec, class Policy, class DO, class Q, class K, class V, class DQ, class DK,
          class DV>
void reference_linear_backward(const Spec& spec, const Policy& policy, const Shape& shape, const DO& dout,
                               const Q& q, const K& k, const V& v, DQ&& dq, DK&& dk, DV&& dv) {
  const auto map = reference_features<Wide>(policy, spec, shape.d);
  const Index d = shape.d, d_v = shape.d_v;
  const auto add = [](auto& to, Index row, Index column, const WideRows<Wide>& x, Index rows, Index columns) {
    for (Index r = 0; r < rows; ++r)
      for (Index c = 0; c < columns; ++c) {
        auto& y = to(row + r, column + c);
        y = static_cast<std::remove_cvref_t<decltype(y)>>(Wide(static_cast<Wide>(y) + x.row(r)[c]));
      }
  };
  for_linear_heads(spec, shape, [&](const Place& place, const LinearBounds& bounds, Index key_head) {
    const Index keys = bounds.seen_keys(place.queries), queries = place.queries;
    const auto q_rows = rows_of<Wide>(q, place.query_begin, place.head * d, queries, d);
    const auto k_rows = rows_of<Wide>(k, place.key_begin, key_head * d, keys, d);
    const auto v_rows = rows_of<Wide>(v, place.key_begin, key_head * d_v, keys, d_v);
    const auto phi_q = map.features(q_rows, queries, false), phi_k = map.features(k_rows, keys, true);
    const Index features = phi_q.columns;
    WideRows<Wide> g(queries, d_v + 1), dphi_q(queries, features), dphi_k(keys, features), dv_rows(keys, d_v);
    ReferenceState<Wide> state(features, d_v);
    Index j = 0;
    for (Index i = 0; i < queries; ++i) {
      for (; j < keys && j - i <= bounds.offset; ++j) state.add(phi_k.row(j), v_rows.row(j));
      const auto answer = state.asked(phi_q.row(i));
      const Wide& sum = answer.back();
      if (sum == Wide(0)) continue;
      for (Index c = 0; c < d_v; ++c) {
        const auto x = static_cast<Wide>(dout(place.query_begin + i, place.head * d_v + c));
        g.row(i)[c] = Wide(x / sum);
        g.row(i)[d_v] -= Wide(g.row(i)[c] * Wide(answer[static_cast<std::size_t>(c)] / sum));
      }
      for (Index f = 0; f < features; ++f)
        for (Index c = 0; c <= d_v; ++c) dphi_q.row(i)[f] += Wide(state.sums.row(f)[c] * g.row(i)[c]);
    }
    ReferenceState<Wide> after(features, d_v);
    Index i = queries;
    for (j = keys; j-- > 0;) {
      for (; i > 0 && j - (i - 1) <= bounds.offset; --i)
        for (Index f = 0; f < features; ++f)
          for (Index c = 0; c <= d_v; ++c)
            after.sums.row(f)[c] += Wide(phi_q.row(i - 1)[f] * g.row(i - 1)[c]);
      for (Index f = 0; f < features; ++f) {
        dphi_k.row(j)[f] = after.sums.row(f)[d_v];
        for (Index c = 0; c < d_v; ++c) {
          dphi_k.row(j)[f] += Wide(after.sums.row(f)[c] * v_rows.row(j)[c]);
          dv_rows.row(j)[c] += Wide(after.sums.row(f)[c] * phi_k.row(j)[f]);
        }
      }
    }
    add(dq, place.query_begin, place.head * d, map.gradient(q_rows, phi_q, dphi_q, queries), queries, d);
    add(dk, place.key_begin, key_head * d, map.gradient(k_rows, phi_k, dphi_k, keys), keys, d);
    add(dv, place.key_begin, key_head * d_v, dv_rows, keys, d_v);
  });
}

}  // namespace heed::inline HEED_ABI::detail

#endif
