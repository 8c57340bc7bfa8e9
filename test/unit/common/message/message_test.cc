#include <set>
#include <thread>

#include "common/base/bytes.h"
#include "common/base/hex.h"
#include "common/message/batch.h"
#include "common/message/compression.h"
#include "common/message/message_id.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::message;

namespace {

RecordFields sample() {
  RecordFields fields;
  fields.topic = "T";
  fields.queue_id = 3;
  fields.flag = 7;
  fields.born_timestamp_ms = 1700000000000;
  fields.born_host = {std::string_view("\x7F\0\0\1", 4), 1234};
  fields.store_timestamp_ms = 1700000000001;
  fields.store_host = {std::string_view("\x7F\0\0\1", 4), 10911};
  fields.reconsume_times = 1;
  fields.body = "hello";
  fields.properties =
      "TAGS\x01"
      "TagA\x02";
  return fields;
}

}  // namespace

TEST_CASE("a property is found only as a whole name") {
  const std::string_view text =
      "AKEYS\x01no\x02KEYS\x01k1 k2\x02UNIQ_KEY\x01id\x02KEYSX\x01no\x02"
      "EMPTY\x01\x02x\x02LAST\x01v";
  CHECK(find_property(text, "KEYS") == "k1 k2");
  CHECK(find_property(text, "UNIQ_KEY") == "id");
  CHECK(find_property(text, "LAST") == "v");
  CHECK_FALSE(find_property(text, "EMPTY"));
  CHECK_FALSE(find_property(text, "k1 k2"));
  CHECK_FALSE(find_property(text, ""));
  CHECK_FALSE(find_property("", "KEYS"));
  CHECK(find_property("a\x01"
                      "1\x02"
                      "a\x01"
                      "2",
                      "a") == "2");
  CHECK(find_property("a\x01"
                      "b\x01"
                      "c\x02",
                      "a") ==
        "b\x01"
        "c");
  CHECK(parse_properties(text).size() == 5);
}

TEST_CASE("properties are added with the separator between") {
  std::string text;
  append_property(text, "A", "1");
  CHECK(text ==
        "A\x01"
        "1\x02");
  text.pop_back();
  append_property(text, "B", "2");
  CHECK(text ==
        "A\x01"
        "1\x02"
        "B\x01"
        "2\x02");
  append_property(text, "C", "");
  append_properties(text,
                    "D\x01"
                    "4");
  append_properties(text,
                    "E\x01"
                    "5\x02");
  append_properties(text, "");
  CHECK(text ==
        "A\x01"
        "1\x02"
        "B\x01"
        "2\x02"
        "D\x01"
        "4\x02"
        "E\x01"
        "5\x02");
  remove_property(text, "B");
  remove_property(text, "none");
  CHECK(text ==
        "A\x01"
        "1\x02"
        "D\x01"
        "4\x02"
        "E\x01"
        "5\x02");
  set_property(text, "A", "9");
  CHECK(find_property(text, "A") == "9");
  std::string last =
      "A\x01"
      "1";
  remove_property(last, "A");
  CHECK(last.empty());
}

