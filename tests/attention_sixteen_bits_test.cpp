// SPDX-License-Identifier: MIT
// Half and bfloat16: every entry point against the same call in long double, which runs in plain loops, on
// the numbers that are stored. What comes back is off by the error of float and half a unit of its own last
// place.
#include "oracle.hpp"

#include <bit>
#include <cstring>

#include <heed/attention_backward.hpp>
#include <heed/attention_double_backward.hpp>
#include <heed/attention_jvp.hpp>
#include <heed/attention_weights.hpp>
#include <heed/execute/on.hpp>
#include <heed/gradients.hpp>
#include <heed/layout/heads.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/linear/linear_backward.hpp>
#include <heed/linear/linformer.hpp>
#include <heed/mask/causal.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/bias.hpp>
#include <heed/select/sink.hpp>
#include <heed/select/sparsemax.hpp>

namespace {

using namespace heed_test;
using Wide = long double;
using Half = Eigen::half;
using Bfloat = Eigen::bfloat16;

template <class T>
inline constexpr double half_unit = std::is_same_v<T, Half> ? 0x1p-11 : 0x1p-8;
template <class T>
inline constexpr double least = std::is_same_v<T, Half> ? 0x1p-25 : 0;  // half of the least number
constexpr double u = 0x1p-24;

/// Every element is exact but for `in_float`, a matrix or a number, and the rounding of the result.
template <class T, class Got, class Error>
void expect_rounded_once(const char* what, const Got& got, const Matrix<Wide>& exact, const Error& in_float) {
  ASSERT_TRUE(got.rows() == exact.rows() && got.cols() == exact.cols()) << what;
  double worst = 0;
  for (Index i = 0; i < got.rows(); ++i)
    for (Index j = 0; j < got.cols(); ++j) {
      const double x = static_cast<double>(exact(i, j));
      const double off = std::abs(static_cast<double>(got(i, j)) - x);
      double error;
      if constexpr (std::is_arithmetic_v<Error>)
        error = in_float;
      else
        error = in_float(i, j);
      const double ratio = off / ((std::abs(x) + error) * half_unit<T> + error + least<T>);
      if (off != 0 && !(ratio <= worst)) worst = ratio;
    }
  EXPECT_LE(worst, 1) << what;
}

template <class D>
double most(const D& m) {
  return m.size() == 0 ? 0 : static_cast<double>(m.cwiseAbs().maxCoeff());
}

template <class T>
struct Operands {
  RowMatrix<T> q, k, v, dout;
  Matrix<Wide> wide_q, wide_k, wide_v, wide_dout;

  Operands(Index n, Index m, Index heads, Index key_heads, Index d, Index d_v) {
    Dice dice(static_cast<std::uint64_t>(n * 100 + m));
    q = dice.matrix<double>(n, heads * d).template cast<T>();
    k = dice.matrix<double>(m, key_heads * d).template cast<T>();
    v = dice.matrix<double>(m, key_heads * d_v).template cast<T>();
    dout = dice.matrix<double>(n, heads * d_v).template cast<T>();
    wide_q = q.template cast<Wide>();
    wide_k = k.template cast<Wide>();
    wide_v = v.template cast<Wide>();
    wide_dout = dout.template cast<Wide>();
  }

