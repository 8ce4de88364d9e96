// SPDX-License-Identifier: MIT
// Bad arguments are refused with the argument's name and both sizes, before anything is written; empty sizes
// are legal.
#include "oracle.hpp"

#include <stdexcept>

#include <heed/attention_backward.hpp>
#include <heed/core/when.hpp>
#include <heed/layout/sequences.hpp>
#include <heed/mask/causal.hpp>
#include <heed/mask/dense.hpp>
#include <heed/mask/documents.hpp>
#include <heed/mask/lengths.hpp>
#include <heed/mask/window.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/bias.hpp>
#include <heed/score/scale.hpp>
#include <heed/score/score_with.hpp>
#include <heed/score/softcap.hpp>

namespace {

using namespace heed_test;

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double nan = std::numeric_limits<double>::quiet_NaN();

Eigen::MatrixXf ones(Index rows, Index columns) { return Eigen::MatrixXf::Ones(rows, columns); }

/// What the call says, or "" if it accepts its arguments; neither output nor log-sum-exp may change when it
/// refuses. Both entry points must say the same.
template <class... P>
std::string refusal(const Eigen::MatrixXf& out_size, const Eigen::MatrixXf& q, const Eigen::MatrixXf& k,
                    const Eigen::MatrixXf& v, const P&... policies) {
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "";
  };
  heed::Workspace workspace;
  heed::Saved<float> saved;
  saved.lse = Eigen::MatrixXf::Constant(2, 3, 41);
  Eigen::MatrixXf out = Eigen::MatrixXf::Constant(out_size.rows(), out_size.cols(), 42);
  const std::string into =
      message([&] { heed::attention_into(out, q, k, v, workspace, policies..., heed::save(saved)); });
  if (!into.empty()) {
    EXPECT_TRUE((out.array() == 42).all()) << into;
    EXPECT_TRUE(saved.lse.rows() == 2 && saved.lse.cols() == 3 && (saved.lse.array() == 41).all()) << into;
  }
  const std::string returned = message([&] { heed::attention(q, k, v, policies..., heed::save(saved)); });
  if (into.rfind("heed: out", 0) != 0) {
    EXPECT_EQ(returned, into);
  }
  return into;
}

/// The same where the size of the output does not matter.
template <class... P>
std::string said(const Eigen::MatrixXf& q, const Eigen::MatrixXf& k, const Eigen::MatrixXf& v,
                 const P&... policies) {
  return refusal(ones(q.rows(), v.cols()), q, k, v, policies...);
}

TEST(AttentionErrors, SizesThatDisagree) {
  EXPECT_EQ(said(ones(5, 128), ones(7, 64), ones(7, 8)), "heed: k has 64 columns, q has 128; for grouped heads give heads(query heads, key heads)");
  EXPECT_EQ(said(ones(5, 4), ones(7, 4), ones(6, 8)), "heed: v has 6 rows, k has 7");
  EXPECT_EQ(said(ones(5, 0), ones(7, 0), ones(7, 8)),
            "heed: q has 0 columns and k has 0: queries and keys need a dimension of at least 1");
  EXPECT_EQ(refusal(ones(5, 9), ones(5, 4), ones(7, 4), ones(7, 8)), "heed: out is 5 x 9, it must be 5 x 8");
  EXPECT_EQ(refusal(ones(4, 8), ones(5, 4), ones(7, 4), ones(7, 8)), "heed: out is 4 x 8, it must be 5 x 8");
  EXPECT_EQ(refusal(ones(5, 16), ones(5, 8), ones(7, 4), ones(7, 8), heed::heads(2, 1)), "");
}

