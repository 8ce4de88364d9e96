// SPDX-License-Identifier: MIT
// attention/pattern/…: what a visible pair costs under each sparse pattern, in units of a visible pair of the
// plain causal mask over as many tokens, in turns, and how many times as long causal and full attention take;
// one contiguous head. attention/complexity/… fits times against O(N) or O(N²); attention/million/… is what a
// token costs among a million, beside one eighth of them.

#include "attention_case.hpp"

#include <cstdint>

namespace {

using namespace measure;

/// A tenth of the blocks, spread evenly, and the diagonal, in compressed rows.
heed::BlockSparse tenth_of_blocks(Index tokens, Index size) {
  const Index blocks = tokens / size;
  std::vector<Index> offsets = {0}, columns;
  for (Index r = 0; r < blocks; ++r) {
    for (Index c = 0; c < blocks; ++c)
      if (c == r || (r * 7 + c * 3) % 10 == 0) columns.push_back(c);
    offsets.push_back(static_cast<Index>(columns.size()));
  }
  return heed::block_sparse(size, std::move(offsets), std::move(columns));
}

/// Eight blocks of 64 tokens a row, the own one and others spread evenly, however many there are.
heed::BlockSparse eight_blocks(Index tokens) {
  const Index blocks = tokens / 64;
  std::vector<Index> offsets = {0}, columns;
  for (Index r = 0; r < blocks; ++r) {
    const Index apart = blocks / 8;
    for (Index c = r % apart; c < blocks; c += apart) columns.push_back(c);
    offsets.push_back(static_cast<Index>(columns.size()));
  }
  return heed::block_sparse(64, std::move(offsets), std::move(columns));
}

/// For every query 64 keys, spread by chance over all tokens.
heed::KeyLists random_lists(Index tokens) {
  std::vector<Index> offsets = {0}, keys;
  const Index apart = tokens / 64;
  std::uint64_t seed = 1;
  for (Index i = 0; i < tokens; ++i) {
    for (Index n = 0; n < 64; ++n) {
      seed = seed * 6364136223846793005u + 1442695040888963407u;
      keys.push_back(n * apart + static_cast<Index>((seed >> 33) % static_cast<std::uint64_t>(apart)));
    }
    offsets.push_back(static_cast<Index>(keys.size()));
  }
  return heed::key_lists(std::move(offsets), std::move(keys));
}

/// The engine against plain loops, over few tokens.
template <class Mask>
bool right_pattern(const Mask& mask, Index tokens) {
  const Sizes s{1, 1, tokens, tokens, 8};
  const Operands<double> x(s);
  const auto variant = heed::spec(mask);
  const heed::Shape shape = heed::detail::make_shape(variant, tokens, 8, tokens, 8, tokens, 8);
  Eigen::MatrixXd want(tokens, 8);
  heed::detail::reference_forward<double>(variant, shape, x.q, x.k, x.v, want,
                                          static_cast<Eigen::MatrixXd*>(nullptr));
  return (heed::attention(x.q, x.k, x.v, variant) - want).isZero(1e-12);
}

/// `mask_of` makes the pattern of so many tokens.
template <class MaskOf>
void pattern(benchmark::State& state, const MaskOf& mask_of, Index tokens) {
  if (!right_pattern(mask_of(512), 512)) return state.SkipWithError("wrong result");
  const Sizes s{1, 1, tokens, tokens, 64};
  Operands<float> x(s);
  const auto mask = mask_of(tokens);
  const auto variant = heed::spec(mask, heed::on(heed::serial()));
  const auto dense = heed::spec(heed::causal(), heed::on(heed::serial()));
  const double pairs = static_cast<double>(heed::visible_pairs(mask, tokens, tokens));
  const double dense_pairs = pairs_causal(s, tokens);
  const auto full = heed::spec(heed::on(heed::serial()));
  heed::Workspace one, two, three;
  for (auto _ : state) {
    const auto best = best_in_turns(
        4, 0.05, [&] { heed::attention_into(x.out, x.q, x.k, x.v, one, variant); },
        [&] { heed::attention_into(x.out, x.q, x.k, x.v, two, dense); },
        [&] { heed::attention_into(x.out, x.q, x.k, x.v, three, full); });
    state.counters["pair_over_causal_pair"] = best[0] / pairs / (best[1] / dense_pairs);
    state.counters["share_of_pairs"] = pairs / (static_cast<double>(tokens) * static_cast<double>(tokens));
    state.counters["causal_over_pattern"] = best[1] / best[0];
    state.counters["full_over_pattern"] = best[2] / best[0];
    state.counters["ms"] = best[0] * 1e3;
  }
}

template <class MaskOf>
void add(const char* name, const MaskOf& mask_of) {
  constexpr Index tokens = 16384;
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) { pattern(state, mask_of, tokens); })
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime()
      ->Iterations(1);
}

