// SPDX-License-Identifier: MIT
#ifndef ATTEND_WORDS_WORDS_HPP
#define ATTEND_WORDS_WORDS_HPP

// From a text to the rows of a matrix.

#include <Eigen/Core>
#include <string>
#include <vector>

/// Rows are tokens. Heed takes either storage order.
using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// The words of a text in their order, at most `most` of them: letters, digits and whatever is not ASCII, and
/// - and ' inside a word.
std::vector<std::string> split_words(const std::string& text, std::size_t most);

/// What an embedding looks at.
enum class View { all_of_it, beginning, ending, place };

/// One row of d columns (a multiple of 64) and length sqrt(d) for each word, so that a word's score with
/// itself is sqrt(d) under the usual scale 1/sqrt(d). Words that share character n-grams get similar rows;
/// `place` looks at the position in the text alone, and `all_of_it` adds a little of it. Nothing is learnt:
/// an n-gram's vector is its hash, read as d signs.
Matrix embed(const std::vector<std::string>& words, Eigen::Index d, View view);

#endif
