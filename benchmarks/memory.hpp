// SPDX-License-Identifier: MIT
#ifndef HEED_BENCHMARKS_MEMORY_HPP
#define HEED_BENCHMARKS_MEMORY_HPP

// How much memory a call takes beside its arguments and result: with glibc the allocator itself is counted,
// so Eigen's temporaries, Heed's workspace and whatever threads take are all in. This header replaces malloc:
// include it in one source file of a program.

#include <atomic>
#include <cerrno>
#include <cstddef>

#if defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__)
#include <malloc.h>
#if defined(__clang__) && defined(__x86_64__)
#include <mm_malloc.h>  // declares posix_memalign in its own way, which clang takes only before ours
#endif

namespace measure {

inline std::atomic<long long> bytes_in_use{0}, most_in_use{0};

inline void* count_allocation(void* p) {
  if (p != nullptr) {
    const auto size = static_cast<long long>(malloc_usable_size(p));
    const long long now = bytes_in_use.fetch_add(size, std::memory_order_relaxed) + size;
    long long most = most_in_use.load(std::memory_order_relaxed);
    while (now > most && !most_in_use.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
    }
  }
  return p;
}

inline void count_release(void* p) {
  if (p != nullptr)
    bytes_in_use.fetch_sub(static_cast<long long>(malloc_usable_size(p)), std::memory_order_relaxed);
}

/// The most bytes in use during f() beyond those before it; -1 where that is not known.
template <class F>
long long extra_memory(F&& f) {
  const long long before = bytes_in_use;
  most_in_use = before;
  f();
  return most_in_use - before;
}

}  // namespace measure

extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t size) noexcept { return measure::count_allocation(__libc_malloc(size)); }
void* calloc(std::size_t n, std::size_t size) noexcept {
  return measure::count_allocation(__libc_calloc(n, size));
}
void* realloc(void* p, std::size_t size) noexcept {
  measure::count_release(p);
  void* q = __libc_realloc(p, size);
  measure::count_allocation(q == nullptr && size != 0 ? p : q);  // a failed realloc leaves p as it was
  return q;
}
void* memalign(std::size_t alignment, std::size_t size) noexcept {
  return measure::count_allocation(__libc_memalign(alignment, size));
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept { return memalign(alignment, size); }
int posix_memalign(void** p, std::size_t alignment, std::size_t size) noexcept {
  *p = memalign(alignment, size);
  return *p == nullptr ? ENOMEM : 0;
}
void free(void* p) noexcept {
  measure::count_release(p);
  __libc_free(p);
}
}

#else

namespace measure {

template <class F>
long long extra_memory(F&& f) {
  f();
  return -1;
}

}  // namespace measure

#endif

#endif
