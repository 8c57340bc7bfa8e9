#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/bytes.h"
#include "common/remoting/request_code.h"
#include "common/remoting/response_code.h"

namespace apogee::remoting {

/// Protocol version that we advertise: V5_3_3.
inline constexpr int32_t kProtocolVersion = 479;

enum class SerializeType : uint8_t { kJson = 0, kRocketMq = 1 };

/// Language of the sender; the byte of the binary header, a name in the JSON header.
enum class LanguageCode : uint8_t {
  kJava = 0,
  kCpp = 1,
  kDotnet = 2,
  kPython = 3,
  kDelphi = 4,
  kErlang = 5,
  kRuby = 6,
  kOther = 7,
  kHttp = 8,
  kGo = 9,
  kPhp = 10,
  kOms = 11,
  kRust = 12,
  kNodeJs = 13,
};
/// "JAVA", "CPP", ... as in the JSON header and in connection listings.
const char* to_string(LanguageCode language);
/// kOther for a name that is not known.
LanguageCode language_from_name(std::string_view name);

/// The custom header ("extFields"): names and text values in the order they were added. Owns its text
/// in one arena, so that a command costs two allocations and not two a field. A later value of a name
/// replaces an earlier one. Lookup is linear: headers have at most some twenty fields.
class ExtFields {
 public:
  void set(std::string_view name, std::string_view value);
  void set(std::string_view name, const char* value) { set(name, std::string_view(value)); }
  void set(std::string_view name, int64_t value);
  void set(std::string_view name, int32_t value) { set(name, static_cast<int64_t>(value)); }
  /// Takes room at once for what is going to be set.
  void reserve(size_t fields, size_t text_bytes) {
    entries_.reserve(fields);
    arena_.reserve(text_bytes);
  }
  void set(std::string_view name, bool value) { set(name, std::string_view(value ? "true" : "false")); }

  /// Absent fields and JSON nulls are nullopt. The view lives as long as this object is not changed.
  [[nodiscard]] std::optional<std::string_view> get(std::string_view name) const;
  /// nullopt when absent, or when the value is not a whole decimal number that fits.
  template <typename Int>
  [[nodiscard]] std::optional<Int> get_int(std::string_view name) const {
    auto text = get(name);
    if (!text || text->empty()) return std::nullopt;
    Int value{};
    auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
    if (error != std::errc() || end != text->data() + text->size()) return std::nullopt;
    return value;
  }
  /// True only for "true" in any case, as Java's Boolean.parseBoolean; nullopt when absent.
  [[nodiscard]] std::optional<bool> get_bool(std::string_view name) const;

  [[nodiscard]] size_t size() const { return entries_.size(); }
  [[nodiscard]] bool empty() const { return entries_.empty(); }
  [[nodiscard]] std::string_view name(size_t index) const { return text(entries_[index].name); }
  [[nodiscard]] std::string_view value(size_t index) const { return text(entries_[index].value); }

 private:
  struct Range {
    uint32_t offset, size;
  };
  struct Entry {
    Range name, value;
  };
  [[nodiscard]] std::string_view text(Range r) const { return std::string_view(arena_).substr(r.offset, r.size); }
  Range keep(std::string_view text);
  std::string arena_;
  std::vector<Entry> entries_;
};

inline constexpr int32_t kResponseFlag = 1;
inline constexpr int32_t kOnewayFlag = 2;

/// One remoting command: a request or a response, with its body. A plain value.
struct Command {
  int32_t code = 0;  ///< RequestCode, or a response_code of a response
  LanguageCode language = LanguageCode::kCpp;
  int32_t version = kProtocolVersion;
  int32_t opaque = 0;  ///< matches a response to its request; set by whoever sends the request
  int32_t flag = 0;
  std::optional<std::string> remark;
  ExtFields ext;
  SerializeType serialize = SerializeType::kJson;
  SharedBytes body;  ///< empty = no body
  /// Further parts of an outgoing body, written after `body` without copying; empty on a decoded command.
  std::vector<SharedBytes> body_tail;

  [[nodiscard]] bool is_response() const { return (flag & kResponseFlag) != 0; }
  [[nodiscard]] bool is_oneway() const { return (flag & kOnewayFlag) != 0; }
  [[nodiscard]] RequestCode request_code() const { return static_cast<RequestCode>(code); }

  static Command request(RequestCode code);
  /// A response to `request`: same opaque, same serialization.
  static Command response_to(const Command& request, int32_t code, std::optional<std::string> remark = std::nullopt);
};

}  // namespace apogee::remoting
