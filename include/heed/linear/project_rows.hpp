// SPDX-License-Identifier: MIT
/// @file
/// Matrix products for projections of keys and values: on the kernels, threads and workspace of a call.
#ifndef HEED_LINEAR_PROJECT_ROWS_HPP
#define HEED_LINEAR_PROJECT_ROWS_HPP

#include <type_traits>

#include <heed/config.hpp>
#include <heed/core/operand.hpp>
#include <heed/core/scalars.hpp>
#include <heed/core/workspace.hpp>
#include <heed/engine/converted.hpp>
#include <heed/engine/run_linear.hpp>

namespace heed::inline HEED_ABI::detail {

/// c = a · b, or c += a · b: rows × terms times terms × columns, strided.
template <class Scalar, class Spec>
void multiply_into(const Operand<Scalar>& c, const Operand<const Scalar>& a, const Operand<const Scalar>& b,
                   Index rows, Index terms, Index columns, bool add, const Spec& spec) {
  if (rows == 0 || columns == 0) return;
  if constexpr (through_engine<Scalar>) {
    Converted<Scalar, Spec> with(spec, workspace_of(spec), rows * terms + terms * columns + rows * columns);
    ProductProblem<Accumulator<Scalar>> p;
    p.a = with.read(a, rows, terms);
    p.b = with.read(b, terms, columns);
    p.c = add ? with.update(c, rows, columns) : with.write(c, rows, columns);
    p.rows = rows;
    p.terms = terms;
    p.columns = columns;
    p.add = add;
    run_product(p, spec, workspace_of(spec));
    with.finish();
  } else {
    using Wide = Accumulator<Scalar>;
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < columns; ++j) {
        Scalar& x = *c.at(i, j).data;
        Wide sum = add ? static_cast<Wide>(x) : Wide(0);
        for (Index t = 0; t < terms; ++t)
          sum += Wide(static_cast<Wide>(*a.at(i, t).data) * static_cast<Wide>(*b.at(t, j).data));
        x = static_cast<Scalar>(sum);
      }
  }
}

template <class T>
Operand<T> transposed(const Operand<T>& x) {
  return {x.data, x.column, x.row};
}

}  // namespace heed::inline HEED_ABI::detail

#endif
