// SPDX-License-Identifier: MIT
// The example that translates dates: its gradients against central differences, what it learns, and that the
// dates it is taught are right.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "../examples/training/adam.hpp"
#include "../examples/translate_dates/batch.hpp"
#include "../examples/translate_dates/dates.hpp"
#include "../examples/translate_dates/model.hpp"
#include "../examples/translate_dates/options.hpp"
#include "../examples/translate_dates/picture.hpp"

namespace {

using namespace translate_dates;

/// visit(date, weekday) for every day of the years, counted on from Saturday, 1 January 1600.
template <class Visit>
void each_day(const Visit& visit) {
  int day_of_week = 6;
  for (int year = first_year; year <= last_year; ++year)
    for (int month = 1; month <= 12; ++month)
      for (int day = 1; day <= days_of_month(year, month); ++day) {
        visit(Date{year, month, day}, day_of_week);
        day_of_week = (day_of_week + 1) % 7;
      }
}

/// A date as a person reads it, who knows nothing of forms: words and numbers in turn.
struct Reader {
  Date date;
  int weekday = -1;
  bool understood = true;

  explicit Reader(const std::string& text) {
    std::vector<std::string> numbers;
    for (std::size_t i = 0; i < text.size();) {
      const auto run = [&](auto is) {
        std::string s;
        while (i < text.size() && is(static_cast<unsigned char>(text[i])) != 0)
          s += static_cast<char>(std::tolower(static_cast<unsigned char>(text[i++])));
        return s;
      };
      if (std::isalpha(static_cast<unsigned char>(text[i])) != 0) {
        word(run([](int c) { return std::isalpha(c); }));
      } else if (std::isdigit(static_cast<unsigned char>(text[i])) != 0) {
        numbers.push_back(run([](int c) { return std::isdigit(c); }));
      } else {
        ++i;
      }
    }
    if (numbers.size() == 1 && numbers[0].size() == 8)
      numbers = {numbers[0].substr(0, 4), numbers[0].substr(4, 2), numbers[0].substr(6)};
    const bool year_first = !numbers.empty() && numbers.front().size() == 4;
    std::vector<int> others;
    for (const std::string& n : numbers) (n.size() == 4 ? date.year : others.emplace_back()) = std::stoi(n);
    if (others.size() == 2) {
      date.month = others[year_first ? 0 : 1];
      date.day = others[year_first ? 1 : 0];
    } else if (others.size() == 1) {
      date.day = others[0];
    } else if (!others.empty()) {
      understood = false;
    }
  }

