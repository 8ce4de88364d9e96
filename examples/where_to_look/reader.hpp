// SPDX-License-Identifier: MIT
#ifndef WHERE_TO_LOOK_READER_HPP
#define WHERE_TO_LOOK_READER_HPP

// The model: canvases in, a row of logits for each out, one for each digit.

#include <heed/heed.hpp>

#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "../training/cross_entropy.hpp"
#include "../training/linear.hpp"
#include "canvas.hpp"
#include "looking.hpp"

namespace where_to_look {

struct Sizes {
  Index hidden = 48;  // columns of a patch's encoding
  Index key = 16;
  Index value = 32;
  Index read = 32;  // columns of what is made of the values
};

/// e = tanh(patch W + b), k = e W + b, v = e W + b for every patch; one learnt query looks at the patches of
/// each canvas; logits = tanh(seen W + b) W + b.
template <class T>
class Reader {
 public:
  using Scalar = T;

  Reader(const Sizes& sizes, std::uint64_t seed) : Reader(sizes, std::mt19937_64(seed)) {}

  /// Encodes all patches and hands them to `look`, which returns what was seen.
  /// @return B × 10, valid until the next call
  template <class Look>
  const Matrix<T>& forward(const Canvases<T>& canvases, const Look& look) {
    encoder_.forward(canvases.patches, encoded_);
    encoded_ = encoded_.array().tanh();
    key_.forward(encoded_, glance_.k);
    value_.forward(encoded_, glance_.v);
    glance_.q = query_.value.replicate(canvases.count(), 1);
    glance_.lay_out(canvases.count(), canvases.keys());
    seen_ = look(std::as_const(glance_));
    reading_.forward(seen_, read_);
    read_ = read_.array().tanh();
    output_.forward(read_, logits_);
    return logits_;
  }

  /// The gradient by every parameter, for the canvases of the last forward pass.
  /// @param look_back from the derivative by what was seen to those by q, k and v
  template <class LookBack>
  void backward(const Canvases<T>& canvases, const Matrix<T>& dlogits, const LookBack& look_back) {
    Matrix<T> dread, dseen, dencoded, by_value;
    output_.backward(read_, dlogits, dread);
    dread.array() *= 1 - read_.array().square();
    reading_.backward(seen_, dread, dseen);
    const Derivatives<T> d = look_back(std::as_const(dseen), std::as_const(glance_));
    query_.gradient = d.dq.colwise().sum();
    key_.backward(encoded_, d.dk, dencoded);
    value_.backward(encoded_, d.dv, by_value);
    dencoded += by_value;
    dencoded.array() *= 1 - encoded_.array().square();
    encoder_.weight.gradient.noalias() = canvases.patches.transpose() * dencoded;
    encoder_.bias.gradient = dencoded.colwise().sum();
  }

  /// q, k and v of the last forward pass.
  const Glance<T>& glance() const { return glance_; }

  /// All parameters, always in the same order. They belong to the model and go with it.
  std::vector<NamedParameter<T>> parameters() {
    std::vector<NamedParameter<T>> all{{"query", &query_}};
    const auto add = [&](const std::string& name, Linear<T>& layer) {
      all.push_back({name + ", weight", &layer.weight});
      all.push_back({name + ", bias", &layer.bias});
    };
    add("encoder", encoder_);
    add("key", key_);
    add("value", value_);
    add("reading", reading_);
    add("output", output_);
    return all;
  }

 private:
  Reader(const Sizes& s, std::mt19937_64 random)
      : query_(1, s.key, 1.0, random),
        encoder_(pixels, s.hidden, 2.0, random),
        key_(s.hidden, s.key, 1.0, random),
        value_(s.hidden, s.value, 1.0, random),
        reading_(s.value, s.read, 1.0, random),
        output_(s.read, 10, 0.1, random) {}

  Parameter<T> query_;  // 1 × key
  Linear<T> encoder_, key_, value_, reading_, output_;

  Glance<T> glance_;
  Matrix<T> encoded_;      // B·M × hidden
  Matrix<T> seen_, read_;  // B × value, B × read
  Matrix<T> logits_;       // B × 10
};

/// log softmax(logits_i) at the right digit, for each row.
template <class T>
Vector<T> log_likelihood(const Matrix<T>& logits, const std::vector<int>& digits) {
  Vector<T> all(logits.rows());
  for (Index i = 0; i < logits.rows(); ++i) {
    const T most = logits.row(i).maxCoeff();
    all[i] = logits(i, digits[static_cast<std::size_t>(i)]) - most -
             std::log((logits.row(i).array() - most).exp().sum());
  }
  return all;
}

/// One forward and one backward pass as the way of looking has them: the mean loss over the canvases, and its
/// gradient in every parameter.
template <class T>
double loss_and_gradient(Reader<T>& reader, Looking<T>& looking, const Canvases<T>& canvases,
                         std::uint64_t seed, double progress) {
  Matrix<T> dlogits;
  const Matrix<T>& logits =
      reader.forward(canvases, [&](const Glance<T>& x) { return looking.forward(x, seed, progress); });
  const double loss = cross_entropy(logits, canvases.digits, &dlogits);
  const Vector<T> reward = log_likelihood(logits, canvases.digits);
  reader.backward(canvases, dlogits, [&](const Matrix<T>& dseen, const Glance<T>& x) {
    return looking.backward(dseen, x, reward);
  });
  return loss;
}

/// How well canvases are read without anything random: with all values, or with the one of the greatest
/// score.
template <class T>
struct Reading {
  Matrix<T> weights;        // B × M, where it looked
  std::vector<int> digits;  // B, what it read
  double right = 0;         // share of the digits
  double found = 0;         // mean weight of the patch that holds the digit
  double values = 0;        // mean number of values with a weight
};

template <class T>
Reading<T> read(Reader<T>& reader, const Canvases<T>& canvases, bool hard) {
  Reading<T> result;
  const Matrix<T>& logits = reader.forward(canvases, [&](const Glance<T>& x) -> Matrix<T> {
    if (hard) {
      result.weights = heed::attention_weights(x.q, x.k, x.layout(), heed::argmax());
      return heed::attention(x.q, x.k, x.v, x.layout(), heed::argmax());
    }
    result.weights = heed::attention_weights(x.q, x.k, x.layout());
    return heed::attention(x.q, x.k, x.v, x.layout());
  });
  const double each = 1 / static_cast<double>(canvases.count());
  for (Index c = 0; c < canvases.count(); ++c) {
    const auto n = static_cast<std::size_t>(c);
    int digit = 0;
    logits.row(c).maxCoeff(&digit);
    result.digits.push_back(digit);
    result.right += digit == canvases.digits[n] ? each : 0;
    result.found += each * static_cast<double>(result.weights(c, canvases.places[n]));
    result.values += each * static_cast<double>((result.weights.row(c).array() > 0).count());
  }
  return result;
}

}  // namespace where_to_look

#endif
