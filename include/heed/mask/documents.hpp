// SPDX-License-Identifier: MIT
/// @file
/// documents(ids): tokens see those of their own document.
#ifndef HEED_MASK_DOCUMENTS_HPP
#define HEED_MASK_DOCUMENTS_HPP

#include <algorithm>
#include <cstddef>
#include <initializer_list>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include <heed/config.hpp>
#include <heed/core/error.hpp>
#include <heed/core/key_range.hpp>
#include <heed/core/policy.hpp>
#include <heed/core/shape.hpp>
#include <heed/core/stored.hpp>

namespace heed::inline HEED_ABI {

namespace detail {

/// Rows of one id, found by binary search. Ids are replaced by their ranks among the keys' ids; a query whose
/// id no key has gets the rank -1.
class DocumentTable {
 public:
  struct Run {
    Index begin, end;
  };

  template <class Id>
  DocumentTable(const std::vector<Id>& query_ids, const std::vector<Id>& key_ids) {
    std::vector<Id> names = key_ids;
    std::sort(names.begin(), names.end());
    names.erase(std::unique(names.begin(), names.end()), names.end());
    key_ranks_ = rank(key_ids, names);
    query_ranks_ = rank(query_ids, names);
    query_begins_ = run_begins(query_ranks_);
    group_runs(run_begins(key_ranks_), static_cast<Index>(names.size()));
  }

  Index queries() const { return static_cast<Index>(query_ranks_.size()); }
  Index keys() const { return static_cast<Index>(key_ranks_.size()); }
  const Position* query_ranks() const { return query_ranks_.data(); }
  const Position* key_ranks() const { return key_ranks_.data(); }

  /// Number of the run of equal ids that query row `row` lies in, and a run's first row.
  Index query_run(Index row) const {
    return std::upper_bound(query_begins_.begin(), query_begins_.end(), row) - query_begins_.begin() - 1;
  }
  Index query_run_begin(Index run) const {
    return run < static_cast<Index>(query_begins_.size()) ? query_begins_[static_cast<std::size_t>(run)]
                                                          : queries();
  }
  /// The first run of keys of this rank that ends after `row`; begin == end == keys() if there is none.
  Run key_run(Position rank, Index row) const {
    if (rank < 0) return {keys(), keys()};
    const Run* first = key_runs_.data() + first_run_[static_cast<std::size_t>(rank)];
    const Run* last = key_runs_.data() + first_run_[static_cast<std::size_t>(rank) + 1];
    const Run* run = std::upper_bound(first, last, row, [](Index r, const Run& x) { return r < x.end; });
    return run == last ? Run{keys(), keys()} : *run;
  }

 private:
  template <class Id>
  static std::vector<Position> rank(const std::vector<Id>& ids, const std::vector<Id>& names) {
    std::vector<Position> ranks(ids.size());
    for (std::size_t t = 0; t < ids.size(); ++t) {
      if (t > 0 && ids[t] == ids[t - 1]) {
        ranks[t] = ranks[t - 1];
      } else {
        const auto name = std::lower_bound(names.begin(), names.end(), ids[t]);
        ranks[t] = name != names.end() && *name == ids[t] ? static_cast<Position>(name - names.begin())
                                                          : Position{-1};
      }
    }
    return ranks;
  }
  static std::vector<Index> run_begins(const std::vector<Position>& ranks) {
    std::vector<Index> begins;
    for (std::size_t t = 0; t < ranks.size(); ++t) {
      if (t == 0 || ranks[t] != ranks[t - 1]) begins.push_back(static_cast<Index>(t));
    }
    return begins;
  }
  /// Sorts the runs of keys by rank, keeping their order inside a rank.
  void group_runs(const std::vector<Index>& begins, Index ranks) {
    first_run_.assign(static_cast<std::size_t>(ranks) + 1, 0);
    for (const Index begin : begins) ++first_run_[rank_at(begin) + 1];
    for (std::size_t r = 1; r < first_run_.size(); ++r) first_run_[r] += first_run_[r - 1];
    std::vector<Index> next(first_run_.begin(), first_run_.end() - 1);
    key_runs_.resize(begins.size());
    for (std::size_t n = 0; n < begins.size(); ++n) {
      const Index end = n + 1 < begins.size() ? begins[n + 1] : keys();
      key_runs_[static_cast<std::size_t>(next[rank_at(begins[n])]++)] = {begins[n], end};
    }
  }
  std::size_t rank_at(Index row) const {
    return static_cast<std::size_t>(key_ranks_[static_cast<std::size_t>(row)]);
  }

