// SPDX-License-Identifier: MIT
#ifndef WHERE_TO_LOOK_LOOKING_HPP
#define WHERE_TO_LOOK_LOOKING_HPP

// Three ways to look: at everything at once, or at one patch, which is learnt in two ways. B canvases have
// one query each and M keys; d and d_v are the columns of keys and values.

#include <heed/heed.hpp>

#include <cstdint>
#include <vector>

#include "../training/parameter.hpp"

namespace where_to_look {

using namespace training;
template <class T>
using Vector = Eigen::Matrix<T, Eigen::Dynamic, 1>;

/// What attention is about, canvas after canvas.
template <class T>
struct Glance {
  Matrix<T> q;                           // B × d
  Matrix<T> k, v;                        // B·M × d, B·M × d_v
  std::vector<Index> queries{}, keys{};  // offsets of the canvases, B + 1 each

  void lay_out(Index count, Index keys_each) {
    queries.clear(), keys.clear();
    for (Index c = 0; c <= count; ++c) queries.push_back(c), keys.push_back(c * keys_each);
  }
  /// The policies that all ways share. It refers to the offsets.
  auto layout() const { return heed::spec(heed::sequences(queries, keys), heed::on(heed::serial())); }
};

/// The derivatives of a loss by q, k and v.
template <class T>
using Derivatives = heed::Gradients<Matrix<T>, Matrix<T>, Matrix<T>>;

/// out = attention(q, k, v) with some policies and its gradient.
template <class T>
class Mixed {
 public:
  template <class Spec>
  const Matrix<T>& forward(const Glance<T>& x, const Spec& spec) {
    out_ = heed::attention(x.q, x.k, x.v, x.layout(), spec, heed::save(saved_));
    return out_;
  }
  template <class Spec>
  Derivatives<T> backward(const Matrix<T>& dout, const Glance<T>& x, const Spec& spec) const {
    return heed::attention_backward(dout, x.q, x.k, x.v, out_, saved_, x.layout(), spec);
  }

 private:
  Matrix<T> out_;  // B × d_v
  heed::Saved<T> saved_;
};

/// How a model looks while it is trained.
template <class T>
class Looking {
 public:
  virtual ~Looking() = default;
  /// Does it read one value only?
  virtual bool hard() const = 0;
  /// @param seed of the draws of this step
  /// @param progress how much of the training is over, 0 … 1
  /// @return B × d_v, what was seen
  virtual Matrix<T> forward(const Glance<T>& x, std::uint64_t seed, double progress) = 0;
  /// The gradient of the mean loss over the canvases (or what stands in for it), after forward().
  /// @param dout B × d_v, its derivative by what was seen
  /// @param reward B numbers: the log-likelihood of the right digit after what was seen
  virtual Derivatives<T> backward(const Matrix<T>& dout, const Glance<T>& x, const Vector<T>& reward) = 0;
};

/// All values, weighted by the softmax. Its gradient is exact.
template <class T>
class Soft : public Looking<T> {
 public:
  bool hard() const override { return false; }
  Matrix<T> forward(const Glance<T>& x, std::uint64_t, double) override {
    return mixed_.forward(x, heed::softmax());
  }
  Derivatives<T> backward(const Matrix<T>& dout, const Glance<T>& x, const Vector<T>&) override {
    return mixed_.backward(dout, x, heed::softmax());
  }

 private:
  Mixed<T> mixed_;
};

/// One value, drawn with the softmax weights as probabilities. Which one is learnt from rewards alone
/// (REINFORCE with a moving baseline and a bonus for entropy); for some canvases the expected value stands in
/// for the drawn one, and its gradient for the reward. Source: 1502.03044.
template <class T>
class Reinforced : public Looking<T> {
 public:
  /// @param entropy_bonus λ_e at the start; it falls to 0
  /// @param expected_share probability with which a canvas takes the expected value
  explicit Reinforced(double entropy_bonus = 0.002, double expected_share = 0.5)
      : entropy_bonus_(entropy_bonus), expected_share_(expected_share) {}

  bool hard() const override { return true; }

