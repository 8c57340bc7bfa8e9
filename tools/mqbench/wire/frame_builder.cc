#include "tools/mqbench/wire/frame_builder.h"

#include <fmt/core.h>

#include <random>

#include "common/base/bytes.h"
#include "tools/mqbench/wire/stamp.h"

namespace mqbench {

namespace {

constexpr int kVersion = 409;  // V4_9_8: any broker of 4.9 or 5 takes it
const std::string kKeyHole(kKeyDigits, '@');

std::string json_text(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out;
}

std::string json_header(int code, bool one_way, const Fields& fields) {
  std::string header = fmt::format("{{\"code\":{},\"extFields\":{{", code);
  for (size_t i = 0; i < fields.size(); ++i)
    header +=
        fmt::format("{}\"{}\":\"{}\"", i == 0 ? "" : ",", json_text(fields[i].first), json_text(fields[i].second));
  header += fmt::format(
      "}},\"flag\":{},\"language\":\"JAVA\",\"opaque\":{},\"serializeTypeCurrentRPC\":\"JSON\",\"version\":{}}}",
      one_way ? 2 : 0, kOpaqueFirst, kVersion);
  return header;
}

std::string binary_header(int code, bool one_way, const Fields& fields) {
  std::string header;
  apogee::append_be<int16_t>(header, static_cast<int16_t>(code));
  header += '\0';  // JAVA
  apogee::append_be<int16_t>(header, kVersion);
  apogee::append_be<uint32_t>(header, kOpaqueFirst);
  apogee::append_be<int32_t>(header, one_way ? 2 : 0);
  apogee::append_be<int32_t>(header, 0);  // no remark
  std::string all;
  for (const auto& [name, value] : fields) {
    apogee::append_be<int16_t>(all, static_cast<int16_t>(name.size()));
    all += name;
    apogee::append_be<int32_t>(all, static_cast<int32_t>(value.size()));
    all += value;
  }
  apogee::append_be<int32_t>(header, static_cast<int32_t>(all.size()));
  return header + all;
}

/// Where the holes for keys are; they are then zeros.
std::vector<size_t> fill_holes(std::string& bytes, size_t from = 0) {
  std::vector<size_t> holes;
  for (size_t at = bytes.find(kKeyHole, from); at != std::string::npos; at = bytes.find(kKeyHole, at)) {
    bytes.replace(at, kKeyHole.size(), kKeyHole.size(), '0');
    holes.push_back(at);
  }
  return holes;
}

std::string properties_of(const MessageShape& shape, uint32_t run, const std::string& tag) {
  std::string all;
  const auto add = [&all](const std::string& name, const std::string& value) {
    if (!all.empty()) all += '\x02';
    all.append(name).append(1, '\x01').append(value);
  };
  for (size_t i = 0; i < shape.properties; ++i) add(fmt::format("p{}", i), fmt::format("{:016}", i * 7'919));
  if (shape.keys) add("KEYS", "k" + kKeyHole);
  if (shape.unique_key) add("UNIQ_KEY", fmt::format("{:08X}", run) + kKeyHole);
  add("WAIT", "true");
  if (!tag.empty()) add("TAGS", tag);
  return all;
}

std::string filler_of(size_t bytes, uint32_t run) {
  std::mt19937_64 random(run);
  std::string filler;
  filler.reserve(bytes + 8);
  while (filler.size() < bytes) apogee::append_be<uint64_t>(filler, random());
  filler.resize(bytes);
  return filler;
}

}  // namespace

void write_digits(char* to, uint64_t number, int digits) {
  for (int i = digits - 1; i >= 0; --i, number /= 10) to[i] = static_cast<char>('0' + number % 10);
}

void write_hex(char* to, uint64_t number, int digits) {
  for (int i = digits - 1; i >= 0; --i, number >>= 4) to[i] = "0123456789ABCDEF"[number & 15];
}

void patch_opaque(char* frame, size_t opaque_at, HeaderType type, uint32_t opaque) {
  if (type == HeaderType::kBinary)
    apogee::store_be<uint32_t>(frame + opaque_at, opaque);
  else
    write_digits(frame + opaque_at, opaque, 10);
}

RequestFrame build_request(HeaderType type, int code, bool one_way, const Fields& fields, size_t body_bytes) {
  const auto header =
      type == HeaderType::kJson ? json_header(code, one_way, fields) : binary_header(code, one_way, fields);
  RequestFrame frame;
  frame.type = type;
  apogee::append_be<uint32_t>(frame.bytes, static_cast<uint32_t>(4 + header.size() + body_bytes));
  apogee::append_be<uint32_t>(frame.bytes, (static_cast<uint32_t>(type) << 24) | static_cast<uint32_t>(header.size()));
  frame.bytes += header;
  constexpr std::string_view kOpaqueMember = "\"opaque\":";
  frame.opaque_at = type == HeaderType::kJson ? frame.bytes.rfind(kOpaqueMember) + kOpaqueMember.size() : 8 + 5;
  return frame;
}

MessageBodies build_bodies(const MessageShape& shape, uint32_t run, const std::string& tag) {
  MessageBodies all;
  const auto filler = filler_of(shape.body_bytes - Stamp::kBytes, run);
  all.filler_hash = hash_filler(filler);
  const std::string body = std::string(Stamp::kBytes, '\0') + filler;
  if (shape.batch == 1) {
    all.bytes = body;
    all.parts.push_back({});
    return all;
  }
  const auto properties = properties_of(shape, run, tag);
  for (size_t i = 0; i < shape.batch; ++i) {
    const size_t begin = all.bytes.size();
    apogee::append_be<int32_t>(all.bytes, static_cast<int32_t>(22 + body.size() + properties.size()));
    for (int zero = 0; zero < 3; ++zero) apogee::append_be<int32_t>(all.bytes, 0);  // magic, CRC, flag
    apogee::append_be<int32_t>(all.bytes, static_cast<int32_t>(body.size()));
    MessageBodies::Part part;
    part.body_at = all.bytes.size();
    all.bytes += body;
    apogee::append_be<int16_t>(all.bytes, static_cast<int16_t>(properties.size()));
    all.bytes += properties;
    part.keys_at = fill_holes(all.bytes, begin);
    all.parts.push_back(std::move(part));
  }
  return all;
}

SendHead build_send_head(const MessageShape& shape, uint32_t run, const std::string& tag, const std::string& group,
                         const std::string& topic, int queue_id, const std::string& broker_name, size_t body_bytes) {
  const bool batch = shape.batch > 1;
  constexpr std::string_view kBornHole = "9876543210123";
  Fields fields{{"a", group},
                {"b", topic},
                {"c", "TBW102"},
                {"d", "4"},
                {"e", std::to_string(queue_id)},
                {"f", "0"},
                {"g", std::string(kBornHole)},
                {"h", "0"},
                {"i", batch ? std::string("WAIT\x01true") : properties_of(shape, run, tag)},
                {"j", "0"},
                {"k", "false"},
                {"m", batch ? "true" : "false"}};
  if (!broker_name.empty()) fields.emplace_back("n", broker_name);
  SendHead head;
  head.request = build_request(shape.header, batch ? 320 : 310, shape.one_way, fields, body_bytes);
  head.born_at = head.request.bytes.find(kBornHole);
  head.keys_at = fill_holes(head.request.bytes);
  return head;
}

}  // namespace mqbench
