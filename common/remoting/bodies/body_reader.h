#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/message_queue.h"
#include "apogee/result.h"
#include "common/remoting/json_reader.h"

// For the .cc files of this folder only, because it brings the whole of nlohmann's header.
namespace apogee::remoting {

/// A JSON object while a body is read from it. Missing members and nulls leave what is there; a member of a kind
/// that cannot be meant is noted, and the whole body is refused in the end.
class BodyReader {
 public:
  BodyReader(const nlohmann::json& object, std::string* problem) : object_(&object), problem_(problem) {
    if (!object.is_object()) complain("the body");
  }

  void read(const char* name, std::string& to) const {
    const auto* value = member(name);
    if (value == nullptr) return;
    if (value->is_structured()) return complain(name);
    to = json_text(*object_, name, "");
  }
  void read(const char* name, int64_t& to) const { read_int(name, to); }
  void read(const char* name, int32_t& to) const { read_int(name, to); }
  void read(const char* name, bool& to) const {
    const auto* value = member(name);
    if (value == nullptr) return;
    if (value->is_structured()) return complain(name);
    to = json_bool(*object_, name, to);
  }
  void read(const char* name, double& to) const {
    const auto* value = member(name);
    if (value == nullptr) return;
    if (value->is_structured()) return complain(name);
    to = json_double(*object_, name, to);
  }
  /// By name or by ordinal number.
  template <typename Enum, size_t kCount>
  void read_enum(const char* name, const char* const (&names)[kCount], Enum& to) const {
    const auto* value = member(name);
    if (value == nullptr) return;
    if (value->is_string()) {
      const auto& text = value->get_ref<const std::string&>();
      for (size_t i = 0; i < kCount; ++i) {
        if (text == names[i]) return static_cast<void>(to = static_cast<Enum>(i));
      }
    }
    int64_t ordinal = json_int(*object_, name, -1);
    if (ordinal < 0 || ordinal >= static_cast<int64_t>(kCount)) return complain(name);
    to = static_cast<Enum>(ordinal);
  }

  void read(const char* name, std::vector<std::string>& to) const {
    each(name, [&](const nlohmann::json& value) {
      if (value.is_string()) to.push_back(value.get<std::string>());
    });
  }
  void read(const char* name, std::vector<int32_t>& to) const {
    each(name, [&](const nlohmann::json& value) {
      if (value.is_number_integer()) to.push_back(static_cast<int32_t>(value.get<int64_t>()));
    });
  }
  void read(const char* name, std::map<std::string, std::string>& to) const {
    each_member(name, [&](const std::string& key, const nlohmann::json& value) {
      if (value.is_null()) return;
      to[key] = value.is_string() ? value.get<std::string>()
                                  : value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    });
  }
  /// A map with whole numbers on both sides.
  template <typename Key, typename Value>
  void read_numbers(const char* name, std::map<Key, Value>& to) const {
    each_member(name, [&](const std::string& text, const nlohmann::json& value) {
      Key key{};
      if (!whole_number(text, key)) return complain(name);
      int64_t number = 0;
      if (value.is_number_integer()) {
        number = value.get<int64_t>();
      } else if (!value.is_string() || !whole_number(value.get_ref<const std::string&>(), number)) {
        return complain(name);
      }
      to[key] = static_cast<Value>(number);
    });
  }
  void read(const char* name, MessageQueue& to) const {
    const auto* value = member(name);
    if (value != nullptr) to = json_message_queue(*value);
  }
  void read(const char* name, std::map<MessageQueue, int64_t>& to) const {
    const auto* value = member(name);
    if (value != nullptr) read_queue_offsets(*value, name, to);
  }
  void read_queue_offsets(const nlohmann::json& table, const char* name, std::map<MessageQueue, int64_t>& to) const {
    if (!table.is_object()) return complain(name);
    for (const auto& [key, value] : table.items()) {
      auto queue = message_queue_from_key(key);
      int64_t offset = 0;
      if (value.is_number_integer()) {
        offset = value.get<int64_t>();
      } else if (!value.is_string() || !whole_number(value.get_ref<const std::string&>(), offset)) {
        return complain(name);
      }
      if (!queue) return complain(name);
      to[std::move(queue).value()] = offset;
    }
  }