  /// The bound of attention() in float, with the greatest sum of products of all pairs.
  template <class Spec>
  Matrix<double> bound(const Spec& spec, Index heads, Index key_heads, double most_bias) const {
    const Index d = q.cols() / heads;
    double size = 0;
    for (Index h = 0; h < heads; ++h) {
      const auto head = wide_q.middleCols(h * d, d), keys = wide_k.middleCols(h / (heads / key_heads) * d, d);
      size = std::max(size, most(product(head.cwiseAbs().eval(), keys.cwiseAbs().transpose().eval())));
    }
    size /= std::sqrt(static_cast<double>(d));
    const double delta = 5 * std::sqrt(static_cast<double>(d)) * u * size + u * (2 * (size + most_bias) + 2);
    const Matrix<Wide> a = heed::attention(wide_q, wide_k, wide_v.cwiseAbs(), spec);
    return (2 * delta + (7 + 5 * std::sqrt(static_cast<double>(k.rows()))) * u) * a.template cast<double>();
  }
};

struct Size {
  Index n, m, d, d_v;
};
const std::vector<Size> sizes = {{1, 1, 3, 2},     {1, 300, 16, 16}, {5, 7, 8, 8},   {7, 130, 5, 9},
                                 {33, 64, 16, 24}, {70, 97, 40, 8},  {9, 1, 16, 16}, {1, 5000, 8, 8}};

template <class T>
void forward_and_backward() {
  for (const Size& s : sizes) {
    const Operands<T> x(s.n, s.m, 2, 1, s.d, s.d_v);
    const auto heads = heed::heads(2, 1);
    heed::Saved<T> saved;
    heed::Saved<Wide> wide_saved;
    const RowMatrix<T> out = heed::attention(x.q, x.k, x.v, heads, heed::save(saved));
    const Matrix<Wide> exact = heed::attention(x.wide_q, x.wide_k, x.wide_v, heads, heed::save(wide_saved));
    expect_rounded_once<T>("out", out, exact, x.bound(heads, 2, 1, 0));
    expect_rounded_once<T>("lse", saved.lse, wide_saved.lse, 64 * u * (1 + most(wide_saved.lse)));
    const auto gradient = heed::attention_backward(x.dout, x.q, x.k, x.v, out, saved, heads);
    const auto wanted =
        heed::attention_backward(x.wide_dout, x.wide_q, x.wide_k, x.wide_v, exact, wide_saved, heads);
    // With one key they are differences of equal numbers.
    expect_rounded_once<T>("dq", gradient.dq, wanted.dq, u * (256 * most(wanted.dq) + 64));
    expect_rounded_once<T>("dk", gradient.dk, wanted.dk, u * (256 * most(wanted.dk) + 64));
    expect_rounded_once<T>("dv", gradient.dv, wanted.dv, 256 * u * most(wanted.dv));
  }
}
TEST(AttentionSixteenBits, Half) { forward_and_backward<Half>(); }
TEST(AttentionSixteenBits, Bfloat16) { forward_and_backward<Bfloat>(); }

/// Ragged sequences, grouped heads, causal, positions, sinks and gradients of sinks.
template <class T>
void everything() {
  const Operands<T> x(100, 110, 4, 2, 12, 8);
  const Eigen::Vector4d sinks(-1, 0, 0.5, 2);
  const auto spec = heed::spec(heed::heads(4, 2), heed::sequences({0, 1, 40, 40, 100}, {0, 30, 65, 70, 110}),
                               heed::causal(), heed::alibi(), heed::sink(sinks));
  heed::Saved<T> saved;
  heed::Saved<Wide> wide_saved;
  const RowMatrix<T> out = heed::attention(x.q, x.k, x.v, spec, heed::save(saved));
  const Matrix<Wide> exact = heed::attention(x.wide_q, x.wide_k, x.wide_v, spec, heed::save(wide_saved));
  expect_rounded_once<T>("out", out, exact, x.bound(spec, 4, 2, 30));
  EXPECT_TRUE((saved.lse.array() > T(-1.01f)).all());  // the least sink

  Matrix<T> dsink(4, 1);
  Matrix<Wide> wide_dsink(4, 1);
  // Added to what is there, and rounded once with it, in every order of storage.
  Matrix<T> dq = Matrix<T>::Constant(100, 48, T(0.25f));
  RowMatrix<T> dk = RowMatrix<T>::Constant(110, 60, T(0.25f)), dv = RowMatrix<T>::Constant(110, 16, T(0.25f));
  Matrix<Wide> wide_dq = Matrix<Wide>::Constant(100, 48, 0.25L),
               wide_dk = Matrix<Wide>::Constant(110, 24, 0.25L),
               wide_dv = Matrix<Wide>::Constant(110, 16, 0.25L);
  dsink.setConstant(T(0));
  wide_dsink.setZero();
  heed::attention_backward(x.dout, x.q, x.k, x.v, out, saved, spec,
                           heed::into(dq, dk.block(0, 20, 110, 24), dv), heed::accumulating,
                           heed::sink_gradient(dsink));
  heed::attention_backward(x.wide_dout, x.wide_q, x.wide_k, x.wide_v, exact, wide_saved, spec,
                           heed::into(wide_dq, wide_dk, wide_dv), heed::accumulating,
                           heed::sink_gradient(wide_dsink));
  expect_rounded_once<T>("dq", dq, wide_dq, 256 * u * most(wide_dq));
  expect_rounded_once<T>("dk", dk.block(0, 20, 110, 24), wide_dk, 256 * u * most(wide_dk));
  expect_rounded_once<T>("dv", dv, wide_dv, 256 * u * most(wide_dv));
  expect_rounded_once<T>("dsink", dsink, wide_dsink, 256 * u * most(wide_dsink));
  EXPECT_TRUE((dk.leftCols(20).array() == T(0.25f)).all() && (dk.rightCols(16).array() == T(0.25f)).all());
}
TEST(AttentionSixteenBits, HalfWithEverything) { everything<Half>(); }
TEST(AttentionSixteenBits, Bfloat16WithEverything) { everything<Bfloat>(); }

/// A selection of rows; a bias of 16 bits, and its gradient, which sums over queries and heads in float.
template <class T>
void rows_and_bias() {
  const Operands<T> x(60, 70, 2, 2, 16, 8);
  Dice dice(4);
  const Matrix<T> b = dice.matrix<double>(1, 70).template cast<T>();
  const Matrix<Wide> wide_b = b.template cast<Wide>();
  const auto check = [&](const auto& spec, const auto& wide_spec, double error) {
    heed::Saved<T> saved;
    heed::Saved<Wide> wide_saved;
    const RowMatrix<T> out = heed::attention(x.q, x.k, x.v, spec, heed::save(saved));
    const Matrix<Wide> exact =
        heed::attention(x.wide_q, x.wide_k, x.wide_v, wide_spec, heed::save(wide_saved));
    expect_rounded_once<T>("out", out, exact, error);
    Matrix<T> db(1, 70);
    Matrix<Wide> wide_db(1, 70);
    const auto gradient =
        heed::attention_backward(x.dout, x.q, x.k, x.v, out, saved, spec, heed::bias_gradient(db));
    const auto wanted = heed::attention_backward(x.wide_dout, x.wide_q, x.wide_k, x.wide_v, exact, wide_saved,
                                                 wide_spec, heed::bias_gradient(wide_db));
    expect_rounded_once<T>("dq", gradient.dq, wanted.dq, 256 * u * most(wanted.dq));
    expect_rounded_once<T>("dk", gradient.dk, wanted.dk, 256 * u * most(wanted.dk));
    expect_rounded_once<T>("dv", gradient.dv, wanted.dv, 256 * u * most(wanted.dv));
    expect_rounded_once<T>("db", db, wide_db, 256 * u * most(wide_db));
  };
  const auto heads = heed::heads(2);
  check(heed::spec(heads, heed::bias(b)), heed::spec(heads, heed::bias(wide_b)), 1e-5);
  check(heed::spec(heads, heed::bias(b), heed::sparsemax()),
        heed::spec(heads, heed::bias(wide_b), heed::sparsemax()), 1e-5);
}
TEST(AttentionSixteenBits, HalfRowsAndBias) { rows_and_bias<Half>(); }
TEST(AttentionSixteenBits, Bfloat16RowsAndBias) { rows_and_bias<Bfloat>(); }

/// Tangents and second derivatives.
template <class T>
void directions() {
  const Operands<T> x(21, 34, 2, 1, 8, 6), y(22, 34, 2, 1, 8, 6);
  const auto spec = heed::spec(heed::heads(2, 1), heed::causal());
  const auto moved = heed::attention_jvp(x.q, x.k, x.v, y.q.topRows(21), y.k, y.v, spec);
  const auto wanted =
      heed::attention_jvp(x.wide_q, x.wide_k, x.wide_v, y.wide_q.topRows(21), y.wide_k, y.wide_v, spec);
  expect_rounded_once<T>("out", moved.out, wanted.out, 256 * u * most(wanted.out));
  expect_rounded_once<T>("out_tangent", moved.out_tangent, wanted.out_tangent,
                         256 * u * most(wanted.out_tangent));
  expect_rounded_once<T>("lse", moved.lse, wanted.lse, 256 * u * most(wanted.lse));
  expect_rounded_once<T>("lse_tangent", moved.lse_tangent, wanted.lse_tangent,
                         256 * u * most(wanted.lse_tangent));
  heed::Saved<T> saved;
  heed::Saved<Wide> wide_saved;
  const RowMatrix<T> out = heed::attention(x.q, x.k, x.v, spec, heed::save(saved));
  const Matrix<Wide> exact = heed::attention(x.wide_q, x.wide_k, x.wide_v, spec, heed::save(wide_saved));
  const auto second =
      heed::attention_double_backward(x.dout, x.q, x.k, x.v, out, saved, y.q.topRows(21), y.k, y.v, spec);
  const auto exactly =
      heed::attention_double_backward(x.wide_dout, x.wide_q, x.wide_k, x.wide_v, exact, wide_saved,
                                      y.wide_q.topRows(21), y.wide_k, y.wide_v, spec);
  expect_rounded_once<T>("by dout", second.dout, exactly.dout, 512 * u * most(exactly.dout));
  expect_rounded_once<T>("by q", second.q, exactly.q, 512 * u * most(exactly.q));
  expect_rounded_once<T>("by k", second.k, exactly.k, 512 * u * most(exactly.k));
  expect_rounded_once<T>("by v", second.v, exactly.v, 512 * u * most(exactly.v));
  expect_rounded_once<T>("by lse_gradient", second.lse_gradient, exactly.lse_gradient,
                         512 * u * most(exactly.lse_gradient));
}
TEST(AttentionSixteenBits, HalfDirections) { directions<Half>(); }
TEST(AttentionSixteenBits, Bfloat16Directions) { directions<Bfloat>(); }

TEST(AttentionSixteenBits, Weights) {
  const Operands<Half> x(9, 40, 2, 1, 8, 8);
  const auto spec = heed::spec(heed::heads(2, 1), heed::causal());
  const Matrix<Wide> exact = heed::attention_weights(x.wide_q, x.wide_k, spec);
  expect_rounded_once<Half>("weights", heed::attention_weights(x.q, x.k, spec), exact, 64 * u);
}

/// Linear attention and products for projections.
TEST(AttentionSixteenBits, Linear) {
  const Operands<Half> x(90, 150, 2, 1, 8, 6);
  const auto spec = heed::spec(heed::heads(2, 1), heed::causal());
  const RowMatrix<Half> out = heed::linear_attention(x.q, x.k, x.v, spec);
  const Matrix<Wide> exact = heed::linear_attention(x.wide_q, x.wide_k, x.wide_v, spec);
  expect_rounded_once<Half>("out", out, exact, 256 * u * most(exact));
  const auto gradient = heed::linear_attention_backward(x.dout, x.q, x.k, x.v, out, spec);
  const auto wanted = heed::linear_attention_backward(x.wide_dout, x.wide_q, x.wide_k, x.wide_v, exact, spec);
  expect_rounded_once<Half>("dq", gradient.dq, wanted.dq, 256 * u * most(wanted.dq));
  expect_rounded_once<Half>("dk", gradient.dk, wanted.dk, 256 * u * most(wanted.dk));
  expect_rounded_once<Half>("dv", gradient.dv, wanted.dv, 256 * u * most(wanted.dv));

  RowMatrix<Half> c = RowMatrix<Half>::Constant(90, 6, Half(2));
  const Matrix<Half> a = x.q.leftCols(7), b = x.k.topRows(7).leftCols(6);
  const Matrix<Wide> ab = product(Matrix<Wide>(a.cast<Wide>()), Matrix<Wide>(b.cast<Wide>()));
  heed::detail::multiply_into<Half>(heed::detail::operand_of<Half>(c),
                                    heed::detail::operand_of<const Half>(a),
                                    heed::detail::operand_of<const Half>(b), 90, 7, 6, true, heed::spec());
  expect_rounded_once<Half>("product", c, (ab.array() + 2).matrix(), 64 * u * most(ab));
}

/// Tasks from the last to the first, by many workers.
struct Backwards {
  mutable Index most_tasks = 0;
  int threads() const { return 7; }
  template <class F>
  void run(Index tasks, F&& task) const {
    most_tasks = std::max(most_tasks, tasks);
    for (Index t = tasks - 1; t >= 0; --t) task(t, static_cast<int>(t % 7));
  }
};

/// The result is the float result, rounded, bit for bit: in every layout, whoever runs the tasks.
template <class T>
void layouts_of_all() {
  const Operands<T> x(64, 4200, 1, 1, 64, 64);
  const Eigen::MatrixXf q = x.q.template cast<float>();
  const RowMatrix<float> k = x.k.template cast<float>(), v = x.v.template cast<float>();
  const auto same = [](const auto& a, const auto& b) {
    for (Index i = 0; i < b.rows(); ++i)
      for (Index j = 0; j < b.cols(); ++j)
        if (!(a(i, j) == static_cast<T>(b(i, j)))) return false;
    return true;
  };
  const Backwards backwards;
  const RowMatrix<float> want = heed::attention(RowMatrix<float>(q), k, v);
  EXPECT_TRUE(same(heed::attention(x.q, x.k, x.v), want));
  EXPECT_TRUE(same(heed::attention(x.q, x.k, x.v, heed::on(backwards)), want));
  EXPECT_GT(backwards.most_tasks, 1);

  // Columns, every second column of every second row, from the last to the first, a row of a matrix.
  const Matrix<T> columns = x.k;
  EXPECT_TRUE(
      same(heed::attention(x.q, columns, x.v), heed::attention(RowMatrix<float>(q), Eigen::MatrixXf(k), v)));
  Matrix<T> large = Matrix<T>::Constant(200, 150, T(3));
  using Spread = Eigen::Map<Matrix<T>, 0, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>>;
  Spread out(large.data() + 5, 64, 64, Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(2 * 200, 2));
  heed::attention_into(out, x.q, x.k, x.v);
  const Matrix<float> again = out.template cast<float>();
  EXPECT_LE((again - want).cwiseAbs().maxCoeff(), 1.01f * float(half_unit<T>) * want.cwiseAbs().maxCoeff());
  EXPECT_EQ((large.array() == T(3)).count(), 200 * 150 - 64 * 64);
  const Spread upside_down(large.data() + 5 + 2 * 63, 64, 64,
                           Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>(2 * 200, -2));
  const RowMatrix<T> reversed = heed::attention(upside_down, x.k, x.v);
  const RowMatrix<T> straight = heed::attention(out, x.k, x.v);
  EXPECT_TRUE((reversed.colwise().reverse().array() == straight.array()).all());
  const Matrix<T> q_columns = x.q;
  const auto one = heed::attention(q_columns.row(7), x.k, x.v);
  EXPECT_TRUE(same(one, heed::attention(RowMatrix<float>(q).row(7), k, v)));
  EXPECT_EQ(heed::attention(x.q, x.k.topRows(0), x.v.topRows(0)).template cast<float>().cwiseAbs().maxCoeff(),
            0);
}
TEST(AttentionSixteenBits, HalfLayouts) { layouts_of_all<Half>(); }
TEST(AttentionSixteenBits, Bfloat16Layouts) { layouts_of_all<Bfloat>(); }

/// NaN behind a mask reaches nothing; refused calls write nothing.
TEST(AttentionSixteenBits, HiddenAndRefused) {
  Operands<Half> x(40, 40, 1, 1, 8, 8);
  const RowMatrix<Half> want = heed::attention(x.q, x.k, x.v, heed::causal());
  x.k.row(39).setConstant(std::numeric_limits<Half>::quiet_NaN());
  x.v.row(39).setConstant(std::numeric_limits<Half>::infinity());
  RowMatrix<Half> out = heed::attention(x.q, x.k, x.v, heed::causal());
  EXPECT_TRUE((out.topRows(39).array() == want.topRows(39).array()).all());
  EXPECT_TRUE((Eigen::isnan)(out.row(39).cast<float>().array()).any());

  out.setConstant(Half(7));
  RowMatrix<Half> k = out;
  EXPECT_THROW(heed::attention_into(k, x.q, k, x.v), std::invalid_argument);
  EXPECT_THROW(heed::attention_into(out, x.q, x.k, x.v.topRows(3)), std::invalid_argument);
  EXPECT_TRUE((out.array() == Half(7)).all() && (k.array() == Half(7)).all());
}

/// Every number of 16 bits, and floats of every kind, in both ways of converting.
template <class T>
void conversions() {
  const auto check = [](const std::vector<float>& floats) {
    const Index count = static_cast<Index>(floats.size());
    for (const bool vectors : {false, heed::instruction_set() != heed::InstructionSet::generic}) {
      std::vector<T> rounded(floats.size());
      heed::detail::round_run(floats.data(), rounded.data(), count, vectors);
      Index wrong = 0;
      for (std::size_t n = 0; n < floats.size(); ++n) {
        const T want = static_cast<T>(floats[n]);
        const bool both_nan = floats[n] != floats[n] && rounded[n] != rounded[n];
        if (!both_nan && std::memcmp(&want, &rounded[n], 2) != 0 && wrong++ == 0)
          ADD_FAILURE() << floats[n] << " becomes " << static_cast<float>(rounded[n]) << ", not "
                        << static_cast<float>(want) << (vectors ? " by vectors" : "");
      }
    }
  };
  std::vector<T> all(65536);
  std::vector<float> floats(65536), near;
  for (std::size_t n = 0; n < all.size(); ++n) {
    const auto bits = static_cast<std::uint16_t>(n);
    std::memcpy(static_cast<void*>(&all[n]), &bits, 2);
  }
  for (const bool vectors : {false, heed::instruction_set() != heed::InstructionSet::generic}) {
    heed::detail::widen_run(all.data(), floats.data(), Index(65536), vectors);
    for (std::size_t n = 0; n < all.size(); ++n) {
      const float want = static_cast<float>(all[n]);
      if (want == want)
        ASSERT_EQ(std::bit_cast<std::uint32_t>(floats[n]), std::bit_cast<std::uint32_t>(want)) << n;
      else
        ASSERT_TRUE(floats[n] != floats[n]) << n;
    }
  }
  check(floats);
  // Half way between neighbours, and the floats beside that.
  for (std::size_t n = 0; n + 1 < floats.size(); ++n) {
    const float middle = 0.5f * floats[n] + 0.5f * floats[n + 1];
    for (const float x : {middle, std::nextafter(middle, 1e30f), std::nextafter(middle, -1e30f)})
      near.push_back(x);
  }
  Dice dice(8);
  for (int n = 0; n < 100003; ++n)
    near.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(dice.bits())));
  for (const float x : {65519.996f, 65520.f, 3.4e38f, std::numeric_limits<float>::denorm_min(), 1e-40f,
                        0x1p-25f, 0x1.000002p-25f, -0.f})
    near.push_back(x);
  check(near);
}
TEST(AttentionSixteenBits, ConversionsOfHalf) { conversions<Half>(); }
TEST(AttentionSixteenBits, ConversionsOfBfloat16) { conversions<Bfloat>(); }

}  // namespace
