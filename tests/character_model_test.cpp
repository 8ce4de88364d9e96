// SPDX-License-Identifier: MIT
// The example that trains a model: its gradients against central differences, what it learns, what it sees,
// and what its checkpoints refuse.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../examples/character_model/checkpoint.hpp"
#include "../examples/character_model/model.hpp"
#include "../examples/character_model/options.hpp"
#include "../examples/character_model/sample.hpp"
#include "../examples/character_model/text.hpp"
#include "../examples/training/adam.hpp"
#include "../examples/training/team.hpp"

namespace {

using namespace character_model;

constexpr Sizes tiny{.vocabulary = 7, .width = 8, .heads = 2, .blocks = 2, .hidden = 12, .context = 9};

/// A model none of whose parameters is 0 or 1 everywhere, as gains and biases are at the start.
Model<double> shaken_model(const Sizes& sizes) {
  Model<double> model(sizes, 3);
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal(0, 0.3);
  for (const auto& p : model.parameters())
    for (Index i = 0; i < p.parameter->value.size(); ++i) p.parameter->value.data()[i] += normal(random);
  return model;
}

/// Two sequences, of 9 and of 4 characters.
Batch ragged_batch() {
  return {{0, 3, 1, 6, 2, 2, 5, 4, 1, 6, 0, 0, 3}, {3, 1, 6, 2, 2, 5, 4, 1, 0, 0, 0, 3, 5}, {0, 9, 13}};
}

double loss_of(Model<double>& model, const Batch& batch) {
  return cross_entropy(model.forward(batch.inputs, batch.offsets), batch.targets);
}

/// What the call throws, or "".
template <class Call>
std::string refusal(const Call& call) {
  try {
    call();
  } catch (const std::runtime_error& e) {
    return e.what();
  }
  return "";
}

TEST(CharacterModel, GradientsAreThoseOfCentralDifferences) {
  Model<double> model = shaken_model(tiny);
  const Batch batch = ragged_batch();
  const double loss = loss_and_gradient(model, batch);
  EXPECT_DOUBLE_EQ(loss, loss_of(model, batch));

  std::size_t tensors = 0;
  for (const auto& p : model.parameters()) {
    Matrix<double>& value = p.parameter->value;
    const Matrix<double> gradient = p.parameter->gradient;
    // The error of a difference does not shrink with the element: it is measured by the greatest.
    const double bound = 1e-7 * gradient.cwiseAbs().maxCoeff();
    EXPECT_GT(bound, 1e-12) << p.name;
    for (Index i = 0; i < value.size(); ++i) {
      const double h = 1e-4, kept = value.data()[i];
      const auto moved = [&](double by) {
        value.data()[i] = kept + by;
        return loss_of(model, batch);
      };
      // Two central differences of which the errors of order h² cancel.
      const double difference = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h);
      value.data()[i] = kept;
      EXPECT_NEAR(gradient.data()[i], difference, bound) << p.name << ", element " << i;
    }
    ++tensors;
  }
  EXPECT_EQ(tensors, 1u + 2 * 12 + 4);
}

TEST(CharacterModel, GradientOfATeamIsThatOfOneBatch) {
  Model<double> model = shaken_model(tiny);
  Team<Model<double>> team(shaken_model(tiny), 3);
  std::mt19937_64 random(11);
  std::vector<int> text(40);
  for (int& c : text) c = std::uniform_int_distribution<int>(0, 6)(random);
  std::vector<Batch> parts(3);
  for (Batch& part : parts) part = random_batch(text, tiny.context, 14, random);
  Batch whole;
  whole.offsets = {0};
  for (const Batch& part : parts) {
    const Index rows = whole.offsets.back();
    for (std::size_t s = 1; s < part.offsets.size(); ++s) whole.offsets.push_back(rows + part.offsets[s]);
    whole.inputs.insert(whole.inputs.end(), part.inputs.begin(), part.inputs.end());
    whole.targets.insert(whole.targets.end(), part.targets.begin(), part.targets.end());
  }
  EXPECT_NEAR(team.loss_and_gradient(parts), loss_and_gradient(model, whole), 1e-14);
  const auto ours = team.model().parameters(), theirs = model.parameters();
  for (std::size_t p = 0; p < ours.size(); ++p) {
    const Matrix<double>&a = ours[p].parameter->gradient, &b = theirs[p].parameter->gradient;
    EXPECT_LT((a - b).cwiseAbs().maxCoeff(), 1e-12 * (1 + b.cwiseAbs().maxCoeff())) << ours[p].name;
  }
}

