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
      : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Workspace& operator=(Workspace&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Workspace() { release(); }

  /// Makes room for `bytes`; the contents are not kept. Throws std::bad_alloc.
  void reserve(std::size_t bytes) {
    if (bytes <= bytes_) return;
    release();
    data_ = static_cast<std::byte*>(::operator new(bytes, std::align_val_t(alignment)));
    bytes_ = bytes;
  }

  std::size_t bytes() const { return bytes_; }
  std::byte* data() { return data_; }

  static constexpr std::size_t alignment = 64;

 private:
  void release() {
    if (data_ != nullptr) ::operator delete(data_, std::align_val_t(alignment));
    data_ = nullptr;
    bytes_ = 0;
  }

  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
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