  /// Any struct that has a read_body(const BodyReader&, T&).
  template <typename T>
  void read_struct(const char* name, T& to) const {
    const auto* value = member(name);
    if (value != nullptr) read_body(BodyReader(*value, problem_), to);
  }
  template <typename T>
  void read_structs(const char* name, std::vector<T>& to) const {
    each(name, [&](const nlohmann::json& value) {
      if (!value.is_null()) read_body(BodyReader(value, problem_), to.emplace_back());
    });
  }
  template <typename T>
  void read_structs(const char* name, std::map<std::string, T>& to) const {
    each_member(name, [&](const std::string& key, const nlohmann::json& value) {
      if (!value.is_null()) read_body(BodyReader(value, problem_), to[key]);
    });
  }
  template <typename T>
  void read_structs(const char* name, std::map<MessageQueue, T>& to) const {
    each_member(name, [&](const std::string& key, const nlohmann::json& value) {
      auto queue = message_queue_from_key(key);
      if (!queue) return complain(name);
      if (!value.is_null()) read_body(BodyReader(value, problem_), to[std::move(queue).value()]);
    });
  }

  template <typename Function>
  void each(const char* name, Function function) const {
    const auto* value = member(name);
    if (value == nullptr) return;
    if (!value->is_array()) return complain(name);
    for (const auto& item : *value) function(item);
  }
  template <typename Function>
  void each_member(const char* name, Function function) const {
    const auto* value = member(name);
    if (value == nullptr) return;
    if (!value->is_object()) return complain(name);
    for (const auto& [key, item] : value->items()) function(key, item);
  }

  /// The members that nobody asked for before, as JSON text without braces; so that they can be written again.
  void read_rest(std::string& to) const {
    to.clear();
    if (!object_->is_object()) return;
    for (const auto& [key, value] : object_->items()) {
      if (value.is_null() || std::find(asked_.begin(), asked_.end(), key) != asked_.end()) continue;
      constexpr auto kReplace = nlohmann::json::error_handler_t::replace;
      if (!to.empty()) to += ',';
      to += nlohmann::json(key).dump(-1, ' ', false, kReplace) + ":" + value.dump(-1, ' ', false, kReplace);
    }
  }

  [[nodiscard]] const nlohmann::json* member(const char* name) const {
    asked_.emplace_back(name);
    if (!object_->is_object()) return nullptr;
    auto found = object_->find(name);
    return found == object_->end() || found->is_null() ? nullptr : &*found;
  }
  void complain(const char* name) const {
    if (problem_->empty()) *problem_ = name;
  }
  [[nodiscard]] std::string* problem() const { return problem_; }

 private:
  template <typename Int>
  static bool whole_number(const std::string& text, Int& to) {
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
    return error == std::errc() && end == text.data() + text.size();
  }
  template <typename Int>
  void read_int(const char* name, Int& to) const {
    const auto* value = member(name);
    if (value == nullptr) return;
    if (value->is_string() && value->get_ref<const std::string&>().empty()) return;
    // Two different fallbacks tell a number from what is none.
    int64_t number = json_int(*object_, name, 0);
    if (number == 0 && json_int(*object_, name, 1) == 1) return complain(name);
    if (number < std::numeric_limits<Int>::min() || number > std::numeric_limits<Int>::max()) return complain(name);
    to = static_cast<Int>(number);
  }

  const nlohmann::json* object_;
  std::string* problem_;
  mutable std::vector<std::string_view> asked_;
};

/// Reads a whole body; `what` names it in the error.
template <typename T>
Result<T> decode_body(std::string_view json, const char* what) {
  auto tree = read_json(json);
  if (!tree) return Error{tree.error().code, fmt::format("body {}: {}", what, tree.error().message)};
  std::string problem;
  T body;
  read_body(BodyReader(*tree, &problem), body);
  if (!problem.empty())
    return Error{Errc::kInvalidArgument, fmt::format("body {}: {} is not what it must be", what, problem)};
  return body;
}

}  // namespace apogee::remoting
