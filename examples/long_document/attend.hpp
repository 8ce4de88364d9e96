// SPDX-License-Identifier: MIT
#ifndef LONG_DOCUMENT_ATTEND_HPP
#define LONG_DOCUMENT_ATTEND_HPP

// Attention over a long document: slice after slice of queries, in memory that does not grow with tokens.

#include <algorithm>
#include <fstream>
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

}  // namespace long_document

#endif
