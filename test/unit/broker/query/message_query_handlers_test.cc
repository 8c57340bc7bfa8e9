#include "broker/handlers/message_query_handlers.h"

#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/memory_store.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;
using remoting::RequestCode;

namespace {

struct QueryBench {
  MemoryStore store;
  BrokerConfig config;
  MessageQueryHandlers handlers{store, config};
  Fields fields = {{"topic", "T"}, {"key", "k"}, {"maxNum", "10"}, {"beginTimestamp", "5"}, {"endTimestamp", "9"}};

  remoting::Command query() {
    return ask(handlers, &MessageQueryHandlers::query_message, request_of(RequestCode::kQueryMessage, fields));
  }
  void set(const std::string& name, const std::string& value) {
    fields.erase(std::remove_if(fields.begin(), fields.end(), [&](const auto& field) { return field.first == name; }),
                 fields.end());
    fields.emplace_back(name, value);
  }
  void found(int64_t physical_offset) {
    message::RecordFields record;
    record.topic = "T";
    record.body = "m" + std::to_string(physical_offset);
    record.born_host = record.store_host = {std::string_view("\0\0\0\0", 4), 0};
    bodies.push_back("m" + std::to_string(physical_offset));
    record.body = bodies.back();
    store.key_answer.records.push_back(SharedBytes::from(message::encode_record(record, 0, physical_offset)));
  }
  std::vector<std::string> bodies;
};

std::string bodies_in(const remoting::Command& answer) {
  std::string text;
  auto add = [&text](const SharedBytes& part) {
    auto records = message::split_records(part.bytes);
    REQUIRE(records);
    for (auto record : *records) text += std::string(message::decode_record(record)->body) + " ";
  };
  if (!answer.body.empty()) add(answer.body);
  for (const auto& part : answer.body_tail) add(part);
  return text;
}

}  // namespace

TEST_CASE("QUERY_MESSAGE: records leave in the order of the log, with what the index has last seen",
          "[broker][query]") {
  QueryBench bench;
  for (int64_t offset : {900, 300, 700}) bench.found(offset);
  bench.store.key_answer.last_update_ms = 77;
  bench.store.key_answer.last_update_offset = 900;
  auto answer = bench.query();
  CHECK(answer.code == 0);
  CHECK_FALSE(answer.remark);
  CHECK(bodies_in(answer) == "m300 m700 m900 ");
  CHECK(answer.ext.get("indexLastUpdateTimestamp") == "77");
  CHECK(answer.ext.get("indexLastUpdatePhyoffset") == "900");
  CHECK(bench.store.last_query == std::pair<std::string, std::string>{"T", "k"});
  CHECK(bench.store.last_query_limits == std::array<int64_t, 3>{10, 5, 9});
}

TEST_CASE("QUERY_MESSAGE: counts are limited as configured, unique keys have their own", "[broker][query]") {
  QueryBench bench;
  bench.set("maxNum", "1000");
  CHECK(bench.query().code == 22);
  CHECK(bench.store.last_query_limits[0] == 64);
  bench.set("_UNIQUE_KEY_QUERY", "true");
  CHECK(bench.query().code == 22);
  CHECK(bench.store.last_query_limits[0] == 32);
  bench.set("_UNIQUE_KEY_QUERY", "false");
  bench.set("maxNum", "3");
  CHECK(bench.query().code == 22);
  CHECK(bench.store.last_query_limits[0] == 3);
}

TEST_CASE("QUERY_MESSAGE: nothing found, more found, and an index that is not whole are told", "[broker][query]") {
  QueryBench bench;
  auto none = bench.query();
  CHECK(none.code == 22);
  CHECK(none.remark == "can not find message, maybe time range not correct");
  CHECK(none.ext.get("indexLastUpdateTimestamp") == "0");
  CHECK(none.ext.get("indexLastUpdatePhyoffset") == "0");
  CHECK(none.body.empty());
  bench.store.key_answer.incomplete = "being built";
  none = bench.query();
  CHECK(none.code == 22);
  CHECK(none.remark->find("messages may be missing: being built") != std::string::npos);
  CHECK(none.ext.get(kIndexIncompleteField) == "being built");
  bench.found(1);
  bench.store.key_answer.truncated = true;
  auto some = bench.query();
  CHECK(some.code == 0);
  CHECK(some.remark->find("there are more; messages may be missing") != std::string::npos);
  CHECK(some.ext.get(kQueryTruncatedField) == "true");
}

TEST_CASE("QUERY_MESSAGE: bad input and an index that cannot be read are refused with why", "[broker][query]") {
  QueryBench bench;
  bench.store.query_error = Error{Errc::kUnsupported, "messageIndexEnable is false"};
  auto answer = bench.query();
  CHECK(answer.code == 16);
  CHECK(answer.remark == "messageIndexEnable is false");
  bench.store.query_error = Error{Errc::kIo, "no"};
  CHECK(bench.query().code == 1);
  bench.store.query_error.reset();
  for (const std::string name : {"topic", "key", "maxNum", "beginTimestamp", "endTimestamp"}) {
    for (const char* bad : {"", "x"}) {
      if (*bad != 0 && (name == "topic" || name == "key")) continue;
      QueryBench another;
      another.set(name, bad);
      answer = another.query();
      CHECK(answer.code == 29);
      CHECK(answer.remark->find(name) != std::string::npos);
    }
  }
  for (const char* bad : {"0", "-1", "99999999999"}) {
    bench.set("maxNum", bad);
    CHECK(bench.query().code == 29);
  }
}
