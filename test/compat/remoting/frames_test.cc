#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "common/base/hex.h"
#include "common/message/batch.h"
#include "common/message/compression.h"
#include "common/message/message_id.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/remoting/command_codec.h"
#include "test/compat/remoting/fixture.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::remoting;
using nlohmann::json;

namespace {

Command decode(const std::string& frame) {
  REQUIRE(frame.size() > kFrameLengthBytes);
  REQUIRE(load_be<uint32_t>(frame.data()) == frame.size() - kFrameLengthBytes);
  auto command = decode_frame(SharedBytes::from(frame.substr(kFrameLengthBytes)));
  if (!command) FAIL(command.error().message);
  return *command;
}

json header_of(const Command& command) {
  json header{{"code", command.code},
              {"opaque", command.opaque},
              {"flag", command.flag},
              {"version", command.version},
              {"language", to_string(command.language)}};
  header["remark"] = command.remark ? json(*command.remark) : json();
  header["extFields"] = nullptr;
  if (!command.ext.empty()) header["extFields"] = json::object();
  for (size_t i = 0; i < command.ext.size(); ++i)
    header["extFields"][std::string(command.ext.name(i))] = std::string(command.ext.value(i));
  return header;
}

json without_empty_ext(json header) {
  if (header["extFields"].is_object() && header["extFields"].empty()) header["extFields"] = nullptr;
  return header;
}

// The Java encoder writes some headers' fields twice, once by hand and once from its map.
bool has_duplicates(const std::string& frame) {
  ByteReader in(std::string_view(frame).substr(8));
  in.take(13);
  in.take(in.read<uint32_t>());
  ByteReader ext(in.take(in.read<uint32_t>()));
  std::set<std::string> names;
  while (ext.ok() && ext.remaining() > 0) {
    if (!names.insert(std::string(ext.take(ext.read<uint16_t>()))).second) return true;
    ext.take(ext.read<uint32_t>());
  }
  return false;
}

std::map<std::string, std::string> property_map(std::string_view text) {
  std::map<std::string, std::string> map;
  for (auto [name, value] : message::parse_properties(text)) {
    map[std::string(name)] = value;
    CHECK(message::find_property(text, name) == value);
  }
  return map;
}

void check_record(std::string_view bytes, const json& expected) {
  auto record = message::decode_record(bytes);
  if (!record) FAIL(record.error().message);
  CHECK(record->bytes.size() == expected["size"]);
  CHECK(record->body_crc == expected["bodyCrc"]);
  CHECK(message::body_crc_matches(*record));
  CHECK(record->queue_id == expected["queueId"]);
  CHECK(record->flag == expected["flag"]);
  CHECK(record->queue_offset == expected["queueOffset"]);
  CHECK(record->physical_offset == expected["physicalOffset"]);
  CHECK(record->sys_flag == expected["sysFlag"]);
  CHECK(record->born_timestamp_ms == expected["bornTimestamp"]);
  CHECK(message::to_string(record->born_host) == expected["bornHost"]);
  CHECK(record->store_timestamp_ms == expected["storeTimestamp"]);
  CHECK(message::to_string(record->store_host) == expected["storeHost"]);
  CHECK(record->reconsume_times == expected["reconsumeTimes"]);
  CHECK(record->prepared_transaction_offset == expected["preparedTransactionOffset"]);
  CHECK(record->topic == expected["topic"]);
  CHECK(record->body.size() == expected["bodyLength"]);
  if (expected.contains("bodyText")) CHECK(record->body == expected["bodyText"]);
  if (expected.contains("bodyHex")) CHECK(from_hex(expected["bodyHex"].get<std::string>()) == record->body);
  CHECK(json(property_map(record->properties)) == expected["properties"]);
  auto id = message::encode_offset_message_id(record->store_host, record->physical_offset);
  CHECK(id == expected["offsetMsgId"]);
  auto parsed = message::decode_offset_message_id(id);
  REQUIRE(parsed);
  CHECK(parsed->ip_bytes == record->store_host.ip_bytes);
  CHECK(parsed->port == record->store_host.port);
  CHECK(parsed->physical_offset == record->physical_offset);
  if (expected.contains("uncompressedLength")) {
    auto type = message::compression_of(record->sys_flag);
    REQUIRE(type);
    auto plain = message::decompress(*type, record->body, 1 << 22);
    REQUIRE(plain);
    CHECK(plain->size() == expected["uncompressedLength"]);
  }

  CHECK(message::encode_record(message::fields_of(*record), record->queue_offset, record->physical_offset) == bytes);
}

}  // namespace

