#include "common/remoting/command_codec.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

#include "common/remoting/json_scanner.h"

namespace apogee::remoting {

namespace {

constexpr size_t kHeaderWordBytes = 4;
constexpr size_t kHeaderBytesMax = 0xFFFFFF;
constexpr size_t kExtFieldsMax = 1024;
constexpr int kSkipDepthMax = 32;
constexpr int32_t kLanguageCount = 14;

Error corrupt(std::string what) { return Error{Errc::kCorrupt, std::move(what)}; }

/// The binary header has 16 bits for the code; the codes of POP were cut to them.
int32_t restore_request_code(int32_t code) {
  bool cut = (code >= 3442 && code <= 3448) || code == 3543;
  return cut ? code + 3 * 65536 : code;
}

LanguageCode language_from_number(int64_t number) {
  return number >= 0 && number < kLanguageCount ? static_cast<LanguageCode>(number) : LanguageCode::kOther;
}

// ---- JSON header ----

class JsonHeaderReader {
 public:
  JsonHeaderReader(std::string_view text, Command& to) : scanner_(text), to_(to) {}

  Status read() {
    if (!scanner_.take('{')) return corrupt("header: no JSON object");
    for (scanner_.skip_commas(); !scanner_.take('}'); scanner_.skip_commas()) {
      if (!read_name(name_)) return broken();
      APOGEE_TRY(read_member());
    }
    return scanner_.at_end() ? Status() : broken();
  }

 private:
  enum class Found : uint8_t { kNothing, kText, kBroken };

  [[nodiscard]] Error broken() const {
    return corrupt(fmt::format("header: not JSON at byte {}", scanner_.position()));
  }

  bool read_name(std::string& to) {
    std::string_view bare;
    if (scanner_.peek() == JsonScanner::Kind::kText) {
      if (!scanner_.read_text(to)) return false;
    } else {
      if (!scanner_.read_bare_name(bare)) return false;
      to = bare;
    }
    return scanner_.take(':');
  }

  /// Any value as text: numbers and booleans as they are written, structures as their JSON.
  Found read_value(std::string& to) {
    size_t from = 0;
    std::string_view bare;
    switch (scanner_.peek()) {
      case JsonScanner::Kind::kText: return scanner_.read_text(to) ? Found::kText : Found::kBroken;
      case JsonScanner::Kind::kNumber:
        if (!scanner_.read_number(bare)) return Found::kBroken;
        to = bare;
        return Found::kText;
      case JsonScanner::Kind::kTrue:
      case JsonScanner::Kind::kFalse:
        to = scanner_.peek() == JsonScanner::Kind::kTrue ? "true" : "false";
        return scanner_.take_word() ? Found::kText : Found::kBroken;
      case JsonScanner::Kind::kNull: return scanner_.take_word() ? Found::kNothing : Found::kBroken;
      default:
        from = scanner_.position();
        if (!scanner_.skip_value(kSkipDepthMax)) return Found::kBroken;
        to = scanner_.slice(from);
        return Found::kText;
    }
  }

  Status read_member() {
    if (name_ == "extFields") return read_ext();
    Found found = read_value(value_);
    if (found == Found::kBroken) return broken();
    if (found == Found::kNothing) return {};
    if (name_ == "code") return read_int(to_.code);
    if (name_ == "version") return read_int(to_.version);
    if (name_ == "opaque") return read_int(to_.opaque);
    if (name_ == "flag") return read_int(to_.flag);
    if (name_ == "remark") to_.remark = value_;
    if (name_ == "language") {
      int64_t number = 0;
      to_.language = whole(number) ? language_from_number(number) : language_from_name(value_);
    }
    return {};
  }

  Status read_ext() {
    if (scanner_.peek() == JsonScanner::Kind::kNull) return scanner_.take_word() ? Status() : broken();
    if (!scanner_.take('{')) return corrupt("header: extFields is no JSON object");
    for (scanner_.skip_commas(); !scanner_.take('}'); scanner_.skip_commas()) {
      if (!read_name(name_)) return broken();
      Found found = read_value(value_);
      if (found == Found::kBroken) return broken();
      if (found == Found::kNothing) continue;
      if (to_.ext.size() >= kExtFieldsMax) return corrupt("header: too many extFields");
      to_.ext.set(name_, value_);
    }
    return {};
  }

  bool whole(int64_t& number) const {
    auto [end, error] = std::from_chars(value_.data(), value_.data() + value_.size(), number);
    return !value_.empty() && error == std::errc() && end == value_.data() + value_.size();
  }

