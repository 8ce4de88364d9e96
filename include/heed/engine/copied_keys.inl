// SPDX-License-Identifier: MIT
// Copies of keys and values in rows that touch each other.
//
// In a matrix of many heads the rows of one head lie far apart, often by a power of two: each in a page of
// its own, which overruns the address caches, and all on the same few lines of every data cache, which then
// hold a sixteenth of what they could. Columns of a column-major matrix are worse. So a worker copies what
// its queries see, once, and keeps the copies for as long as its tasks ask for the same sequence, or head.

/// Keys that are copied together.
inline constexpr Index copied_together = 32;

/// Bytes that the copies of one worker may take.
inline constexpr Index most_copied_bytes = 5 << 19;

/// Are rows of `columns` numbers so far apart that a copy pays once they are read more than once?
template <class T>
bool lie_apart(const Operand<const T>& x, Index columns) {
  return x.row < columns || (x.row > 2 * columns && x.row * Index(sizeof(T)) > 1024);
}

/// Plans the copies and the order of tasks. `narrow`: do masks leave the last queries few of the keys?
template <class T>
void plan_copies(const ForwardProblem<T>& p, bool narrow, ForwardPlan& plan) {
  const Shape& s = p.shape;
  const bool must = p.k.column != 1 || p.v.column != 1;
  const bool again = s.queries / s.sequences * (s.heads / s.key_heads) > tiles_per_group * tile_lanes<T>;
  const bool apart = lie_apart(p.k, s.d) || lie_apart(p.v, s.d_v);
  plan.heads_inside = narrow && !must;
  if (!must && !(apart && again && !narrow)) return;
  const Index row = (s.d + s.d_v) * static_cast<Index>(sizeof(T));
  const Index whole = (s.longest + copied_together - 1) / copied_together * copied_together, few = 1024;
  plan.copied_keys = whole * row <= most_copied_bytes || whole < few ? whole : few;
}

/// to[r · to_row + c] = from[r · from_row + c] for c < columns, or added. Rows further on are asked for
/// meanwhile: they may lie in pages of their own, where no hardware looks ahead.
template <bool add = false, class T>
HEED_NOINLINE void copy_rows(const T* from, Index from_row, Index rows, Index columns, T* to, Index to_row) {
  constexpr Index ahead = 12;
  for (Index r = 0; r < rows; ++r, from += from_row, to += to_row) {
    if (r + ahead < rows) {
      if (from_row > columns) prefetch_row(from + ahead * from_row, columns);
      if (to_row > columns) prefetch_row(to + ahead * to_row, columns);
    }
    Index c = 0;
    for (; c + Pack<T>::width <= columns; c += Pack<T>::width)
      store(to + c, add ? load(to + c) + load(from + c) : load(from + c));
    for (; c < columns; ++c) to[c] = add ? to[c] + from[c] : from[c];
  }
}

/// to[c] = factor · x[c].
template <class T>
HEED_INLINE void copy_scaled(const Operand<const T>& x, Index columns, T factor, T* to) {
  for (Index c = 0; c < columns; ++c) to[c] = factor * x.data[c * x.column];
}

/// to[r · to_row + c] = from[r][c], read through strides.
template <class T>
HEED_NOINLINE void gather_rows(const T* from, Index row, Index column, Index rows, Index columns, T* to,
                               Index to_row) {
  if (column == 1) return copy_rows(from, row, rows, columns, to, to_row);
  Index r = 0;
  if (row == 1) {
    alignas(64) T one[Pack<T>::width];
    store(one, broadcast(T(1)));
    for (; r + Pack<T>::width <= rows; r += Pack<T>::width)
      lanes_to_rows(from + r, column, one, Pack<T>::width, columns, to + r * to_row, to_row, Index(1));
  }
  for (; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) to[r * to_row + c] = from[r * row + c * column];
}

/// A ring of copies of one head: key j lies at j mod capacity.
template <class T>
class CopiedKeys {
 public:
  static Index bytes(const Shape& s, const ForwardPlan& plan) {
    if (plan.copied_keys == 0) return 0;
    const Index tags = plan.copied_keys / copied_together + 2;
    return (plan.copied_keys * (s.d + s.d_v) * static_cast<Index>(sizeof(T)) +
            tags * static_cast<Index>(sizeof(Index)) + 63) /
           64 * 64;
  }

  CopiedKeys(const ForwardProblem<T>& p, const ForwardPlan& plan, T* memory)
      : p_(p), keys_(plan.copied_keys), k_(memory), v_(k_ + keys_ * p.shape.d) {
    tags_ = reinterpret_cast<Index*>(v_ + keys_ * p.shape.d_v);
    sequence_ = tags_ + keys_ / copied_together;
    head_ = sequence_ + 1;
  }

  bool active() const { return keys_ > 0; }

  /// To be called before the first task of a call: what the memory held means nothing now.
  void forget() const { *sequence_ = -1; }

  /// From now on keys are those of this sequence and head.
  void turn_to(Index sequence, Index key_head) const {
    if (*sequence_ == sequence && *head_ == key_head) return;
    *sequence_ = sequence;
    *head_ = key_head;
    for (Index t = 0; t < keys_ / copied_together; ++t) tags_[t] = -1;
  }

  /// How many keys from j on lie in one piece.
  Index in_one_piece(Index j) const { return keys_ - j % keys_; }

  /// Is key j among the copies?
  bool holds(Index j) const { return tags_[j % keys_ / copied_together] == j / copied_together; }

  /// Keys [j, j + count), in one piece, of a key head.
  HEED_NOINLINE KeyBlock<T> block(const Place& place, Index key_head, Index j, Index count) const {
    const Index d = p_.shape.d, d_v = p_.shape.d_v;
    for (Index g = j / copied_together; g * copied_together < j + count; ++g) {
      const Index from = g * copied_together, at = from % keys_;
      if (tags_[at / copied_together] == g) continue;
      tags_[at / copied_together] = g;
      const Index left = place.keys - from, rows = left < copied_together ? left : copied_together;
      const Operand<const T> k = p_.k.at(place.key_begin + from, key_head * d);
      const Operand<const T> v = p_.v.at(place.key_begin + from, key_head * d_v);
      gather_rows(k.data, k.row, k.column, rows, d, k_ + at * d, d);
      gather_rows(v.data, v.row, v.column, rows, d_v, v_ + at * d_v, d_v);
    }
    const Index at = j % keys_;
    return {k_ + at * d, d, 1, v_ + at * d_v, d_v, 1, count};
  }

 private:
  const ForwardProblem<T>& p_;
  Index keys_;
  T *k_, *v_;
  Index *tags_, *sequence_, *head_;
};
