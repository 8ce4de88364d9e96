// SPDX-License-Identifier: MIT
// Which memory attention touches, and how much it takes.
#include <cstdlib>

#include "allocation_counter.hpp"

#define EIGEN_RUNTIME_NO_MALLOC
#include "oracle.hpp"

#include <heed/execute/on.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/window.hpp>
#include <heed/mask/windows.hpp>
#include <heed/position/alibi.hpp>
#include <heed/select/sink.hpp>
#include <heed/select/sparsemax.hpp>

namespace {

using namespace heed_test;

const auto alone = heed::on(heed::serial());

/// Every layout of every operand, one after the other; the surroundings stay as they were and reach nothing.
template <class T>
void layouts_of_all() {
  Oracle<T> oracle("guarded operands");
  for (int changed = 0; changed < 4; ++changed)
    for (int layout = 0; layout < layouts; ++layout)
      for (const auto& [n, m] : std::vector<std::pair<Index, Index>>{
               {1, 1}, {1, 100}, {3, 37}, {9, 5}, {16, 96}, {33, 101}, {64, 64}, {130, 200}}) {
        Case c;
        c.n = n;
        c.m = m;
        c.heads = 2;
        c.d = n % 2 == 0 ? 32 : 19;
        c.d_v = m % 2 == 0 ? 16 : 21;
        c.seed = static_cast<std::uint64_t>(changed * 100 + layout);
        (changed == 0 ? c.q : changed == 1 ? c.k : changed == 2 ? c.v : c.out) = static_cast<Layout>(layout);
        c.key_heads = 2;
        oracle.check(c, heed::spec(heed::heads(2), heed::causal()));
        c.key_heads = 1;
        c.k = c.v = static_cast<Layout>(layout);
        oracle.check(c, heed::spec(heed::heads(2, 1), heed::causal()));
      }
}

TEST(AttentionMemory, FloatLayouts) { layouts_of_all<float>(); }
TEST(AttentionMemory, DoubleLayouts) { layouts_of_all<double>(); }

struct Operands {
  RowMatrix<float> q, k, v;
  Eigen::MatrixXf k_columns, v_columns;
  Operands(Index n, Index m, Index d, Index d_v) {
    Dice dice(3);
    q = dice.matrix<float>(n, d);
    k = k_columns = dice.matrix<float>(m, d);
    v = v_columns = dice.matrix<float>(m, d_v);
  }
};

TEST(AttentionMemory, NothingIsAllocatedWithAWarmWorkspace) {
  heed::Workspace workspace;
  for (const auto& size :
       std::vector<std::pair<Index, Index>>{{1, 300}, {4, 5000}, {9, 40}, {70, 150}, {300, 200}}) {
    const Index n = size.first, m = size.second;
    const Operands x(n, m, 48, 40);
    RowMatrix<float> out(n, 40);
    Eigen::MatrixXf columns(n, 40);
    Eigen::MatrixXf large(n + 4, 60);
    heed::Saved<float> saved;
    const auto all = [&] {
      heed::attention_into(out, x.q, x.k, x.v, workspace, alone, heed::causal(), heed::save(saved));
      heed::attention_into(columns, x.q, x.k_columns, x.v_columns, workspace, alone, heed::causal(),
                           heed::save(saved));
      heed::attention_into(large.block(2, 5, n, 40), x.q, x.k, x.v_columns, workspace, alone, heed::causal(),
                           heed::save(saved));
    };
    all();
    const AllocationCounter counter;
    Eigen::internal::set_is_malloc_allowed(false);
    all();
    Eigen::internal::set_is_malloc_allowed(true);
    EXPECT_EQ(counter.count(), 0) << counter.bytes() << " bytes, " << n << " x " << m;
    EXPECT_TRUE(out.isApprox(columns, 1e-5f));
    EXPECT_TRUE(large.block(2, 5, n, 40).isApprox(out, 1e-5f));
  }
  // The counter counts.
  const AllocationCounter counter;
  heed::Workspace another(1000);
  EXPECT_GE(counter.count(), 1);
  EXPECT_GE(counter.bytes(), 1000);
}

/// A selection of whole rows has a log-sum-exp without parts.
TEST(AttentionMemory, NothingIsAllocatedForSelectionsThatSave) {
  const Operands x(70, 150, 48, 40);
  heed::Workspace workspace;
  RowMatrix<float> out(70, 40);
  heed::Saved<float> saved;
  const auto call = [&] {
    heed::attention_into(out, x.q, x.k, x.v, workspace, alone, heed::sparsemax(), heed::save(saved));
  };
  call();
  const AllocationCounter counter;
  call();
  EXPECT_EQ(counter.count(), 0) << counter.bytes() << " bytes";
}

/// Making a policy copies its lists; a call that takes the policy shares them.
TEST(AttentionMemory, PoliciesMadeOnceAreTakenWithoutAllocating) {
  const Operands x(70, 150, 48, 40);
  const std::vector<Index> q_offsets{0, 3, 70}, k_offsets{0, 100, 150}, lefts{60, 30}, rights{0, 5};
  const std::vector<float> numbers{0.5f, 0.25f};
  const auto spec =
      heed::spec(heed::heads(2), heed::sequences(q_offsets, k_offsets), heed::windows(lefts, rights),
                 heed::alibi(numbers), heed::sink(numbers), alone);
  const auto lengths = heed::lengths({90, 50});
  heed::Workspace workspace;
  RowMatrix<float> out(70, 40);
  const auto call = [&] { heed::attention_into(out, x.q, x.k, x.v, workspace, spec, lengths); };
  call();
  const AllocationCounter counter;
  call();
  EXPECT_EQ(counter.count(), 0) << counter.bytes() << " bytes";
}

/// The copies in float of 16-bit operands are in the workspace too.
TEST(AttentionMemory, NothingIsAllocatedForSixteenBits) {
  heed::Workspace workspace;
  const Operands x(70, 150, 48, 40);
  const auto check = [&](const auto& q, const auto& k, const auto& v, auto out) {
    heed::Saved<Eigen::half> saved;
    const auto run = [&] {
      heed::attention_into(out, q, k, v, workspace, alone, heed::causal(), heed::save(saved));
    };
    run();
    const AllocationCounter counter;
    Eigen::internal::set_is_malloc_allowed(false);
    run();
    Eigen::internal::set_is_malloc_allowed(true);
    EXPECT_EQ(counter.count(), 0) << counter.bytes() << " bytes";
  };
  const RowMatrix<Eigen::half> q = x.q.cast<Eigen::half>();
  const Matrix<Eigen::half> k = x.k.cast<Eigen::half>(), v = x.v.cast<Eigen::half>();
  check(q, k, v, RowMatrix<Eigen::half>(70, 40));
  EXPECT_GE(workspace.bytes(), 4u * static_cast<std::size_t>(q.size() + k.size() + v.size() + 70 * 40));
}

/// Small problems take nothing but their result, without any workspace.
TEST(AttentionMemory, SmallProblemsTakeTheirResultOnly) {
  for (const auto& [n, m] : std::vector<std::pair<Index, Index>>{{1, 1}, {4, 4}, {8, 8}, {1, 64}, {4, 64}}) {
    const Operands x(n, m, 8, 8);
    const AllocationCounter counter;
    const auto out = heed::attention(x.q, x.k, x.v, alone);
    EXPECT_LE(counter.count(), 1) << n << " x " << m;
    EXPECT_EQ(out.rows(), n);
  }
}

TEST(AttentionMemory, OutputsOfAnyKind) {
  const Operands x(37, 50, 20, 11);
  const RowMatrix<float> want = heed::attention(x.q, x.k, x.v);
  heed::Workspace workspace;
  Eigen::MatrixXf large = Eigen::MatrixXf::Constant(60, 60, 5);
  heed::attention_into(large.block(3, 4, 37, 11), x.q, x.k, x.v, workspace);
  EXPECT_TRUE(large.block(3, 4, 37, 11) == want);
  EXPECT_EQ((large.array() == 5).count(), 60 * 60 - 37 * 11);
  Eigen::MatrixXf turned(11, 37);
  heed::attention_into(turned.transpose(), x.q, x.k, x.v, workspace);
  EXPECT_TRUE(turned.transpose() == want);
  std::vector<float> memory(37 * 11 * 2);
  Eigen::Map<Eigen::MatrixXf, 0, Eigen::InnerStride<2>> map(memory.data(), 37, 11);
  heed::attention_into(map, x.q, x.k, x.v, workspace);
  EXPECT_TRUE(map == want);
  Eigen::Ref<Eigen::MatrixXf> ref = large.topLeftCorner(37, 11);
  heed::attention_into(ref, x.q, x.k, x.v, workspace);
  EXPECT_TRUE(ref == want);
}

/// q, k, v and the output side by side in the rows of one matrix.
TEST(AttentionMemory, InterleavedBlocksOfOneMatrix) {
  const Operands x(45, 45, 16, 16);
  const auto check = [&](auto all) {
    all.block(0, 0, 45, 16) = x.q;
    all.block(0, 16, 45, 16) = x.k;
    all.block(0, 32, 45, 16) = x.v;
    heed::Workspace workspace;
    heed::attention_into(all.rightCols(16), all.leftCols(16), all.middleCols(16, 16), all.middleCols(32, 16),
                         workspace, heed::causal());
    EXPECT_TRUE(all.rightCols(16).isApprox(heed::attention(x.q, x.k, x.v, heed::causal()), 1e-5f));
    EXPECT_TRUE(all.leftCols(16) == x.q && all.middleCols(16, 16) == x.k && all.middleCols(32, 16) == x.v);
    // Every second row.
    using All = decltype(all);
    All rows(90, 16);
    const Eigen::OuterStride<> outer(32);
    for (Index i = 0; i < 45; ++i) rows.row(2 * i) = x.q.row(i);
    if constexpr (All::IsRowMajor) {
      Eigen::Map<const All, 0, Eigen::OuterStride<>> even(rows.data(), 45, 16, outer);
      Eigen::Map<All, 0, Eigen::OuterStride<>> odd(rows.data() + 16, 45, 16, outer);
      heed::attention_into(odd, even, x.k, x.v, workspace, heed::causal());
      EXPECT_TRUE(odd == all.rightCols(16));
      EXPECT_TRUE(even == x.q);
    }
  };
  check(RowMatrix<float>(45, 64));
  check(Eigen::MatrixXf(45, 64));
}

TEST(AttentionMemory, AliasingIsRefused) {
  heed::Workspace workspace;
  const auto message = [&](auto&& out, const auto& q, const auto& k, const auto& v) -> std::string {
    try {
      heed::attention_into(out, q, k, v, workspace);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  Eigen::MatrixXf all = Eigen::MatrixXf::Random(20, 20);
  const Eigen::MatrixXf before = all;
  Eigen::MatrixXf a = Eigen::MatrixXf::Random(5, 4), b = a, c = a;
  EXPECT_EQ(message(a, a, b, c), "heed: out shares elements with q");
  EXPECT_EQ(message(a, b, a, c), "heed: out shares elements with k");
  EXPECT_EQ(message(a, b, c, a), "heed: out shares elements with v");
  EXPECT_EQ(message(all.block(0, 0, 5, 4), all.block(4, 3, 5, 4), b, c),
            "heed: out shares elements with q");  // one element
  EXPECT_EQ(message(all.block(0, 0, 4, 4), all.block(0, 0, 4, 4).transpose(), all.block(4, 4, 4, 4),
                    all.block(8, 8, 4, 4)),
            "heed: out shares elements with q");
  EXPECT_EQ(message(all.block(0, 0, 4, 4).transpose(), all.block(8, 0, 4, 4), all.block(4, 4, 4, 4),
                    all.block(3, 3, 4, 4)),
            "heed: out shares elements with v");
  Eigen::Map<Eigen::MatrixXf, 0, Strides> reversed(all.data() + 19, 4, 4, Strides(20, -1));
  EXPECT_EQ(message(reversed, all.block(16, 3, 4, 4), b, b), "heed: out shares elements with q");
  EXPECT_TRUE(all == before);
  EXPECT_EQ(
      message(all.block(0, 0, 5, 4), all.block(5, 0, 5, 4), all.block(0, 4, 5, 4), all.block(9, 9, 5, 4)),
      "");
}

/// No N x M anywhere: what a call takes besides its result.
TEST(AttentionMemory, ExtraMemoryOfLongSequences) {
  const Index tokens = 131072;
  const Index megabyte = 1 << 20;
  const auto extra = [&](const char* name, Index n, Index heads, Index key_heads, Index d, bool columns) {
    const Eigen::MatrixXf q = Eigen::MatrixXf::Constant(n, heads * d, 0.1f);
    const RowMatrix<float> k = RowMatrix<float>::Constant(tokens, key_heads * d, 0.2f);
    const Eigen::MatrixXf k_columns = columns ? Eigen::MatrixXf(k) : Eigen::MatrixXf();
    Eigen::MatrixXf out;
    long long bytes = 0;
    {
      const AllocationCounter counter;
      if (columns)
        out = heed::attention(q, k_columns, k_columns, alone, heed::heads(heads, key_heads),
                              heed::window(16, 0));
      else
        out = heed::attention(q, k, k, alone, heed::heads(heads, key_heads), heed::window(16, 0));
      bytes = counter.bytes() - static_cast<long long>(sizeof(float)) * out.size();
    }
    std::printf("extra memory, %s: %.2f MB\n", name,
                static_cast<double>(bytes) / static_cast<double>(megabyte));
    EXPECT_LT(bytes, 4 * megabyte) << name;
    EXPECT_NEAR(out(n - 1, 0), 0.2f, 1e-6);
  };
  if (!small) extra("131072 x 131072 x 64", tokens, 1, 1, 64, false);
  if (!small) extra("131072 x 131072 x 64, column-major", tokens, 1, 1, 64, true);
  extra("1 x 131072, 8 heads x 64", 1, 8, 8, 64, false);
  extra("8 x 131072, 1 head x 128", 8, 1, 1, 128, false);
  if (!small) extra("1 x 131072, 32 heads on 8 x 128", 1, 32, 8, 128, false);
}

}  // namespace
