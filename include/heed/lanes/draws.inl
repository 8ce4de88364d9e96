// SPDX-License-Identifier: MIT
// Random bits in lanes (random.hpp).

/// Of at least as many queries from i on as a pack has lanes: `even` of the keys 2m, `odd` of 2m + 1.
struct LaneDraws {
  static constexpr int width = pack_bytes / 4;
  std::uint32_t even[width], odd[width];

  HEED_INLINE LaneDraws(const PairDraws& draws, Position i, Position m) {
#if defined(HEED_NO_VECTOR_EXTENSIONS)
    for (int l = 0; l < width; ++l) {
      const Words w = draws.of_two_keys(i + l, m);
      even[l] = w.first;
      odd[l] = w.second;
    }
#else
    // Compilers do not turn a loop over whole evaluations into vectors.
    typedef std::uint32_t Lanes __attribute__((vector_size(pack_bytes)));
    Lanes a, b;
    for (int l = 0; l < width; ++l) a[l] = static_cast<std::uint32_t>(i + l);
    for (int l = 0; l < width; ++l) b[l] = static_cast<std::uint32_t>(m);
    threefry(a, b, draws.key);
    std::memcpy(even, &a, sizeof even);
    std::memcpy(odd, &b, sizeof odd);
#endif
  }
};
