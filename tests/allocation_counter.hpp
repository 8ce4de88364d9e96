// SPDX-License-Identifier: MIT
// Counts what a program takes from the heap. Replaces the global operator new, so one file of a program
// includes it.
#ifndef HEED_TESTS_ALLOCATION_COUNTER_HPP
#define HEED_TESTS_ALLOCATION_COUNTER_HPP

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace heed_test {

inline std::atomic<long> allocations{0};
inline std::atomic<long long> allocated_bytes{0};

/// Heap blocks taken since it was made, and their bytes.
class AllocationCounter {
 public:
  long count() const { return allocations - allocations_; }
  long long bytes() const { return allocated_bytes - bytes_; }

 private:
  long allocations_ = allocations;
  long long bytes_ = allocated_bytes;
};

inline void note_allocation(std::size_t bytes) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  allocated_bytes.fetch_add(static_cast<long long>(bytes), std::memory_order_relaxed);
}

}  // namespace heed_test

#if defined(__SANITIZE_ADDRESS__)
#define HEED_TESTS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HEED_TESTS_SANITIZED 1
#endif
#endif

// glibc lets a program replace malloc and still reach the original: nothing escapes the count then, Eigen's
// own memory included.
#if defined(__GLIBC__) && !defined(HEED_TESTS_SANITIZED)
#define HEED_TESTS_COUNT_MALLOC 1
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void* malloc(std::size_t bytes) noexcept {
  heed_test::note_allocation(bytes);
  return __libc_malloc(bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  heed_test::note_allocation(bytes);
  return __libc_memalign(alignment, bytes);
}
}
#else

// Not inlined: compilers warn of a mismatched pair where they see through one half of it.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  heed_test::note_allocation(bytes);
  if (void* p = std::malloc(bytes != 0 ? bytes : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  heed_test::note_allocation(bytes);
  const std::size_t a = static_cast<std::size_t>(alignment);
  if (void* p = std::aligned_alloc(a, (bytes + a - 1) / a * a)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }

#endif

#endif