TEST(AttentionErrors, Heads) {
  const auto q = ones(5, 12), k = ones(7, 12), v = ones(7, 12);
  EXPECT_EQ(said(q, k, v, heed::heads(0)), "heed: heads: 0 query heads, at least 1 is needed");
  EXPECT_EQ(said(q, k, v, heed::heads(-2)), "heed: heads: -2 query heads, at least 1 is needed");
  EXPECT_EQ(said(q, k, v, heed::heads(2, 0)), "heed: heads: 0 key heads, at least 1 is needed");
  EXPECT_EQ(said(q, k, v, heed::heads(6, 4)), "heed: heads: 6 query heads are not a multiple of 4 key heads");
  EXPECT_EQ(said(q, k, v, heed::heads(5)), "heed: q has 12 columns, not a multiple of 5 query heads");
  EXPECT_EQ(said(q, ones(7, 13), v, heed::heads(4, 2)),
            "heed: k has 13 columns, not a multiple of 2 key heads");
  EXPECT_EQ(said(q, ones(7, 6), ones(7, 5), heed::heads(4, 2)),
            "heed: v has 5 columns, not a multiple of 2 key heads");
  EXPECT_EQ(said(q, k, v, heed::heads(4, 2)),
            "heed: k has 12 columns, 6 for each of 2 heads; q has 12, 3 for each of 4");
}

TEST(AttentionErrors, Offsets) {
  const auto q = ones(5, 4), k = ones(7, 4);
  using Offsets = std::vector<Index>;
  const auto offsets = [&](const Offsets& a, const Offsets& b) {
    return said(q, k, k, heed::sequences(a, b));
  };
  EXPECT_EQ(offsets({0, 2, 5}, {0, 3, 7}), "");
  EXPECT_EQ(offsets({0, 5}, {0, 3, 7}), "heed: sequences: 2 offsets for q, 3 for k");
  EXPECT_EQ(offsets({}, {}), "heed: sequences: 0 offsets for q, at least 1 is needed");
  EXPECT_EQ(offsets({1, 5}, {0, 7}), "heed: sequences: the first offset of q is 1, it must be 0: offsets are wanted, not lengths");
  EXPECT_EQ(offsets({0, 5}, {0, 6}), "heed: sequences: the last offset of k is 6, k has 7 rows");
  EXPECT_EQ(offsets({0, 6}, {0, 7}), "heed: sequences: the last offset of q is 6, q has 5 rows");
  EXPECT_EQ(offsets({0, 4, 2, 5}, {0, 1, 2, 7}),
            "heed: sequences: offset 2 of q is 2, less than 4 before it");
  EXPECT_EQ(offsets({0, -1, 5}, {0, 1, 7}), "heed: sequences: offset 1 of q is -1, less than 0 before it");
  EXPECT_EQ(said(q, k, k, heed::sequences(Offsets{0, 5})),
            "heed: sequences: the last offset of k is 5, k has 7 rows");
}

TEST(AttentionErrors, Parameters) {
  const auto q = ones(5, 8), k = ones(7, 8);
  EXPECT_EQ(said(q, k, k, heed::scale(nan)), "heed: scale is nan, it must be finite");
  EXPECT_EQ(said(q, k, k, heed::scale(-infinity)), "heed: scale is -inf, it must be finite");
  EXPECT_EQ(said(q, k, k, heed::scale(0.0)), "");
  // Finite, but not in float.
  EXPECT_NE(said(q, k, k, heed::scale(1e300)), "");
  EXPECT_NE(said(q, k, k, heed::when(true, heed::softcap(1e-300))), "");
  EXPECT_EQ(said(q, k, k, heed::softcap(0.0)), "heed: softcap is 0, it must be positive and finite");
  EXPECT_EQ(said(q, k, k, heed::softcap(-1.0)), "heed: softcap is -1, it must be positive and finite");
  EXPECT_EQ(said(q, k, k, heed::softcap(nan)), "heed: softcap is nan, it must be positive and finite");
  EXPECT_EQ(said(q, k, k, heed::softcap(infinity)), "heed: softcap is inf, it must be positive and finite");
  EXPECT_EQ(said(q, k, k, heed::window(2, -3)),
            "heed: window: left is 2 and right is -3, there is no position between");
  EXPECT_EQ(said(q, k, k, heed::sliding_window(0)),
            "heed: window: left is -1 and right is 0, there is no position between");
  EXPECT_EQ(said(q, k, k, heed::heads(2), heed::alibi({1.0})), "heed: alibi: 1 slopes for 2 heads");
  EXPECT_EQ(said(q, k, k, heed::heads(2), heed::alibi({1.0, nan})),
            "heed: alibi: slope 1 is nan, it must be finite");
  EXPECT_EQ(said(q, k, k, heed::when(false, heed::softcap(-1.0))), "");
  EXPECT_NE(said(q, k, k, heed::when(true, heed::softcap(-1.0))), "");
}

