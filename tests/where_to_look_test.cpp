// SPDX-License-Identifier: MIT
// The example that looks at canvases: its gradients against central differences, those of draws on average,
// what it learns, what it reads, and what it draws.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "../examples/where_to_look/canvas.hpp"
#include "../examples/where_to_look/learner.hpp"
#include "../examples/where_to_look/looking.hpp"
#include "../examples/where_to_look/options.hpp"
#include "../examples/where_to_look/picture.hpp"
#include "../examples/where_to_look/reader.hpp"

namespace {

using namespace where_to_look;

constexpr Sizes tiny{.hidden = 5, .key = 3, .value = 4, .read = 6};

/// A reader none of whose parameters is 0, as biases are at the start.
Reader<double> shaken_reader(double by = 0.3) {
  Reader<double> reader(tiny, 3);
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal(0, by);
  for (const auto& p : reader.parameters())
    for (Index i = 0; i < p.parameter->value.size(); ++i) p.parameter->value.data()[i] += normal(random);
  return reader;
}

std::vector<Matrix<double>> gradients(Reader<double>& reader) {
  std::vector<Matrix<double>> all;
  for (const auto& p : reader.parameters()) all.push_back(p.parameter->gradient);
  return all;
}

/// Differences of a function of the parameters, of which the errors of order h² cancel.
template <class Function>
std::vector<Matrix<double>> differences(Reader<double>& reader, const Function& function) {
  std::vector<Matrix<double>> all;
  for (const auto& p : reader.parameters()) {
    Matrix<double>& value = p.parameter->value;
    Matrix<double> gradient(value.rows(), value.cols());
    for (Index i = 0; i < value.size(); ++i) {
      const double h = 1e-3, kept = value.data()[i];
      const auto moved = [&](double by) {
        value.data()[i] = kept + by;
        return function();
      };
      gradient.data()[i] = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h);
      value.data()[i] = kept;
    }
    all.push_back(gradient);
  }
  return all;
}

void expect_exact_gradients(Looking<double>& looking, double progress) {
  Reader<double> reader = shaken_reader();
  const Canvases<double> canvases = Painter<double>(3, 7).canvases(4);
  const auto loss = [&] {
    return cross_entropy(
        reader.forward(canvases, [&](const auto& x) { return looking.forward(x, 9, progress); }),
        canvases.digits);
  };
  EXPECT_DOUBLE_EQ(loss_and_gradient(reader, looking, canvases, 9, progress), loss());
  const auto ours = gradients(reader), expected = differences(reader, loss);
  const auto parameters = reader.parameters();
  ASSERT_EQ(parameters.size(), 11u);
  double worst = 0;
  for (std::size_t p = 0; p < parameters.size(); ++p) {
    // A bias of the keys moves all scores of a row alike: its gradient is 0.
    const double most = expected[p].cwiseAbs().maxCoeff(), bound = 1e-8 * std::max(most, 1e-3);
    if (parameters[p].name != "key, bias") {
      EXPECT_GT(most, 1e-5) << parameters[p].name;
    }
    const double error = (ours[p] - expected[p]).cwiseAbs().maxCoeff();
    EXPECT_LE(error, bound) << parameters[p].name;
    worst = std::max(worst, error / bound);
  }
  std::printf("worst gradient: %.3f of the bound\n", worst);
}

TEST(WhereToLook, SoftGradientsAreThoseOfCentralDifferences) {
  Soft<double> soft;
  expect_exact_gradients(soft, 0);
}

TEST(WhereToLook, SoftGumbelGradientsAreThoseOfCentralDifferences) {
  Gumbel<double, false> gumbel;
  expect_exact_gradients(gumbel, 0);
  expect_exact_gradients(gumbel, 0.7);
}