 private:
  static int index_of(const std::string& word, const std::vector<std::string>& words, bool shortened) {
    for (std::size_t i = 0; i < words.size(); ++i)
      if (word == words[i] || (shortened && word == words[i].substr(0, 3))) return static_cast<int>(i);
    return -1;
  }
  void word(const std::string& w) {
    static const std::vector<std::string> of_month{"january",   "february", "march",    "april",
                                                   "may",       "june",     "july",     "august",
                                                   "september", "october",  "november", "december"},
        of_week{"sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"},
        roman{"i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii"},
        ordinal{"first",     "second",      "third",      "fourth",     "fifth",
                "sixth",     "seventh",     "eighth",     "ninth",      "tenth",
                "eleventh",  "twelfth",     "thirteenth", "fourteenth", "fifteenth",
                "sixteenth", "seventeenth", "eighteenth", "nineteenth", "twentieth"};
    if (const int m = index_of(w, of_month, true); m >= 0) {
      date.month = m + 1;
    } else if (const int d = index_of(w, of_week, true); d >= 0) {
      weekday = d;
    } else if (const int r = index_of(w, roman, false); r >= 0) {
      date.month = r + 1;
    } else if (const int o = index_of(w, ordinal, false); o >= 0) {
      date.day += o + 1;
    } else if (w == "thirtieth") {
      date.day = 30;
    } else if (w == "twenty" || w == "thirty") {
      date.day = w == "twenty" ? 20 : 30;
    } else if (w != "of" && w != "st" && w != "nd" && w != "rd" && w != "th") {
      understood = false;
    }
  }
};

TEST(TranslateDatesDates, EveryFormOfEveryDayCanBeRead) {
  Index days = 0, held_out = 0;
  std::size_t longest = 0;
  each_day([&](const Date& d, int day_of_week) {
    ++days;
    held_out += is_held_out(d);
    ASSERT_EQ(weekday(d), day_of_week) << iso(d);
    const Reader target(iso(d));
    ASSERT_TRUE(target.understood && target.date == d && iso(d).size() == target_length) << iso(d);
    if (days % 7 != 0) return;  // of the forms every seventh day will do: weekdays change with the years
    for (int form = 0; form < forms; ++form) {
      const std::string text = written(d, form);
      const Reader reader(text);
      ASSERT_TRUE(reader.understood && reader.date == d) << text << " is " << iso(d);
      ASSERT_EQ(reader.weekday, form == 4 || form == 9 || form == 13 ? day_of_week : -1) << text;
      longest = std::max(longest, text.size());
      ASSERT_EQ(text.find_first_not_of(source_characters), std::string::npos) << text;
    }
  });
  EXPECT_EQ(days, 500 * 365 + 125 - 3);
  EXPECT_EQ(longest, 32u);  // twenty-seventh of September 1979
  EXPECT_NEAR(static_cast<double>(held_out) / static_cast<double>(days), 1.0 / 8, 0.005);
}

TEST(TranslateDatesDates, AreWrittenAsPeopleDo) {
  const Date d{1979, 5, 3};
  const std::array<const char*, forms> want{"3 May 1979",       "May 3, 1979",          "3rd of May 1979",
                                            "1979/5/3",         "Thursday, 3 May 1979", "03.05.1979",
                                            "may 3 1979",       "03-May-1979",          "May 3rd, 1979",
                                            "Thu, 03 May 1979", "third of May 1979",    "3.v.1979",
                                            "19790503",         "1979, thursday, may 3"};
  for (int form = 0; form < forms; ++form) EXPECT_EQ(written(d, form), want[static_cast<std::size_t>(form)]);
  EXPECT_EQ(iso(d), "1979-05-03");
  const std::array<const char*, 9> suffixed{"1st",  "2nd",  "4th",  "11th", "12th",
                                            "13th", "21st", "22nd", "30th"};
  for (const char* text : suffixed) EXPECT_EQ(with_suffix(std::stoi(text)), text);
  EXPECT_EQ(in_words(20) + " " + in_words(21) + " " + in_words(30) + " " + in_words(31),
            "twentieth twenty-first thirtieth thirty-first");
}

TEST(TranslateDatesDates, HeldOutDatesAreNotTrainedOn) {
  std::mt19937_64 random(1);
  for (const bool held_out : {false, true})
    for (const Example& e : random_examples(2000, held_out, random)) {
      const Date d = Reader(e.target).date;
      ASSERT_EQ(is_held_out(d), held_out) << e.target;
      ASSERT_TRUE(Reader(e.source).date == d) << e.source << " " << e.target;
    }
  for (const Example& e : random_examples(20, true, random, 12)) EXPECT_EQ(e.source.size(), 8u) << e.source;
}

const std::vector<Example> three{
    {"3.v.1979", "1979-05-03"}, {"Friday, 29 February 1600", "1600-02-29"}, {"1815/12/10", "1815-12-10"}};

TEST(TranslateDatesBatch, SortsTextsAndLaysThemOutByStep) {
  const Batch batch = make_batch(three);
  EXPECT_EQ(batch.places, (std::vector<Index>{1, 2, 0}));
  EXPECT_EQ(batch.offsets, (std::vector<Index>{0, 24, 34, 42}));
  EXPECT_EQ(batch.steps(), 24);
  std::string by_text(42, '?');
  batch.each_character([&](Index by_step, Index at) {
    const int number = batch.characters[static_cast<std::size_t>(by_step)];
    by_text[static_cast<std::size_t>(at)] = source_characters[static_cast<std::size_t>(number)];
  });
  EXPECT_EQ(by_text, three[1].source + three[2].source + three[0].source);
  for (std::size_t t = 0; t < target_length; ++t)
    for (std::size_t s = 0; s < 3; ++s)
      EXPECT_EQ(target_characters[static_cast<std::size_t>(batch.targets[t][s])],
                three[static_cast<std::size_t>(batch.places[s])].target[t]);
  const auto refusal = [](const std::string& source) -> std::string {
    try {
      make_batch({{source, ""}});
    } catch (const std::runtime_error& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(refusal("3 May 1979"), "");
  EXPECT_EQ(refusal("3 M\xc3\xa4y"), "no date is written with byte 195");
  EXPECT_EQ(refusal("3 May?"), "no date is written with \"?\"");
  EXPECT_EQ(refusal(""), "an empty text is no date");
}

constexpr Sizes tiny{.encoder_units = 3, .decoder_units = 5, .width = 4};

/// A model none of whose parameters is 0 everywhere, as biases are at the start.
Model<double> shaken_model() {
  Model<double> model(tiny, 3);
  std::mt19937_64 random(5);
  std::normal_distribution<double> normal(0, 0.3);
  for (const auto& p : model.parameters())
    for (Index i = 0; i < p.parameter->value.size(); ++i) p.parameter->value.data()[i] += normal(random);
  return model;
}

TEST(TranslateDates, GradientsAreThoseOfCentralDifferences) {
  Model<double> model = shaken_model();
  const Batch batch = make_batch(three);
  EXPECT_DOUBLE_EQ(loss_and_gradient(model, batch), loss(model, batch));
  std::size_t tensors = 0;
  double worst = 0;
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
        return loss(model, batch);
      };
      // Two central differences of which the errors of order h² cancel.
      const double difference = (8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h);
      value.data()[i] = kept;
      EXPECT_NEAR(gradient.data()[i], difference, bound) << p.name << ", element " << i;
      worst = std::max(worst, std::abs(gradient.data()[i] - difference) / bound);
    }
    ++tensors;
  }
  EXPECT_EQ(tensors, 15u);
  std::printf("worst difference / bound: %.3f\n", worst);
}

