// SPDX-License-Identifier: MIT
/// @file
/// How shaw_attention() is made of calls of attention().
#ifndef HEED_POSITION_SHAW_PARTS_HPP
#define HEED_POSITION_SHAW_PARTS_HPP

#include <cmath>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/rules.hpp>
#include <heed/core/scalars.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/spec.hpp>
#include <heed/mask/window.hpp>
#include <heed/reference/attention.hpp>

namespace heed::inline HEED_ABI::detail {

/// The tables of one call. What pairs see falls into three parts, by the relative position r = j - i - off:
///
/// - r <= -R and r >= R: every pair takes the same row of the tables, so these are plain attention over
///   k + a_K and v + a_V;
/// - the 2R - 1 positions between, the band: keys are extended by the unit vector e_{j mod (2R - 1)}, queries
///   by their products with the table, q_i · a_K, each in the column that the key of its position has. Values
///   are extended alike, and what arrives in those columns are the weights that the rows of a_V get.
///
/// Every part is a call of attention() under a window, with the scale of the whole; merge() puts them
/// together. So all masks and terms act on the scores as the formula has them, and nothing is stored but
/// rows of q, k and v, longer by 2R - 1.
template <class Scalar, class Spec>
class ShawParts {
 public:
  using Rows = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  ShawParts(const Shape& shape, const Spec& spec, Rows key_table, Rows value_table)
      : shape_(shape), spec_(&spec), key_table_(std::move(key_table)), value_table_(std::move(value_table)) {
    check("key_table", key_table_, shape.d);
    check("value_table", value_table_, shape.d_v);
    const Index keys = key_table_.rows(), values = value_table_.rows();
    if (keys == 0 && values == 0)
      fail("shaw_attention: key_table and value_table have 0 rows, one must have some");
    if (keys != 0 && values != 0 && keys != values)
      fail("shaw_attention: key_table has ", keys, " rows, value_table has ", values);
    reach_ = ((keys != 0 ? keys : values) - 1) / 2;
  }

  /// R.
  Index reach() const { return reach_; }
  Index band() const { return reach_ > 0 ? 2 * reach_ - 1 : 0; }
  bool has_keys() const { return key_table_.rows() > 0; }
  bool has_values() const { return value_table_.rows() > 0; }
  /// Columns that the band adds to a head of q and k, and of v.
  Index key_columns() const { return has_keys() ? band() : 0; }
  Index value_columns() const { return has_values() ? band() : 0; }

  /// m with row n of a table added to every row; a table without rows adds nothing.
  template <class M>
  Rows moved(const M& m, const Rows& table, Index n) const {
    Rows sum = m;
    if (table.rows() == 0) return sum;
    for (Index c = 0; c < sum.cols(); c += table.cols())
      columns_at(sum, c, table.cols()).rowwise() += rows_at(table, n, 1).row(0);
    return sum;
  }
  template <class K>
  Rows moved_keys(const K& k, Index n) const {
    return moved(k, key_table_, n);
  }
  template <class V>
  Rows moved_values(const V& v, Index n) const {
    return moved(v, value_table_, n);
  }

  /// Keys or values of the band: each head followed by unit vectors.
  template <class M>
  Rows with_units(const M& m, Index width, Index more) const {
    Rows sum = Rows::Constant(m.rows(), shape_.key_heads * (width + more), Scalar(0));
    for (Index g = 0; g < shape_.key_heads; ++g)
      columns_at(sum, g * (width + more), width) = columns_at(m, g * width, width);
    if (more == 0) return sum;
    for (Index s = 0; s < shape_.sequences; ++s) {
      const Place place = shape_.place(s, 0);
      for (Index j = 0; j < place.keys; ++j)
        for (Index g = 0; g < shape_.key_heads; ++g)
          sum(place.key_begin + j, g * (width + more) + width + j % band()) = Scalar(1);
    }
    return sum;
  }

