// SPDX-License-Identifier: MIT
// The example that reads a long document: slices against plain loops and one call, its memory, the pairs of
// its table, its pictures and its command line.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../examples/long_document/attend.hpp"
#include "../examples/long_document/document.hpp"
#include "../examples/long_document/options.hpp"
#include "../examples/long_document/table.hpp"

namespace {

using namespace long_document;

const char* const text = "A window of words, and words that the whole window sees: the first words.\n";

bool sees(const Sight& s, Index i, Index j) {
  return (j <= i && i - j < s.window) || i < s.globals || j < s.globals;
}

/// Attention of the document's own rows by definition, in double.
Matrix exact(const Document& x, const Sight& s) {
  Matrix out = Matrix::Zero(x.tokens(), x.v.cols());
  const double scale = 1 / std::sqrt(static_cast<double>(x.q.cols()));
  for (Index i = 0; i < x.tokens(); ++i) {
    double sum = 0, most = -std::numeric_limits<double>::infinity();
    Eigen::RowVectorXd mix = Eigen::RowVectorXd::Zero(x.v.cols()), score(x.tokens());
    for (Index j = 0; j < x.tokens(); ++j) {
      score[j] = scale * x.q.row(i).cast<double>().dot(x.k.row(j).cast<double>());
      if (sees(s, i, j)) most = std::max(most, score[j]);
    }
    for (Index j = 0; j < x.tokens(); ++j) {
      if (!sees(s, i, j)) continue;
      const double w = std::exp(score[j] - most);
      sum += w;
      mix += w * x.v.row(j).cast<double>();
    }
    out.row(i) = (mix / sum).cast<float>();
  }
  return out;
}

TEST(LongDocument, SlicesOfAnySizeAreTheWholeDocument) {
  float worst = 0;
  for (const Index tokens : {1, 7, 65, 331}) {
    const Document x(text, tokens, 64);
    for (const Sight& sight :
         {Sight{}, Sight{.window = 20, .globals = 3}, Sight{.window = 1, .globals = 0}}) {
      const Matrix want = exact(x, sight);
      heed::Workspace workspace;
      for (const Index rows : {1, 13, 64, 128, 1000}) {
        Matrix out = Matrix::Constant(tokens, 64, std::nanf(""));
        std::vector<Index> done;
        attend_in_slices(out, x, sight, rows, workspace, [&](Index n) { done.push_back(n); });
        const float error = (out - want).cwiseAbs().maxCoeff();
        EXPECT_LE(error, 1e-5f) << tokens << " tokens, slices of " << rows;
        worst = std::max(worst, error);
        EXPECT_EQ(static_cast<Index>(done.size()), (tokens + rows - 1) / rows);
        EXPECT_EQ(done.back(), tokens);
      }
    }
  }
  std::printf("worst error %.2e of 1e-5\n", static_cast<double>(worst));
}

TEST(LongDocument, PairsOfSlicesAddUp) {
  const Sight sight{.window = 20, .globals = 3};
  const Index tokens = 331;
  Index want = 0;
  for (Index i = 0; i < tokens; ++i)
    for (Index j = 0; j < tokens; ++j) want += sees(sight, i, j);
  EXPECT_EQ(heed::visible_pairs(sight.from(0), tokens, tokens), want);
  Index sum = 0;
  for (Index first = 0; first < tokens; first += 50)
    sum += heed::visible_pairs(sight.from(first), std::min<Index>(50, tokens - first), tokens);
  EXPECT_EQ(sum, want);
}

TEST(LongDocument, GlobalTokensOfAListTakeAnOffset) {
  const std::vector<Index> positions = {20, 40};
  const auto mask = heed::global_tokens(positions, Index{38});
  Index want = 0;
  for (Index i = 0; i < 10; ++i)
    for (Index j = 0; j < 50; ++j) want += i + 38 == 40 || j == 20 || j == 40;
  EXPECT_EQ(heed::visible_pairs(mask, 10, 50), want);
}

TEST(LongDocument, MemoryDoesNotGrowWithTokens) {
  const Sight sight{.window = 64, .globals = 2};
  const auto bytes = [&](Index tokens, Index rows) {
    const Document x(text, tokens, 64);
    Matrix out(tokens, 64);
    heed::Workspace workspace;
    attend_in_slices(out, x, sight, rows, workspace, [](Index) {});
    return workspace.bytes();
  };
  const std::size_t little = bytes(1024, 512);
  EXPECT_EQ(bytes(20000, 512), little);
  EXPECT_EQ(bytes(20000, 20000), little);
  EXPECT_LE(little, std::size_t{8} << 20);
}

TEST(LongDocument, PeakIsThatOfTheProcess) {
  const long long before = peak_resident();
  if (before < 0) GTEST_SKIP() << "the system does not tell";
  const std::vector<char> touched(static_cast<std::size_t>(before) + 100'000'000, 'x');
  EXPECT_GE(peak_resident(), static_cast<long long>(touched.size()));
}

TEST(LongDocument, TooMuchMemoryIsAnError) {
  const Document x(text, 100, 64);
  const Matrix out(100, 64);
  EXPECT_EQ(extra_memory(1'000'000, 5, x, out), 1'000'000 - 4 * 100 * 64 * 4);
  EXPECT_EQ(extra_memory(-1, 5, x, out), 5);
  EXPECT_NO_THROW(check_memory(64'000'000));
  EXPECT_THROW(check_memory(64'000'001), std::runtime_error);
}

TEST(LongDocument, EveryRowOfTheTableHasThePairsThatItsNameSays) {
  const auto block = [](Index i) { return i / 64; };
  using Sees = std::function<bool(Index, Index, Index)>;  // i, j, n; empty where lots are drawn
  const std::vector<std::pair<std::string, Sees>> patterns = {
      {"causal()", [](Index i, Index j, Index) { return j <= i; }},
      {"window(511, 0)", [](Index i, Index j, Index) { return j <= i && i - j <= 511; }},
      {"window(256, 256)", [](Index i, Index j, Index) { return std::abs(i - j) <= 256; }},
      {"dilated(128, 0, 4)",
       [](Index i, Index j, Index) { return j <= i && i - j <= 512 && (i - j) % 4 == 0; }},
      {"chunked(512)", [](Index i, Index j, Index) { return i / 512 == j / 512; }},
      {"chunked(512) & causal()", [](Index i, Index j, Index) { return i / 512 == j / 512 && j <= i; }},
      {"strided(128)",
       [](Index i, Index j, Index) { return j <= i && (i - j <= 128 || (i - j) % 128 == 0); }},
      {"fixed(128, 16)",
       [](Index i, Index j, Index) { return j <= i && (i / 128 == j / 128 || j % 128 >= 112); }},
      {"longformer(256, 16)",
       [](Index i, Index j, Index) { return std::abs(i - j) <= 256 || i < 16 || j < 16; }},
      {"bigbird(64, 3, 2, 3)", {}},
      {"random_blocks(64, 8)", {}},
      {"block_sparse(64), a tenth",
       [&](Index i, Index j, Index) {
         return block(i) == block(j) || (block(i) * 7 + block(j) * 3) % 10 == 0;
       }},
      {"prefix(n/8) | causal()", [](Index i, Index j, Index n) { return j < n / 8 || j <= i; }},
      {"documents, six", [](Index i, Index j, Index n) { return i * 6 / n == j * 6 / n; }},
      {"key_lists, powers of 2",
       [](Index i, Index j, Index) { return j <= i && ((i - j) & (i - j - 1)) == 0; }},
  };
#ifdef HEED_TEST_SMALL
  const std::vector<Index> sizes = {1, 7, 65, 700};
#else
  const std::vector<Index> sizes = {1, 7, 65, 700, 1300};
#endif
  for (const Index n : sizes) {
    const std::vector<Pattern> table = make_table(n, [](const auto&) { return 1.0; });
    ASSERT_EQ(table.size(), patterns.size());
    std::vector<Index> drawn;
    for_each_pattern(n, [&](const char*, const auto& mask) {
      const auto bound = mask.bind(heed::detail::shape_of_pairs(mask, n, n).place(0, 0));
      Index pairs = 0;
      for (int i = 0; i < n; ++i)
        for (int j = 0; j < n; ++j) pairs += bound.visible(i, j);
      drawn.push_back(pairs);
    });
    for (std::size_t p = 0; p < table.size(); ++p) {
      const auto& [name, see] = patterns[p];
      EXPECT_EQ(table[p].name, name);
      Index pairs = see ? 0 : drawn[p];
      for (Index i = 0; see && i < n; ++i)
        for (Index j = 0; j < n; ++j) pairs += see(i, j, n);
      EXPECT_EQ(table[p].pairs, pairs) << name << " over " << n;
      EXPECT_EQ(drawn[p], pairs) << name << " over " << n;
    }
  }
}

TEST(LongDocument, PageShowsEveryPattern) {
  const Index n = 300;
  const std::vector<Pattern> table = make_table(n, [](const auto&) { return 0.25; });
  const std::string path = ::testing::TempDir() + "long_document_test.html";
  write_html(table, n, path);
  const std::string html = read_text(path);
  std::filesystem::remove(path);
  std::size_t canvases = 0;
  for (std::size_t at = html.find("<canvas"); at != std::string::npos; at = html.find("<canvas", at + 1))
    ++canvases;
  EXPECT_EQ(canvases, 2 * table.size());
  for (const Pattern& p : table) EXPECT_NE(html.find(escape(p.name)), std::string::npos) << p.name;
  EXPECT_EQ(html.find("http"), std::string::npos);  // it needs nothing else
  EXPECT_EQ(canvas_of("P5\n2 1\n255\n\x01\n"), "<canvas data-size='2 1' data-grey='010a'></canvas>");
  EXPECT_THROW(write_html(table, n, ::testing::TempDir() + "no/such/folder.html"), std::runtime_error);
  EXPECT_EQ(std::count(table.front().text.begin(), table.front().text.end(), '\n'), 16);
}

TEST(LongDocument, TextIsRepeatedAndPositionsAreNot) {
  EXPECT_EQ(split_words("Don't, 2x é!"), (std::vector<std::string>{"don", "t", "2x", "é"}));
  const Document x("one two\nONE three", 11, 64);
  ASSERT_EQ(x.words.size(), 4u);
  EXPECT_EQ(x.word(10), "one");
  EXPECT_EQ(x.v.row(0), x.v.row(2));
  EXPECT_EQ(x.v.row(3), x.v.row(7));
  EXPECT_NE(x.v.row(0), x.v.row(1));
  EXPECT_EQ(x.q, x.k);
  EXPECT_NE(x.q.row(3), x.q.row(7));
  for (Index i = 0; i < x.tokens(); ++i) {
    EXPECT_NEAR(x.v.row(i).norm(), 8, 1e-4);
    EXPECT_NEAR(x.q.row(i).norm(), 8, 1e-4);
  }
  EXPECT_THROW(Document(" .,\n", 4, 64), std::runtime_error);
  EXPECT_THROW(read_text("no such file"), std::runtime_error);
}

Options parse_line(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "long_document");
  return parse(static_cast<int>(arguments.size()), arguments.data(), "default.txt");
}

TEST(LongDocument, CommandLine) {
  EXPECT_EQ(parse_line({}).text, "default.txt");
  EXPECT_EQ(parse_line({}).tokens, 1048576);
  const Options options = parse_line({"--tokens", "5000", "a.txt", "--html", "b.html"});
  EXPECT_EQ(options.text, "a.txt");
  EXPECT_EQ(options.tokens, 5000);
  EXPECT_EQ(options.html, "b.html");
  EXPECT_TRUE(parse_line({"--help"}).help);
  for (const char* wrong : {"0", "-3", "1e6", "", "99999999999999999999"})
    EXPECT_THROW(parse_line({"--tokens", wrong}), std::runtime_error) << wrong;
  EXPECT_THROW(parse_line({"--tokens"}), std::runtime_error);
  EXPECT_THROW(parse_line({"--steps", "3"}), std::runtime_error);
  EXPECT_THROW(parse_line({"a", "b"}), std::runtime_error);
}

}  // namespace
