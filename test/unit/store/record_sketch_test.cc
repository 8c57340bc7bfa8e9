#include "store/record_sketch.h"

#include <random>

#include "common/base/bytes.h"
#include "common/message/properties.h"
#include "common/message/sys_flag.h"
#include "store/message_index.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::store;

namespace {

/// Both verdicts agree, and what both tell of a record does.
void compare(RecordSketcher& sketcher, std::string_view rest, LogOffset offset) {
  message::RecordView record;
  RecordSketch sketch;
  const auto long_way = look_at(rest, offset, false, &record);
  const auto quick_way = sketcher.look_at(rest, offset, sketch);
  REQUIRE(quick_way.kind == long_way.kind);
  REQUIRE(quick_way.bytes == long_way.bytes);
  if (long_way.kind != LogPosition::Kind::kRecord) return;
  REQUIRE(sketch.bytes == record.bytes);
  REQUIRE(sketch.queue_id == record.queue_id);
  REQUIRE(sketch.sys_flag == record.sys_flag);
  REQUIRE(sketch.queue_offset == record.queue_offset);
  REQUIRE(sketch.store_timestamp_ms == record.store_timestamp_ms);
  REQUIRE(sketch.topic == record.topic);
  REQUIRE(sketch.properties == record.properties);
}

}  // namespace

TEST_CASE("RecordSketcher: same verdicts and fields as look_at, on whole records and on wild ones", "[store]") {
  std::mt19937 random(5);
  auto below = [&](size_t end) { return static_cast<size_t>(random() % end); };
  const std::string v4("\x7f\0\0\1", 4), v6(16, '\7');
  RecordSketcher sketcher;
  std::string topic = "first";
  for (int round = 0; round < 20'000; ++round) {
    if (below(3) == 0) topic = std::string(1 + below(round % 7 == 0 ? 300 : 12), static_cast<char>('a' + below(20)));
    if (below(40) == 0) topic = below(2) == 0 ? ".." : "with space";
    message::RecordFields fields;
    fields.topic = topic;
    fields.queue_id = static_cast<int32_t>(random());
    fields.sys_flag = static_cast<int32_t>(below(3) << 2);
    fields.store_timestamp_ms = static_cast<int64_t>(random());
    fields.born_host = {below(2) == 0 ? v4 : v6, 1};
    fields.store_host = {below(2) == 0 ? v4 : v6, 2};
    const std::string body(below(200), 'b'), properties(below(100), 'p');
    fields.body = body;
    fields.properties = properties;
    const auto offset = static_cast<LogOffset>(random());
    std::string bytes = message::encode_record(fields, static_cast<int64_t>(random()), offset);
    const size_t size = bytes.size();
    bytes.append(below(3) * 7, '\0');
    if (below(8) == 0) {
      bytes.assign(8 + below(50), '\0');
      store_be<int32_t>(bytes.data(), static_cast<int32_t>(bytes.size() - (below(4) == 0 ? 1 : 0)));
      store_be<int32_t>(bytes.data() + 4, message::kBlankMagic);
    }
    compare(sketcher, bytes, offset);
    compare(sketcher, bytes, offset + 1);
    // Lengths and flags are where wild values hurt.
    for (int change = 0; change < 4; ++change) {
      std::string wild = bytes;
      for (size_t i = 0; i <= below(3); ++i) wild[below(std::min(wild.size(), size))] = static_cast<char>(random());
      compare(sketcher, wild, offset);
    }
    compare(sketcher, std::string_view(bytes).substr(0, below(bytes.size() + 1)), offset);
  }
}

TEST_CASE("known_properties: what find_property finds, in any text", "[store]") {
  std::mt19937 random(6);
  const std::string_view parts[] = {"TAGS", "KEYS", "UNIQ_KEY", "DELAY", "TAG", "WAIT", "\1", "\1", "\1",
                                    "\2",   "\2",   "\2",       "value", "a b", "K",    "",   "U",  "TAGS\1x\2"};
  for (int round = 0; round < 50'000; ++round) {
    std::string text;
    for (size_t i = random() % 16; i > 0; --i) text += parts[random() % std::size(parts)];
    const auto known = known_properties(text);
    INFO(text);
    REQUIRE(known.tags == message::find_property(text, "TAGS").value_or(""));
    REQUIRE(known.keys == message::find_property(text, "KEYS").value_or(""));
    REQUIRE(known.unique_key == message::find_property(text, "UNIQ_KEY").value_or(""));
    REQUIRE(known.delay_level == message::find_property(text, "DELAY").value_or(""));
  }
}

TEST_CASE("index_hash: the one that is on disk, whatever the length of the key", "[store][index]") {
  // FNV-1a byte by byte, and MurmurHash3's finalizer, as in formats.md.
  auto plain = [](const std::string& text) {
    uint64_t hash = 14695981039346656037ULL;
    for (unsigned char byte : text) hash = (hash ^ byte) * 1099511628211ULL;
    hash = (hash ^ (hash >> 33)) * 0xFF51AFD7ED558CCDULL;
    hash = (hash ^ (hash >> 33)) * 0xC4CEB9FE1A85EC53ULL;
    return hash ^ (hash >> 33);
  };
  std::mt19937 random(7);
  for (size_t size = 0; size < 70; ++size) {
    std::string key(size, '\0');
    for (char& each : key) each = static_cast<char>(random());
    REQUIRE(index_hash("Topic", key) == plain("Topic#" + key));
  }
}