  /// Rows of q (or dout), each head followed by its products with the rows of a table, where the band wants
  /// them. (What stands in a table for pairs that nobody sees must not meet the zeros of the other columns.)
  template <class M>
  Rows with_products(const M& m, const Rows& table, Index width, Index more) const {
    Rows sum = Rows::Constant(m.rows(), shape_.heads * (width + more), Scalar(0));
    for (Index h = 0; h < shape_.heads; ++h)
      columns_at(sum, h * (width + more), width) = columns_at(m, h * width, width);
    if (more == 0) return sum;
    Block products;
    each_block([&](const auto& tile) {
      const Block rows = block_at(m, tile.token, tile.head * width, tile.count, width).template cast<Wide>();
      const Columns turned = rows_of_head(table, tile.head, width).template cast<Wide>();
      products.setConstant(tile.count, band(), Wide(0));
      add_product(rows, turned.transpose(), products, true);
      tile.each_pair([&](Index i, Index n, Index at) {
        sum(tile.token + i, tile.head * (width + more) + width + at) = static_cast<Scalar>(products(i, n));
      });
    });
    return sum;
  }
  template <class Q>
  Rows band_queries(const Q& q) const {
    return with_products(q, key_table_, shape_.d, key_columns());
  }
  template <class DO>
  Rows band_dout(const DO& dout) const {
    return with_products(dout, value_table_, shape_.d_v, value_columns());
  }
  /// The output of the whole, as the band's backward pass is to see it: its row sums with band_dout() are
  /// those of the whole.
  template <class O>
  Rows band_output(const O& out) const {
    Rows sum = Rows::Constant(out.rows(), shape_.heads * (shape_.d_v + value_columns()), Scalar(0));
    for (Index h = 0; h < shape_.heads; ++h)
      columns_at(sum, h * (shape_.d_v + value_columns()), shape_.d_v) =
          columns_at(out, h * shape_.d_v, shape_.d_v);
    return sum;
  }

  /// The band's output without its extra columns: their weights have become rows of a_V.
  Rows mixed(const Rows& extended) const {
    const Index width = shape_.d_v, more = value_columns();
    Rows out(extended.rows(), shape_.heads * width);
    for (Index h = 0; h < shape_.heads; ++h)
      columns_at(out, h * width, width) = columns_at(extended, h * (width + more), width);
    if (more > 0) {
      const bool finite = all_finite(value_table_);
      Block weights;
      each_block([&](const auto& tile) {
        take(tile, extended, width, more, weights);
        add_table(tile, weights, value_table_, width, finite, out);
      });
    }
    return out;
  }

