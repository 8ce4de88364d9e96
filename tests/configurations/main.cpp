// SPDX-License-Identifier: MIT
// One small program for every way of compiling Heed that the other tests do not have: a handful of variants
// against the readable loops, which compute in long double. It needs no test framework, so that it compiles
// without exceptions, for other processors and by other compilers. Its exit status is 0 when all is well; it
// prints each variant with its greatest error, and a hash of what the kernels computed.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#if __has_include(<unistd.h>)
#include <sys/wait.h>
#include <unistd.h>
#endif

#include <heed/attention_backward.hpp>
#include <heed/functions.hpp>
#include <heed/layout/heads.hpp>
#include <heed/mask/causal.hpp>
#include <heed/position/alibi.hpp>
#include <heed/score/additive.hpp>
#include <heed/score/score_with.hpp>
#include <heed/select/sparsemax.hpp>

namespace {

using Index = Eigen::Index;
template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic>;

int failures = 0;
std::uint64_t hash = 14695981039346656037u;

void expect(bool good, const char* what) {
  if (good) return;
  ++failures;
  std::printf("FAILED: %s\n", what);
}

/// Numbers between -1 and 1 that are the same everywhere.
template <class T>
Matrix<T> numbers(Index rows, Index columns, std::uint32_t seed) {
  Matrix<T> m(rows, columns);
  for (Index r = 0; r < rows; ++r)
    for (Index c = 0; c < columns; ++c) {
      seed = seed * 1664525u + 1013904223u;
      m(r, c) = static_cast<T>(static_cast<std::int32_t>(seed >> 8) - (1 << 23)) / static_cast<T>(1 << 23);
    }
  return m;
}

template <class T>
void compare(const char* what, const Matrix<T>& found, const Matrix<long double>& exact) {
  double worst = 0;
  bool finite = found.rows() == exact.rows() && found.cols() == exact.cols();
  for (Index r = 0; finite && r < exact.rows(); ++r)
    for (Index c = 0; finite && c < exact.cols(); ++c) {
      const double error = std::abs(static_cast<double>(found(r, c) - exact(r, c)));
      finite = error < 1e300;
      worst = error > worst ? error : worst;
      std::uint64_t bits = 0;
      std::memcpy(&bits, &found(r, c), sizeof(T));
      hash = (hash ^ bits) * 1099511628211u;
    }
  std::printf("%-24s %-6s %.1e\n", what, sizeof(T) == 4 ? "float" : "double", worst);
  expect(finite && worst < (sizeof(T) == 4 ? 2e-6 : 2e-15), what);
}

struct Tilted {
  template <class S, class I>
  S operator()(S s, I i, I j) const {
    return heed::tanh(s) - S(0.125f) * static_cast<S>(i - j);
  }
};

template <class T, class... Policies>
void check(const char* what, Index queries, Index keys, Index columns, const Policies&... policies) {
  const Matrix<T> q = T(3) * numbers<T>(queries, columns, 1), k = numbers<T>(keys, columns, 2),
                  v = numbers<T>(keys, columns, 3);
  compare<T>(what, heed::attention(q, k, v, policies...),
             heed::attention(q.template cast<long double>(), k.template cast<long double>(),
                             v.template cast<long double>(), policies...));
}

template <class T>
void check_backward() {
  const Index queries = 37, keys = 75, columns = 24;
  const auto policies = heed::spec(heed::heads(2), heed::causal(), heed::score_with(Tilted()));
  const auto pass = [&]<class S>(S) {
    const Matrix<S> q = numbers<T>(queries, columns, 1).template cast<S>(),
                    k = numbers<T>(keys, columns, 2).template cast<S>(),
                    v = numbers<T>(keys, columns, 3).template cast<S>(),
                    dout = numbers<T>(queries, columns, 4).template cast<S>();
    heed::Saved<S> saved;
    const Matrix<S> out = heed::attention(q, k, v, policies, heed::save(saved));
    return heed::attention_backward(dout, q, k, v, out, saved, policies);
  };
  const auto found = pass(T(0));
  const auto exact = pass(0.0L);
  compare<T>("dq", found.dq, exact.dq);
  compare<T>("dk", found.dk, exact.dk);
  compare<T>("dv", found.dv, exact.dv);
}

void check_empty() {
  const Matrix<float> q = numbers<float>(5, 8, 1), none(0, 8);
  const Matrix<float> out = heed::attention(q, none, none);
  expect(out.rows() == 5 && out.cols() == 8 && out.isZero(0), "no keys: zeros");
}

#if __has_include(<unistd.h>)

/// How a call that is to be refused ends in a process of its own: thrown, aborted or returned.
enum class Ending { returned, thrown, aborted, other };

template <class Call>
Ending ending_of(const Call& call) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    if (std::freopen("/dev/null", "w", stderr) == nullptr) _exit(3);
#if defined(__cpp_exceptions)
    try {
      call();
    } catch (const std::invalid_argument&) {
      _exit(1);
    }
#else
    call();
#endif
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  if (WIFEXITED(status)) return WEXITSTATUS(status) == 0   ? Ending::returned
                                : WEXITSTATUS(status) == 1 ? Ending::thrown
                                                           : Ending::other;
  return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? Ending::aborted : Ending::other;
}

void check_errors() {
#if defined(HEED_ASSERT_ONLY) && defined(NDEBUG)
  const Ending expected = Ending::returned;
#elif defined(HEED_ASSERT_ONLY) || !defined(__cpp_exceptions)
  const Ending expected = Ending::aborted;
#else
  const Ending expected = Ending::thrown;
#endif
  expect(ending_of([] { heed::detail::fail("k has ", 8, " columns, q has ", 9); }) == expected,
         "how a bad argument ends");
  expect(ending_of([] {
           setenv("HEED_INSTRUCTION_SET", "sse9", 1);
           const Matrix<float> q = numbers<float>(5, 8, 1);
           const Matrix<float> out = heed::attention(q, q, q);
         }) == expected,
         "how a wish for an unknown instruction set ends");
#if !(defined(HEED_ASSERT_ONLY) && defined(NDEBUG))
  expect(ending_of([] {
           const Matrix<float> q = numbers<float>(5, 9, 1), k = numbers<float>(6, 8, 2);
           const Matrix<float> out = heed::attention(q, k, k);
         }) == expected,
         "how a wrong number of columns ends");
#endif
}

#endif

template <class T>
void check_all() {
  check<T>("plain", 33, 100, 24);
  check<T>("one query, many keys", 1, 300, 64);
  check<T>("causal", 130, 131, 16, heed::causal());
  check<T>("heads, alibi", 40, 70, 32, heed::heads(4), heed::alibi());
  check<T>("sparsemax", 20, 90, 16, heed::sparsemax());
  check<T>("additive", 20, 50, 4, heed::additive({0.5, -1.5, 1.25, 2}));
  check<T>("score_with", 20, 50, 8, heed::score_with(Tilted()));
}

}  // namespace

int main() {
#if defined(HEED_NO_VECTOR_EXTENSIONS) && !defined(HEED_EXPECT_PLAIN_ARRAYS)
  expect(false, "vectors of the compiler's");
#endif
#if __has_include(<unistd.h>)
  check_errors();  // before the first threads, which a fork would lose
#endif
  std::printf("%s\n", heed::name(heed::instruction_set()));
  check_all<float>();
  check_all<double>();
  check_backward<float>();
  check_empty();
  std::printf("hash %016llx\n", static_cast<unsigned long long>(hash));
  return failures == 0 ? 0 : 1;
}
