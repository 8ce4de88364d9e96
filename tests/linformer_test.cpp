// SPDX-License-Identifier: MIT
// Projected and pooled keys and values: against their definitions in long double, and gradients against
// central differences.
#include "oracle.hpp"

#include <unsupported/Eigen/CXX11/ThreadPool>

#include <heed/heed.hpp>

namespace {

using namespace heed_test;
using Wide = long double;

/// softmax(scale q kᵀ) v of every head; visible(i, j).
template <class Visible>
Matrix<Wide> exact_attention(const Matrix<Wide>& q, const Matrix<Wide>& k, const Matrix<Wide>& v, Index heads,
                             Index key_heads, const Visible& visible) {
  const Index d = q.cols() / heads, d_v = v.cols() / key_heads;
  Matrix<Wide> out = Matrix<Wide>::Zero(q.rows(), heads * d_v);
  for (Index h = 0; h < heads; ++h)
    for (Index i = 0; i < q.rows(); ++i) {
      const Index g = h / (heads / key_heads);
      Wide sum = 0;
      for (Index j = 0; j < k.rows(); ++j) {
        if (!visible(i, j)) continue;
        Wide dot = 0;
        for (Index c = 0; c < d; ++c) dot += q(i, h * d + c) * k(j, g * d + c);
        const Wide w = std::exp(dot / std::sqrt(static_cast<Wide>(d)));
        sum += w;
        for (Index c = 0; c < d_v; ++c) out(i, h * d_v + c) += w * v(j, g * d_v + c);
      }
      if (sum > 0)
        for (Index c = 0; c < d_v; ++c) out(i, h * d_v + c) /= sum;
    }
  return out;
}
const auto sees_all = [](Index, Index) { return true; };

/// e · x of every head in plain loops.
Matrix<Wide> projected(const Matrix<Wide>& e, const Matrix<Wide>& x, Index key_heads, bool per_head) {
  const Index r = per_head ? e.rows() / key_heads : e.rows(), width = x.cols() / key_heads;
  Matrix<Wide> y = Matrix<Wide>::Zero(r, x.cols());
  for (Index c = 0; c < x.cols(); ++c)
    for (Index t = 0; t < r; ++t)
      for (Index j = 0; j < x.rows(); ++j) y(t, c) += e((per_head ? c / width * r : 0) + t, j) * x(j, c);
  return y;
}

template <class T>
void linformer_case(Index n, Index m, Index rank, Index d, Index d_v, Index heads, Index key_heads,
                    bool per_head, int turn) {
  Dice dice(static_cast<std::uint64_t>(turn) + 70);
  const double share = 1 / std::sqrt(static_cast<double>(m) + 1);
  const auto q = dice.matrix<T>(n, heads * d), k = dice.matrix<T>(m, key_heads * d),
             v = dice.matrix<T>(m, key_heads * d_v),
             e = dice.matrix<T>((per_head ? key_heads : 1) * rank, m, share),
             f = dice.matrix<T>((per_head ? key_heads : 1) * rank, m, share);
  const auto layout = [&](int shift) { return static_cast<Layout>((turn + shift) % layouts); };
  const Guarded<T> gq(q, layout(0)), gk(k, layout(1)), gv(v, layout(2)), ge(e, layout(3)), gf(f, layout(4));
  const auto run = [&](const auto&... policies) -> Matrix<T> {
    return heed::linformer_attention(gq.view(), gk.view(), gv.view(), ge.view(), gf.view(), policies...);
  };
  const auto heads_policy = heed::heads(heads, key_heads);
  const Matrix<T> out = per_head ? run(heads_policy, heed::per_head) : run(heads_policy);
  const Matrix<Wide> exact =
      exact_attention(q.template cast<Wide>(),
                      projected(e.template cast<Wide>(), k.template cast<Wide>(), key_heads, per_head),
                      projected(f.template cast<Wide>(), v.template cast<Wide>(), key_heads, per_head), heads,
                      key_heads, sees_all);
  ASSERT_EQ(out.rows(), exact.rows());
  ASSERT_EQ(out.cols(), exact.cols());
  if (out.size() == 0) return;
  const double u = std::numeric_limits<T>::epsilon() / 2;
  EXPECT_LE(static_cast<double>((out.template cast<Wide>() - exact).cwiseAbs().maxCoeff()),
            u * (60 + 20 * std::sqrt(static_cast<double>(d))))
      << "n " << n << " m " << m << " rank " << rank << " d " << d << " turn " << turn;
}

TEST(Linformer, AgainstTheDefinition) {
  int turn = 0;
  for (const Index m : {Index(0), Index(1), Index(7), Index(65), Index(200), Index(300)})
    for (const Index rank : {Index(1), Index(8), Index(33), Index(70)})
      for (const bool per_head : {false, true}) {
        linformer_case<float>(20 + rank, m, rank, 16, 16, 4, 2, per_head, turn);
        linformer_case<double>(9, m, rank, 5, 7, 2, 2, per_head, turn);
        linformer_case<float>(65, m, rank, 40, 3, 1, 1, per_head, turn);
        ++turn;
      }
}

template <class Loss>
void check_differences(const std::string& name, Matrix<double>& x, const Matrix<double>& dx,
                       const Loss& loss) {
  ASSERT_EQ(x.rows(), dx.rows()) << name;
  ASSERT_EQ(x.cols(), dx.cols()) << name;
  for (Index i = 0; i < x.rows(); ++i)
    for (Index j = 0; j < x.cols(); ++j) {
      const double was = x(i, j), h = 1e-5;
      x(i, j) = was + h;
      const double above = loss();
      x(i, j) = was - h;
      const double below = loss();
      x(i, j) = was;
      EXPECT_NEAR(dx(i, j), (above - below) / (2 * h), 3e-8) << name << " " << i << ", " << j;
    }
}

template <class... P>
void linformer_differences(Index n, Index m, Index rank, Index heads, Index key_heads, const P&... policies) {
  const auto spec = heed::spec(heed::heads(heads, key_heads), policies...);
  const bool per_head = heed::detail::has_policy<std::remove_const_t<decltype(spec)>, heed::projection_tag>;
  Dice dice(80);
  auto q = dice.matrix<double>(n, heads * 3), k = dice.matrix<double>(m, key_heads * 3),
       v = dice.matrix<double>(m, key_heads * 2),
       e = dice.matrix<double>((per_head ? key_heads : 1) * rank, m, 0.5),
       f = dice.matrix<double>((per_head ? key_heads : 1) * rank, m, 0.5);
  const auto dout = dice.matrix<double>(n, heads * 2);
  const auto loss = [&] { return heed::linformer_attention(q, k, v, e, f, spec).cwiseProduct(dout).sum(); };
  heed::Saved<double> saved;
  const Matrix<double> out = heed::linformer_attention(q, k, v, e, f, spec, heed::save(saved));
  const auto g = heed::linformer_backward(dout, q, k, v, e, f, out, saved, spec);
  check_differences("dq", q, g.dq, loss);
  check_differences("dk", k, g.dk, loss);
  check_differences("dv", v, g.dv, loss);
  check_differences("de", e, g.de, loss);
  check_differences("df", f, g.df, loss);
}

TEST(Linformer, CentralDifferences) {
  linformer_differences(6, 9, 4, 1, 1);
  linformer_differences(6, 9, 4, 4, 2);
  linformer_differences(6, 9, 4, 4, 2, heed::per_head);
  linformer_differences(5, 70, 3, 2, 2, heed::per_head, heed::scale(0.4), heed::softcap(2.0));
}

TEST(Linformer, OtherScalarsAndThreads) {
  Dice dice(81);
  const auto q = dice.matrix<float>(150, 64), k = dice.matrix<float>(300, 64),
             v = dice.matrix<float>(300, 64), e = dice.matrix<float>(100, 300, 0.1),
             f = dice.matrix<float>(100, 300, 0.1);
  Eigen::ThreadPool pool(3);
  heed::Saved<float> saved;
  const Matrix<float> want =
      heed::linformer_attention(q, k, v, e, f, heed::heads(2), heed::on(heed::serial()), heed::save(saved));
  EXPECT_TRUE(heed::linformer_attention(q, k, v, e, f, heed::heads(2), heed::on(pool)) == want);
  const auto a =
      heed::linformer_backward(q, q, k, v, e, f, want, saved, heed::heads(2), heed::on(heed::serial()));
  const auto b = heed::linformer_backward(q, q, k, v, e, f, want, saved, heed::heads(2), heed::on(pool));
  EXPECT_TRUE(a.dq == b.dq && a.dk == b.dk && a.dv == b.dv && a.de == b.de && a.df == b.df);

  const Matrix<Wide> wide = heed::linformer_attention(q.cast<Wide>(), k.cast<Wide>(), v.cast<Wide>(),
                                                      e.cast<Wide>(), f.cast<Wide>(), heed::heads(2));
  EXPECT_LE((want.cast<Wide>() - wide).cwiseAbs().maxCoeff(), 1e-5L);
}

TEST(Linformer, RefusesWrongSizes) {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(4, 6), k = Eigen::MatrixXf::Zero(5, 6), e(3, 5),
                        wrong(3, 4), fewer(2, 5);
  const auto message = [&](const auto&... a) -> std::string {
    try {
      heed::linformer_attention(q, k, k, a...);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(message(wrong, e), "heed: e has 4 columns, k has 5 rows");
  EXPECT_EQ(message(e, wrong), "heed: f has 4 columns, v has 5 rows");
  EXPECT_EQ(message(e, fewer), "heed: f has 2 rows, e has 3");
  EXPECT_EQ(message(e, e, heed::heads(2), heed::per_head),
            "heed: e has 3 rows, not a multiple of 2 key heads");
  EXPECT_THROW(heed::linformer_attention(q, k, q, e, e), std::invalid_argument);
  EXPECT_THROW(heed::linformer_attention(q, k, k, e, e, heed::heads(4)), std::invalid_argument);
}

TEST(PooledRows, MeansAndTheirGradient) {
  Eigen::MatrixXd x(5, 2);
  x << 1, 10, 3, 30, 5, 50, 7, 70, 9, 90;
  Eigen::MatrixXd want(3, 2);
  want << 2, 20, 6, 60, 9, 90;
  EXPECT_TRUE(heed::pool_rows(x, 2) == want);
  EXPECT_TRUE(heed::pool_rows(x, 1) == x);
  EXPECT_TRUE(heed::pool_rows(x, 9) == x.colwise().mean());
  EXPECT_EQ(heed::pool_rows(x.topRows(0), 4).rows(), 0);
  const Eigen::MatrixXf by_rows = heed::pool_rows(RowMatrix<float>(x.cast<float>()), 2);
  EXPECT_TRUE(by_rows == want.cast<float>());
  EXPECT_THROW(heed::pool_rows(x, 0), std::invalid_argument);

  Dice dice(82);
  for (const Index rows : {Index(0), Index(1), Index(7), Index(12)})
    for (const Index stride : {Index(1), Index(3), Index(20)}) {
      auto y = dice.matrix<double>(rows, 3);
      const auto dy = dice.matrix<double>((rows + stride - 1) / stride, 3);
      check_differences("dx", y, heed::pool_rows_gradient(dy, rows, stride),
                        [&] { return heed::pool_rows(y, stride).cwiseProduct(dy).sum(); });
    }
  EXPECT_THROW(heed::pool_rows_gradient(want, 5, 3), std::invalid_argument);
  EXPECT_THROW(heed::pool_rows_gradient(want, 5, 0), std::invalid_argument);
}

TEST(PooledAttention, AgainstTheDefinition) {
  Dice dice(83);
  for (const Index m : {Index(0), Index(1), Index(13), Index(100)})
    for (const Index n : {Index(1), Index(13), Index(90), Index(120)}) {
      const auto q = dice.matrix<float>(n, 4 * 8), k = dice.matrix<float>(m, 2 * 8),
                 v = dice.matrix<float>(m, 2 * 5);
      const std::vector<Index> list = {3, 1, 16};
      Matrix<Wide> keys(0, 16), values(0, 10);
      std::vector<Index> last;
      const auto append = [](Matrix<Wide>& all, const Matrix<Wide>& more) {
        Matrix<Wide> both(all.rows() + more.rows(), all.cols());
        both << all, more;
        all = both;
      };
      for (const Index stride : list)
        for (Index begin = 0; begin < m; begin += stride) {
          const Index count = std::min(stride, m - begin);
          append(keys, k.middleRows(begin, count).cast<Wide>().colwise().mean());
          append(values, v.middleRows(begin, count).cast<Wide>().colwise().mean());
          last.push_back(begin + count - 1);
        }
      const auto check = [&](const auto& visible, const auto&... policies) {
        const Matrix<float> out =
            heed::pooled_attention(q, k, v, heed::strides(list), heed::heads(4, 2), policies...);
        const Matrix<Wide> exact = exact_attention(q.cast<Wide>(), keys, values, 4, 2, visible);
        EXPECT_LE((out.cast<Wide>() - exact).cwiseAbs().maxCoeff(), 3e-6L) << n << " " << m;
      };
      const auto reach = [&](Index i, Index j, Index offset) {
        return last[static_cast<std::size_t>(j)] <= i + offset;
      };
      check(sees_all);
      check([&](Index i, Index j) { return reach(i, j, m - n); }, heed::causal());
      check([&](Index i, Index j) { return reach(i, j, 0); }, heed::causal(heed::top_left));
    }
}

TEST(PooledAttention, CentralDifferences) {
  Dice dice(84);
  const auto run = [&](const auto&... policies) {
    const auto spec = heed::spec(heed::heads(2, 1), policies...);
    const auto scales = heed::strides({2, 5});
    auto q = dice.matrix<double>(7, 6), k = dice.matrix<double>(9, 3), v = dice.matrix<double>(9, 2);
    const auto dout = dice.matrix<double>(7, 4);
    const auto loss = [&] { return heed::pooled_attention(q, k, v, scales, spec).cwiseProduct(dout).sum(); };
    heed::Saved<double> saved;
    const Matrix<double> out = heed::pooled_attention(q, k, v, scales, spec, heed::save(saved));
    const auto g = heed::pooled_attention_backward(dout, q, k, v, scales, out, saved, spec);
    check_differences("dq", q, g.dq, loss);
    check_differences("dk", k, g.dk, loss);
    check_differences("dv", v, g.dv, loss);
  };
  run();
  run(heed::causal());
}

TEST(PooledAttention, RefusesWrongArguments) {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Zero(4, 6), k = Eigen::MatrixXf::Zero(5, 6);
  EXPECT_THROW(heed::pooled_attention(q, k, k, heed::strides({2, 0})), std::invalid_argument);
  EXPECT_THROW(heed::pooled_attention(q, k, k, heed::strides(std::vector<Index>{})), std::invalid_argument);
  EXPECT_THROW(heed::pooled_attention(q, k, q, heed::strides({2})), std::invalid_argument);
}

}  // namespace