TEST(CharacterModel, LearnsATextThatRepeatsItself) {
  std::string text;
  while (text.size() < 600) text += "to be or not to be, ";
  const Vocabulary vocabulary(text);
  const Sizes sizes{vocabulary.size(), 16, 2, 2, 32, 16};
  Model<double> model(sizes, 1);
  Adam<double> adam;
  std::mt19937_64 random(2);
  const std::vector<int> numbers = vocabulary.numbers(text);
  const std::vector<Batch> test = even_batches(numbers, sizes.context, 4, 1);
  ASSERT_EQ(test.size(), 1u);
  const double blind = std::log(static_cast<double>(vocabulary.size()));
  EXPECT_NEAR(loss_of(model, test[0]), blind, 0.2);
  for (long step = 0; step < 200; ++step) {
    loss_and_gradient(model, random_batch(numbers, sizes.context, 64, random));
    adam.step(model, learning_rate(2e-2, step, 5, static_cast<double>(step) / 200));
  }
  // The first characters of a sequence cannot be guessed for certain: nothing says where in the line it
  // begins.
  EXPECT_LT(loss_of(model, test[0]), 0.1 * blind);
  EXPECT_EQ(sample(model, vocabulary, "to be or not to", 4, 0.1, random), " be,");
}

TEST(CharacterModel, LaterCharactersDoNotChangeEarlierLogits) {
  Model<double> model = shaken_model(tiny);
  Batch batch = ragged_batch();
  const Matrix<double> before = model.forward(batch.inputs, batch.offsets);
  batch.inputs[5] = 0;  // of the first sequence
  const Matrix<double> after = model.forward(batch.inputs, batch.offsets);
  EXPECT_TRUE(before.topRows(5) == after.topRows(5));
  EXPECT_TRUE(before.bottomRows(4) == after.bottomRows(4)) << "the other sequence";
  for (Index i = 5; i < 9; ++i) EXPECT_FALSE(before.row(i) == after.row(i)) << i;
}

class Checkpoint : public testing::Test {
 protected:
  std::string path = testing::TempDir() + "heed_character_model_test.bin";
  Vocabulary vocabulary{"abc \ndz"};
  std::string whole;

  void SetUp() override {
    Model<double> model = shaken_model(tiny);
    save_checkpoint(path, model, vocabulary);
    whole = read_file(path);
  }
  void TearDown() override { std::filesystem::remove(path); }

  std::string refusal_of(const std::string& bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    return refusal([&] { load_checkpoint<double>(path); });
  }
  static bool says(const std::string& message, const std::string& part) {
    return message.find(part) != std::string::npos;
  }
};

TEST_F(Checkpoint, GivesTheSameBitsBack) {
  Loaded<double> loaded = load_checkpoint<double>(path);
  Model<double> model = shaken_model(tiny);
  EXPECT_EQ(loaded.vocabulary.characters(), vocabulary.characters());
  EXPECT_EQ(loaded.model.sizes(), tiny);
  const auto ours = loaded.model.parameters(), theirs = model.parameters();
  ASSERT_EQ(ours.size(), theirs.size());
  for (std::size_t p = 0; p < ours.size(); ++p) {
    const Matrix<double>&a = ours[p].parameter->value, &b = theirs[p].parameter->value;
    ASSERT_EQ(a.size(), b.size());
    EXPECT_EQ(std::memcmp(a.data(), b.data(), static_cast<std::size_t>(a.size()) * sizeof(double)), 0)
        << ours[p].name;
  }
  EXPECT_EQ(loss_of(loaded.model, ragged_batch()), loss_of(model, ragged_batch()));
}