/// The mean of REINFORCE's gradients over draws is the gradient of the expected loss, less the bonus times
/// the entropy, both found by going through all keys.
void expect_unbiased(double bonus, double share) {
  Reader<double> reader = shaken_reader(0.5);
  const Canvases<double> canvases = Painter<double>(2, 3).canvases(2);
  const auto objective = [&] {
    double sum = 0;
    const auto add = [&](const auto& weight_of, const auto& look) {
      const Vector<double> l = log_likelihood(reader.forward(canvases, look), canvases.digits);
      for (Index c = 0; c < l.size(); ++c) sum -= weight_of(c) * l[c];
    };
    add([&](Index) { return share; }, [](const auto& x) { return Soft<double>().forward(x, 0, 0); });
    const Glance<double> x = reader.glance();
    const Matrix<double> p = heed::attention_weights(x.q, x.k, x.layout());
    for (Index a = 0; a < 4; ++a)
      add([&](Index c) { return (1 - share) * p(c, a); },
          [&](const auto& y) {
            Matrix<double> seen(2, y.v.cols());
            seen << y.v.row(a), y.v.row(4 + a);
            return seen;
          });
    return (sum + bonus * (p.array() * p.array().log()).sum()) / 2;
  };
  const auto expected = differences(reader, objective);

  Reinforced<double> reinforced(bonus, share);
  std::vector<Matrix<double>> sum, squares;
  const double draws = 4000;
  for (std::uint64_t seed = 0; seed < static_cast<std::uint64_t>(draws); ++seed) {
    loss_and_gradient(reader, reinforced, canvases, seed, 0);
    const auto g = gradients(reader);
    if (seed == 0)
      for (const auto& one : g) {
        sum.push_back(Matrix<double>::Zero(one.rows(), one.cols()));
        squares.push_back(sum.back());
      }
    for (std::size_t p = 0; p < g.size(); ++p) {
      sum[p] += g[p];
      squares[p] += g[p].cwiseAbs2();
    }
  }
  const auto parameters = reader.parameters();
  double worst = 0;
  for (std::size_t p = 0; p < sum.size(); ++p)
    for (Index i = 0; i < sum[p].size(); ++i) {
      const double mean = sum[p].data()[i] / draws;
      const double variance = std::max(0.0, squares[p].data()[i] / draws - mean * mean);
      const double errors = std::abs(mean - expected[p].data()[i]) / (std::sqrt(variance / draws) + 1e-9);
      EXPECT_LE(errors, 4.5) << parameters[p].name << ", element " << i;
      worst = std::max(worst, errors);
    }
  std::printf("bonus %g, share %g: %.2f standard errors from the enumerated gradient\n", bonus, share, worst);
}

TEST(WhereToLook, ReinforcedGradientsAreRightOnAverage) {
  expect_unbiased(0, 0);
  expect_unbiased(0.3, 0.5);
}

TEST(WhereToLook, HardLookingReadsOneValue) {
  Reader<double> reader = shaken_reader();
  const Canvases<double> canvases = Painter<double>(3, 1).canvases(5);
  const Reading<double> hard = read(reader, canvases, true), soft = read(reader, canvases, false);
  EXPECT_DOUBLE_EQ(hard.values, 1);
  EXPECT_DOUBLE_EQ(soft.values, 9);
  for (Index c = 0; c < 5; ++c) {
    Index most = -1;
    soft.weights.row(c).maxCoeff(&most);
    EXPECT_EQ(hard.weights(c, most), 1);
  }
  // What is not read can be anything.
  Gumbel<double> gumbel;
  Reinforced<double> reinforced(0, 0);
  for (std::uint64_t seed = 0; seed < 5; ++seed)
    for (Looking<double>* looking :
         {static_cast<Looking<double>*>(&gumbel), static_cast<Looking<double>*>(&reinforced)}) {
      Glance<double> x = reader.glance();
      const Matrix<double> seen = looking->forward(x, seed, 0.5);
      for (Index c = 0; c < 5; ++c) {
        Index rows = 0;
        for (Index p = 9 * c; p < 9 * (c + 1); ++p)
          if (x.v.row(p) == seen.row(c))
            ++rows;
          else
            x.v.row(p).setConstant(std::numeric_limits<double>::quiet_NaN());
        EXPECT_EQ(rows, 1) << "canvas " << c;
      }
      EXPECT_EQ(looking->forward(x, seed, 0.5), seen);
    }
}

TEST(WhereToLook, AllThreeLearnSmallCanvases) {
  std::vector<Learner<double>> learners = all_learners<double>(Sizes{}, 1);
  ASSERT_EQ(learners.size(), 3u);
  Painter<double> painter(2, 1);
  const Canvases<double> test = Painter<double>(2, 2).canvases(400);
  for (const auto& learner : learners)
    EXPECT_LT(read(learners[0].reader, test, learner.looking->hard()).right, 0.3) << learner.name;
  const long steps = 400;
  for (long s = 0; s < steps; ++s)
    step(learners, painter.canvases(32), s, steps, static_cast<std::uint64_t>(s));
  for (auto& learner : learners) {
    const Reading<double> reading = read(learner.reader, test, learner.looking->hard());
    std::printf("%s: %.3f right, weight of the digit %.3f\n", learner.name.c_str(), reading.right,
                reading.found);
    EXPECT_GT(reading.right, 0.7) << learner.name;
    EXPECT_GT(reading.found, 0.6) << learner.name;
  }
}