  /// From the gradient by band_queries(): adds to that by q and by the key table.
  template <class Q, class Sums>
  void add_query_gradient(const Rows& extended, const Q& q, Rows& dq, Sums& dtable) const {
    const Index width = shape_.d, more = key_columns();
    for (Index h = 0; h < shape_.heads; ++h)
      columns_at(dq, h * width, width) += columns_at(extended, h * (width + more), width);
    if (more == 0) return;
    const bool finite = all_finite(key_table_), finite_q = all_finite(q);
    Block weights;
    each_block([&](const auto& tile) {
      take(tile, extended, width, more, weights);
      add_table(tile, weights, key_table_, width, finite, dq);
      add_to_table(tile, weights, q, width, finite_q, dtable);
    });
  }
  /// From the gradient by keys or values of the band to that by k or v; that by unit vectors is dropped.
  template <class To>
  void add_key_gradient(const Rows& extended, Index width, Index more, To& to) const {
    for (Index g = 0; g < shape_.key_heads; ++g)
      columns_at(to, g * width, width) += columns_at(extended, g * (width + more), width);
  }
  /// Unit vectors alone, for the weights of the band.
  Rows units() const { return with_units(Rows(shape_.keys, 0), 0, value_columns()); }
  /// Rows of the value table get dout, by the weights of the band, which are here relative to its own
  /// log-sum-exp.
  template <class Lse, class DO, class Sums>
  void add_value_table_gradient(const Rows& relative, const Lse& own, const Lse& whole, const DO& dout,
                                Sums& dtable) const {
    using std::exp;
    const bool finite = all_finite(dout);
    Block weights;
    each_block([&](const auto& tile) {
      take(tile, relative, 0, value_columns(), weights);
      for (Index i = 0; i < tile.count; ++i) {
        const Index token = tile.token + i;
        const Wide mine = static_cast<Wide>(own(token, tile.head));
        if (mine == minus_infinity<Wide>()) continue;  // all weights are 0
        const Wide share = Wide(exp(Wide(mine - static_cast<Wide>(whole(token, tile.head)))));
        for (Index n = 0; n < band(); ++n) weights(i, n) = Wide(weights(i, n) * share);
      }
      add_to_table(tile, weights, dout, shape_.d_v, finite, dtable);
    });
  }
  /// Row n of a table gets the sum of what moved keys or values got.
  template <class Sums>
  void add_moved_gradient(const Rows& dmoved, const Rows& table, Index n, Sums& dtable) const {
    using Sum = typename Sums::Scalar;
    if (table.rows() == 0) return;
    Eigen::Matrix<Sum, 1, Eigen::Dynamic> sums =
        Eigen::Matrix<Sum, 1, Eigen::Dynamic>::Constant(dmoved.cols(), Sum(0));
    for (Index j = 0; j < dmoved.rows(); ++j) sums += dmoved.row(j).template cast<Sum>();
    for (Index c = 0; c < sums.size(); c += table.cols()) dtable.row(n) += sums.segment(c, table.cols());
  }

  const Rows& key_table() const { return key_table_; }
  const Rows& value_table() const { return value_table_; }

 private:
  using Wide = Accumulator<Scalar>;
  using Block = Eigen::Matrix<Wide, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using Columns = Eigen::Matrix<Wide, Eigen::Dynamic, Eigen::Dynamic>;

  static void check(const char* name, const Rows& table, Index width, Index key_heads) {
    if (table.rows() == 0) return;
    if (table.rows() % 2 == 0)
      fail("shaw_attention: ", name, " has ", table.rows(), " rows, it must have 2R + 1, an odd number");
    if (table.cols() != width && table.cols() != width * key_heads)
      fail("shaw_attention: ", name, " has ", table.cols(), " columns, it must have ", width, ", for all ",
           key_heads, " key heads, or ", width * key_heads);
  }
  void check(const char* name, const Rows& table, Index width) const {
    check(name, table, width, shape_.key_heads);
  }
  /// The rows of a table that the band takes, for one query head.
  auto rows_of_head(const Rows& table, Index head, Index width) const {
    return block_at(table, 1, first_column(table.cols(), head, width), band(), width);
  }
  Index first_column(Index columns, Index head, Index width) const {
    return columns == width ? 0 : head / (shape_.heads / shape_.key_heads) * width;
  }
  template <class M>
  static bool all_finite(const M& m) {
    if constexpr (std::is_floating_point_v<Scalar>)
      return m.allFinite();
    else
      return false;
  }

  /// Some rows of one head.
  template <class BoundRules>
  struct Tile {
    const ShawParts& parts;
    BoundRules rules;
    Index head, token, count;  // of rows of q
    Index row, off, keys;      // its first row, in its sequence

