#include "broker/handlers/send_handlers.h"

#include <thread>

#include "broker/schedule/delay_levels.h"
#include "broker/timers/timer_rule.h"
#include "common/base/text.h"
#include "common/message/batch.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"
#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/memory_store.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;
using remoting::RequestCode;

namespace {

store::HostAddress host() { return host_address_of("127.0.0.1:10911"); }

struct SendBench {
  TempDir dir;
  Logger quiet;
  BrokerConfig config;
  std::unique_ptr<TopicTable> topics;
  std::unique_ptr<SubscriptionGroups> groups;
  BrokerStats stats{"DefaultCluster"};
  MemoryStore store;
  MessagePut put{store};
  std::unique_ptr<SendOperation> operation;
  RateLimits limits{config};
  std::unique_ptr<SendHandlers> handlers;
  std::unique_ptr<SendBackHandler> back;

  SendBench() {
    TopicTable::Options options;
    options.file = dir.file("config/topics.json");
    options.broker_name = "broker-a";
    topics = std::make_unique<TopicTable>(options, quiet);
    REQUIRE(topics->load());
    add("T", 4);
    groups = std::make_unique<SubscriptionGroups>(SubscriptionGroups::Options{"", true}, quiet);
    REQUIRE(groups->load());
    put.add_rule(timer_rule([this] { return config.timer_limits(); }, system_now_ms));
    put.add_rule(delay_rule(18));
    operation = std::make_unique<SendOperation>(
        SendOperation::Parts{config, *topics, *groups, stats, put, host(), "127.0.0.1", system_now_ms});
    handlers = std::make_unique<SendHandlers>(*operation, config, limits);
    back = std::make_unique<SendBackHandler>(
        SendBackHandler::Parts{config, *topics, *groups, stats, store, put, host(), "127.0.0.1", quiet});
  }
  void add(const std::string& topic, int32_t queues, int32_t perm = 6, bool order = false) const {
    TopicConfig made;
    made.topic_name = topic;
    made.read_queue_nums = made.write_queue_nums = queues;
    made.perm = perm;
    made.order = order;
    REQUIRE(topics->put(made));
  }
  static Fields fields() {
    return {{"a", "g"},       {"b", "T"}, {"c", "TBW102"}, {"d", "4"}, {"e", "1"},     {"f", "0"},
            {"g", "1234567"}, {"h", "7"}, {"i", ""},       {"j", "0"}, {"k", "false"}, {"m", "false"}};
  }
  static Fields with(const Fields& changes) {
    Fields all = fields();
    for (const auto& change : changes)
      for (auto& field : all)
        if (field.first == change.first) field.second = change.second;
    return all;
  }
  remoting::Command send(const Fields& changes, std::string body = "hello") const {
    return ask(*handlers, &SendHandlers::send_message_v2,
               request_of(RequestCode::kSendMessageV2, with(changes), std::move(body)));
  }
  remoting::Command send_without(const std::string& name) const {
    Fields some;
    for (const auto& field : fields())
      if (field.first != name) some.push_back(field);
    return ask(*handlers, &SendHandlers::send_message_v2, request_of(RequestCode::kSendMessageV2, some, "hello"));
  }
};

void check_refused(const remoting::Command& answer, int32_t code, const std::string& in_remark) {
  INFO(answer.remark.value_or("(no remark)"));
  CHECK(answer.code == code);
  CHECK(answer.remark.value_or("").find(in_remark) != std::string::npos);
  CHECK(answer.ext.get("MSG_REGION") == "DefaultRegion");
  CHECK(answer.ext.get("TRACE_ON") == "true");
}

std::string property_of(const message::RecordView& record, std::string_view name) {
  auto value = message::find_property(record.properties, name);
  return value ? std::string(*value) : "(none)";
}

}  // namespace