  Matrix<T> forward(const Glance<T>& x, std::uint64_t seed, double progress) override {
    seed_ = seed;
    bonus_ = entropy_bonus_ * (1 - progress);
    return heed::expected_or_sampled(expected_.forward(x, heed::softmax()), drawn_.forward(x, draw()),
                                     coin());
  }

  Derivatives<T> backward(const Matrix<T>& dout, const Glance<T>& x, const Vector<T>& reward) override {
    const auto [dexpected, ddrawn] = heed::expected_or_sampled_gradient(dout, coin());
    Derivatives<T> d = expected_.backward(dexpected, x, heed::softmax());
    d.dv += drawn_.backward(ddrawn, x, draw()).dv;  // exact for what was drawn; its scores have no gradient

    const Matrix<T> p = heed::attention_weights(x.q, x.k, x.layout());
    const Matrix<T> one_hot = heed::attention_weights(x.q, x.k, x.layout(), draw());
    std::vector<Index> chosen(static_cast<std::size_t>(p.rows()), -1);  // -1: nothing was drawn
    double sum = 0, draws = 0;
    for (Index c = 0; c < p.rows(); ++c)
      if (!coin().expected(c)) {
        one_hot.row(c).maxCoeff(&chosen[static_cast<std::size_t>(c)]);
        sum += static_cast<double>(reward[c]);
        ++draws;
      }
    // An objective's gradient, of which the mean over canvases is to rise; the loss is to fall.
    const double each = 1 / static_cast<double>(p.rows());
    const Matrix<T> ds = -heed::reinforce_gradient(p, chosen, reward, baseline_.value(),
                                                   {.reward = each, .entropy = bonus_ * each});
    if (draws > 0) baseline_.update(sum / draws);
    add_score_gradient(ds, x, d);
    return d;
  }

 private:
  heed::Sample draw() const { return heed::sample(seed_); }
  heed::ExpectedOrSampled coin() const { return {.probability = expected_share_, .seed = ~seed_}; }

  /// dq += scale · ds k and dk += scale · dsᵀ q, for each canvas.
  static void add_score_gradient(const Matrix<T>& ds, const Glance<T>& x, Derivatives<T>& d) {
    const T scale = 1 / std::sqrt(static_cast<T>(x.q.cols()));
    const Index keys = ds.cols();
    for (Index c = 0; c < ds.rows(); ++c) {
      d.dq.row(c).noalias() += scale * ds.row(c) * x.k.middleRows(c * keys, keys);
      d.dk.middleRows(c * keys, keys).noalias() += scale * ds.row(c).transpose() * x.q.row(c);
    }
  }

  double entropy_bonus_, expected_share_, bonus_ = 0;
  std::uint64_t seed_ = 0;
  Mixed<T> expected_, drawn_;
  heed::MovingBaseline baseline_{0.9, -2.3};  // log 1/10: blind guesses
};

/// One value, the greatest of scores with Gumbel noise, which is such a draw too; backward as if softmax((s +
/// noise) / temperature) had been taken, with a temperature that falls (straight through: 1611.01144).
/// @tparam straight_through or the soft form itself, whose gradient is exact
template <class T, bool straight_through = true>
class Gumbel : public Looking<T> {
 public:
  bool hard() const override { return true; }
  Matrix<T> forward(const Glance<T>& x, std::uint64_t seed, double progress) override {
    seed_ = seed;
    temperature_ = first + (last - first) * progress;
    return mixed_.forward(x, choice());
  }
  Derivatives<T> backward(const Matrix<T>& dout, const Glance<T>& x, const Vector<T>&) override {
    return mixed_.backward(dout, x, choice());
  }

 private:
  static constexpr double first = 2, last = 0.5;
  auto choice() const {
    if constexpr (straight_through)
      return heed::gumbel_softmax(temperature_, seed_, heed::straight_through);
    else
      return heed::gumbel_softmax(temperature_, seed_);
  }

  std::uint64_t seed_ = 0;
  double temperature_ = first;
  Mixed<T> mixed_;
};

}  // namespace where_to_look

#endif
