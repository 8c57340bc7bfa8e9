#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "broker/broker.h"
#include "common/message/message_record.h"
#include "common/remoting/command_codec.h"
#include "test/support/catch.h"
#include "test/support/raw_client.h"
#include "test/support/sanitizers.h"
#include "test/support/wait.h"
#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/running_broker.h"

namespace apogee::broker::test {

#ifndef APOGEE_UNDER_SANITIZER
/// What the threads of the IO loops have asked the allocator for, in all of this program.
int64_t io_allocations_so_far();
#endif

inline std::string properties_of(int number) {
  return "UNIQ_KEY\\u00017F0000010A3C18B4AAC2" + std::to_string(100'000'000 + number) +
         "\\u0002WAIT\\u0001true\\u0002TAGS\\u0001TagA\\u0002KEYS\\u0001a \\\"b\\\"\\u0002";
}

/// Recovery would take it for a sector that was lost.
inline std::string zeros_property() {
  std::string text = "a\\u0001";
  for (int i = 0; i < 512; ++i) text += "\\u0000";
  return text + "\\u0002";
}

struct Wish {
  std::string topic = "Quick";
  std::string properties = properties_of(1);
  std::string queue = "1", sys_flag = "0", more;
  std::string batch = "false";  ///< empty: the field is missing
  int flag = 0, code = 310;
};

/// A frame as a Java client writes it; with `unusual` the header has a space more, which the short way leaves to the
/// long one.
inline std::string frame_of(const Wish& wish, const std::string& body, int opaque, bool unusual) {
  std::string header =
      std::string(unusual ? "{ " : "{") + "\"code\":" + std::to_string(wish.code) +
      ",\"extFields\":{\"a\":\"p\",\"b\":\"" + wish.topic + "\",\"c\":\"TBW102\",\"d\":\"4\",\"e\":\"" + wish.queue +
      "\",\"f\":\"" + wish.sys_flag + "\",\"g\":\"1700000000000\",\"h\":\"7\",\"i\":\"" + wish.properties +
      "\",\"j\":\"0\"" + wish.more + ",\"k\":\"false\"" + (wish.batch.empty() ? "" : ",\"m\":\"" + wish.batch + "\"") +
      "},\"flag\":" + std::to_string(wish.flag) + ",\"language\":\"JAVA\",\"opaque\":" + std::to_string(opaque) +
      ",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":435}";
  std::string frame;
  append_be<uint32_t>(frame, static_cast<uint32_t>(4 + header.size() + body.size()));
  append_be<uint32_t>(frame, static_cast<uint32_t>(header.size()));
  return frame + header + body;
}

/// The same with a binary header; with `unusual` it has more fields than the short way takes.
inline std::string binary_frame_of(const Wish& wish, const std::string& properties, const std::string& body, int opaque,
                                   bool unusual) {
  remoting::Command request;
  request.serialize = remoting::SerializeType::kRocketMq;
  request.code = wish.code;
  request.language = remoting::LanguageCode::kJava;
  request.version = 435;
  request.opaque = opaque;
  request.flag = wish.flag;
  for (auto [name, value] : std::vector<std::pair<const char*, std::string>>{{"a", "p"},
                                                                             {"b", wish.topic},
                                                                             {"c", "TBW102"},
                                                                             {"d", "4"},
                                                                             {"e", wish.queue},
                                                                             {"f", wish.sys_flag},
                                                                             {"g", "1700000000000"},
                                                                             {"h", "7"},
                                                                             {"i", properties},
                                                                             {"j", "0"},
                                                                             {"k", "false"}})
    request.ext.set(name, value);
  if (!wish.batch.empty()) request.ext.set("m", wish.batch);
  for (int i = 0; unusual && i < 20; ++i) request.ext.set("more" + std::to_string(i), "x");
  request.body = SharedBytes::from(body);
  return remoting::encode_frame_to_string(request);
}

inline std::vector<std::pair<std::string, std::string>> fields_of(const remoting::Command& command) {
  std::vector<std::pair<std::string, std::string>> fields;
  for (size_t i = 0; i < command.ext.size(); ++i) {
    const std::string name(command.ext.name(i));
    if (name != "msgId" && name != "queueOffset") fields.emplace_back(name, command.ext.value(i));
  }
  return fields;
}

inline remoting::Command pull_of(const Wish& wish, int64_t offset, const char* count_max) {
  remoting::Command pull = remoting::Command::request(remoting::RequestCode::kPullMessage);
  for (auto [name, value] : std::vector<std::pair<const char*, std::string>>{{"consumerGroup", "g"},
                                                                             {"topic", wish.topic},
                                                                             {"queueId", wish.queue},
                                                                             {"queueOffset", std::to_string(offset)},
                                                                             {"maxMsgNums", count_max},
                                                                             {"sysFlag", "6"},
                                                                             {"commitOffset", "0"},
                                                                             {"suspendTimeoutMillis", "15000"},
                                                                             {"subscription", "*"},
                                                                             {"subVersion", "0"}})
    pull.ext.set(name, value);
  return pull;
}

inline message::RecordView pulled(apogee::test::RawClient& client, const Wish& wish, int64_t offset,
                                  remoting::Command& held) {
  // Messages come into their queue a moment after they are answered.
  REQUIRE(apogee::test::eventually([&] {
    auto answer = client.call(pull_of(wish, offset, "1"));
    REQUIRE(answer);
    held = std::move(*answer);
    return held.code == 0;
  }));
  auto record = message::decode_record(held.body.bytes);
  REQUIRE(record);
  return *record;
}

/// What both ways of a send store alike; what differs is where and when.
inline void check_same_message(const message::RecordView& first, const message::RecordView& second) {
  for (const auto* record : {&first, &second}) CHECK(message::body_crc_matches(*record));
  CHECK(first.body == second.body);
  CHECK(first.body_crc == second.body_crc);
  CHECK(first.properties == second.properties);
  CHECK(first.topic == second.topic);
  CHECK(first.queue_id == second.queue_id);
  CHECK(first.flag == second.flag);
  CHECK(first.sys_flag == second.sys_flag);
  CHECK(first.born_timestamp_ms == second.born_timestamp_ms);
  CHECK(message::to_string(first.born_host) == message::to_string(second.born_host));
  CHECK(message::to_string(first.store_host) == message::to_string(second.store_host));
  CHECK(first.reconsume_times == second.reconsume_times);
  CHECK(first.prepared_transaction_offset == second.prepared_transaction_offset);
  CHECK(first.magic == second.magic);
  CHECK(first.bytes.size() == second.bytes.size());
}

inline void check_same_head(const remoting::Command& first, const remoting::Command& second) {
  CHECK(first.opaque == second.opaque);
  CHECK(first.code == second.code);
  CHECK(first.serialize == second.serialize);
  CHECK(first.flag == second.flag);
  CHECK(first.version == second.version);
  CHECK(first.language == second.language);
  CHECK(first.remark == second.remark);
}

inline void warm(apogee::test::RawClient& client, int messages) {
  for (int i = 0; i < messages; ++i) {
    client.send_bytes(frame_of({}, "warm", i, false));
    auto answer = client.receive();
    REQUIRE(answer);
    REQUIRE(answer->code == 0);
  }
}

}  // namespace apogee::broker::test