TEST_CASE("properties without separators are refused") {
  CHECK(check_properties(""));
  CHECK(
      check_properties("A\x01"
                       "1"));
  CHECK(
      check_properties("A\x01"
                       "1\x02"
                       "B\x01\x02"));
  CHECK_FALSE(check_properties("nonsense"));
  CHECK_FALSE(
      check_properties("A\x01"
                       "1\x02nonsense\x02"));
  CHECK_FALSE(
      check_properties("\x01"
                       "1\x02"));
  CHECK(check_properties("A\x01" + std::string(32'765, 'v')));
  CHECK(check_properties("A\x01" + std::string(32'766, 'v')).error().code == Errc::kTooLarge);
  CHECK(check_property("name", "value"));
  CHECK_FALSE(check_property("", "value"));
  CHECK_FALSE(check_property("na\x01me", "value"));
  CHECK_FALSE(check_property("name", "va\x02lue"));
}

TEST_CASE("a record comes back as it was written, in every form") {
  const std::string long_topic(200, 't'), v6(16, '\x11');
  for (bool v2 : {false, true}) {
    for (int hosts = 0; hosts < 4; ++hosts) {
      auto fields = sample();
      if (v2) fields.topic = long_topic;
      if (hosts & 1) fields.born_host = {v6, 1};
      if (hosts & 2) fields.store_host = {v6, 2};
      auto bytes = encode_record(fields, 5, 1000);
      CHECK(bytes.size() == record_bytes(fields));
      place_record(bytes.data(), 6, 2000, 1700000000009);
      const std::string followed = bytes + "what follows";
      auto record = decode_record(followed);
      REQUIRE(record);
      CHECK(record->bytes.size() == bytes.size());
      CHECK(record->magic == (v2 ? kRecordMagicV2 : kRecordMagicV1));
      CHECK(record->topic == fields.topic);
      CHECK(record->queue_id == 3);
      CHECK(record->flag == 7);
      CHECK(record->queue_offset == 6);
      CHECK(record->physical_offset == 2000);
      CHECK(record->store_timestamp_ms == 1700000000009);
      CHECK(record->born_timestamp_ms == fields.born_timestamp_ms);
      CHECK(record->born_host.ip_bytes == fields.born_host.ip_bytes);
      CHECK(record->store_host.ip_bytes == fields.store_host.ip_bytes);
      CHECK(record->store_host.port == fields.store_host.port);
      CHECK(record->reconsume_times == 1);
      CHECK(record->body == "hello");
      CHECK(record->properties == fields.properties);
      CHECK(body_crc_matches(*record));
      bytes[bytes.find("hello")] ^= 1;
      CHECK_FALSE(body_crc_matches(*decode_record(bytes)));
    }
  }
  CHECK(record_bytes(RecordFields{}) == kRecordBytesMin);
}

TEST_CASE("a record with any field cut or blown up is refused") {
  const auto bytes = encode_record(sample(), 5, 1000);
  for (size_t size = 0; size < bytes.size(); ++size) CHECK_FALSE(decode_record(bytes.substr(0, size)));
  for (size_t at : {size_t{0}, size_t{4}, size_t{84}, size_t{93}, bytes.size() - 12}) {
    for (unsigned char value : {0x00, 0x7F, 0x80, 0xFF}) {
      auto wild = bytes;
      if (wild[at] == static_cast<char>(value)) continue;
      wild[at] = static_cast<char>(value);
      auto record = decode_record(wild);
      if (record) CHECK(record->bytes.size() == bytes.size());
    }
  }
  auto small = bytes;
  store_be<int32_t>(small.data(), 90);
  CHECK_FALSE(decode_record(small));
  CHECK_FALSE(split_records(small));
  CHECK(split_records(bytes + bytes)->size() == 2);
  CHECK_FALSE(split_records(bytes + bytes.substr(0, 20)));
  CHECK(split_records("")->empty());
}

TEST_CASE("addresses are written and read") {
  CHECK(to_string(HostView{ip_bytes_of("192.0.2.7"), 80}) == "192.0.2.7:80");
  CHECK(to_string(HostView{ip_bytes_of("::1"), 80}) == "[::1]:80");
  CHECK(ip_bytes_of("nowhere").empty());
  CHECK(to_string(HostView{}).empty());
}

TEST_CASE("an offset message id goes both ways") {
  auto ip = ip_bytes_of("127.0.0.1");
  CHECK(encode_offset_message_id({ip, 20911}, 0) == "7F000001000051AF0000000000000000");
  auto id = decode_offset_message_id("7F000001000051AF0000000000000010");
  REQUIRE(id);
  CHECK(id->ip_bytes == ip);
  CHECK(id->port == 20911);
  CHECK(id->physical_offset == 16);
  auto v6 = encode_offset_message_id({ip_bytes_of("::1"), 1}, -1);
  CHECK(v6.size() == 56);
  CHECK(decode_offset_message_id(v6)->ip_bytes.size() == 16);
  for (const char* bad : {"", "7F", "7F000001000051AF00000000000000ZZ", "7F000001000051AF000000000000000000"})
    CHECK_FALSE(decode_offset_message_id(bad));
}

TEST_CASE("unique ids differ, across threads too, and tell their time") {
  UniqueIdGenerator ids(ip_bytes_of("10.0.0.9"), 0x12345, 0x0BADCAFE);
  const int64_t now = 1700000000123;
  auto id = ids.next(now);
  CHECK(id.size() == 32);
  CHECK(id.substr(0, 20) == "0A00000923450BADCAFE");
  CHECK(time_of_unique_id(id, now).value() == now);
  CHECK(time_of_unique_id(id, now + 3'600'000).value() == now);
  CHECK_FALSE(time_of_unique_id("short", now));
  CHECK(UniqueIdGenerator(ip_bytes_of("::1"), 1, 2).next(now).size() == 56);

  std::vector<std::vector<std::string>> made(4);
  std::vector<std::thread> threads;
  for (auto& list : made)
    threads.emplace_back([&ids, &list] {
      for (int i = 0; i < 1000; ++i) list.push_back(ids.next(now));
    });
  for (auto& thread : threads) thread.join();
  std::set<std::string> all;
  for (const auto& list : made) all.insert(list.begin(), list.end());
  CHECK(all.size() == 4000);
}

TEST_CASE("a body is compressed and comes back, up to the limit") {
  std::string text;
  for (int i = 0; i < 20'000; ++i) text += "line " + std::to_string(i % 100) + "\n";
  for (auto type : {Compression::kZlib, Compression::kLz4, Compression::kZstd}) {
    auto small = compress(type, text);
    REQUIRE(small);
    CHECK(small->size() < text.size() / 4);
    CHECK(decompress(type, *small, text.size()).value() == text);
    CHECK(decompress(type, *small, text.size() - 1).error().code == Errc::kTooLarge);
    CHECK(decompress(type, small->substr(0, small->size() / 2), 1 << 22).error().code == Errc::kCorrupt);
    CHECK(decompress(type, "not compressed at all", 1 << 22).error().code == Errc::kCorrupt);
    CHECK(decompress(type, "", 1 << 22).error().code == Errc::kCorrupt);
    CHECK(decompress(type, *compress(type, ""), 10).value().empty());
    CHECK(compression_of(sys_flag_of(type)).value() == type);
    CHECK(compress(type, text, 9)->size() < text.size() / 4);
  }
  CHECK(compression_of(sys_flag::kCompressed).value() == Compression::kZlib);
  CHECK_FALSE(compression_of(sys_flag::kCompressed | 0x700));
}

TEST_CASE("a batch comes back, and a wild one is refused by message and field") {
  std::string body;
  append_batch_message(body, {1, "first",
                              "A\x01"
                              "1\x02"});
  size_t second = body.size();
  append_batch_message(body, {2, "second", ""});
  auto messages = decode_batch(body);
  REQUIRE(messages);
  REQUIRE(messages->size() == 2);
  CHECK((*messages)[1].flag == 2);
  CHECK((*messages)[1].body == "second");
  CHECK_FALSE(decode_batch(""));
  for (size_t size = 1; size < body.size(); ++size) {
    if (size != second) CHECK_FALSE(decode_batch(body.substr(0, size)));
  }
  for (size_t at : {second, second + 16}) {
    for (int32_t wild : {-1, INT32_MAX, INT32_MIN, 1 << 20, 3}) {
      auto bad = body;
      store_be<int32_t>(bad.data() + at, wild);
      auto result = decode_batch(bad);
      REQUIRE_FALSE(result);
      CHECK(result.error().message.find("batch message 1") != std::string::npos);
    }
  }
  auto bad = body;
  store_be<int16_t>(bad.data() + body.size() - 2, -1);
  CHECK_FALSE(decode_batch(bad));
}
