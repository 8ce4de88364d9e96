// SPDX-License-Identifier: MIT
#ifndef LONG_DOCUMENT_PATTERNS_HPP
#define LONG_DOCUMENT_PATTERNS_HPP

// The patterns of include/heed/mask/, one example of each.

#include <utility>
#include <vector>

#include <heed/mask/bigbird.hpp>
#include <heed/mask/block_sparse.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/chunked.hpp>
#include <heed/mask/dilated.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/key_lists.hpp>
#include <heed/mask/longformer.hpp>
#include <heed/mask/prefix.hpp>
#include <heed/mask/random_blocks.hpp>
#include <heed/mask/strided.hpp>
#include <heed/mask/window.hpp>

namespace long_document {

using Eigen::Index;

/// Blocks of 64 tokens: the own one and a tenth of the others, spread evenly.
inline heed::BlockSparse tenth_of_blocks(Index n) {
  const Index blocks = (n + 63) / 64;
  std::vector<Index> offsets = {0}, columns;
  for (Index r = 0; r < blocks; ++r) {
    for (Index c = 0; c < blocks; ++c)
      if (c == r || (r * 7 + c * 3) % 10 == 0) columns.push_back(c);
    offsets.push_back(static_cast<Index>(columns.size()));
  }
  return heed::block_sparse(64, std::move(offsets), std::move(columns));
}

/// Keys at distances 0, 1, 2, 4, 8, ... (1907.00235).
inline heed::KeyLists powers_of_two(Index n) {
  std::vector<Index> offsets = {0}, keys;
  for (Index i = 0; i < n; ++i) {
    Index distance = 1;
    while (distance <= i) distance *= 2;
    for (distance /= 2; distance > 0; distance /= 2) keys.push_back(i - distance);
    keys.push_back(i);
    offsets.push_back(static_cast<Index>(keys.size()));
  }
  return heed::key_lists(std::move(offsets), std::move(keys));
}

/// Documents of about a sixth of the tokens each, one after the other.
inline heed::Documents sixths(Index n) {
  std::vector<Index> ids(static_cast<std::size_t>(n));
  for (Index i = 0; i < n; ++i) ids[static_cast<std::size_t>(i)] = i * 6 / n;
  return heed::documents(std::move(ids));
}

/// show(name, mask) for every pattern over n tokens; the first is the dense causal mask, which the others are
/// compared with. Each is a policy of attention(), a kernel of its own and about two seconds of compile time.
template <class Show>
void for_each_pattern(Index n, const Show& show) {
  using namespace heed;
  show("causal()", causal());
  show("window(511, 0)", window(511, 0));
  show("window(256, 256)", window(256, 256));
  show("dilated(128, 0, 4)", dilated(128, 0, 4));
  show("chunked(512)", chunked(512));
  show("chunked(512) & causal()", chunked(512) & causal());
  show("strided(128)", strided(128));
  show("fixed(128, 16)", fixed(128, 16));
  show("longformer(256, 16)", longformer(256, 16));
  show("bigbird(64, 3, 2, 3)", bigbird(64, 3, 2, 3, 1));
  show("random_blocks(64, 8)", random_blocks(64, 8, 1));
  show("block_sparse(64), a tenth", tenth_of_blocks(n));
  show("prefix(n/8) | causal()", prefix(n / 8) | causal());
  show("documents, six", sixths(n));
  show("key_lists, powers of 2", powers_of_two(n));
}

}  // namespace long_document

#endif