TEST(AttentionErrors, SizesOfPolicies) {
  const auto q = ones(5, 8), k = ones(7, 8);
  EXPECT_EQ(said(q, k, k, heed::lengths({3, 4})), "heed: lengths: 2 lengths for 1 sequences");
  EXPECT_EQ(said(q, k, k, heed::lengths({8})), "heed: lengths: length 0 is 8, its sequence has 7 keys");
  EXPECT_EQ(said(q, k, k, heed::lengths({-1})), "heed: lengths: length 0 is -1, its sequence has 7 keys");
  EXPECT_EQ(said(q, k, k, heed::documents({1, 2, 3, 4}, {1, 2, 3, 4, 5, 6, 7})),
            "heed: documents: 4 ids for queries, q has 5 rows");
  EXPECT_EQ(said(q, k, k, heed::documents({1, 2, 3, 4, 5}, {1, 2})),
            "heed: documents: 2 ids for keys, k has 7 rows");
  const Matrix<bool> rows = Matrix<bool>::Constant(4, 7, true), columns = Matrix<bool>::Constant(5, 6, true),
                     good = Matrix<bool>::Constant(5, 7, true);
  EXPECT_EQ(said(q, k, k, heed::dense_mask(rows)), "heed: dense_mask has 4 rows, q has 5");
  EXPECT_NE(said(q, k, k, heed::dense_mask(columns)).find("dense_mask has 6 columns, 7 keys"),
            std::string::npos);
  EXPECT_EQ(said(q, k, k, heed::dense_mask(good)), "");
  const Eigen::MatrixXf b = ones(5, 6), few = ones(3, 7), fine = ones(5, 14);
  EXPECT_NE(said(q, k, k, heed::bias(b)).find("bias has 6 columns, 7 keys"), std::string::npos);
  EXPECT_EQ(said(q, k, k, heed::bias(few)), "heed: bias has 3 rows, q has 5");
  EXPECT_EQ(said(q, k, k, heed::heads(2), heed::bias(fine)), "");
  EXPECT_NE(said(q, k, k, heed::bias(fine)), "");
}

/// The log-sum-exp is an output too.
TEST(AttentionErrors, SavedSharesNoElements) {
  heed::Saved<float> saved;
  saved.lse = ones(5, 4);
  Eigen::MatrixXf out(5, 4);
  EXPECT_THROW(heed::attention_into(out, saved.lse, out, out, heed::save(saved)), std::invalid_argument);
  EXPECT_THROW(heed::attention_into(saved.lse, out, out, out, heed::save(saved)), std::invalid_argument);
  EXPECT_EQ(saved.lse, ones(5, 4));
}