TEST(WhereToLookCanvas, HoldsOneWholeDigit) {
  const Canvases<double> canvases = Painter<double>(4, 11).canvases(300);
  EXPECT_EQ(canvases.count(), 300);
  EXPECT_EQ(canvases.patches.rows(), 300 * 16);
  EXPECT_EQ(canvases.patches.cols(), 64);
  EXPECT_GE(canvases.patches.minCoeff(), 0);
  EXPECT_LE(canvases.patches.maxCoeff(), 1);
  std::array<int, 10> counts{};
  for (Index c = 0; c < 300; ++c) {
    const auto n = static_cast<std::size_t>(c);
    const auto digit = static_cast<std::size_t>(canvases.digits[n]);
    ++counts[digit];
    // At one of the eight places in the patch all its dots are dark, and all others are bright.
    const auto patch = canvases.patches.row(c * 16 + canvases.places[n]);
    int fits = 0;
    for (Index y0 = 0; y0 <= 1; ++y0)
      for (Index x0 = 0; x0 <= 3; ++x0) {
        Matrix<double> dots = Matrix<double>::Zero(8, 8);
        for (Index y = 0; y < 7; ++y)
          for (Index x = 0; x < 5; ++x)
            dots(y0 + y, x0 + x) = font[digit][static_cast<std::size_t>(y)] >> (4 - x) & 1;
        bool fit = true;
        for (Index i = 0; i < 64; ++i) fit = fit && (dots.data()[i] > 0) == (patch(i) > 0.5);
        fits += fit;
      }
    EXPECT_EQ(fits, 1) << "canvas " << c;
  }
  EXPECT_GT(*std::min_element(counts.begin(), counts.end()), 10);
  for (std::size_t a = 0; a < 10; ++a)
    for (std::size_t b = 0; b < a; ++b) EXPECT_NE(font[a], font[b]);
  EXPECT_EQ(canvases.patches, Painter<double>(4, 11).canvases(300).patches);
  EXPECT_NE(canvases.patches, Painter<double>(4, 12).canvases(300).patches);
}

TEST(WhereToLookPicture, ShowsEveryPixelAndFrame) {
  const auto count = [](const std::string& text, const std::string& part) {
    Index n = 0;
    for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
    return n;
  };
  Reader<double> reader = shaken_reader();
  const Canvases<double> canvases = Painter<double>(3, 1).canvases(5);
  const std::vector<Column<double>> columns{{"a", read(reader, canvases, false)},
                                            {"b", read(reader, canvases, true)}};
  const std::string svg = picture(canvases, columns, 4);
  EXPECT_EQ(svg.rfind("<svg ", 0), 0u);
  EXPECT_EQ(count(svg, "h1"), 4 * 24 * 24);
  EXPECT_EQ(count(svg, "<g "), 4 * (1 + 1 + 2));
  EXPECT_EQ(count(svg, "<g "), count(svg, "</g>"));
  EXPECT_EQ(count(svg, "#06c"), 4);
  EXPECT_EQ(count(svg, "fill-opacity='0%'"), 4) << "what hard attention looked at has no veil";
  EXPECT_EQ(count(picture(canvases, columns, 99), "#06c"), 5);
}

TEST(WhereToLookOptions, AreRead) {
  const auto with = [](std::vector<const char*> words) {
    words.insert(words.begin(), "where_to_look");
    return parse(static_cast<int>(words.size()), words.data());
  };
  const Options options = with({"--steps", "7", "--side", "3", "--batch", "5", "--held-out", "9", "--picture",
                                "p.svg", "--seed", "4"});
  EXPECT_EQ(options.steps, 7);
  EXPECT_EQ(options.side, 3);
  EXPECT_EQ(options.batch, 5);
  EXPECT_EQ(options.held_out, 9);
  EXPECT_EQ(options.picture, "p.svg");
  EXPECT_EQ(options.seed, 4u);
  EXPECT_TRUE(with({"--help"}).help);
  EXPECT_THROW(with({"--steps"}), std::runtime_error);
  EXPECT_THROW(with({"--steps", "0"}), std::runtime_error);
  EXPECT_THROW(with({"--side", "65"}), std::runtime_error);
  EXPECT_THROW(with({"--side", "3x"}), std::runtime_error);
  EXPECT_THROW(with({"canvas"}), std::runtime_error);
}

}  // namespace
