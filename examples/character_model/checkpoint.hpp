// SPDX-License-Identifier: MIT
#ifndef CHARACTER_MODEL_CHECKPOINT_HPP
#define CHARACTER_MODEL_CHECKPOINT_HPP

// A model and its vocabulary in one binary file: header, vocabulary, then every parameter in the order of
// parameters(), and a checksum of all that. Numbers are stored as the machine has them.

#include <cstdint>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "model.hpp"
#include "text.hpp"

namespace character_model {

namespace checkpoint {

inline constexpr char magic[8] = {'H', 'E', 'E', 'D', 'C', 'H', 'A', 'R'};

/// 64-bit numbers only, so that there is no padding.
struct Header {
  std::uint64_t version = 1;  // reads as another number on a machine of the other byte order
  std::uint64_t scalar_bytes = 0;
  Sizes sizes;
};
static_assert(std::is_trivially_copyable_v<Header> && sizeof(Header) == 8 * sizeof(std::uint64_t));

/// FNV-1a.
inline std::uint64_t checksum(const char* bytes, std::size_t size) {
  std::uint64_t h = 14695981039346656037u;
  for (std::size_t i = 0; i < size; ++i) h = (h ^ static_cast<unsigned char>(bytes[i])) * 1099511628211u;
  return h;
}

inline void put(std::string& bytes, const void* data, std::size_t size) {
  bytes.append(static_cast<const char*>(data), size);
}

/// Takes a file's bytes apart from the front; throws std::runtime_error where they do not suffice.
class Reader {
 public:
  Reader(const std::string& bytes, std::string path) : bytes_(bytes), path_(std::move(path)) {}

  void get(void* data, std::size_t size) {
    if (size > left()) refuse("it ends too early");
    std::memcpy(data, bytes_.data() + at_, size);
    at_ += size;
  }
  std::size_t left() const { return bytes_.size() - at_; }
  [[noreturn]] void refuse(const std::string& why) const {
    throw std::runtime_error(path_ + " is not a checkpoint of this program: " + why);
  }

 private:
  const std::string& bytes_;
  std::string path_;
  std::size_t at_ = 0;
};

/// Bytes of all parameters of a model: known before memory for one is asked for.
inline std::uint64_t parameter_bytes(const Sizes& s, std::uint64_t scalar_bytes) {
  const Index block = 4 * s.width + (s.width + 1) * 3 * s.width + (s.width + 1) * s.width +
                      (s.width + 1) * s.hidden + (s.hidden + 1) * s.width;
  const Index all = s.vocabulary * s.width + s.blocks * block + 2 * s.width + (s.width + 1) * s.vocabulary;
  return static_cast<std::uint64_t>(all) * scalar_bytes;
}

}  // namespace checkpoint

/// Throws std::runtime_error where the file cannot be written.
template <class T>
void save_checkpoint(const std::string& path, Model<T>& model, const Vocabulary& vocabulary) {
  using namespace checkpoint;
  std::string bytes(magic, sizeof magic);
  Header header;
  header.scalar_bytes = sizeof(T);
  header.sizes = model.sizes();
  put(bytes, &header, sizeof header);
  bytes += vocabulary.characters();
  for (const auto& p : model.parameters()) {
    const Matrix<T>& value = p.parameter->value;
    put(bytes, value.data(), static_cast<std::size_t>(value.size()) * sizeof(T));
  }
  const std::uint64_t sum = checksum(bytes.data(), bytes.size());
  put(bytes, &sum, sizeof sum);

  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file) throw std::runtime_error("cannot write " + path);
}

template <class T>
struct Loaded {
  Model<T> model;
  Vocabulary vocabulary;
};

/// Throws std::runtime_error where the file cannot be read, or is anything but a whole checkpoint of a model
/// in this scalar.
template <class T>
Loaded<T> load_checkpoint(const std::string& path) {
  using namespace checkpoint;
  const std::string bytes = read_file(path);
  Reader reader(bytes, path);
  char begin[sizeof magic];
  reader.get(begin, sizeof begin);
  if (std::memcmp(begin, magic, sizeof magic) != 0) reader.refuse("it begins with other bytes");
  Header header;
  reader.get(&header, sizeof header);
  if (header.version != Header().version) reader.refuse("its version is " + std::to_string(header.version));
  if (header.scalar_bytes != sizeof(T))
    reader.refuse("its numbers have " + std::to_string(header.scalar_bytes) + " bytes, not " +
                  std::to_string(sizeof(T)));
  try {
    check(header.sizes);
  } catch (const std::runtime_error& e) {
    reader.refuse(e.what());
  }
  const auto characters = static_cast<std::uint64_t>(header.sizes.vocabulary);
  const std::uint64_t wanted = characters + parameter_bytes(header.sizes, sizeof(T)) + sizeof(std::uint64_t);
  if (reader.left() != wanted)
    reader.refuse("after the header it has " + std::to_string(reader.left()) + " bytes, its sizes ask for " +
                  std::to_string(wanted));
  std::uint64_t sum = 0;
  std::memcpy(&sum, bytes.data() + bytes.size() - sizeof sum, sizeof sum);
  if (sum != checksum(bytes.data(), bytes.size() - sizeof sum)) reader.refuse("its checksum is wrong");

  std::string distinct(characters, '\0');
  reader.get(distinct.data(), distinct.size());
  const Vocabulary vocabulary(distinct);
  if (vocabulary.characters() != distinct) reader.refuse("its vocabulary is out of order");
  Loaded<T> loaded{Model<T>(header.sizes, 0), vocabulary};
  for (const auto& p : loaded.model.parameters()) {
    Matrix<T>& value = p.parameter->value;
    reader.get(value.data(), static_cast<std::size_t>(value.size()) * sizeof(T));
  }
  return loaded;
}

}  // namespace character_model

#endif
