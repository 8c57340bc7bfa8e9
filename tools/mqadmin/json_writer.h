#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace mqadmin {

/// Builds one JSON text from its beginning to its end. Text that is not UTF-8 is made so.
class JsonWriter {
 public:
  /// indent: spaces a level; 0 = everything on one line.
  explicit JsonWriter(int indent = 0) : indent_(indent) {}

  JsonWriter& begin_object() { return begin('{'); }
  JsonWriter& end_object() { return end('}'); }
  JsonWriter& begin_array() { return begin('['); }
  JsonWriter& end_array() { return end(']'); }
  JsonWriter& key(std::string_view name);

  JsonWriter& value(std::string_view text);
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(double number);
  JsonWriter& value(bool truth) { return raw(truth ? "true" : "false"); }
  template <typename Int, typename = std::enable_if_t<std::is_integral_v<Int> && !std::is_same_v<Int, bool>>>
  JsonWriter& value(Int number) {
    return raw(std::to_string(number));
  }
  /// JSON that is there already.
  JsonWriter& raw(std::string_view json);
  template <typename T>
  JsonWriter& member(std::string_view name, const T& v) {
    key(name);
    return value(v);
  }
  /// A member of this name, or of the name with "Hex" behind it when the bytes are no UTF-8.
  JsonWriter& bytes_member(const std::string& name, std::string_view bytes);

  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  JsonWriter& begin(char bracket);
  JsonWriter& end(char bracket);
  void before_value();
  void new_line();

  std::string text_;
  std::vector<bool> empty_;  // of each open bracket: nothing in it yet
  bool after_key_ = false;
  int indent_;
};

/// A text as a JSON string, with its quotes.
std::string json_quote(std::string_view text);

}  // namespace mqadmin