/// Times that a fit of their growth is made of.
template <class MaskOf>
void complexity(benchmark::State& state, const MaskOf& mask_of) {
  const Index tokens = state.range(0);
  const Sizes s{1, 1, tokens, tokens, 64};
  Operands<float> x(s);
  const auto variant = heed::spec(mask_of(tokens), heed::on(heed::serial()));
  heed::Workspace workspace;
  heed::attention_into(x.out, x.q, x.k, x.v, workspace, variant);
  if (!right(x, s, variant)) return state.SkipWithError("wrong result");
  for (auto _ : state) {
    heed::attention_into(x.out, x.q, x.k, x.v, workspace, variant);
    benchmark::ClobberMemory();
  }
  state.counters["per_token"] =
      benchmark::Counter(static_cast<double>(tokens),
                         benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  state.SetComplexityN(tokens);
}

template <class MaskOf>
void fit(const char* name, const MaskOf& mask_of, Index least, Index most, benchmark::BigO order) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) { complexity(state, mask_of); })
      ->RangeMultiplier(2)
      ->Range(least, most)
      ->Unit(benchmark::kMillisecond)
      ->Complexity(order);
}

/// 1,048,576 tokens under a window of 512: the time of a token beside that among 131,072, in turns, and the
/// workspaces. (attention/memory/… counts all that is allocated.)
void million(benchmark::State& state) {
  constexpr Index tokens = 1 << 20, eighth = tokens / 8;
  const Sizes s{1, 1, tokens, tokens, 64};
  Operands<float> x(s);
  const auto variant = heed::spec(heed::sliding_window(512), heed::on(heed::serial()));
  heed::Workspace workspace;
  const auto attend = [&](Index n) {
    heed::attention_into(x.out.topRows(n), x.q.topRows(n), x.k.topRows(n), x.v.topRows(n), workspace,
                         variant);
  };
  attend(eighth);
  const std::size_t less = workspace.bytes();
  attend(tokens);
  if (!right(x, s, variant)) return state.SkipWithError("wrong result");
  for (auto _ : state) {
    // As long as each other, so that neither has the luckier moments.
    double few = 1e300, many = 1e300;
    for (int turn = 0; turn < (std::getenv("HEED_QUICK_BENCHMARKS") != nullptr ? 1 : 4); ++turn) {
      few = std::min(few, seconds_of<Clock::thread>([&] {
                       for (int part = 0; part < 8; ++part) attend(eighth);
                     }));
      many = std::min(many, seconds_of<Clock::thread>([&] { attend(tokens); }));
    }
    state.counters["ns_a_token"] = many * 1e9 / static_cast<double>(tokens);
    state.counters["ns_a_token_of_131072"] = few * 1e9 / static_cast<double>(tokens);
    state.counters["token_over_token_of_131072"] = many / few;
    state.counters["workspace_KB"] = static_cast<double>(workspace.bytes()) / 1024;
    state.counters["workspace_KB_of_131072"] = static_cast<double>(less) / 1024;
  }
}

const int registered = [] {
  using namespace heed;
  fit(
      "attention/complexity/full/1x64", [](Index) { return spec(); }, 512, 8192, benchmark::oNSquared);
  fit(
      "attention/complexity/window512/1x64", [](Index) { return sliding_window(512); },
      4096, 65536, benchmark::oN);
  fit("attention/complexity/block_sparse64/1x64", eight_blocks, 4096, 65536, benchmark::oN);
  benchmark::RegisterBenchmark("attention/million/window512/1x1048576x64", million)
      ->Unit(benchmark::kMillisecond)
      ->UseRealTime()
      ->Iterations(1);
  add("attention/pattern/window256/1x16384x64", [](Index) { return sliding_window(256); });
  add("attention/pattern/window512/1x16384x64", [](Index) { return sliding_window(512); });
  add("attention/pattern/longformer256_16/1x16384x64", [](Index) { return longformer(256, 16); });
  add("attention/pattern/bigbird64_3_2_3/1x16384x64", [](Index) { return bigbird(64, 3, 2, 3, 1); });
  add("attention/pattern/block_sparse64/1x16384x64", [](Index n) { return tenth_of_blocks(n, 64); });
  add("attention/pattern/chunked256/1x16384x64", [](Index) { return chunked(256); });
  add("attention/pattern/dilated128_4/1x16384x64", [](Index) { return dilated(128, 0, 4); });
  add("attention/pattern/strided128/1x16384x64", [](Index) { return strided(128); });
  add("attention/pattern/key_lists64/1x16384x64", random_lists);
  add("attention/pattern/fixed128_16/1x16384x64", [](Index) { return fixed(128, 16); });
  return 0;
}();

}  // namespace