  std::vector<Position> query_ranks_, key_ranks_;
  std::vector<Index> query_begins_;  ///< first row of every run of equal query ids
  std::vector<Index> first_run_;     ///< rank r owns key_runs_[first_run_[r] .. first_run_[r + 1])
  std::vector<Run> key_runs_;
};

struct BoundDocuments {
  const DocumentTable* table;
  const Position* query_ranks;  ///< of this sequence
  const Position* key_ranks;
  Index query_begin, key_begin, keys;

  HEED_INLINE bool visible(Position i, Position j) const { return query_ranks[i] == key_ranks[j]; }

  /// Stretches of the tile's documents, united where the gap is not worth a stretch of its own. Cost: a
  /// binary search for each run of ids in the tile and each piece of the stretch.
  HEED_NOINLINE KeyRange key_ranges(Index i0, Index i1, Index from) const {
    constexpr Index gap = 16;
    const Index begin_run = table->query_run(query_begin + i0),
                end_run = table->query_run(query_begin + i1 - 1) + 1;
    KeyRange united{keys, keys};
    Index reach = from;
    for (bool grows = true; grows;) {
      grows = false;
      KeyRange next{keys, keys};
      for (Index run = begin_run; run < end_run; ++run) {
        const KeyRange r = stretch(rank_of(run), reach);
        if (r.begin < next.begin || (r.begin == next.begin && r.end > next.end)) next = r;
      }
      if (united.empty()) {
        united = next;
        grows = !next.empty();
      } else if (!next.empty() && next.begin <= united.end + gap) {
        united.end = next.end;
        grows = true;
      }
      reach = united.end;
    }
    return united;
  }

  HEED_NOINLINE KeyRange full_ranges(Index i0, Index i1, Index from) const {
    const Index begin_run = table->query_run(query_begin + i0),
                end_run = table->query_run(query_begin + i1 - 1) + 1;
    for (Index run = begin_run + 1; run < end_run; ++run) {
      if (rank_of(run) != rank_of(begin_run)) return {keys, keys};
    }
    return stretch(rank_of(begin_run), from);
  }

 private:
  Position rank_of(Index run) const { return table->query_ranks()[table->query_run_begin(run)]; }
  KeyRange stretch(Position rank, Index from) const {
    if (from >= keys) return {keys, keys};
    const DocumentTable::Run run = table->key_run(rank, key_begin + from);
    return clip(run.begin - key_begin, run.end - key_begin, from, keys);
  }
};

}  // namespace detail

/// The policy made by documents().
class Documents : public mask_tag {
 public:
  template <class Id>
  Documents(const std::vector<Id>& query_ids, const std::vector<Id>& key_ids)
      : table_(std::make_shared<const detail::DocumentTable>(query_ids, key_ids)) {}

  void check(const Shape& shape) const {
    if (table_->queries() != shape.queries)
      detail::fail("documents: ", table_->queries(), " ids for queries, q has ", shape.queries, " rows");
    if (table_->keys() != shape.keys)
      detail::fail("documents: ", table_->keys(), " ids for keys, k has ", shape.keys, " rows");
  }
  template <class Numbers>
  void identify(Numbers& n) const {
    n(table_->queries(), table_->keys());
  }
  detail::BoundDocuments bind(const Place& place) const {
    return {table_.get(),
            table_->query_ranks() + place.query_begin,
            table_->key_ranks() + place.key_begin,
            place.query_begin,
            place.key_begin,
            place.keys};
  }

 private:
  std::shared_ptr<const detail::DocumentTable> table_;
};

/// Query i sees key j where ids[i] == ids[j]: several documents packed in one sequence. One integer a row of
/// q and k, over all sequences; any order, but runs of equal ids are what saves work: documents cost their
/// own squares. The ids are read when the policy is made, O(n log n) time and O(n) memory, so make it once
/// for many calls. A wrong count is an std::invalid_argument.
template <detail::integer_list R>
Documents documents(R&& ids) {
  const auto list = detail::copy_list<std::remove_cvref_t<decltype(*ids.data())>>(ids);
  return Documents(list, list);
}
/// Cross attention: query i sees key j where q_ids[i] == k_ids[j].
template <detail::integer_list R, detail::integer_list S>
Documents documents(R&& q_ids, S&& k_ids) {
  return Documents(detail::copy_list<Index>(q_ids), detail::copy_list<Index>(k_ids));
}
inline Documents documents(std::initializer_list<Index> ids) { return documents(std::vector<Index>(ids)); }
inline Documents documents(std::initializer_list<Index> q_ids, std::initializer_list<Index> k_ids) {
  return documents(std::vector<Index>(q_ids), std::vector<Index>(k_ids));
}

}  // namespace heed::inline HEED_ABI

#endif
