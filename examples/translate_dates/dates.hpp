// SPDX-License-Identifier: MIT
#ifndef TRANSLATE_DATES_DATES_HPP
#define TRANSLATE_DATES_DATES_HPP

// The task: dates as people write them, and as ISO 8601 does.

#include <array>
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>

namespace translate_dates {

struct Date {
  int year = 0, month = 0, day = 0;  // counted from 1

  bool operator==(const Date&) const = default;
};

inline constexpr int first_year = 1600, last_year = 2099;

inline bool is_leap(int year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

inline int days_of_month(int year, int month) {
  if (month == 2) return is_leap(year) ? 29 : 28;
  return month == 4 || month == 6 || month == 9 || month == 11 ? 30 : 31;
}

/// 0 is a Sunday. January and February count as months 13 and 14 of the year before; from March on, the days
/// of the months before are ⌊13 (month + 1) / 5⌋ more than whole weeks, but for a constant (Zeller).
inline int weekday(const Date& d) {
  const int month = d.month < 3 ? d.month + 12 : d.month, year = d.month < 3 ? d.year - 1 : d.year;
  return (d.day + 13 * (month + 1) / 5 + year + year / 4 - year / 100 + year / 400 + 6) % 7;
}

inline constexpr std::array<const char*, 12> months{"January",   "February", "March",    "April",
                                                    "May",       "June",     "July",     "August",
                                                    "September", "October",  "November", "December"};
inline constexpr std::array<const char*, 12> roman_months{"i",   "ii",   "iii", "iv", "v",  "vi",
                                                          "vii", "viii", "ix",  "x",  "xi", "xii"};
inline constexpr std::array<const char*, 7> weekdays{"Sunday",   "Monday", "Tuesday", "Wednesday",
                                                     "Thursday", "Friday", "Saturday"};
inline constexpr std::array<const char*, 19> ordinals{
    "first",     "second",    "third",       "fourth",     "fifth",     "sixth",      "seventh",
    "eighth",    "ninth",     "tenth",       "eleventh",   "twelfth",   "thirteenth", "fourteenth",
    "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth"};

/// 3rd, 21st, …
inline std::string with_suffix(int day) {
  const int last = day / 10 == 1 ? 0 : day % 10;
  return std::to_string(day) + (last == 1 ? "st" : last == 2 ? "nd" : last == 3 ? "rd" : "th");
}

/// third, twenty-first, …
inline std::string in_words(int day) {
  if (day < 20) return ordinals[static_cast<std::size_t>(day - 1)];
  const std::string tens = day < 30 ? "twent" : "thirt";
  return day % 10 == 0 ? tens + "ieth" : tens + "y-" + ordinals[static_cast<std::size_t>(day % 10 - 1)];
}

inline std::string padded(int n, int digits) {
  char text[16];
  std::snprintf(text, sizeof text, "%0*d", digits, n);
  return text;
}

/// 1979-05-03
inline std::string iso(const Date& d) {
  return padded(d.year, 4) + "-" + padded(d.month, 2) + "-" + padded(d.day, 2);
}

inline constexpr int forms = 14;
inline constexpr std::size_t target_length = 10;

/// The date in one of the forms 0 … 13. No form can be taken for another: a year always has four digits, days
/// stand before months unless the month is a name or the year comes first.
inline std::string written(const Date& d, int form) {
  const std::string day = std::to_string(d.day), year = std::to_string(d.year);
  const std::string month = months[static_cast<std::size_t>(d.month - 1)], short_month = month.substr(0, 3);
  const std::string weekday_name = weekdays[static_cast<std::size_t>(weekday(d))];
  const auto lower = [](std::string s) {
    for (char& c : s)
      if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    return s;
  };
  switch (form) {
    case 0:
      return day + " " + month + " " + year;
    case 1:
      return month + " " + day + ", " + year;
    case 2:
      return with_suffix(d.day) + " of " + month + " " + year;
    case 3:
      return year + "/" + std::to_string(d.month) + "/" + day;
    case 4:
      return weekday_name + ", " + day + " " + month + " " + year;
    case 5:
      return padded(d.day, 2) + "." + padded(d.month, 2) + "." + year;
    case 6:
      return lower(month) + " " + day + " " + year;
    case 7:
      return padded(d.day, 2) + "-" + short_month + "-" + year;
    case 8:
      return short_month + " " + with_suffix(d.day) + ", " + year;
    case 9:
      return weekday_name.substr(0, 3) + ", " + padded(d.day, 2) + " " + short_month + " " + year;
    case 10:
      return in_words(d.day) + " of " + month + " " + year;
    case 11:
      return day + "." + roman_months[static_cast<std::size_t>(d.month - 1)] + "." + year;
    case 12:
      return year + padded(d.month, 2) + padded(d.day, 2);
    default:
      return year + ", " + lower(weekday_name) + ", " + lower(month) + " " + day;
  }
}

/// One date in eight, the same ones always, is kept from the training in all of its forms. The number of the
/// date is mixed first: neighbours, and the same day of other years, may be on either side.
inline bool is_held_out(const Date& d) {
  std::uint64_t h = static_cast<std::uint64_t>((d.year * 12 + d.month) * 31 + d.day) * 0x9e3779b97f4a7c15u;
  h = (h ^ (h >> 32)) * 0xd6e8feb86659fd93u;
  return (h >> 61) == 0;
}

/// A date of the years 1600 … 2099, held out or not as asked for.
inline Date random_date(bool held_out, std::mt19937_64& random) {
  for (;;) {
    Date d;
    d.year = std::uniform_int_distribution<int>(first_year, last_year)(random);
    d.month = std::uniform_int_distribution<int>(1, 12)(random);
    d.day = std::uniform_int_distribution<int>(1, 31)(random);
    if (d.day <= days_of_month(d.year, d.month) && is_held_out(d) == held_out) return d;
  }
}

}  // namespace translate_dates

#endif