TEST(TranslateDates, NeighboursInABatchChangeNothing) {
  Model<double> model = shaken_model();
  const Batch batch = make_batch(three);
  const std::vector<std::string> together = model.translate(batch);
  const Matrix<double> logits = model.forward(batch, {});
  for (Index s = 0; s < 3; ++s) {
    model.forward(batch, {});
    const Matrix<double> aligned = model.alignment(s);
    const std::string& source =
        three[static_cast<std::size_t>(batch.places[static_cast<std::size_t>(s)])].source;
    const Batch one = make_batch({{source, ""}});
    EXPECT_EQ(model.translate(one).front(), together[static_cast<std::size_t>(s)]);
    const Matrix<double>& alone = model.forward(one, {});
    for (Index t = 0; t < 10; ++t)
      EXPECT_LT((alone.row(t) - logits.row(3 * t + s)).cwiseAbs().maxCoeff(), 1e-12) << source << t;
    const Matrix<double> aligned_alone = model.alignment(0);
    ASSERT_EQ(aligned.rows(), 10);
    ASSERT_EQ(aligned.cols(), static_cast<Index>(source.size()));
    EXPECT_LT((aligned - aligned_alone).cwiseAbs().maxCoeff(), 1e-12);
    EXPECT_LT((aligned.rowwise().sum().array() - 1).abs().maxCoeff(), 1e-12);
  }
}

