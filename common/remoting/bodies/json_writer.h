#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apogee/message_queue.h"

namespace apogee::remoting {

/// Writes compact JSON as fastjson does. Puts the commas itself; the caller closes what it opens.
class JsonWriter {
 public:
  JsonWriter& begin_object() { return open('{'); }
  JsonWriter& end_object() { return close('}'); }
  JsonWriter& begin_array() { return open('['); }
  JsonWriter& end_array() { return close(']'); }

  JsonWriter& key(std::string_view name);
  JsonWriter& bare_key(int64_t number);
  /// The whole queue as key, as an object that is not quoted.
  JsonWriter& key(const MessageQueue& queue);

  JsonWriter& value(std::string_view text);
  JsonWriter& value(const std::string& text) { return value(std::string_view(text)); }
  JsonWriter& value(const char* text) { return value(std::string_view(text)); }
  JsonWriter& value(int64_t number);
  JsonWriter& value(int32_t number) { return value(static_cast<int64_t>(number)); }
  JsonWriter& value(bool yes);
  JsonWriter& value(double number);  ///< as Java's Double.toString; null when not finite
  JsonWriter& value(const MessageQueue& queue);
  JsonWriter& value(const std::vector<std::string>& texts);
  JsonWriter& value(const std::map<std::string, std::string>& table);
  /// Text that is JSON already.
  JsonWriter& raw(std::string_view json);

  /// Members that are JSON text already, without braces; nothing when that is empty.
  JsonWriter& members(std::string_view json) { return json.empty() ? *this : raw(json); }

  template <typename T>
  JsonWriter& member(std::string_view name, const T& what) {
    key(name);
    return value(what);
  }
  JsonWriter& member_unless_empty(std::string_view name, const std::string& text) {
    return text.empty() ? *this : member(name, text);
  }

  std::string take() { return std::move(out_); }

 private:
  void comma() {
    if (comma_) out_ += ',';
    comma_ = false;
  }
  JsonWriter& open(char c) {
    comma();
    out_ += c;
    return *this;
  }
  JsonWriter& close(char c) {
    out_ += c;
    comma_ = true;
    return *this;
  }
  std::string out_;
  bool comma_ = false;
};

}  // namespace apogee::remoting
