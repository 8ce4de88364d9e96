// SPDX-License-Identifier: MIT
/// @file
/// Memory that calls reuse.
#ifndef HEED_CORE_WORKSPACE_HPP
#define HEED_CORE_WORKSPACE_HPP

#include <cstddef>
#include <new>
#include <utility>

#include <heed/config.hpp>
#include <heed/core/policy.hpp>

namespace heed::inline HEED_ABI {

/// Scratch memory for `attention_into` and, by `use(workspace)`, any call. It grows on the first call that
/// needs more and never shrinks, so that later calls of the same or smaller shapes allocate nothing. One
/// workspace serves one call at a time; threads that call at once take one each.
class Workspace {
 public:
  Workspace() = default;
  /// @param bytes reserved at once, for a program that may not allocate later.
  explicit Workspace(std::size_t bytes) { reserve(bytes); }
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;
  Workspace(Workspace&& other) noexcept
      : scratch_(std::exchange(other.scratch_, {})),
        kept_(std::exchange(other.kept_, {})),
        copies_(std::exchange(other.copies_, {})) {}
  Workspace& operator=(Workspace&& other) noexcept {
    std::swap(scratch_, other.scratch_);
    std::swap(kept_, other.kept_);
    std::swap(copies_, other.copies_);
    return *this;
  }
  ~Workspace() {
    scratch_.release();
    kept_.release();
    copies_.release();
  }

  /// Makes room for `bytes`; the contents are not kept. Throws std::bad_alloc.
  void reserve(std::size_t bytes) { scratch_.reserve(bytes); }

  std::size_t bytes() const { return scratch_.bytes + kept_.bytes + copies_.bytes; }
  std::byte* data() { return scratch_.data; }

  /// Other memory, of at least `bytes`, for what one run of a call leaves to the next.
  std::byte* keep(std::size_t bytes) {
    kept_.reserve(bytes);
    return kept_.data;
  }

  /// Other memory again, for operands of 16 bits in float while a call lasts.
  std::byte* copies(std::size_t bytes) {
    copies_.reserve(bytes);
    return copies_.data;
  }

  static constexpr std::size_t alignment = 64;

 private:
  struct Memory {
    std::byte* data = nullptr;
    std::size_t bytes = 0;

    void reserve(std::size_t wanted) {
      if (wanted <= bytes) return;
      release();
      data = static_cast<std::byte*>(::operator new(wanted, std::align_val_t(alignment)));
      bytes = wanted;
    }
    void release() {
      if (data != nullptr) ::operator delete(data, std::align_val_t(alignment));
      data = nullptr;
      bytes = 0;
    }
  };

  Memory scratch_, kept_, copies_;
};

/// The policy made by use().
struct UseWorkspace : workspace_tag {
  Workspace* workspace;
  explicit UseWorkspace(Workspace& w) : workspace(&w) {}
};

/// Scratch comes from the workspace, which is referred to: no allocation once it has grown.
inline UseWorkspace use(Workspace& workspace) { return UseWorkspace(workspace); }

namespace detail {

/// The workspace of a spec, or null.
template <class Spec>
Workspace* workspace_of(const Spec& spec) {
  if constexpr (requires { spec.template find<workspace_tag>()->workspace; })
    return spec.template find<workspace_tag>()->workspace;
  else
    return nullptr;
}

}  // namespace detail
}  // namespace heed::inline HEED_ABI

#endif