/// A backward pass that refuses an argument, whichever it is, has written nothing.
TEST(AttentionErrors, RefusedGradientsStayAsTheyAre) {
  const Eigen::MatrixXf q = ones(5, 4);
  const Eigen::Vector2f theta(0.5f, 1);
  const auto term = heed::score_with(
      [](auto s, const auto& p, auto i, auto j) { return s + p[0] * p[1] * static_cast<float>(i - j); },
      theta);
  heed::Saved<float> saved;
  const Eigen::MatrixXf out = heed::attention(q, q, q, heed::heads(2), term, heed::scale(1), heed::save(saved));
  Eigen::MatrixXf dq(5, 4), dk(5, 4), dv(5, 4), db(5, 10), dtheta(2, 2);
  // A call that is good but for one of its outputs.
  const auto refused = [&](Eigen::Ref<Eigen::MatrixXf> to_q, Eigen::Ref<Eigen::MatrixXf> to_b,
                           Eigen::Ref<Eigen::MatrixXf> to_theta, double factor) {
    for (auto* m : {&dq, &dk, &dv, &db, &dtheta}) m->setConstant(42);
    std::string message;
    try {
      heed::attention_backward(out, q, q, q, out, saved, heed::heads(2), term, heed::scale(factor),
                               heed::into(to_q, dk, dv), heed::bias_gradient(to_b),
                               heed::parameter_gradient(to_theta));
    } catch (const std::invalid_argument& e) {
      message = e.what();
      for (auto* m : {&dq, &dk, &dv, &db, &dtheta}) EXPECT_TRUE((m->array() == 42).all()) << message;
    }
    return message;
  };
  Eigen::MatrixXf small(4, 4), other(2, 3), wide(5, 11);
  Eigen::Map<Eigen::MatrixXf> db_in_dq(dq.data(), 1, 10), theta_in_q(const_cast<float*>(q.data()), 2, 2),
      theta_in_dk(dk.data() + 3, 2, 2), theta_in_db(db.data(), 2, 2);
  EXPECT_EQ(refused(dq, db, dtheta, 1), "");
  EXPECT_EQ(refused(small, db, dtheta, 1), "heed: dq is 4 x 4, q is 5 x 4");
  EXPECT_NE(refused(dq, wide, dtheta, 1), "");
  EXPECT_NE(refused(dq, db, other, 1), "");
  EXPECT_NE(refused(dq, db, dtheta, 1e300), "");
  EXPECT_NE(refused(dq, db, dtheta, nan), "");
  EXPECT_EQ(refused(dk, db, dtheta, 1), "heed: dk shares elements with dq");
  EXPECT_EQ(refused(dq, db_in_dq, dtheta, 1), "heed: bias_gradient shares elements with dq");
  EXPECT_EQ(refused(dq, db, theta_in_q, 1), "heed: parameter_gradient shares elements with q");
  EXPECT_EQ(refused(dq, db, theta_in_dk, 1), "heed: parameter_gradient shares elements with dk");
  EXPECT_EQ(refused(dq, db, theta_in_db, 1), "heed: parameter_gradient shares elements with bias_gradient");
}

TEST(AttentionErrors, EmptySizesAreLegal) {
  heed::Saved<float> saved;
  for (Index n : {0, 1, 5, 20}) {
    // No keys: zeros, and -inf.
    Eigen::MatrixXf out = heed::attention(ones(n, 4), ones(0, 4), ones(0, 3), heed::save(saved));
    EXPECT_EQ(out, Eigen::MatrixXf::Zero(n, 3));
    EXPECT_EQ(saved.lse, Eigen::MatrixXf::Constant(n, 1, -std::numeric_limits<float>::infinity()));
    // No value columns: the log-sum-exp all the same.
    out = heed::attention(ones(n, 4), ones(6, 4), ones(6, 0), heed::save(saved));
    EXPECT_EQ(out.rows(), n);
    EXPECT_EQ(out.cols(), 0);
    EXPECT_TRUE(saved.lse.isApproxToConstant(2 + std::log(6.0f), 1e-6f));
    EXPECT_EQ(saved.lse.rows(), n);
  }
  const std::vector<Index> none = {0}, empty = {0, 0, 0};
  EXPECT_EQ(
      heed::attention(ones(0, 4), ones(0, 4), ones(0, 3), heed::sequences(none), heed::save(saved)).rows(),
      0);
  EXPECT_EQ(
      heed::attention(ones(0, 4), ones(0, 4), ones(0, 3), heed::sequences(empty), heed::save(saved)).cols(),
      3);
  heed::Workspace workspace;
  Eigen::MatrixXf out(0, 3);
  heed::attention_into(out, ones(0, 4), ones(2, 4), ones(2, 3), workspace);
}

/// A refused call leaves nothing behind that a later one could trip over.
TEST(AttentionErrors, WorkspaceSurvives) {
  heed::Workspace workspace;
  Eigen::MatrixXf out(5, 8);
  EXPECT_THROW(heed::attention_into(out, ones(5, 4), ones(7, 3), ones(7, 8), workspace),
               std::invalid_argument);
  EXPECT_THROW(heed::attention_into(out, ones(5, 4), ones(6, 4), ones(7, 8), workspace),
               std::invalid_argument);
  heed::attention_into(out, ones(5, 4), ones(7, 4), ones(7, 8), workspace);
  EXPECT_TRUE(out.isApproxToConstant(1, 1e-6f));
}

}  // namespace
