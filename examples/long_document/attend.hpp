// SPDX-License-Identifier: MIT
#ifndef LONG_DOCUMENT_ATTEND_HPP
#define LONG_DOCUMENT_ATTEND_HPP

// Attention over a long document: slice after slice of queries, in memory that does not grow with tokens.

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <stdexcept>
#include <string>

#include <heed/attention.hpp>
#include <heed/mask/algebra.hpp>
#include <heed/mask/global_tokens.hpp>
#include <heed/mask/window.hpp>

#include "document.hpp"

namespace long_document {

/// Every token sees the last `window` tokens, itself among them, and the first `globals` tokens of the
/// document; those see the whole document.
struct Sight {
  Index window = 512;
  Index globals = 16;

  /// The mask of queries first, first + 1, ... against all keys: positions are those of the document.
  auto from(Index first) const {
    return heed::window(window - 1, 0, first) | heed::global_tokens(globals, first);
  }
};

/// out = attention, `rows` queries at a time. A slice is a block of the matrices and its mask, nothing else;
/// progress(n) is told after each how many tokens are done.
template <class Progress>
void attend_in_slices(Matrix& out, const Document& x, const Sight& sight, Index rows,
                      heed::Workspace& workspace, const Progress& progress) {
  for (Index first = 0; first < x.tokens(); first += rows) {
    const Index count = std::min(rows, x.tokens() - first);
    heed::attention_into(out.middleRows(first, count), x.q.middleRows(first, count), x.k, x.v, workspace,
                         sight.from(first));
    progress(first + count);
  }
}

/// The most memory that the process has ever held, in bytes; -1 where the system does not tell.
inline long long peak_resident() {
  std::ifstream status("/proc/self/status");
  for (std::string name; status >> name;) {
    if (name == "VmHWM:") {
      long long kilobytes = -1;
      status >> kilobytes;
      return kilobytes < 0 ? -1 : kilobytes * 1024;
    }
  }
  return -1;
}

/// What a process that has held `peak` bytes took beside the document's matrices and `out`: its workspace
/// where the peak is not known (-1).
inline long long extra_memory(long long peak, std::size_t workspace, const Document& x, const Matrix& out) {
  const auto numbers = static_cast<std::size_t>(x.q.size() + x.k.size() + x.v.size() + out.size());
  return peak < 0 ? static_cast<long long>(workspace)
                  : peak - static_cast<long long>(numbers * sizeof(float));
}

constexpr long long most_extra = 64'000'000;  // bytes

/// Throws std::runtime_error if that was too much.
inline void check_memory(long long extra) {
  if (extra > most_extra)
    throw std::runtime_error("attention took " + std::to_string(extra) +
                             " bytes beside inputs and outputs, at most " + std::to_string(most_extra) +
                             " were promised");
}

}  // namespace long_document

#endif