TEST_CASE("a message is stored as sent, with what the broker adds", "[broker][send]") {
  SendBench bench;
  auto answer = bench.send({{"i",
                             "TAGS\x01TagA\x02POP_CK\x01x\x02"
                             "a\x01"
                             "1\x02"}});
  CHECK(answer.code == 0);
  CHECK(answer.ext.get("queueId") == "1");
  CHECK(answer.ext.get("queueOffset") == "0");
  CHECK(answer.ext.get("msgId") == "7F00000100002A9F0000000000000000");
  CHECK(answer.ext.get("MSG_REGION") == "DefaultRegion");
  CHECK(answer.ext.get("TRACE_ON") == "true");
  auto record = bench.store.message("T", 1, 0);
  CHECK(record.body == "hello");
  CHECK(record.flag == 7);
  CHECK(record.born_timestamp_ms == 1234567);
  CHECK(message::to_string(record.born_host) == "10.0.0.9:30001");
  CHECK(message::to_string(record.store_host) == "127.0.0.1:10911");
  CHECK(property_of(record, "TAGS") == "TagA");
  CHECK(property_of(record, "a") == "1");
  CHECK(property_of(record, "POP_CK") == "(none)");
  CHECK(property_of(record, "CLUSTER") == "DefaultCluster");
  CHECK(property_of(record, "MSG_REGION") == "DefaultRegion");
  CHECK(property_of(record, "TRACE_ON") == "true");
  CHECK(property_of(record, "UNIQ_KEY").size() == 32);
  CHECK(answer.ext.get("transactionId") == property_of(record, "UNIQ_KEY"));

  auto given = bench.send({{"i",
                            "UNIQ_KEY\x01"
                            "ABC"}});
  CHECK(given.ext.get("transactionId") == "ABC");
  CHECK(given.ext.get("queueOffset") == "1");
}

TEST_CASE("the long names of SEND_MESSAGE are read", "[broker][send]") {
  SendBench bench;
  auto answer = ask(*bench.handlers, &SendHandlers::send_message,
                    request_of(RequestCode::kSendMessage,
                               {{"producerGroup", "g"},
                                {"topic", "T"},
                                {"defaultTopic", "TBW102"},
                                {"defaultTopicQueueNums", "4"},
                                {"queueId", "2"},
                                {"sysFlag", "0"},
                                {"bornTimestamp", "1"},
                                {"flag", "0"},
                                {"properties", "k\x01v"}},
                               "x"));
  CHECK(answer.code == 0);
  CHECK(property_of(bench.store.message("T", 2, 0), "k") == "v");
}

TEST_CASE("any queue is one that can be written", "[broker][send]") {
  SendBench bench;
  for (int i = 0; i < 8; ++i) CHECK(bench.send({{"e", "-1"}}).code == 0);
  for (int i = 0; i < 4; ++i) CHECK(bench.store.max_offset("T", i) == 2);
}

TEST_CASE("missing and malformed header fields get 29 and are named", "[broker][send]") {
  SendBench bench;
  for (const char* name : {"a", "b", "d", "e", "f", "g", "h"})
    check_refused(bench.send_without(name), 29, std::string("field ") + name);
  for (const char* name : {"d", "e", "f", "g", "h", "j"})
    check_refused(bench.send({{name, "1x"}}), 29, std::string("field ") + name);
  check_refused(bench.send({{"e", "99999999999"}}), 29, "field e");
  check_refused(bench.send({{"a", " "}}), 29, "field a");
  CHECK(bench.store.max_offset("T", 1) == 0);
}

TEST_CASE("topics that cannot take the message", "[broker][send]") {
  SendBench bench;
  check_refused(bench.send({{"b", "no/such"}}), 29, "illegal");
  check_refused(bench.send({{"b", ""}}), 29, "blank");
  check_refused(bench.send({{"b", std::string(128, 'x')}}), 29, "longer");
  check_refused(bench.send({{"b", "SCHEDULE_TOPIC_XXXX"}}), 16,
                "Sending message to topic[SCHEDULE_TOPIC_XXXX] is forbidden");
  check_refused(bench.send({{"b", "SELF_TEST_TOPIC"}}), 16, "forbidden");
  check_refused(bench.send({{"b", "New"}, {"c", "NoSuchDefault"}}), 17, "topic[New] not exist");
  check_refused(bench.send({{"b", "New"}, {"c", "T"}}), 17, "topic[New] not exist");  // T has no inherit bit
  check_refused(bench.send({{"e", "4"}}), 29, "queueId[4] is illegal");
  bench.add("ReadOnly", 4, 4);
  check_refused(bench.send({{"b", "ReadOnly"}}), 16, "ReadOnly");
}

