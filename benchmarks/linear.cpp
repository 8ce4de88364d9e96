// SPDX-License-Identifier: MIT
// linear/…: attention in linear time against full attention, one thread, float, heads packed in columns.
// linear/complexity/… fits times against O(N) or O(N²); linear/crossing/… prints from which length on each
// form is faster than full attention.

#include "attention_case.hpp"

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include <heed/linear_attention.hpp>

#include "timing.hpp"

namespace {

using namespace measure;
using Rows = Eigen::MatrixXd;

constexpr Index d = 64, features = 128, rank = 256;

/// Features of rows, in double and by definition: elu + 1, or a Performer's.
Rows elu_features(const Rows& x) {
  return x.unaryExpr([](double a) { return a > 0 ? a + 1 : std::exp(a); });
}
Rows positive_features(const Rows& x, const Rows& omega) {
  const double scale = 1 / std::sqrt(static_cast<double>(x.cols()));
  Rows y = std::sqrt(scale) * x * omega.transpose();
  y.colwise() -= scale / 2 * x.rowwise().squaredNorm();
  return y.array().exp();
}

/// A few rows of the first and the last head.
template <class Phi>
bool is_right(const Operands<float>& x, const Sizes& s, bool causal, const Phi& phi, double tolerance) {
  for (const Index h : {Index(0), s.heads - 1}) {
    const Rows q = phi(x.q.middleCols(h * s.d, s.d).cast<double>().eval());
    const Rows k = phi(x.k.middleCols(h * s.d, s.d).cast<double>().eval());
    const Rows v = x.v.middleCols(h * s.d, s.d).cast<double>();
    for (const Index i : {Index(0), s.queries / 2, s.queries - 1}) {
      const Index keys = causal ? i + 1 : s.keys;
      const Eigen::RowVectorXd w = q.row(i) * k.topRows(keys).transpose();
      const Eigen::RowVectorXd exact = w * v.topRows(keys) / w.sum();
      const Eigen::RowVectorXd got = x.out.row(i).segment(h * s.d, s.d).cast<double>();
      if (!((got - exact).cwiseAbs().maxCoeff() <= tolerance)) return false;
    }
  }
  return true;
}

/// One form of attention: run(x, workspace), and right(x) for its results.
struct Form {
  const char* name;
  std::function<void(Operands<float>&, heed::Workspace&)> run;
  std::function<bool(const Operands<float>&, const Sizes&)> right;
};

heed::Performer& performer() {
  static heed::Performer p = heed::performer(features, 1);
  return p;
}
const Rows& directions() {
  static const Rows omega = heed::performer_projection(features, d, 1);
  return omega;
}

Form full(Index heads, bool causal) {
  if (causal)
    return {"full, causal",
            [=](Operands<float>& x, heed::Workspace& w) {
              heed::attention_into(x.out, x.q, x.k, x.v, w, heed::heads(heads), heed::causal(),
                                   heed::on(heed::serial()));
            },
            [](const auto& x, const Sizes& s) {
              return right(x, s, heed::spec(heed::heads(s.heads), heed::causal()));
            }};
  return {"full",
          [=](Operands<float>& x, heed::Workspace& w) {
            heed::attention_into(x.out, x.q, x.k, x.v, w, heed::heads(heads), heed::on(heed::serial()));
          },
          [](const auto& x, const Sizes& s) { return right(x, s, heed::spec(heed::heads(s.heads))); }};
}

Form linear(Index heads, bool causal) {
  const auto right = [=](const auto& x, const Sizes& s) {
    return is_right(x, s, causal, elu_features, 1e-5);
  };
  if (causal)
    return {"linear, causal",
            [=](Operands<float>& x, heed::Workspace& w) {
              heed::linear_attention_into(x.out, x.q, x.k, x.v, heed::use(w), heed::heads(heads),
                                          heed::causal(), heed::on(heed::serial()));
            },
            right};
  return {"linear",
          [=](Operands<float>& x, heed::Workspace& w) {
            heed::linear_attention_into(x.out, x.q, x.k, x.v, heed::use(w), heed::heads(heads),
                                        heed::on(heed::serial()));
          },
          right};
}

Form estimate(Index heads, bool causal) {
  const auto right = [=](const auto& x, const Sizes& s) {
    return is_right(
        x, s, causal, [](const Rows& r) { return positive_features(r, directions()); }, 1e-3);
  };
  if (causal)
    return {"performer, causal",
            [=](Operands<float>& x, heed::Workspace& w) {
              heed::linear_attention_into(x.out, x.q, x.k, x.v, heed::use(w), heed::heads(heads), performer(),
                                          heed::causal(), heed::on(heed::serial()));
            },
            right};
  return {"performer",
          [=](Operands<float>& x, heed::Workspace& w) {
            heed::linear_attention_into(x.out, x.q, x.k, x.v, heed::use(w), heed::heads(heads), performer(),
                                        heed::on(heed::serial()));
          },
          right};
}

/// Projections onto means of groups.
Matrix<float, Eigen::RowMajor> group_means(Index m) {
  Matrix<float, Eigen::RowMajor> e(rank, m);
  e.setZero();
  for (Index j = 0; j < m; ++j) e(j * rank / m, j) = static_cast<float>(rank) / static_cast<float>(m);
  return e;
}
Form linformer(Index heads) {
  return {
      "linformer",
      [=](Operands<float>& x, heed::Workspace& w) {
        static Matrix<float, Eigen::RowMajor> e;
        if (e.cols() != x.k.rows()) e = group_means(x.k.rows());
        x.out = heed::linformer_attention(x.q, x.k, x.v, e, e, heed::heads(heads), heed::use(w),
                                          heed::on(heed::serial()));
      },
      [](const auto& x, const Sizes& s) {
        Operands<float> pooled(Sizes{s.heads, s.heads, s.queries, rank, s.d});
        const auto e = group_means(s.keys);
        pooled.q = x.q;
        pooled.k = e * x.k;
        pooled.v = e * x.v;
        pooled.out = x.out;
        return right(pooled, Sizes{s.heads, s.heads, s.queries, rank, s.d}, heed::spec(heed::heads(s.heads)));
      }};
}

void complexity(benchmark::State& state, const Form& form) {
  const Sizes s{1, 1, state.range(0), state.range(0), d};
  Operands<float> x(s);
  heed::Workspace workspace;
  form.run(x, workspace);
  if (!form.right(x, s)) return state.SkipWithError("wrong result");
  for (auto _ : state) {
    form.run(x, workspace);
    benchmark::ClobberMemory();
  }
  state.SetComplexityN(s.queries);
}

/// From which length on is each form faster than the first? Prints all times as a table.
void crossing(benchmark::State& state, const std::vector<Form>& forms, Index heads) {
  for (auto _ : state) {
    std::printf("\nms a call, %d head%s of %d, one thread, %s\n%8s", int(heads), heads == 1 ? "" : "s",
                int(d), heed::name(heed::instruction_set()), "N = M");
    for (const Form& f : forms) std::printf("%20s", f.name);
    std::printf("\n");
    std::vector<Index> crossed(forms.size(), 0);
    for (const Index n : {32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 4096}) {
      const Sizes s{heads, heads, n, n, d};
      Operands<float> x(s);
      heed::Workspace workspace;
      std::vector<double> best(forms.size(), 1e300);
      for (const Form& f : forms) {
        f.run(x, workspace);
        if (!f.right(x, s)) return state.SkipWithError("wrong result");
      }
      for (int turn = 0; turn < 5; ++turn)
        for (std::size_t t = 0; t < forms.size(); ++t)
          best[t] = std::min(best[t],
                             best_in_turns<Clock::thread>(1, 0.004, [&] { forms[t].run(x, workspace); })[0]);
      std::printf("%8d", int(n));
      for (std::size_t t = 0; t < forms.size(); ++t) {
        std::printf("%20.4f", best[t] * 1e3);
        if (best[t] >= best[0])
          crossed[t] = 0;
        else if (crossed[t] == 0)
          crossed[t] = n;
      }
      std::printf("\n");
    }
    std::printf("%8s%20s", "faster", "");
    for (std::size_t t = 1; t < forms.size(); ++t) {
      std::printf("%15s %4d", "from", int(crossed[t]));
      state.counters[std::string(forms[t].name) + "_from"] = static_cast<double>(crossed[t]);
    }
    std::printf("\n\n");
  }
}

void fit(const char* name, const Form& form, benchmark::BigO order) {
  benchmark::RegisterBenchmark(name, [=](benchmark::State& state) { complexity(state, form); })
      ->RangeMultiplier(2)
      ->Range(512, 8192)
      ->Unit(benchmark::kMillisecond)
      ->Complexity(order);
}

const int registered = [] {
  fit("linear/complexity/full/1x64", full(1, false), benchmark::oNSquared);
  fit("linear/complexity/elu/1x64", linear(1, false), benchmark::oN);
  fit("linear/complexity/elu_causal/1x64", linear(1, true), benchmark::oN);
  fit("linear/complexity/performer128/1x64", estimate(1, false), benchmark::oN);
  fit("linear/complexity/linformer256/1x64", linformer(1), benchmark::oN);
  for (const Index heads : {Index(1), Index(8)})
    for (const bool causal : {false, true}) {
      std::vector<Form> forms = {full(heads, causal), linear(heads, causal), estimate(heads, causal)};
      const std::string name =
          "linear/crossing/" + std::string(causal ? "causal/" : "") + std::to_string(heads) + "x64";
      benchmark::RegisterBenchmark(name.c_str(),
                                   [=](benchmark::State& state) { crossing(state, forms, heads); })
          ->Iterations(1)
          ->Unit(benchmark::kMillisecond);
    }
  return 0;
}();

}  // namespace
