#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace apogee {

/// A run of bytes and whoever keeps it alive (a frame buffer, a mapped file, a string).
struct SharedBytes {
  std::shared_ptr<const void> owner;
  std::string_view bytes;

  SharedBytes() = default;
  SharedBytes(std::shared_ptr<const void> o, std::string_view b) : owner(std::move(o)), bytes(b) {}
  /// Takes the string over.
  static SharedBytes from(std::string text) {
    auto held = std::make_shared<const std::string>(std::move(text));
    std::string_view view = *held;
    return {std::move(held), view};
  }
  [[nodiscard]] bool empty() const { return bytes.empty(); }
  [[nodiscard]] size_t size() const { return bytes.size(); }
};

/// Big-endian integers at any alignment; the caller has checked the bounds.
template <typename T>
[[nodiscard]] inline T load_be(const void* from) {
  static_assert(std::is_integral_v<T>);
  std::make_unsigned_t<T> value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (sizeof value == 2) value = __builtin_bswap16(value);
  if constexpr (sizeof value == 4) value = __builtin_bswap32(value);
  if constexpr (sizeof value == 8) value = __builtin_bswap64(value);
  return static_cast<T>(value);
}
template <typename T>
inline void store_be(void* to, T number) {
  static_assert(std::is_integral_v<T>);
  auto value = static_cast<std::make_unsigned_t<T>>(number);
  if constexpr (sizeof value == 2) value = __builtin_bswap16(value);
  if constexpr (sizeof value == 4) value = __builtin_bswap32(value);
  if constexpr (sizeof value == 8) value = __builtin_bswap64(value);
  std::memcpy(to, &value, sizeof value);
}
template <typename T>
inline void append_be(std::string& to, T number) {
  char raw[sizeof(T)];
  store_be<T>(raw, number);
  to.append(raw, sizeof raw);
}

/// Reads big-endian fields one after another; a read past the end makes ok() false and yields zero.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}
  template <typename T>
  T read() {
    if (bytes_.size() - position_ < sizeof(T)) return ok_ = false, T{};
    T value = load_be<T>(bytes_.data() + position_);
    position_ += sizeof(T);
    return value;
  }
  std::string_view take(size_t count) {
    if (bytes_.size() - position_ < count) return ok_ = false, std::string_view{};
    auto part = bytes_.substr(position_, count);
    position_ += count;
    return part;
  }
  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] size_t position() const { return position_; }
  [[nodiscard]] size_t remaining() const { return bytes_.size() - position_; }

 private:
  std::string_view bytes_;
  size_t position_ = 0;
  bool ok_ = true;
};

}  // namespace apogee