TEST_CASE("a send makes its topic from the default topic", "[broker][send][topics]") {
  SendBench bench;
  CHECK(bench.send({{"b", "Fresh"}, {"d", "2"}}).code == 0);
  auto made = bench.topics->find("Fresh");
  REQUIRE(made != nullptr);
  CHECK(made->read_queue_nums == 2);
  CHECK(made->write_queue_nums == 2);
  CHECK(made->perm == 6);
  CHECK(bench.send({{"b", "Wide"}, {"d", "100"}}).code == 0);
  CHECK(bench.topics->find("Wide")->write_queue_nums == 8);
  // It is in the file before the send is answered.
  TopicTable::Options options;
  options.file = bench.dir.file("config/topics.json");
  TopicTable again(options, bench.quiet);
  REQUIRE(again.load());
  CHECK(again.find("Fresh") != nullptr);

  bench.topics->set_auto_create(false);
  check_refused(bench.send({{"b", "Later"}}), 17, "topic[Later] not exist");
}

TEST_CASE("what a broker without write permission, or too early, takes", "[broker][send]") {
  SendBench bench;
  bench.add("Ordered", 4, 6, true);
  bench.config.permission.set(4);
  check_refused(bench.send({{"b", "Ordered"}}), 16, "the broker[127.0.0.1] sending message is forbidden");
  CHECK(bench.send({}).code == 0);  // as RocketMQ: only topics in order are closed by the broker's permission
  bench.config.permission.set(6);
  bench.config.accept_sends_from_ms.set(INT64_MAX);
  check_refused(bench.send({}), 1, "broker unable to service, until");
}

