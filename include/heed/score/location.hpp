// SPDX-License-Identifier: MIT
/// @file
/// location(): weights that depend on where a key stands, and not on what it is.
#ifndef HEED_SCORE_LOCATION_HPP
#define HEED_SCORE_LOCATION_HPP

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/operand.hpp>

namespace heed::inline HEED_ABI {

/// Luong's "location" form (1508.04025), weights softmax(W h): the keys are the first M rows of a learnt
/// matrix, one for each position, whatever stands there.
///
///     auto y = heed::attention(h, heed::location(w, v.rows()), v, heed::scale(1));
///
/// @param w L × (H_kv·d), L at least M: the longest sequence that it has learnt
/// @param keys M, the rows of v
/// @return a view of the first M rows of w, which it refers to; `v` decides what is mixed
/// @throws std::invalid_argument for more keys than w has rows
template <class W>
auto location(const Eigen::MatrixBase<W>& w, Index keys) {
  if (keys < 0 || keys > w.rows())
    detail::fail("location: w has ", w.rows(), " rows, ", keys, " keys need as many");
  return w.derived().topRows(keys);
}

/// The gradient by w, given dk, that by location(w, M): its first M rows, and zeros below. L × columns of dk.
template <class DK>
typename Eigen::Matrix<typename DK::Scalar, Eigen::Dynamic, Eigen::Dynamic,
                       DK::IsRowMajor ? Eigen::RowMajor : Eigen::ColMajor>
location_gradient(const Eigen::MatrixBase<DK>& dk, Index rows) {
  using Scalar = typename DK::Scalar;
  if (rows < dk.rows()) detail::fail("location_gradient: dk has ", dk.rows(), " rows, w has ", rows);
  Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, DK::IsRowMajor ? Eigen::RowMajor : Eigen::ColMajor>
      dw(rows, dk.cols());
  dw.topRows(dk.rows()) = dk;
  detail::rows_at(dw, dk.rows(), rows - dk.rows()).setConstant(Scalar(0));
  return dw;
}

}  // namespace heed::inline HEED_ABI

#endif