TEST_CASE("every recorded frame decodes to what the index says, and encodes to the same again") {
  int frames = 0, same_bytes = 0, binary = 0;
  for (const auto& entry : fixture::index()) {
    std::string file = entry["file"];
    INFO(file);
    std::string frame = fixture::read_file(fixture::frames_dir() + file);
    auto command = decode(frame);
    ++frames;

    CHECK(header_of(command) == without_empty_ext(entry["header"]));
    bool is_json = entry["serialization"] == "JSON";
    CHECK((command.serialize == SerializeType::kJson) == is_json);
    CHECK(command.is_response() == (entry["kind"] == "response"));
    if (entry.contains("oneway")) CHECK(command.is_oneway() == entry["oneway"]);
    if (entry["body"].is_null()) {
      CHECK(command.body.empty());
    } else {
      CHECK(command.body.size() == entry["body"]["length"]);
      if (entry["body"].contains("text")) CHECK(command.body.bytes == entry["body"]["text"]);
      if (entry["body"].contains("hex")) CHECK(from_hex(entry["body"]["hex"].get<std::string>()) == command.body.bytes);
    }

    std::string again = encode_frame_to_string(command);
    CHECK(header_of(decode(again)) == header_of(command));
    CHECK(decode(again).body.bytes == command.body.bytes);
    if (!is_json) {
      ++binary;
      if (!has_duplicates(frame)) {
        CHECK(again == frame);
        ++same_bytes;
      }
    }
    std::string gathered;
    for (const auto& part : encode_frame(command)) gathered += part.bytes;
    CHECK(gathered == again);
  }
  CHECK(frames > 780);
  CHECK(same_bytes > binary / 2);
}

TEST_CASE("a recorded header in one serialization means the same in the other") {
  for (const auto& entry : fixture::index()) {
    INFO(entry["file"].get<std::string>());
    auto command = decode(fixture::read_file(fixture::frames_dir() + entry["file"].get<std::string>()));
    // An empty text is null in the binary header.
    auto header = header_of(command);
    command.serialize = command.serialize == SerializeType::kJson ? SerializeType::kRocketMq : SerializeType::kJson;
    auto other = header_of(decode(encode_frame_to_string(command)));
    if (header["remark"] == "") header["remark"] = nullptr;
    CHECK(other == without_empty_ext(header));
  }
}

TEST_CASE("every recorded log record decodes, and encodes to the same bytes") {
  size_t count = 0;
  for (const auto& entry : fixture::index()) {
    if (!entry.contains("records")) continue;
    INFO(entry["file"].get<std::string>());
    auto command = decode(fixture::read_file(fixture::frames_dir() + entry["file"].get<std::string>()));
    auto records = message::split_records(command.body.bytes);
    REQUIRE(records);
    REQUIRE(records->size() == entry["records"].size());
    for (size_t i = 0; i < records->size(); ++i) check_record((*records)[i], entry["records"][i]);
    count += records->size();
  }
  CHECK(count > 100);
}

TEST_CASE("every recorded batch decodes, and encodes to the same bytes") {
  int batches = 0;
  for (const auto& entry : fixture::index()) {
    if (!entry.contains("batch")) continue;
    INFO(entry["file"].get<std::string>());
    ++batches;
    auto command = decode(fixture::read_file(fixture::frames_dir() + entry["file"].get<std::string>()));
    auto messages = message::decode_batch(command.body.bytes);
    REQUIRE(messages);
    REQUIRE(messages->size() == entry["batch"].size());
    std::string again;
    for (size_t i = 0; i < messages->size(); ++i) {
      const auto& expected = entry["batch"][i];
      const auto& found = (*messages)[i];
      CHECK(message::batch_message_bytes(found) == expected["size"]);
      CHECK(found.flag == expected["flag"]);
      if (expected.contains("bodyText")) CHECK(found.body == expected["bodyText"]);
      CHECK(json(property_map(found.properties)) == expected["properties"]);
      message::append_batch_message(again, found);
    }
    CHECK(again == command.body.bytes);
  }
  CHECK(batches >= 6);
}

TEST_CASE("a recorded compressed body inflates to what was sent") {
  for (const auto& entry : fixture::index()) {
    if (!entry.contains("uncompressed")) continue;
    auto command = decode(fixture::read_file(fixture::frames_dir() + entry["file"].get<std::string>()));
    auto plain = message::decompress(message::Compression::kZlib, command.body.bytes, 1 << 20);
    REQUIRE(plain);
    CHECK(plain->size() == entry["uncompressed"]["length"]);
    if (entry["uncompressed"].contains("text")) CHECK(*plain == entry["uncompressed"]["text"]);
  }
}
