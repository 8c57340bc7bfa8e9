// Inner batches of 5.x: one record of a BatchCQ topic that holds several messages.
#include "client/src/pull_request.h"
#include "client/src/received_message.h"
#include "common/message/batch.h"
#include "common/message/compression.h"
#include "common/message/message_record.h"
#include "common/message/sys_flag.h"
#include "test/support/catch.h"

namespace apogee {

namespace {

namespace flags = message::sys_flag;

/// Three messages a, b and c with the tags A, B and A; c has no id of its own.
std::string batch_body() {
  std::string body;
  message::append_batch_message(body, {1, "a", "UNIQ_KEY\001ID-A\002TAGS\001A\002"});
  message::append_batch_message(body, {2, "b", "UNIQ_KEY\001ID-B\002TAGS\001B\002KEYS\001kb\002"});
  message::append_batch_message(body, {3, "c", "TAGS\001A\002"});
  return body;
}

remoting::Command reply_with(const std::string& body, int32_t sys_flag, std::string_view properties) {
  const std::string ip("\x7f\0\0\1", 4);
  message::RecordFields fields;
  fields.topic = "Batches";
  fields.queue_id = 2;
  fields.sys_flag = sys_flag;
  fields.body = body;
  fields.properties = properties;
  fields.born_host = fields.store_host = {ip, 10911};
  remoting::Command reply;
  reply.code = remoting::response_code::kSuccess;
  reply.ext.set("nextBeginOffset", 103);
  // An ordinary message behind it.
  std::string records = message::encode_record(fields, 7, 5000);
  fields.sys_flag = 0;
  fields.body = "plain";
  fields.properties = "TAGS\001A\002";
  records += message::encode_record(fields, 103, 6000);
  reply.body = SharedBytes::from(std::move(records));
  return reply;
}

const MessageQueue kQueue{"Batches", "broker-a", 2};

}  // namespace

TEST_CASE("an inner batch is unwrapped into its messages, which are filtered one by one", "[client][inner_batch]") {
  constexpr int32_t kInner = flags::kInnerBatch | flags::kNeedUnwrap;
  for (bool compressed : {false, true}) {
    std::string body = batch_body();
    int32_t flag = kInner;
    if (compressed) {
      auto packed = message::compress(message::Compression::kZlib, body, 5);
      REQUIRE(packed);
      body = *packed;
      flag |= flags::kCompressed;
    }
    const auto reply = reply_with(body, flag, "INNER_NUM\0013\002INNER_BASE\001100\002UNIQ_KEY\001OUTER\002");
    remoting::SubscriptionData all;
    auto outcome = read_pull_reply(reply, kQueue, all, "");
    if (!outcome) FAIL(outcome.error().message);
    REQUIRE(outcome->messages.size() == 4);
    const auto& b = outcome->messages[1];
    CHECK(b.body() == "b");
    CHECK(b.msg_id() == "ID-B");
    CHECK(b.tags() == "B");
    CHECK(b.keys() == "kb");
    CHECK(b.flag() == 2);
    CHECK(b.topic() == "Batches");
    CHECK(b.queue() == kQueue);
    CHECK(b.queue_offset() == 101);
    CHECK(b.physical_offset() == 5000);
    CHECK(is_inner_batch(b));
    CHECK(outcome->messages[2].msg_id() == outcome->messages[2].offset_msg_id());
    CHECK(outcome->messages[2].queue_offset() == 102);
    CHECK(outcome->messages[3].body() == "plain");
    CHECK(outcome->messages[3].queue_offset() == 103);
    CHECK_FALSE(is_inner_batch(outcome->messages[3]));

    remoting::SubscriptionData some;
    some.tags_set = {"B"};
    outcome = read_pull_reply(reply, kQueue, some, "");
    REQUIRE(outcome);
    REQUIRE(outcome->messages.size() == 1);
    CHECK(outcome->messages[0].body() == "b");
    CHECK(outcome->next_offset == 103);
  }
}

TEST_CASE("an inner batch without INNER_BASE begins at the record's offset; a broken one is an error",
          "[client][inner_batch]") {
  constexpr int32_t kInner = flags::kInnerBatch | flags::kNeedUnwrap;
  remoting::SubscriptionData all;
  auto outcome = read_pull_reply(reply_with(batch_body(), kInner, ""), kQueue, all, "");
  REQUIRE(outcome);
  CHECK(outcome->messages[2].queue_offset() == 9);
  CHECK(read_pull_reply(reply_with("no batch", kInner, ""), kQueue, all, "").error().code == Errc::kCorrupt);
  CHECK(read_pull_reply(reply_with(batch_body(), kInner, "INNER_BASE\001x\002"), kQueue, all, "").error().code ==
        Errc::kCorrupt);
  // Only one of the two flags: not for clients to unwrap.
  outcome = read_pull_reply(reply_with(batch_body(), flags::kInnerBatch, ""), kQueue, all, "");
  REQUIRE(outcome);
  CHECK(outcome->messages.size() == 2);
}

}  // namespace apogee
