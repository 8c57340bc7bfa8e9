#include "common/remoting/json_reader.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "common/base/text.h"
#include "common/remoting/json_scanner.h"

namespace apogee::remoting {

namespace {

using nlohmann::json;

std::string compact_text(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

json number_from(std::string_view text) {
  const char* end = text.data() + text.size();
  int64_t whole = 0;
  auto as_int = std::from_chars(text.data(), end, whole);
  if (as_int.ec == std::errc() && as_int.ptr == end) return whole;
  double real = 0;
  auto as_real = std::from_chars(text.data(), end, real);
  if (as_real.ec != std::errc()) return nullptr;
  return real;
}

class TreeReader {
 public:
  TreeReader(std::string_view text, int depth_max) : scanner_(text), depth_left_(depth_max) {}

  bool read_all(json& to) { return read(to) && scanner_.at_end(); }
  [[nodiscard]] size_t position() const { return scanner_.position(); }

 private:
  bool read(json& to) {
    switch (scanner_.peek()) {
      case JsonScanner::Kind::kText: {
        std::string text;
        if (!scanner_.read_text(text)) return false;
        to = std::move(text);
        return true;
      }
      case JsonScanner::Kind::kNumber: {
        std::string_view text;
        if (!scanner_.read_number(text)) return false;
        to = number_from(text);
        return true;
      }
      case JsonScanner::Kind::kTrue: to = true; return scanner_.take_word();
      case JsonScanner::Kind::kFalse: to = false; return scanner_.take_word();
      case JsonScanner::Kind::kNull: to = nullptr; return scanner_.take_word();
      case JsonScanner::Kind::kObject: return read_object(to);
      case JsonScanner::Kind::kArray: return read_array(to);
      default: return false;
    }
  }

  bool read_object(json& to) {
    if (depth_left_ <= 0) return false;
    --depth_left_;
    to = json::object();
    scanner_.take('{');
    std::string key;
    for (scanner_.skip_commas(); !scanner_.take('}'); scanner_.skip_commas()) {
      if (!read_key(key) || !scanner_.take(':')) return false;
      json value;
      if (!read(value)) return false;
      to[key] = std::move(value);
    }
    ++depth_left_;
    return true;
  }

  bool read_key(std::string& key) {
    auto kind = scanner_.peek();
    if (kind == JsonScanner::Kind::kText) return scanner_.read_text(key);
    if (kind == JsonScanner::Kind::kObject || kind == JsonScanner::Kind::kArray) {
      json object;
      if (!read(object)) return false;
      key = compact_text(object);
      return true;
    }
    std::string_view bare;
    if (!scanner_.read_bare_name(bare)) return false;
    key = bare;
    return true;
  }

  bool read_array(json& to) {
    if (depth_left_ <= 0) return false;
    --depth_left_;
    to = json::array();
    scanner_.take('[');
    for (scanner_.skip_commas(); !scanner_.take(']'); scanner_.skip_commas()) {
      json value;
      if (!read(value)) return false;
      to.push_back(std::move(value));
    }
    ++depth_left_;
    return true;
  }

  JsonScanner scanner_;
  int depth_left_;
};

const json* find_member(const json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  auto found = object.find(name);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

}  // namespace

Result<json> read_json(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.bytes_max)
    return Error{Errc::kTooLarge, fmt::format("JSON of {} bytes, more than {}", text.size(), limits.bytes_max)};
  if (text.substr(0, 3) == "\xEF\xBB\xBF") text.remove_prefix(3);
  std::string valid;
  if (!is_utf8(text)) text = valid = to_valid_utf8(text);
  TreeReader reader(text, limits.depth_max);
  json tree;
  if (!reader.read_all(tree))
    return Error{Errc::kInvalidArgument, fmt::format("not JSON at byte {} of {}", reader.position(), text.size())};
  return tree;
}

int64_t json_int(const json& object, const char* name, int64_t fallback) {
  const json* value = find_member(object, name);
  if (value == nullptr) return fallback;
  if (value->is_number_integer()) return value->get<int64_t>();
  if (value->is_boolean()) return value->get<bool>() ? 1 : 0;
  if (value->is_number_float()) {
    double real = value->get<double>();
    return real > -9.2e18 && real < 9.2e18 ? static_cast<int64_t>(real) : fallback;
  }
  if (!value->is_string()) return fallback;
  const auto& text = value->get_ref<const std::string&>();
  int64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : fallback;
}

double json_double(const json& object, const char* name, double fallback) {
  const json* value = find_member(object, name);
  if (value == nullptr) return fallback;
  if (value->is_number()) return value->get<double>();
  if (!value->is_string()) return fallback;
  const auto& text = value->get_ref<const std::string&>();
  double number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() ? number : fallback;
}

bool json_bool(const json& object, const char* name, bool fallback) {
  const json* value = find_member(object, name);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  if (value->is_number_integer()) return value->get<int64_t>() != 0;
  if (!value->is_string()) return fallback;
  const auto& text = value->get_ref<const std::string&>();
  if (text == "true" || text == "TRUE" || text == "1") return true;
  if (text == "false" || text == "FALSE" || text == "0") return false;
  return fallback;
}

std::string json_text(const json& object, const char* name, std::string_view fallback) {
  const json* value = find_member(object, name);
  if (value == nullptr) return std::string(fallback);
  if (value->is_string()) return value->get<std::string>();
  return compact_text(*value);
}

MessageQueue json_message_queue(const json& object) {
  MessageQueue queue;
  queue.topic = json_text(object, "topic", "");
  queue.broker_name = json_text(object, "brokerName", "");
  int64_t id = json_int(object, "queueId", 0);
  if (id >= std::numeric_limits<int32_t>::min() && id <= std::numeric_limits<int32_t>::max())
    queue.queue_id = static_cast<int32_t>(id);
  return queue;
}

Result<MessageQueue> message_queue_from_key(const std::string& key) {
  auto object = read_json(key, JsonLimits{.bytes_max = 64 * 1024, .depth_max = 4});
  if (!object || !object->is_object())
    return Error{Errc::kInvalidArgument, fmt::format("a map key is not a MessageQueue: {:.60}", key)};
  return json_message_queue(*object);
}

}  // namespace apogee::remoting