TEST_CASE("messages that are illegal, or not supported yet, get 13", "[broker][send]") {
  SendBench bench;
  bench.config.message_bytes_max = 100;
  check_refused(bench.send({}, std::string(101, 'x')), 13, "100");
  CHECK(bench.send({}, std::string(100, 'x')).code == 0);
  check_refused(bench.send({{"i", "a\x01" + std::string(33'000, 'x')}}), 13, "properties");
  check_refused(bench.send({{"i", "no separators"}}), 13, "properties");
  for (const char* properties : {"INNER_NUM\x01"
                                 "2"})
    check_refused(bench.send({{"i", properties}}), 13, "not supported by this release");
  check_refused(bench.send({{"i", "TRAN_MSG\x01true"}}), 16, "transaction message is forbidden");
  check_refused(bench.send({{"f", "4"}}), 16, "transaction message is forbidden");
  check_refused(bench.send({{"f", "8"}}), 13, "a message that was decided");
  check_refused(bench.send({{"f", "12"}}), 13, "a message that was decided");
  CHECK(bench
            .send({{"i",
                    "DELAY\x01"
                    "0"}})
            .code == 0);
  CHECK(bench
            .send({{"i",
                    "TRAN_MSG\x01"
                    "false"}})
            .code == 0);
}

TEST_CASE("a delayed message waits in the queue of its level", "[broker][send][delay]") {
  SendBench bench;
  auto send = [&](const std::string& level) {
    return bench.send({{"i",
                        "k\x01v\x02"
                        "DELAY\x01" +
                            level}});
  };
  auto answer = send("3");
  CHECK(answer.code == 0);
  CHECK(answer.ext.get("queueId") == "1");
  auto parked = bench.store.message("SCHEDULE_TOPIC_XXXX", 2, 0);
  CHECK(parked.body == "hello");
  CHECK(property_of(parked, "REAL_TOPIC") == "T");
  CHECK(property_of(parked, "REAL_QID") == "1");
  CHECK(property_of(parked, "DELAY") == "3");
  CHECK(property_of(parked, "k") == "v");
  CHECK(bench.store.max_offset("T", 1) == 0);
  CHECK(send("19").code == 0);  // above the last level: the last one
  CHECK(send("2147483647").code == 0);
  CHECK(bench.store.max_offset("SCHEDULE_TOPIC_XXXX", 17) == 2);
  CHECK(property_of(bench.store.message("SCHEDULE_TOPIC_XXXX", 17, 1), "DELAY") == "18");
  CHECK(send("0").code == 0);
  CHECK(bench.store.max_offset("T", 1) == 1);
  for (const char* bad : {"-1", "three", "3x", " 3", "2147483648", "99999999999999999999", "1.5"}) {
    INFO(bad);
    check_refused(send(bad), 13, "its delay level (DELAY) \"" + std::string(bad) + "\"");
  }
  check_refused(bench.send({{"b", "SCHEDULE_TOPIC_XXXX"}}), 16, "forbidden");
}

TEST_CASE("a message that asks for an instant waits in the timer topic", "[broker][send][timer]") {
  SendBench bench;
  auto send = [&](const std::string& name, const std::string& value, const char* topic = "T") {
    return bench.send({{"b", topic}, {"i", "k\x01v\x02" + name + "\x01" + value}});
  };
  auto answer = send("TIMER_DELAY_SEC", "5");
  CHECK(answer.code == 0);
  CHECK(answer.ext.get("queueId") == "1");
  auto waiting = bench.store.message("rmq_sys_wheel_timer", 0, 0);
  CHECK(waiting.body == "hello");
  CHECK(property_of(waiting, "REAL_TOPIC") == "T");
  CHECK(property_of(waiting, "REAL_QID") == "1");
  CHECK(property_of(waiting, "TIMER_OUT_MS").size() == 13);
  CHECK(bench.store.max_offset("T", 1) == 0);
  CHECK(send("TIMER_DELIVER_MS", "5").code == 0);  // long ago
  CHECK(bench.store.max_offset("T", 1) == 1);
  CHECK(send("TIMER_DELAY_MS",
             "5\x02"
             "DELAY\x01"
             "1")
            .code == 0);
  CHECK(bench.store.max_offset("SCHEDULE_TOPIC_XXXX", 0) == 1);
  CHECK(property_of(bench.store.message("SCHEDULE_TOPIC_XXXX", 0, 0), "TIMER_DELAY_MS") == "(none)");
  check_refused(send("TIMER_DELAY_MS", "-5"), 13, "TIMER_DELAY_MS=\"-5\"");
  check_refused(send("TIMER_DELAY_SEC", "259201"), 13, "timerMaxDelaySec");
  bench.config.timer_delay_s_max = 400'000'000;
  CHECK(send("TIMER_DELAY_SEC", "399999999").code == 0);
  check_refused(bench.send({{"m", "true"},
                            {"i",
                             "TIMER_DELAY_MS\x01"
                             "5"}}),
                13, "a batch cannot be delayed (TIMER_*)");
  check_refused(send("TIMER_DELAY_MS", "5", "rmq_sys_wheel_timer"), 16, "forbidden");
  bench.config.timers_enabled = false;
  check_refused(send("TIMER_DELAY_MS", "5"), 1, "timerWheelEnable is false");
}

TEST_CASE("batches", "[broker][send]") {
  SendBench bench;
  std::string body;
  for (const char* text : {"one", "two", "three"}) {
    message::BatchMessage part;
    part.body = text;
    part.properties = "TAGS\x01X";
    message::append_batch_message(body, part);
  }
  // Told by the field m, whatever the code.
  auto answer = bench.send({{"m", "true"}}, body);
  CHECK(answer.code == 0);
  CHECK(answer.ext.get("queueOffset") == "0");
  CHECK(split(*answer.ext.get("msgId"), ",").size() == 3);
  CHECK(bench.store.message("T", 1, 2).body == "three");
  CHECK(property_of(bench.store.message("T", 1, 2), "CLUSTER") == "DefaultCluster");
  CHECK(property_of(bench.store.message("T", 1, 2), "TAGS") == "X");
  answer = ask(*bench.handlers, &SendHandlers::send_batch,
               request_of(RequestCode::kSendBatchMessage, SendBench::with({{"m", "true"}}), body));
  CHECK(answer.ext.get("queueOffset") == "3");

  check_refused(bench.send({{"m", "true"}, {"b", "%RETRY%g"}, {"e", "0"}}, body), 13, "retry topic");
  check_refused(bench.send({{"m", "true"},
                            {"i",
                             "DELAY\x01"
                             "1"}},
                           body),
                13, "a batch cannot be delayed");
  std::string wild = body;
  wild[0] = '\x7f';
  check_refused(bench.send({{"m", "true"}}, wild), 13, "illegal");
  check_refused(bench.send({{"m", "true"}}, body.substr(0, body.size() - 1)), 13, "illegal");
}

TEST_CASE("what the store answers becomes the protocol's code", "[broker][send]") {
  SendBench bench;
  struct Case {
    store::PutStatus status;
    int32_t code;
    bool stored;
  };
  for (const auto& expected :
       {Case{store::PutStatus::kFlushDiskTimeout, 10, true}, Case{store::PutStatus::kSlaveNotAvailable, 11, true},
        Case{store::PutStatus::kFlushSlaveTimeout, 12, true}, Case{store::PutStatus::kServiceNotAvailable, 14, false},
        Case{store::PutStatus::kMessageIllegal, 13, false}, Case{store::PutStatus::kPropertiesSizeExceeded, 13, false},
        Case{store::PutStatus::kPageCacheBusy, 2, false}, Case{store::PutStatus::kCreateFileFailed, 1, false},
        Case{store::PutStatus::kInSyncReplicasNotEnough, 1, false}, Case{store::PutStatus::kUnknownError, 1, false}}) {
    bench.store.next_status = expected.status;
    auto answer = bench.send({});
    CHECK(answer.code == expected.code);
    CHECK(answer.ext.get("msgId").has_value() == expected.stored);
  }
  bench.store.next_status = store::PutStatus::kOk;
  bench.config.role = BrokerRole::kSyncMaster;
  CHECK(bench.send({}).code == 0);  // what the store says counts
}

TEST_CASE("tags are marked as several where the topic says so", "[broker][send]") {
  SendBench bench;
  TopicConfig multi;
  multi.topic_name = "Multi";
  multi.topic_filter_type = remoting::TopicFilterType::kMultiTag;
  REQUIRE(bench.topics->put(multi));
  CHECK(bench.send({{"b", "Multi"}}).code == 0);
  CHECK((bench.store.message("Multi", 1, 0).sys_flag & message::sys_flag::kMultiTags) != 0);
}

TEST_CASE("a consumer's own resend to its retry topic", "[broker][send]") {
  SendBench bench;
  check_refused(bench.send({{"b", "%RETRY%g"}, {"e", "0"}}), 26, "subscription group not exist, g");
  REQUIRE(bench.groups->find_or_create("g") != nullptr);
  CHECK(bench
            .send({{"b", "%RETRY%g"},
                   {"e", "0"},
                   {"i",
                    "DELAY\x01"
                    "3"},
                   {"j", "15"}})
            .code == 0);
  CHECK(bench.store.max_offset("%RETRY%g", 0) == 0);
  auto parked = bench.store.message("SCHEDULE_TOPIC_XXXX", 2, 0);
  CHECK(property_of(parked, "REAL_TOPIC") == "%RETRY%g");
  CHECK(parked.reconsume_times == 15);
  CHECK(bench.send({{"b", "%RETRY%g"}, {"e", "0"}, {"j", "16"}}).code == 0);
  CHECK(bench.store.max_offset("%DLQ%g", 0) == 1);
  CHECK(bench.topics->find("%DLQ%g")->perm == 6);
  auto fields = SendBench::with({{"b", "%RETRY%g"}, {"e", "0"}, {"j", "2"}});
  fields.emplace_back("l", "2");
  CHECK(
      ask(*bench.handlers, &SendHandlers::send_message_v2, request_of(RequestCode::kSendMessageV2, fields, "x")).code ==
      0);
  CHECK(bench.store.max_offset("%DLQ%g", 0) == 2);
}

TEST_CASE("a message sent back goes to the retry topic, or to the dead letters", "[broker][send]") {
  SendBench bench;
  REQUIRE(bench.send({{"i", "k\x01v"}}).code == 0);
  auto send_back = [&](const Fields& fields) {
    return ask(*bench.back, &SendBackHandler::send_back, request_of(RequestCode::kConsumerSendMsgBack, fields));
  };
  auto refused = [&](const Fields& fields, int32_t code, const std::string& part) {
    auto answer = send_back(fields);
    INFO(answer.remark.value_or(""));
    CHECK(answer.code == code);
    CHECK(answer.remark.value_or("").find(part) != std::string::npos);
  };
  refused({{"group", "g"}, {"delayLevel", "0"}}, 29, "offset");
  refused({{"offset", "0"}, {"delayLevel", "0"}}, 29, "group");
  refused({{"offset", "0"}, {"group", "g"}}, 29, "delayLevel");
  refused({{"offset", "-1"}, {"group", "g"}, {"delayLevel", "0"}}, 29, "offset");
  refused({{"offset", "0"}, {"group", "g"}, {"delayLevel", "0"}}, 26, "subscription group not exist, g");
  REQUIRE(bench.groups->find_or_create("g") != nullptr);
  refused({{"offset", "900000"}, {"group", "g"}, {"delayLevel", "0"}}, 1, "look message by offset failed, 900000");

  CHECK(send_back({{"offset", "0"}, {"group", "g"}, {"delayLevel", "0"}}).code == 0);
  CHECK(bench.store.max_offset("%RETRY%g", 0) == 0);
  auto copy = bench.store.message("SCHEDULE_TOPIC_XXXX", 2, 0);
  CHECK(property_of(copy, "REAL_TOPIC") == "%RETRY%g");
  CHECK(property_of(copy, "REAL_QID") == "0");
  CHECK(property_of(copy, "DELAY") == "3");
  CHECK(copy.body == "hello");
  CHECK(copy.reconsume_times == 1);
  CHECK(copy.born_timestamp_ms == 1234567);
  CHECK(property_of(copy, "RETRY_TOPIC") == "T");
  CHECK(property_of(copy, "ORIGIN_MESSAGE_ID") == "7F00000100002A9F0000000000000000");
  CHECK(property_of(copy, "k") == "v");
  CHECK(bench.topics->find("%RETRY%g") != nullptr);

  CHECK(send_back({{"offset", "0"}, {"group", "g"}, {"delayLevel", "-1"}}).code == 0);
  CHECK(bench.store.max_offset("%DLQ%g", 0) == 1);
  CHECK(send_back({{"offset", "0"}, {"group", "g"}, {"delayLevel", "0"}, {"maxReconsumeTimes", "0"}}).code == 0);
  CHECK(bench.store.max_offset("%DLQ%g", 0) == 2);
  // A second round keeps the first topic and id.
  const auto again = std::to_string(copy.physical_offset);
  CHECK(send_back({{"offset", again}, {"group", "g"}, {"delayLevel", "0"}}).code == 0);
  auto second = bench.store.message("SCHEDULE_TOPIC_XXXX", 3, 0);
  CHECK(second.reconsume_times == 2);
  CHECK(property_of(second, "RETRY_TOPIC") == "T");
  CHECK(property_of(second, "ORIGIN_MESSAGE_ID") == "7F00000100002A9F0000000000000000");
  // The consumer's own wish is taken as it is, up to the last level.
  CHECK(send_back({{"offset", again}, {"group", "g"}, {"delayLevel", "1"}}).code == 0);
  CHECK(bench.store.max_offset("SCHEDULE_TOPIC_XXXX", 0) == 1);
  CHECK(send_back({{"offset", again}, {"group", "g"}, {"delayLevel", "2147483647"}}).code == 0);
  CHECK(property_of(bench.store.message("SCHEDULE_TOPIC_XXXX", 17, 0), "DELAY") == "18");
  bench.config.permission.set(4);
  refused({{"offset", "0"}, {"group", "g"}, {"delayLevel", "0"}}, 16, "forbidden");
}
