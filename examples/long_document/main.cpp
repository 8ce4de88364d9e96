// SPDX-License-Identifier: MIT
// long_document [text] [--tokens N] [--html PATH]
// Repeats a text to a million tokens and lets each attend to a window behind it and a few global tokens, in
// memory that does not grow with the text; then measures every sparse pattern beside the dense causal mask
// and draws them all. Fails if attention takes more than 64 MB beside its inputs and outputs.

#include <heed/attention_weights.hpp>
#include <heed/heed.hpp>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <map>
#include <stdexcept>
#include <string>
#include <timing.hpp>
#include <utility>
#include <vector>

#include "attend.hpp"
#include "document.hpp"
#include "options.hpp"
#include "table.hpp"

namespace {

using namespace long_document;

constexpr Index d = 64;        // columns of the one head
constexpr Index rows = 16384;  // queries of a slice

/// The whole document, with progress; returns the workspace's size.
std::size_t attend(Matrix& out, const Document& x, const Sight& sight) {
  heed::Workspace workspace;
  const double begin = measure::now();
  Index next = 1;  // eighth
  attend_in_slices(out, x, sight, rows, workspace, [&](Index done) {
    if (done * 8 < next * x.tokens()) return;
    next = done * 8 / x.tokens() + 1;
    const double seconds = measure::now() - begin;
    std::printf("  %3.0f %% %10lld tokens %8.2f s %12.0f tokens/s\n",
                100 * static_cast<double>(done) / static_cast<double>(x.tokens()),
                static_cast<long long>(done), seconds, static_cast<double>(done) / seconds);
    std::fflush(stdout);
  });
  return workspace.bytes();
}

/// What a token attends to, equal words counted together, and how far its output is from the weights,
/// computed in double, times the values.
float look(const Document& x, const Sight& sight, const Matrix& out, Index token) {
  const Eigen::RowVectorXf weights = heed::attention_weights(x.q.row(token), x.k, sight.from(token));
  std::map<std::string, float> sums;
  for (Index j = 0; j < x.tokens(); ++j)
    if (weights[j] > 0) sums[x.word(j)] += weights[j];
  std::vector<std::pair<std::string, float>> strongest(sums.begin(), sums.end());
  std::stable_sort(strongest.begin(), strongest.end(),
                   [](const auto& a, const auto& b) { return a.second > b.second; });
  std::printf("  %lld %s →", static_cast<long long>(token), x.word(token).c_str());
  for (std::size_t n = 0; n < std::min<std::size_t>(5, strongest.size()); ++n)
    std::printf("%s %s %.1f %%", n == 0 ? "" : ",", strongest[n].first.c_str(),
                100 * static_cast<double>(strongest[n].second));
  std::printf("\n");
  Eigen::RowVectorXd mix = Eigen::RowVectorXd::Zero(d);
  for (Index j = 0; j < x.tokens(); ++j) mix += static_cast<double>(weights[j]) * x.v.row(j).cast<double>();
  return (out.row(token) - mix.cast<float>()).cwiseAbs().maxCoeff();
}

/// Some long words near the end, and one of the global tokens.
std::vector<Index> examples(const Document& x) {
  std::vector<Index> tokens = {0};
  const Index last = std::min<Index>(x.tokens(), 60);
  for (Index part = 0; part < 3; ++part) {
    Index longest = x.tokens() - last * (3 - part) / 3;
    const Index end = x.tokens() - last * (2 - part) / 3;
    for (Index i = longest; i < end; ++i)
      if (x.word(i).size() > x.word(longest).size()) longest = i;
    if (longest < end) tokens.push_back(longest);
  }
  return tokens;
}

void run(const Options& options) {
  Document x(read_text(options.text), options.tokens, d);
  Matrix out(x.tokens(), d);
  std::printf("%s: %zu words, repeated to %lld tokens of 1 x %d; Heed runs on %s\n", options.text.c_str(),
              x.words.size(), static_cast<long long>(x.tokens()), static_cast<int>(d),
              heed::name(heed::instruction_set()));
  const Sight sight;
  std::printf("Each sees the last %d tokens and the first %d, which see everything\n\n",
              static_cast<int>(sight.window), static_cast<int>(sight.globals));

  const std::size_t workspace = attend(out, x, sight);
  const long long peak = peak_resident();
  const double pairs = static_cast<double>(heed::visible_pairs(sight.from(0), x.tokens(), x.tokens()));
  std::printf("\n%.1f visible pairs a token; all pairs would be %.0f times as many\n",
              pairs / static_cast<double>(x.tokens()),
              static_cast<double>(x.tokens()) * static_cast<double>(x.tokens()) / pairs);
  const long long extra = extra_memory(peak, workspace, x, out);
  std::printf("Inputs and outputs take %.0f MB, Heed's workspace %.2f MB",
              16e-6 * static_cast<double>(out.size()), static_cast<double>(workspace) * 1e-6);
  if (peak >= 0)
    std::printf(", all else that the process held, code and words too, %.1f MB",
                static_cast<double>(extra) * 1e-6);
  std::printf("\n");
  check_memory(extra);

  std::printf("\nWhich words attend to which, the first of them being a global token:\n");
  float error = 0;
  for (const Index token : examples(x)) error = std::max(error, look(x, sight, out, token));
  std::printf("These rows are within %.1e of weights, in plain loops, times values\n",
              static_cast<double>(error));
  if (!(error <= 1e-4f)) throw std::runtime_error("that is too far");

  const Index n = std::min<Index>(x.tokens(), 16384);
  std::printf("\nEvery pattern over %lld tokens, the best of three calls on one thread:\n\n",
              static_cast<long long>(n));
  heed::Workspace reused;
  const std::vector<Pattern> table = make_table(n, [&](const auto& mask) {
    double best = 1e300;
    for (int call = 0; call < 3; ++call)
      best = std::min(best, measure::seconds_of([&] {
                        heed::attention_into(out.topRows(n), x.q.topRows(n), x.k.topRows(n), x.v.topRows(n),
                                             reused, mask, heed::on(heed::serial()));
                      }));
    return best;
  });
  print_table(table);
  std::printf("\nThe same patterns over %d tokens, a character being 64 x 64 pairs:\n",
              static_cast<int>(near_tokens));
  print_pictures(table);
  write_html(table, n, options.html);
  std::printf("\nAll pictures in colour: %s\n", options.html.c_str());
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const Options options = parse(argc, argv, HEED_README);
    if (options.help) {
      std::printf("%s", usage);
    } else {
      run(options);
    }
  } catch (const std::exception& e) {
    std::fprintf(stderr, "long_document: %s\n", e.what());
    return 1;
  }
}
