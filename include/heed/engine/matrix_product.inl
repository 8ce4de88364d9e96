// SPDX-License-Identifier: MIT
// An ordinary matrix product by the register tile, for projections: strided operands, nothing allocated.

/// Rows, columns and summed terms of a block.
inline constexpr Index product_block_rows = 64, product_block_columns = 64, product_block_terms = 256;

template <class T>
HEED_NOINLINE Index product_tasks(const ProductProblem<T>& p) {
  return ((p.rows + product_block_rows - 1) / product_block_rows) *
         ((p.columns + product_block_columns - 1) / product_block_columns);
}

template <class T>
HEED_NOINLINE std::size_t product_bytes(const ProductProblem<T>&) {
  return static_cast<std::size_t>((product_block_terms + product_block_rows) * product_block_columns) *
         sizeof(T);
}

/// One block of c (+)= a · b.
template <class T>
HEED_NOINLINE void product_task(const ProductProblem<T>& p, Index t, T* scratch) {
  const Index across = (p.columns + product_block_columns - 1) / product_block_columns;
  const Index r = t / across * product_block_rows, c = t % across * product_block_columns;
  const Index rows = p.rows - r < product_block_rows ? p.rows - r : product_block_rows;
  const Index columns = p.columns - c < product_block_columns ? p.columns - c : product_block_columns;
  T *const panel = scratch, *const sums = scratch + product_block_terms * product_block_columns;
  clear_rows(sums, product_block_columns, rows, product_block_columns);
  for (Index k = 0; k < p.terms; k += product_block_terms) {
    const Index terms = p.terms - k < product_block_terms ? p.terms - k : product_block_terms;
    take_rows(p.b.at(k, c), terms, columns, panel, product_block_columns);
    const Operand<const T> a = p.a.at(r, k);
    multiply_rows<true>(rows, a.data, a.row, a.column, panel, product_block_columns, terms,
                        whole_packs<T>(columns), sums, product_block_columns);
  }
  give_rows(sums, product_block_columns, p.c.at(r, c), rows, columns, p.add);
}