TEST_F(Checkpoint, OtherFilesAreRefused) {
  EXPECT_EQ(refusal_of(whole), "");
  for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{40}})
    EXPECT_TRUE(says(refusal_of(whole.substr(0, size)), "it ends too early")) << size;
  EXPECT_TRUE(says(refusal_of(whole.substr(0, whole.size() - 1)), "its sizes ask for"));
  EXPECT_TRUE(says(refusal_of(whole + "x"), "its sizes ask for"));
  EXPECT_TRUE(says(refusal_of("#include <vector>" + whole), "it begins with other bytes"));
  // Where the numbers of the header stand: 8 bytes each after 8 of the beginning.
  const auto with = [&](std::size_t number, Index value) {
    std::string bytes = whole;
    std::memcpy(bytes.data() + 8 + 8 * number, &value, sizeof value);
    return refusal_of(bytes);
  };
  EXPECT_TRUE(says(with(0, 2), "its version is 2"));
  EXPECT_TRUE(says(with(1, 4), "its numbers have 4 bytes, not 8"));
  EXPECT_TRUE(says(with(3, 10), "its sizes ask for"));
  EXPECT_TRUE(says(with(3, 9), "a width of 9 is odd"));
  for (std::size_t number = 2; number < 8; ++number)
    for (const Index value : {Index(0), Index(-1), std::numeric_limits<Index>::max()})
      EXPECT_TRUE(says(with(number, value), "a size of the model is")) << number;
  std::string flipped = whole;
  flipped[whole.size() / 2] = static_cast<char>(flipped[whole.size() / 2] ^ 1);
  EXPECT_TRUE(says(refusal_of(flipped), "its checksum is wrong"));
  std::filesystem::remove(path);
  EXPECT_EQ(refusal([&] { load_checkpoint<double>(path); }), "cannot read " + path);
  Model<double> model = shaken_model(tiny);
  EXPECT_EQ(refusal([&] { save_checkpoint("/no such folder/x.bin", model, vocabulary); }),
            "cannot write /no such folder/x.bin");
}

TEST(CharacterModelText, BatchesFollowTheText) {
  std::vector<int> text(101);
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<int>(i);
  std::mt19937_64 random(1);
  for (int n = 0; n < 50; ++n) {
    const Batch batch = random_batch(text, 10, 37, random);
    ASSERT_EQ(batch.inputs.size(), 37u);
    ASSERT_EQ(batch.offsets.front(), 0);
    ASSERT_EQ(batch.offsets.back(), 37);
    for (std::size_t s = 1; s < batch.offsets.size(); ++s) {
      const Index length = batch.offsets[s] - batch.offsets[s - 1];
      ASSERT_TRUE(length >= 1 && length <= 10 && (length >= 5 || s + 1 == batch.offsets.size()));
      for (auto i = static_cast<std::size_t>(batch.offsets[s - 1]);
           i < static_cast<std::size_t>(batch.offsets[s]); ++i) {
        ASSERT_EQ(batch.targets[i], batch.inputs[i] + 1);
        if (i > static_cast<std::size_t>(batch.offsets[s - 1])) {
          ASSERT_EQ(batch.inputs[i], batch.inputs[i - 1] + 1);
        }
      }
    }
  }
  const std::vector<Batch> even = even_batches(text, 10, 2, 3);
  ASSERT_EQ(even.size(), 3u);
  EXPECT_EQ(even.front().inputs.front(), 0);
  EXPECT_EQ(even.back().targets.back(), 100);
  EXPECT_EQ(even[1].offsets, (Offsets{0, 10, 20}));
  EXPECT_EQ(even_batches({text.begin(), text.begin() + 11}, 10, 2, 3).size(), 1u);
}

TEST(CharacterModelText, WhatIsNotTextIsShownAsQuestionMarks) {
  EXPECT_EQ(printable("a\n\tb√ ·é"), "a\n\tb√ ·é");
  EXPECT_EQ(printable("\x1b[1m\x7f"), "?[1m?");
  EXPECT_EQ(printable("\xe2\x88"), "??");
  EXPECT_EQ(printable("\x88x\xe2x\xff\xc0\x80"), "?x?x???");
}

TEST(CharacterModelOptions, AreReadOrRefused) {
  const auto parsed = [](std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "character_model");
    return parse(static_cast<int>(arguments.size()), arguments.data(), "default");
  };
  EXPECT_EQ(parsed({}).text, "default");
  const Options o = parsed({"--steps", "7", "file", "--seconds", "1.5", "--checkpoint", "x", "--seed", "9"});
  EXPECT_TRUE(o.text == "file" && o.steps == 7 && o.seconds == 1.5 && o.checkpoint == "x" && o.seed == 9);
  for (const std::vector<const char*>& wrong : {std::vector<const char*>{"--steps"},
                                                {"--steps", "x"},
                                                {"--steps", "-1"},
                                                {"--seconds", "nan"},
                                                {"--seconds", "inf"},
                                                {"--seconds", "1s"},
                                                {"--seed", ""},
                                                {"--unknown"},
                                                {"a", "b"},
                                                {""}})
    EXPECT_NE(refusal([&] { parsed(wrong); }), "") << wrong.front();
}

}  // namespace