    /// visit(row of the tile, row of the band's table, column of the band) for every visible pair.
    template <class Visit>
    void each_pair(const Visit& visit) const {
      const Index width = parts.band();
      for (Index i = 0; i < count; ++i) {
        const Index first = row + i + off - (parts.reach() - 1);
        const Index begin = first < 0 ? 0 : first, end = first + width < keys ? first + width : keys;
        Index at = begin % width;
        for (Index j = begin; j < end; ++j) {
          if (rules.visible(static_cast<Position>(row + i), static_cast<Position>(j)))
            visit(i, j - first, at);
          if (++at == width) at = 0;
        }
      }
    }
  };
  /// Visits all rows of all heads, 64 at a time.
  template <class Visit>
  void each_block(const Visit& visit) const {
    constexpr Index most = 64;
    for (Index s = 0; s < shape_.sequences; ++s)
      for (Index h = 0; h < shape_.heads; ++h) {
        const Place place = shape_.place(s, h);
        const auto rules = spec_->template bind<Scalar>(place);
        for (Index i = 0; i < place.queries; i += most)
          visit(Tile<std::remove_const_t<decltype(rules)>>{
              *this, rules, h, place.query_begin + i, place.queries - i < most ? place.queries - i : most, i,
              place.keys - place.queries, place.keys});
      }
  }

  /// The band's extra columns of a tile, in the order of the table's rows.
  template <class AnyTile>
  void take(const AnyTile& tile, const Rows& extended, Index width, Index more, Block& weights) const {
    weights.setConstant(tile.count, band(), Wide(0));
    tile.each_pair([&](Index i, Index n, Index at) {
      weights(i, n) = static_cast<Wide>(extended(tile.token + i, tile.head * (width + more) + width + at));
    });
  }
  /// to += weights · table, for the rows of a tile.
  template <class AnyTile>
  void add_table(const AnyTile& tile, const Block& weights, const Rows& table, Index width, bool finite,
                 Rows& to) const {
    Block sums = Block::Constant(tile.count, width, Wide(0));
    add_product(weights, Block(rows_of_head(table, tile.head, width).template cast<Wide>()), sums, finite);
    auto block = block_at(to, tile.token, tile.head * width, tile.count, width);
    block = (block.template cast<Wide>() + sums).template cast<Scalar>();
  }
  /// dtable += weightsᵀ · rows of m.
  template <class AnyTile, class M, class Sums>
  void add_to_table(const AnyTile& tile, const Block& weights, const M& m, Index width, bool finite,
                    Sums& dtable) const {
    Block sums = Block::Constant(band(), width, Wide(0));
    const Block rows = block_at(m, tile.token, tile.head * width, tile.count, width).template cast<Wide>();
    // By rows: Eigen multiplies a transposed left side number by number.
    add_product(Block(weights.transpose()), rows, sums, finite);
    block_at(dtable, 1, first_column(dtable.cols(), tile.head, width), band(), width) +=
        sums.template cast<typename Sums::Scalar>();
  }
  /// c += a b. Where b is not known to be finite, zeros of a meet nothing. (Eigen's lazy products: its others
  /// may round differently with another number of threads.)
  template <class A, class B>
  static void add_product(const A& a, const B& b, Block& c, bool finite) {
    if (a.cols() == 0) return;
    if constexpr (std::is_floating_point_v<Wide>) {
      if (finite) {
        c += a.lazyProduct(b);
        return;
      }
    }
    for (Index i = 0; i < a.rows(); ++i)
      for (Index t = 0; t < a.cols(); ++t) {
        const Wide x = a.coeff(i, t);
        if (x == Wide(0)) continue;
        for (Index n = 0; n < b.cols(); ++n) c(i, n) += Wide(x * Wide(b.coeff(t, n)));
      }
  }

  Shape shape_;
  const Spec* spec_;
  Rows key_table_, value_table_;
  Index reach_ = 0;
};

/// The window of each part, and the row of the tables that it takes, -1 for the band.
struct ShawPart {
  Index left, right, row;
};
inline std::vector<ShawPart> shaw_parts(Index reach) {
  if (reach == 0) return {{unbounded, unbounded, 0}};
  return {{unbounded, -reach, 0}, {reach - 1, reach - 1, -1}, {-reach, unbounded, 2 * reach}};
}

}  // namespace heed::inline HEED_ABI::detail

#endif