  Status read_int(int32_t& to) {
    int64_t number = 0;
    if (!whole(number) || number < std::numeric_limits<int32_t>::min() || number > std::numeric_limits<int32_t>::max())
      return corrupt(fmt::format("header: {} is no 32-bit number", name_));
    to = static_cast<int32_t>(number);
    return {};
  }

  JsonScanner scanner_;
  Command& to_;
  std::string name_, value_;
};

void append_number(std::string& to, std::string_view name, int32_t number) {
  fmt::format_int digits(number);
  to += name;
  to.append(digits.data(), digits.size());
}

void append_json_header(std::string& out, const Command& command) {
  append_number(out, "{\"code\":", command.code);
  if (!command.ext.empty()) {
    out += ",\"extFields\":{";
    for (size_t i = 0; i < command.ext.size(); ++i) {
      if (i > 0) out += ',';
      append_json_string(out, command.ext.name(i));
      out += ':';
      append_json_string(out, command.ext.value(i));
    }
    out += '}';
  }
  append_number(out, ",\"flag\":", command.flag);
  out += ",\"language\":\"";
  out += to_string(command.language);
  append_number(out, "\",\"opaque\":", command.opaque);
  if (command.remark) {
    out += ",\"remark\":";
    append_json_string(out, *command.remark);
  }
  append_number(out, ",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":", command.version);
  out += '}';
}

// ---- binary header ----

Status read_binary_header(std::string_view header, Command& to) {
  ByteReader in(header);
  to.code = in.read<int16_t>();
  to.language = language_from_number(in.read<uint8_t>());
  to.version = in.read<int16_t>();
  to.opaque = in.read<int32_t>();
  to.flag = in.read<int32_t>();
  if (!in.ok()) return corrupt("header: shorter than its fixed part");
  if (!to.is_response()) to.code = restore_request_code(to.code);
  auto remark_bytes = in.read<int32_t>();
  if (!in.ok() || remark_bytes < 0 || static_cast<size_t>(remark_bytes) > in.remaining())
    return corrupt("header: length of the remark");
  if (remark_bytes > 0) to.remark = std::string(in.take(static_cast<size_t>(remark_bytes)));
  auto ext_bytes = in.read<int32_t>();
  if (!in.ok() || ext_bytes < 0 || static_cast<size_t>(ext_bytes) > in.remaining())
    return corrupt("header: length of the extFields");
  ByteReader ext(in.take(static_cast<size_t>(ext_bytes)));
  while (ext.remaining() > 0) {
    auto name = ext.take(ext.read<uint16_t>());
    auto value_bytes = ext.read<int32_t>();
    if (!ext.ok() || value_bytes < 0 || static_cast<size_t>(value_bytes) > ext.remaining())
      return corrupt("header: length of an extField");
    auto value = ext.take(static_cast<size_t>(value_bytes));
    if (to.ext.size() >= kExtFieldsMax) return corrupt("header: too many extFields");
    to.ext.set(name, value);
  }
  return {};
}

void append_binary_header(std::string& out, const Command& command) {
  append_be<int16_t>(out, static_cast<int16_t>(command.code));
  out += static_cast<char>(command.language);
  append_be<int16_t>(out, static_cast<int16_t>(command.version));
  append_be<int32_t>(out, command.opaque);
  append_be<int32_t>(out, command.flag);
  std::string_view remark = command.remark ? std::string_view(*command.remark) : std::string_view();
  append_be<int32_t>(out, static_cast<int32_t>(remark.size()));
  out += remark;
  size_t ext_at = out.size();
  append_be<int32_t>(out, 0);
  for (size_t i = 0; i < command.ext.size(); ++i) {
    auto name = command.ext.name(i);
    auto value = command.ext.value(i);
    if (name.size() > std::numeric_limits<uint16_t>::max()) continue;
    append_be<uint16_t>(out, static_cast<uint16_t>(name.size()));
    out += name;
    append_be<int32_t>(out, static_cast<int32_t>(value.size()));
    out += value;
  }
  store_be<int32_t>(out.data() + ext_at, static_cast<int32_t>(out.size() - ext_at - sizeof(int32_t)));
}

void append_header(std::string& out, const Command& command) {
  constexpr size_t kUsualBytes = 256;
  out.reserve(out.size() + kUsualBytes);
  command.serialize == SerializeType::kJson ? append_json_header(out, command) : append_binary_header(out, command);
}

}  // namespace

std::optional<Command> decode_scanned(const HeaderView& header, const SharedBytes& frame) {
  Command command;
  command.serialize = SerializeType::kJson;
  command.code = header.code;
  command.version = header.version;
  command.opaque = header.opaque;
  command.flag = header.flag;
  command.language = LanguageCode::kOther;
  const auto& language = header.language;
  if (language.escaped) return std::nullopt;
  if (!language.name.empty()) {
    int64_t number = 0;
    const char* last = language.value.data() + language.value.size();
    auto [end, error] = std::from_chars(language.value.data(), last, number);
    const bool whole = error == std::errc() && end == last && !language.value.empty();
    command.language = whole ? language_from_number(number) : language_from_name(language.value);
  }
  std::string text;
  if (header.remark.escaped) {
    if (!unescape(header.remark.value, text)) return std::nullopt;
    command.remark = text;
  } else if (!header.remark.name.empty()) {
    command.remark = std::string(header.remark.value);
  }
  size_t bytes = 0;
  for (size_t i = 0; i < header.field_count; ++i) bytes += header.fields[i].name.size() + header.fields[i].value.size();
  command.ext.reserve(header.field_count, bytes);
  for (size_t i = 0; i < header.field_count; ++i) {
    const auto& field = header.fields[i];
    if (field.escaped && !unescape(field.value, text)) return std::nullopt;
    command.ext.set(field.name, field.escaped ? std::string_view(text) : field.value);
  }
  const size_t head_bytes = kHeaderWordBytes + (load_be<uint32_t>(frame.bytes.data()) & kHeaderBytesMax);
  if (frame.size() > head_bytes) command.body = SharedBytes(frame.owner, frame.bytes.substr(head_bytes));
  return command;
}

Result<Command> decode_frame(const SharedBytes& frame) {
  ByteReader in(frame.bytes);
  auto word = in.read<uint32_t>();
  if (!in.ok()) return corrupt("frame: shorter than its header length");
  auto type = word >> 24;
  auto header = in.take(word & kHeaderBytesMax);
  if (!in.ok()) return corrupt("frame: the header is longer than the frame");
  Command command;
  command.language = LanguageCode::kOther;
  command.version = 0;
  if (type == static_cast<uint32_t>(SerializeType::kJson)) {
    command.serialize = SerializeType::kJson;
    APOGEE_TRY(JsonHeaderReader(header, command).read());
  } else if (type == static_cast<uint32_t>(SerializeType::kRocketMq)) {
    command.serialize = SerializeType::kRocketMq;
    APOGEE_TRY(read_binary_header(header, command));
  } else {
    return corrupt(fmt::format("frame: serialize type {}", type));
  }
  if (in.remaining() > 0) command.body = SharedBytes(frame.owner, frame.bytes.substr(in.position()));
  return command;
}

std::string encode_header(const Command& command) {
  std::string out;
  append_header(out, command);
  return out;
}

std::string json_header_tail() {
  const std::string text = encode_header(Command());
  return text.substr(text.find(",\"serializeTypeCurrentRPC\""));
}

void store_frame_head(char* frame, SerializeType serialize, size_t header_bytes, size_t body_bytes) {
  store_be<uint32_t>(frame, static_cast<uint32_t>(kHeaderWordBytes + header_bytes + body_bytes));
  store_be<uint32_t>(frame + kFrameLengthBytes,
                     static_cast<uint32_t>(serialize) << 24 | static_cast<uint32_t>(header_bytes));
}

void append_frame_head(std::string& to, const Command& command) {
  const size_t begin = to.size();
  to.append(kFrameHeadBytes, '\0');
  append_header(to, command);
  if (to.size() - begin - kFrameHeadBytes > kHeaderBytesMax) {
    // Only a remark or a field that nobody meant to send can be as large; the peer still gets its answer.
    Command bare = command;
    bare.ext = ExtFields();
    bare.remark = "the header is larger than a frame can carry";
    to.resize(begin + kFrameHeadBytes);
    append_header(to, bare);
  }
  size_t body_bytes = command.body.size();
  for (const auto& part : command.body_tail) body_bytes += part.size();
  store_frame_head(to.data() + begin, command.serialize, to.size() - begin - kFrameHeadBytes, body_bytes);
}

std::vector<SharedBytes> encode_frame(const Command& command) {
  std::vector<SharedBytes> parts;
  parts.reserve(2 + command.body_tail.size());
  std::string head;
  append_frame_head(head, command);
  parts.push_back(SharedBytes::from(std::move(head)));
  if (!command.body.empty()) parts.push_back(command.body);
  for (const auto& part : command.body_tail) {
    if (!part.empty()) parts.push_back(part);
  }
  return parts;
}

std::string encode_frame_to_string(const Command& command) {
  std::string out;
  append_frame_head(out, command);
  out += command.body.bytes;
  for (const auto& part : command.body_tail) out += part.bytes;
  return out;
}

}  // namespace apogee::remoting
