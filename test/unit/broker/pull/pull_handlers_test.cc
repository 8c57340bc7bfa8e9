#include "broker/handlers/pull_handlers.h"

#include "broker/handlers/queue_query_handlers.h"
#include "common/base/hash.h"
#include "common/message/message_record.h"
#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/memory_store.h"

using namespace apogee;
using namespace apogee::broker;
using namespace apogee::broker::test;
using remoting::RequestCode;

namespace {

constexpr const char* kCommit = "1";
constexpr const char* kSuspend = "6";  // with the subscription in the request
constexpr const char* kPlain = "4";

struct PullBench {
  TempDir dir;
  Logger quiet;
  FakeClock clock;
  BrokerConfig config;
  TopicTable topics{{}, quiet};
  SubscriptionGroups groups{{"", true}, quiet};
  ConsumerGroups consumers;
  std::unique_ptr<ConsumerOffsets> offsets;
  BrokerStats stats{"DefaultCluster"};
  MemoryStore store;
  std::vector<std::function<void()>> posted;
  HeldPulls held{[this](remoting::ConnectionId, std::function<void()> task) { posted.push_back(std::move(task)); },
                 1'000};
  RateLimits limits{config, clock.now()};
  ConsumerFilters filters{"", config, quiet, clock.now()};
  std::unique_ptr<PullOperation> operation;
  std::unique_ptr<PullHandlers> handlers;

  PullBench() {
    REQUIRE(groups.load());
    TopicConfig topic;
    topic.topic_name = "T";
    topic.read_queue_nums = topic.write_queue_nums = 2;
    REQUIRE(topics.put(topic));
    auto opened = ConsumerOffsets::open({dir.file("offsetsdb"), dir.file("consumerOffset.json")}, quiet);
    REQUIRE(opened);
    offsets = std::move(*opened);
    store.set_arrival_listener([this](const std::vector<store::Arrival>& arrivals) { held.on_arrivals(arrivals); });
    operation =
        std::make_unique<PullOperation>(PullOperation::Parts{config, topics, groups, consumers, *offsets, stats, store,
                                                             held, filters, limits, "127.0.0.1", clock.now(), nullptr});
    handlers = std::make_unique<PullHandlers>(*operation, config);
  }
  void put(const std::string& body, const std::string& tag = "", int32_t queue = 0) {
    store::MessageDraft draft;
    draft.topic = "T";
    draft.queue_id = queue;
    draft.body = body;
    const std::string properties = tag.empty() ? "" : "TAGS\x01" + tag + "\x02";
    draft.properties = properties;
    store.append(draft, [](const store::PutResult&) {});
  }
  static Fields fields() {
    return {{"consumerGroup", "g"}, {"topic", "T"},      {"queueId", "0"},         {"queueOffset", "0"},
            {"maxMsgNums", "32"},   {"sysFlag", kPlain}, {"commitOffset", "0"},    {"suspendTimeoutMillis", "15000"},
            {"subscription", "*"},  {"subVersion", "0"}, {"expressionType", "TAG"}};
  }
  static remoting::Command request(const Fields& changes, const std::string& without = "") {
    Fields all;
    for (auto field : fields()) {
      for (const auto& change : changes)
        if (field.first == change.first) field.second = change.second;
      if (field.first != without) all.push_back(field);
    }
    return request_of(RequestCode::kPullMessage, all);
  }
  remoting::Command pull(const Fields& changes, const std::string& without = "") {
    return ask(*handlers, &PullHandlers::pull, request(changes, without));
  }
  Answer pull_later(const Fields& changes, remoting::ConnectionId connection = 1) {
    return start(*handlers, &PullHandlers::pull, request(changes), connection);
  }
  void run_posted() {
    auto tasks = std::move(posted);
    posted.clear();
    for (auto& task : tasks) task();
  }
  void join_group(const std::string& group, const std::string& topic, const std::string& expression, int64_t version,
                  MessageModel model = MessageModel::kClustering) {
    ClientInfo client;
    client.connection = 1;
    client.client_id = "c1";
    client.address = "10.0.0.9:30001";
    client.last_update_ms = system_now_ms();
    ConsumerRegistration registration;
    registration.group = group;
    registration.message_model = model;
    registration.subscriptions.push_back(**parse_tag_subscription(topic, expression, version));
    consumers.register_consumer(client, registration);
  }
};

void check_refused(const remoting::Command& answer, int32_t code, const std::string& part) {
  INFO(answer.remark.value_or("(no remark)"));
  CHECK(answer.code == code);
  CHECK(answer.remark.value_or("").find(part) != std::string::npos);
}

void check_offsets(const remoting::Command& answer, int64_t next, int64_t max) {
  CHECK(answer.ext.get("suggestWhichBrokerId") == "0");
  CHECK(answer.ext.get_int<int64_t>("nextBeginOffset") == next);
  CHECK(answer.ext.get_int<int64_t>("minOffset") == 0);
  CHECK(answer.ext.get_int<int64_t>("maxOffset") == max);
}

std::vector<std::string> bodies(const remoting::Command& answer) {
  std::string all(answer.body.bytes);
  for (const auto& part : answer.body_tail) all += part.bytes;
  std::vector<std::string> found;
  auto records = message::split_records(all);
  REQUIRE(records);
  for (auto record : *records) found.emplace_back(message::decode_record(record)->body);
  return found;
}

}  // namespace

TEST_CASE("a pull gets the messages of its queue", "[broker][pull]") {
  PullBench bench;
  for (const char* body : {"a", "b", "c"}) bench.put(body);
  auto answer = bench.pull({});
  CHECK(answer.code == 0);
  CHECK(answer.remark == "FOUND");
  check_offsets(answer, 3, 3);
  CHECK(bodies(answer) == std::vector<std::string>{"a", "b", "c"});
  answer = bench.pull({{"queueOffset", "1"}, {"maxMsgNums", "1"}});
  CHECK(bodies(answer) == std::vector<std::string>{"b"});
  check_offsets(answer, 2, 3);
  CHECK(bench.pull({{"maxMsgNums", "1000"}}).code == 0);
  CHECK(bench.store.last_limits.count_max == 32);
  CHECK(bench.store.last_limits.bytes_max == 262'144);
}

TEST_CASE("where there is nothing the code says what to do", "[broker][pull]") {
  PullBench bench;
  auto answer = bench.pull({});
  CHECK(answer.code == 19);
  check_offsets(answer, 0, 0);
  CHECK(bench.pull({{"queueOffset", "7"}}).code == 21);
  bench.put("a", "TagA");
  answer = bench.pull({{"queueOffset", "1"}});
  CHECK(answer.code == 19);
  CHECK(answer.remark == "OFFSET_OVERFLOW_ONE");
  check_offsets(answer, 1, 1);
  answer = bench.pull({{"queueOffset", "9"}});
  CHECK(answer.code == 21);
  check_offsets(answer, 1, 1);
  CHECK(bench.pull({{"queueOffset", "-5"}}).code == 21);
  answer = bench.pull({{"subscription", "TagB"}});
  CHECK(answer.code == 20);
  CHECK(answer.remark == "NO_MATCHED_MESSAGE");
  check_offsets(answer, 1, 1);
}

TEST_CASE("tags are compared by their hashes", "[broker][pull]") {
  PullBench bench;
  for (const char* tag : {"TagA", "TagB", "TagC", "TagA"}) bench.put(tag, tag);
  bench.put("none");
  CHECK(bodies(bench.pull({{"subscription", "TagA || TagC"}})) == std::vector<std::string>{"TagA", "TagC", "TagA"});
  CHECK(bodies(bench.pull({{"subscription", "||TagB||"}})) == std::vector<std::string>{"TagB"});
  CHECK(bodies(bench.pull({{"subscription", ""}})).size() == 5);
  check_refused(bench.pull({{"subscription", " || "}}), 23, "parse the consumer's subscription failed");
}

TEST_CASE("header fields of a pull that are missing or wrong get 29", "[broker][pull]") {
  PullBench bench;
  for (const char* name : {"consumerGroup", "topic", "queueId", "queueOffset", "maxMsgNums", "sysFlag", "commitOffset",
                           "suspendTimeoutMillis", "subVersion"})
    check_refused(bench.pull({}, name), 29, name);
  for (const char* name : {"queueId", "queueOffset", "maxMsgNums", "sysFlag", "commitOffset", "suspendTimeoutMillis"})
    check_refused(bench.pull({{name, "x"}}), 29, name);
  check_refused(bench.pull({{"maxMsgNums", "0"}}), 29, "maxMsgNums");
}

TEST_CASE("the checks of a pull", "[broker][pull]") {
  PullBench bench;
  check_refused(bench.pull({{"topic", "Nothing"}}), 17, "topic[Nothing] not exist");
  check_refused(bench.pull({{"queueId", "2"}}), 29, "queueId[2] is illegal");
  check_refused(bench.pull({{"queueId", "-1"}}), 29, "queueId[-1] is illegal");
  TopicConfig closed;
  closed.topic_name = "WriteOnly";
  closed.perm = 2;
  REQUIRE(bench.topics.put(closed));
  auto answer = bench.pull({{"topic", "WriteOnly"}});
  check_refused(answer, 16, "the topic[WriteOnly] pulling message is forbidden");
  CHECK(answer.ext.get("forbiddenType") == "3");
  GroupConfig group;
  group.group_name = "disabled";
  group.consume_enable = false;
  REQUIRE(bench.groups.put(group));
  check_refused(bench.pull({{"consumerGroup", "disabled"}}), 16, "subscription group no permission, disabled");
  bench.groups.set_auto_create(false);
  check_refused(bench.pull({{"consumerGroup", "unknown"}}), 26, "subscription group [unknown] does not exist");
  bench.groups.set_auto_create(true);
  bench.config.permission.set(2);
  check_refused(bench.pull({}), 16, "the broker[127.0.0.1] pulling message is forbidden");
  bench.config.permission.set(6);
  bench.config.lite_pull.set(false);
  check_refused(bench.pull({{"sysFlag", "20"}}), 16, "lite pull");
  check_refused(bench.pull({{"expressionType", "SQL92"}, {"subscription", "a > 5"}}), 1,
                "does not support consumer to filter message by SQL92");
  check_refused(bench.pull({{"expressionType", "XPATH"}}), 23, "XPATH");
}

TEST_CASE("a pull without a subscription uses that of the heartbeats", "[broker][pull]") {
  PullBench bench;
  bench.put("a", "TagA");
  bench.put("b", "TagB");
  check_refused(bench.pull({{"sysFlag", "0"}}), 24, "group info not exist");
  bench.join_group("g", "Other", "*", 5);
  check_refused(bench.pull({{"sysFlag", "0"}}), 24, "subscription not exist");
  bench.join_group("g", "T", "TagB", 5);
  check_refused(bench.pull({{"sysFlag", "0"}, {"subVersion", "6"}}), 25, "not latest");
  CHECK(bodies(bench.pull({{"sysFlag", "0"}, {"subVersion", "5"}})) == std::vector<std::string>{"b"});

  GroupConfig group;
  group.group_name = "casting";
  group.consume_broadcast_enable = false;
  REQUIRE(bench.groups.put(group));
  bench.join_group("casting", "T", "*", 5, MessageModel::kBroadcasting);
  check_refused(bench.pull({{"sysFlag", "0"}, {"consumerGroup", "casting"}}), 16, "broadcast");
}

TEST_CASE("a pull commits the offset that it carries, and learns of a reset", "[broker][pull]") {
  PullBench bench;
  bench.put("a");
  bench.join_group("g", "T", "*", 0);
  CHECK(bench.pull({{"sysFlag", kCommit}, {"commitOffset", "1"}}).code == 0);
  CHECK(bench.offsets->query("g", "T", 0) == 1);
  CHECK(bench.pull({{"commitOffset", "0"}}).code == 0);  // without the flag
  CHECK(bench.offsets->query("g", "T", 0) == 1);
  bench.offsets->reset("g", "T", 0, 0);
  auto answer = bench.pull({{"queueOffset", "1"}});
  CHECK(answer.code == 21);
  CHECK(answer.ext.get("nextBeginOffset") == "0");
  CHECK(bench.pull({{"queueOffset", "1"}}).code == 19);
}

TEST_CASE("a pull that may wait is answered when a message arrives", "[broker][pull]") {
  PullBench bench;
  bench.put("a");
  auto later = bench.pull_later({{"sysFlag", kSuspend}, {"queueOffset", "1"}});
  CHECK_FALSE(later->has_value());
  CHECK(bench.held.size() == 1);
  bench.put("other queue", "", 1);
  CHECK(bench.posted.empty());
  bench.put("b");
  CHECK_FALSE(later->has_value());  // not on the dispatcher's thread
  bench.run_posted();
  auto answer = later->get();
  CHECK(answer.code == 0);
  CHECK(bodies(answer) == std::vector<std::string>{"b"});
  CHECK(bench.held.size() == 0);
}

TEST_CASE("a pull that waited long enough is answered 19", "[broker][pull]") {
  PullBench bench;
  bench.put("a");
  auto later = bench.pull_later({{"sysFlag", kSuspend}, {"queueOffset", "1"}, {"suspendTimeoutMillis", "500"}});
  bench.clock.advance(499);
  bench.held.expire(bench.clock.now()());
  bench.run_posted();
  CHECK_FALSE(later->has_value());
  bench.clock.advance(1);
  bench.held.expire(bench.clock.now()());
  bench.run_posted();
  CHECK(later->get().code == 19);
  check_offsets(later->get(), 1, 1);

  bench.config.long_polling.set(false);
  later = bench.pull_later({{"sysFlag", kSuspend}, {"queueOffset", "1"}, {"suspendTimeoutMillis", "20000"}});
  bench.clock.advance(1'000);
  bench.held.expire(bench.clock.now()());
  bench.run_posted();
  CHECK(later->get().code == 19);
}

TEST_CASE("only messages with a wanted tag wake a pull", "[broker][pull]") {
  PullBench bench;
  bench.put("a", "TagA");
  auto later = bench.pull_later({{"sysFlag", kSuspend}, {"queueOffset", "1"}, {"subscription", "TagB"}});
  bench.put("a2", "TagA");
  CHECK(bench.posted.empty());
  bench.put("b", "TagB");
  bench.run_posted();
  CHECK(bodies(later->get()) == std::vector<std::string>{"b"});
  check_offsets(later->get(), 3, 3);
}

TEST_CASE("a message that arrives between reading and holding is not missed", "[broker][pull]") {
  PullBench bench;
  bench.put("a");
  bench.store.after_get = [&bench] {
    bench.store.after_get = nullptr;
    bench.put("b");
  };
  auto later = bench.pull_later({{"sysFlag", kSuspend}, {"queueOffset", "1"}});
  bench.run_posted();
  CHECK(bodies(later->get()) == std::vector<std::string>{"b"});
}

TEST_CASE("held pulls of a closed connection are forgotten; too many are answered at once", "[broker][pull]") {
  PullBench bench;
  bench.put("a");
  auto gone = bench.pull_later({{"sysFlag", kSuspend}, {"queueOffset", "1"}}, 9);
  bench.held.connection_closed(9);
  bench.put("b");
  bench.run_posted();
  CHECK_FALSE(gone->has_value());
  bench.held.set_max(0);
  auto answer = bench.pull({{"sysFlag", kSuspend}, {"queueOffset", "2"}});
  CHECK(answer.code == 19);
}

TEST_CASE("a topic that is deleted meanwhile ends the wait with 17", "[broker][pull]") {
  PullBench bench;
  auto later = bench.pull_later({{"sysFlag", kSuspend}});
  REQUIRE(bench.topics.remove("T"));
  bench.held.release_all();
  bench.run_posted();
  CHECK(later->get().code == 17);
}

TEST_CASE("a pull with SQL gets what matches, and 23 says what is wrong with it", "[broker][pull][filter]") {
  PullBench bench;
  bench.config.property_filter = true;
  for (const char* tag : {"TagA", "TagB", "TagA"}) bench.put(tag, tag);
  auto pull = [&bench](const std::string& sql) {
    return bench.pull({{"expressionType", "SQL92"}, {"subscription", sql}});
  };
  auto answer = pull("TAGS = 'TagB'");
  CHECK(bodies(answer) == std::vector<std::string>{"TagB"});
  check_offsets(answer, 3, 3);
  answer = pull("TAGS = 'TagC'");
  CHECK(answer.code == 20);
  check_offsets(answer, 3, 3);
  check_refused(pull("TAGS ="), 23, "line 1, column 7: a property, a literal or ( is wanted");
  check_refused(pull(std::string(1'000, '(')), 23, "nested deeper than 128 levels");
  check_refused(pull("TAGS = '" + std::string(64 * 1024, 'x') + "'"), 23, "32768 are allowed");
}

TEST_CASE("a pull with SQL waits on behind messages that do not match", "[broker][pull][filter]") {
  PullBench bench;
  bench.config.property_filter = true;
  bench.put("a", "TagA");
  auto start_pull = [&bench](const std::string& offset) {
    return bench.pull_later({{"sysFlag", kSuspend},
                             {"queueOffset", offset},
                             {"expressionType", "SQL92"},
                             {"subscription", "TAGS = 'TagB'"},
                             {"suspendTimeoutMillis", "500"}});
  };
  auto later = start_pull("1");
  for (int i = 0; i < 3; ++i) {
    bench.put("a", "TagA");
    bench.run_posted();
    CHECK_FALSE(later->has_value());
    CHECK(bench.held.size() == 1);
  }
  bench.put("b", "TagB");
  bench.run_posted();
  CHECK(bodies(later->get()) == std::vector<std::string>{"b"});
  check_offsets(later->get(), 5, 5);

  later = start_pull("5");
  bench.put("a", "TagA");
  bench.run_posted();
  bench.clock.advance(500);
  bench.held.expire(bench.clock.now()());
  bench.run_posted();
  CHECK(later->get().code == 20);  // what it has passed over is not read again
  check_offsets(later->get(), 6, 6);
}

TEST_CASE("a group's filter comes from its heartbeats", "[broker][pull][filter]") {
  PullBench bench;
  bench.config.property_filter = true;
  for (const char* tag : {"TagA", "TagB"}) bench.put(tag, tag);
  auto join = [&bench](const std::string& sql, int64_t version, int64_t filter_version) {
    ClientInfo client;
    client.connection = 1;
    client.client_id = "c1";
    client.last_update_ms = system_now_ms();
    ConsumerRegistration registration;
    registration.group = "g";
    Subscription subscription;
    subscription.topic = "T";
    subscription.expression = sql;
    subscription.expression_type = "SQL92";
    subscription.version = version;
    registration.subscriptions = {subscription};
    bench.consumers.register_consumer(client, registration);
    registration.subscriptions[0].version = filter_version;
    bench.filters.register_group("g", registration.subscriptions);
  };
  auto pull = [&bench] { return bench.pull({{"sysFlag", "0"}}, "subscription"); };
  join("TAGS = 'TagB'", 10, 10);
  CHECK(bodies(pull()) == std::vector<std::string>{"TagB"});
  join("TAGS = 'TagB'", 11, 10);
  check_refused(pull(), 28, "not latest");
  join("TAGS =", 12, 12);
  check_refused(pull(), 27, "line 1, column 7: a property, a literal or ( is wanted");
  join("TAGS = 'TagA'", 13, 13);
  CHECK(bodies(pull()) == std::vector<std::string>{"TagA"});
  bench.config.property_filter = false;
  check_refused(pull(), 1, "does not support consumer to filter message by SQL92");
}

TEST_CASE("begin, end and times of queues, and single messages", "[broker][pull]") {
  PullBench bench;
  bench.put("a");
  bench.put("b");
  QueueQueryHandlers queries(bench.store);
  auto query = [&queries](auto method, const Fields& fields) {
    return ask(queries, method, request_of(RequestCode::kGetMaxOffset, fields));
  };
  const Fields queue = {{"topic", "T"}, {"queueId", "0"}};
  CHECK(query(&QueueQueryHandlers::max_offset, queue).ext.get("offset") == "2");
  CHECK(query(&QueueQueryHandlers::min_offset, queue).ext.get("offset") == "0");
  CHECK(query(&QueueQueryHandlers::max_offset, {{"topic", "None"}, {"queueId", "0"}}).ext.get("offset") == "0");
  CHECK(query(&QueueQueryHandlers::earliest_time, queue).ext.get("timestamp") == "1000");
  CHECK(query(&QueueQueryHandlers::earliest_time, {{"topic", "T"}, {"queueId", "1"}}).ext.get("timestamp") == "-1");
  Fields at = {{"topic", "T"}, {"queueId", "0"}, {"timestamp", "1001"}};
  CHECK(query(&QueueQueryHandlers::offset_by_time, at).ext.get("offset") == "1");
  at.emplace_back("boundaryType", "upper");
  at[2].second = "9999";
  CHECK(query(&QueueQueryHandlers::offset_by_time, at).ext.get("offset") == "1");
  at.back().second = "middle";
  check_refused(query(&QueueQueryHandlers::offset_by_time, at), 29, "boundaryType");
  check_refused(query(&QueueQueryHandlers::max_offset, {{"topic", "T"}, {"queueId", "-1"}}), 29, "queueId");
  check_refused(query(&QueueQueryHandlers::max_offset, {{"queueId", "1"}}), 29, "topic");

  auto message = query(&QueueQueryHandlers::view_message, {{"offset", "0"}});
  CHECK(message.code == 0);
  CHECK(message::decode_record(message.body.bytes)->body == "a");
  for (const char* offset : {"900000", "-1", "3"})
    check_refused(query(&QueueQueryHandlers::view_message, {{"offset", offset}}), 1,
                  "can not find message by the offset");
  check_refused(query(&QueueQueryHandlers::view_message, {{"offset", "x"}}), 29, "offset");
}

TEST_CASE("what is not in memory is read by the readers, and answered once", "[broker][pull]") {
  PullBench bench;
  for (const char* body : {"one", "two"}) bench.put(body);
  bench.store.on_disk = true;
  std::vector<std::function<void()>> readers;
  bool full = false;
  PullOperation operation(PullOperation::Parts{
      bench.config, bench.topics, bench.groups, bench.consumers, *bench.offsets, bench.stats, bench.store, bench.held,
      bench.filters, bench.limits, "127.0.0.1", bench.clock.now(), [&](std::function<void()> task) {
        if (!full) readers.push_back(std::move(task));
        return !full;
      }});
  PullHandlers handlers(operation, bench.config);
  auto answer = start(handlers, &PullHandlers::pull, PullBench::request({{"commitOffset", "1"}, {"sysFlag", "5"}}), 1);
  CHECK(!answer->has_value());
  REQUIRE(readers.size() == 1);
  CHECK(bench.store.last_limits.only_from_memory);
  readers.front()();
  CHECK(answer->has_value());
  CHECK(answer->get().code == remoting::response_code::kSuccess);
  check_offsets(answer->get(), 2, 2);
  CHECK(!bench.store.last_limits.only_from_memory);
  full = true;
  auto refused = start(handlers, &PullHandlers::pull, PullBench::request({}), 1);
  CHECK(refused->has_value());
  CHECK(refused->get().code == remoting::response_code::kSystemBusy);
}