TEST(TranslateDates, ToldItsOwnCharactersItSaysTheSame) {
  Model<double> model = shaken_model();
  Batch batch = make_batch(three);
  const std::vector<std::string> own = model.translate(batch);
  const Matrix<double> free = model.forward(batch, {});
  for (std::size_t t = 0; t < target_length; ++t)
    for (std::size_t s = 0; s < 3; ++s) batch.targets[t][s] = number_of(target_characters, own[s][t]);
  EXPECT_TRUE(model.forward(batch, batch.targets) == free);
  EXPECT_EQ(share_right(model, batch), 1);
  batch.targets[9][1] = (batch.targets[9][1] + 1) % 11;
  EXPECT_DOUBLE_EQ(share_right(model, batch), 2.0 / 3);
}

TEST(TranslateDates, Learns) {
  Eigen::setNbThreads(1);  // products of this size only wait for other threads
  Model<double> model({16, 24, 16}, 1);
  Adam<double> adam;
  std::mt19937_64 random(2);
  // One form, of eight digits, is soon learnt.
  const auto batch = [&](std::size_t size, bool held_out) {
    return random_batches(1, size, held_out, random, 12).front();
  };
  const Batch held_out = batch(100, true);
  EXPECT_NEAR(loss(model, held_out), std::log(11.0), 0.4);
  const long steps = 250;
  for (long step = 0; step < steps; ++step) {
    loss_and_gradient(model, batch(24, false));
    adam.step(model, learning_rate(1.5e-2, step, 10, static_cast<double>(step) / static_cast<double>(steps)));
  }
  const double after = loss(model, held_out), right = share_right(model, held_out);
  std::printf("held-out loss %.4f, right %.0f %%\n", after, 100 * right);
  EXPECT_LT(after, 0.05);
  EXPECT_GT(right, 0.9);
}

TEST(TranslateDatesPicture, ShowsWeights) {
  Alignment a{"5 x", "5-", Eigen::MatrixXf(2, 3)};
  a.weights << 1.0f, 0.0f, 0.0f, 0.15f, 0.35f, 0.5f;
  EXPECT_EQ(text_picture(a), "    5 x\n  5 #  \n  - .-+\n");
  const std::string svg = svg_picture({a, {"<", "&", Eigen::MatrixXf::Ones(1, 1)}});
  const auto count = [&](const std::string& part) {
    int n = 0;
    for (std::size_t at = svg.find(part); at != std::string::npos; at = svg.find(part, at + 1)) ++n;
    return n;
  };
  EXPECT_EQ(count("<text"), 7);
  EXPECT_EQ(count("<rect"), 1 + 2 + 5);  // the page, the two fields, and weights that are not 0
  EXPECT_EQ(count("rgb(128,128,128)"), 1);
  EXPECT_EQ(count("&lt;") + count("&amp;"), 2);

  const std::string path = testing::TempDir() + "heed_translate_dates_test.svg";
  write_file(path, svg);
  std::ifstream file(path, std::ios::binary);
  EXPECT_EQ((std::string{std::istreambuf_iterator<char>(file), {}}), svg);
  std::filesystem::remove(path);
  EXPECT_THROW(write_file("/no such folder/x.svg", svg), std::runtime_error);
}

TEST(TranslateDatesOptions, AreReadOrRefused) {
  const auto parsed = [](std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "translate_dates");
    return parse(static_cast<int>(arguments.size()), arguments.data());
  };
  EXPECT_TRUE(parsed({}).dates.empty() && !parsed({}).help && parsed({"--help"}).help);
  const Options o =
      parsed({"--steps", "7", "3 May 1979", "--seconds", "1.5", "--picture", "x", "--seed", "9", "1.i.2000"});
  EXPECT_TRUE(o.steps == 7 && o.seconds == 1.5 && o.picture == "x" && o.seed == 9);
  EXPECT_EQ(o.dates, (std::vector<std::string>{"3 May 1979", "1.i.2000"}));
  for (const std::vector<const char*>& wrong : {std::vector<const char*>{"--steps"},
                                                {"--steps", "-1"},
                                                {"--seconds", "nan"},
                                                {"--seed", "x"},
                                                {"--unknown"},
                                                {""}})
    EXPECT_THROW(parsed(wrong), std::runtime_error) << wrong.front();
}

}  // namespace
