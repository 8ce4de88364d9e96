// SPDX-License-Identifier: MIT
// Outputs and gradients against golden files that another framework made (tests/data/generate.py).
#include "golden.hpp"

#include <cstring>

#include <heed/attention_backward.hpp>
#include <heed/core/when.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/softcap.hpp>

namespace {

using namespace heed_test;

template <class T>
void compare(const char* name, double tolerance) {
  const auto golden = read_golden(name);
  const auto has = [&](const char* key) { return golden.count(key) > 0; };
  const auto at = [&](const char* key) { return golden.at(key); };
  ASSERT_TRUE(has("out") && has("lse")) << name;
  const Matrix<T> q = at("q").template cast<T>(), k = at("k").template cast<T>(),
                  v = at("v").template cast<T>();
  const Matrix<T> bias = has("bias") ? Matrix<T>(at("bias").template cast<T>()) : Matrix<T>();
  const Matrix<bool> mask = has("mask") ? Matrix<bool>((at("mask").array() != 0).matrix()) : Matrix<bool>();
  heed::Saved<T> saved;
  const auto heads =
      heed::heads(static_cast<Index>(at("heads")(0, 0)), static_cast<Index>(at("key_heads")(0, 0)));
  const auto policies = [&](const auto& seen) {
    return heed::spec(
        heads, seen, heed::when(has("bias"), heed::bias(bias)),
        heed::when(std::strcmp(name, "alibi") == 0, heed::alibi()),
        heed::when(has("softcap"),
                   heed::softcap(has("softcap") ? static_cast<T>(at("softcap")(0, 0)) : T(1))),
        heed::when(has("scale"), heed::scale(has("scale") ? static_cast<T>(at("scale")(0, 0)) : T(1))));
  };
  const auto expect = [&](const auto& seen) {
    const auto spec = policies(seen);
    const Matrix<T> out = heed::attention(q, k, v, spec, heed::save(saved));
    const double off = (out.template cast<double>() - at("out")).cwiseAbs().maxCoeff(),
                 lse = (saved.lse.template cast<double>() - at("lse")).cwiseAbs().maxCoeff();
    EXPECT_LE(off, tolerance) << name;
    EXPECT_LE(lse, tolerance) << name;
    if (!has("dq")) return;
    const Matrix<T> dout = at("dout").template cast<T>(), dlse = at("dlse").template cast<T>();
    Matrix<T> dq(q.rows(), q.cols()), dk(k.rows(), k.cols()), dv(v.rows(), v.cols()),
        db(bias.rows(), bias.cols());
    if (has("bias"))
      heed::attention_backward(dout, q, k, v, out, saved, spec, heed::lse_gradient(dlse),
                               heed::into(dq, dk, dv), heed::bias_gradient(db));
    else
      heed::attention_backward(dout, q, k, v, out, saved, spec, heed::lse_gradient(dlse),
                               heed::into(dq, dk, dv));
    const auto near = [&](const char* which, const Matrix<T>& got) {
      EXPECT_LE((got.template cast<double>() - at(which)).cwiseAbs().maxCoeff(), 5 * tolerance)
          << name << " " << which;
    };
    near("dq", dq);
    near("dk", dk);
    near("dv", dv);
    if (has("bias")) near("db", db);
  };
  expect(heed::when(has("mask"), heed::dense_mask(mask)));
  if (std::strstr(name, "causal") != nullptr || std::strcmp(name, "alibi") == 0 ||
      std::strcmp(name, "tiles") == 0)
    expect(heed::causal());
}

TEST(AttentionGolden, Double) {
  for (const char* file : golden_files) compare<double>(file, 4e-15);
}

TEST(AttentionGolden, Float) {
  for (const char* file : golden_files) compare<float>(file, 3e-6);
}

}  // namespace
