// Filters by tags and by SQL92: the SDK, clients of another make, and the messages that a group gets again.
#include <atomic>

#include "apogee/pull_consumer.h"
#include "common/base/hash.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/response_code.h"
#include "test/integration/sdk_bench.h"
#include "test/support/raw_requests.h"

namespace apogee::test {

using namespace std::chrono_literals;
using remoting::RequestCode;
namespace response_code = remoting::response_code;

namespace {

template <typename Condition>
bool in_time(Condition condition) {
  return eventually(condition, 60s);
}

const std::vector<std::string> kSqlBroker = {"--enablePropertyFilter", "true"};

Status send_amounts(const Cluster& cluster, const std::string& topic, int count) {
  Producer producer(producer_config(cluster));
  APOGEE_TRY(producer.start());
  for (int i = 0; i < count; ++i) {
    Message message(topic, std::to_string(i));
    message.set_tags(i % 2 == 0 ? "even" : "odd").set_property("amount", std::to_string(i));
    if (i % 3 == 0) message.set_property("region", i % 2 == 0 ? "cn" : "eu");
    auto sent = producer.send(message);
    if (!sent) return std::move(sent).error();
  }
  return producer.shutdown();
}

std::set<std::string> numbers(int count, const std::function<bool(int)>& wanted) {
  std::set<std::string> all;
  for (int i = 0; i < count; ++i)
    if (wanted(i)) all.insert(std::to_string(i));
  return all;
}

std::unique_ptr<PushConsumer> consumer_of(const Cluster& cluster, const std::string& group, Seen& seen) {
  auto consumer = std::make_unique<PushConsumer>(consumer_config<PushConsumerConfig>(cluster, group, group));
  consumer->set_concurrent_listener([&seen](const std::vector<ReceivedMessage>& messages, ConcurrentContext&) {
    seen.add("", messages);
    return ConsumeResult::kSuccess;
  });
  return consumer;
}

remoting::SubscriptionData sql_subscription(const std::string& topic, const std::string& sql) {
  remoting::SubscriptionData data;
  data.topic = topic;
  data.sub_string = sql;
  data.expression_type = "SQL92";
  data.sub_version = 1'700'000'000'000;
  return data;
}

remoting::Command check_request(const std::string& sql) {
  auto request = remoting::Command::request(RequestCode::kCheckClientConfig);
  request.body =
      SharedBytes::from(encode(remoting::CheckClientRequest{"raw", "raw_group", sql_subscription("T", sql)}));
  return request;
}

std::vector<std::string> bodies_of(const remoting::Command& answer) {
  std::vector<std::string> bodies;
  auto records = message::split_records(answer.body.bytes);
  if (!records) return {"(not records)"};
  for (auto record : *records) bodies.emplace_back(message::decode_record(record)->body);
  return bodies;
}

}  // namespace

TEST_CASE("SQL92: push and pull consumers get what matches", "[business][filter]") {
  Cluster cluster(kSqlBroker);
  cluster.create_topic("Amounts", 2);
  REQUIRE(send_amounts(cluster, "Amounts", 60));
  const std::string sql = "amount BETWEEN 10 AND 50 AND (region IN ('cn') OR TAGS = 'odd')";
  const auto wanted = numbers(60, [](int i) { return i >= 10 && i <= 50 && (i % 6 == 0 || i % 2 == 1); });

  Seen pushed;
  auto push = consumer_of(cluster, "by_sql", pushed);
  REQUIRE(push->subscribe("Amounts", MessageSelector::by_sql(sql)));
  REQUIRE(push->start());
  PullConsumer pull(consumer_config<PullConsumerConfig>(cluster, "by_sql_pull", "pull"));
  REQUIRE(pull.subscribe("Amounts", MessageSelector::by_sql(sql)));
  REQUIRE(pull.start());
  std::set<std::string> polled;
  CHECK(in_time([&] {
    auto messages = pull.poll(200ms);
    if (messages)
      for (const auto& message : *messages) polled.emplace(message.body());
    return polled.size() >= wanted.size() && pushed.distinct().size() >= wanted.size();
  }));
  CHECK(polled == wanted);
  CHECK(pushed.distinct() == wanted);

  // What comes while pulls are held, too.
  REQUIRE(send_amounts(cluster, "Amounts", 60));
  CHECK(in_time([&] { return pushed.count() >= 2 * wanted.size(); }));
  CHECK(pushed.distinct() == wanted);

  // Another filter on a running consumer.
  auto refused = push->subscribe("Amounts", MessageSelector::by_sql("amount >"));
  REQUIRE_FALSE(refused);
  CHECK(refused.error().response_code == response_code::kSubscriptionParseFailed);
  REQUIRE(push->subscribe("Amounts", MessageSelector::by_sql("amount = 7")));
  const auto before = pushed.count();
  REQUIRE(send_amounts(cluster, "Amounts", 9));
  CHECK(in_time([&] { return pushed.count() > before; }));
  REQUIRE(push->shutdown());
  REQUIRE(pull.shutdown());
}

TEST_CASE("SQL92: start() tells what is wrong with a filter", "[business][filter]") {
  Cluster cluster(kSqlBroker);
  cluster.create_topic("T", 1);
  Seen seen;
  auto consumer = consumer_of(cluster, "bad_sql", seen);
  REQUIRE(consumer->subscribe("T", MessageSelector::by_sql("amount > 5 AND region = ")));
  auto started = consumer->start();
  REQUIRE_FALSE(started);
  CHECK(started.error().response_code == response_code::kSubscriptionParseFailed);
  CHECK(started.error().message.find("line 1, column 25: a property, a literal or ( is wanted") != std::string::npos);
  CHECK_FALSE(consumer_of(cluster, "no_sql", seen)->subscribe("T", MessageSelector::by_sql(" ")));

  // The group of another member goes on: only the filter of this one is missing.
  auto good = listen(consumer_config<PushConsumerConfig>(cluster, "good", "good"), "T", "even", seen);
  REQUIRE(send_amounts(cluster, "T", 4));
  CHECK(in_time([&] { return seen.count() >= 2; }));
  CHECK(seen.distinct() == std::set<std::string>{"0", "2"});
}

TEST_CASE("SQL92 where the broker has it not enabled is refused with the reason", "[business][filter]") {
  Cluster cluster;
  cluster.create_topic("T", 1);
  Seen seen;
  auto consumer = consumer_of(cluster, "sql", seen);
  REQUIRE(consumer->subscribe("T", MessageSelector::by_sql("amount > 5")));
  auto started = consumer->start();
  REQUIRE_FALSE(started);
  CHECK(started.error().response_code == response_code::kSystemError);
  CHECK(started.error().message.find("does not support consumer to filter message by SQL92") != std::string::npos);
}

TEST_CASE("SQL92 by raw frames: bad input is answered 23, also 64 KiB and a thousand levels", "[business][filter]") {
  Cluster cluster(kSqlBroker);
  cluster.create_topic("T", 1);
  REQUIRE(send_amounts(cluster, "T", 10));
  RawClient client(cluster.broker_port());
  auto check = [&](const std::string& sql, int32_t code, const std::string& part) {
    auto checked = client.call(check_request(sql));
    REQUIRE(checked);
    CHECK(checked->code == code);
    CHECK(checked->remark.value_or("").find(part) != std::string::npos);
    auto request = pull_request("raw_group", "T", 0, 0);
    request.ext.set("subscription", sql);
    request.ext.set("expressionType", "SQL92");
    auto pulled = client.call(std::move(request));
    REQUIRE(pulled);
    CHECK(pulled->code == code);
    CHECK(pulled->remark.value_or("").find(code == 0 ? "FOUND" : part) != std::string::npos);
    return *pulled;
  };
  CHECK(bodies_of(check("amount >= 7 AND region IS NOT NULL", 0, "")) == std::vector<std::string>{"9"});
  check("amount >", 23, "line 1, column 9: a property, a literal or ( is wanted");
  check(std::string(1'000, '(') + "a" + std::string(1'000, ')'), 23, "nested deeper than 128 levels");
  check("a = '" + std::string(64 * 1024, 'x') + "'", 23, "32768 are allowed");

  // A heartbeat with a bad filter succeeds; only that topic is not pulled, and the answer says why.
  remoting::HeartbeatData heartbeat;
  heartbeat.client_id = "raw";
  remoting::ConsumerData bad, good;
  bad.group_name = "raw_bad";
  bad.subscription_data_set = {sql_subscription("T", "amount >")};
  good.group_name = "raw_good";
  good.subscription_data_set = {sql_subscription("T", "amount = 3")};
  heartbeat.consumer_data_set = {bad, good};
  auto request = remoting::Command::request(RequestCode::kHeartBeat);
  request.body = SharedBytes::from(encode(heartbeat));
  REQUIRE(client.call(std::move(request))->code == 0);
  auto pull_registered = [&](const std::string& group) {
    auto pull = pull_request(group, "T", 0, 0);
    pull.ext.set("sysFlag", 0);
    pull.ext.set("expressionType", "SQL92");
    auto answer = client.call(std::move(pull));
    REQUIRE(answer);
    return *answer;
  };
  CHECK(bodies_of(pull_registered("raw_good")) == std::vector<std::string>{"3"});
  auto answer = pull_registered("raw_bad");
  CHECK(answer.code == response_code::kFilterDataNotExist);
  CHECK(answer.remark.value_or("").find("line 1, column 9") != std::string::npos);
}

TEST_CASE("SQL92: messages that come again pass the filter where filterSupportRetry says so", "[business][filter]") {
  Cluster cluster({"--enablePropertyFilter", "true", "--filterSupportRetry", "true"});
  cluster.create_topic("T", 1);
  auto config = consumer_config<PushConsumerConfig>(cluster, "again", "again");
  PushConsumer consumer(config);
  std::atomic<int> first{0}, again{0};
  consumer.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext& context) {
    context.delay_level_when_later = 1;
    ++(messages.front().reconsume_times() == 0 ? first : again);
    return messages.front().reconsume_times() == 0 ? ConsumeResult::kLater : ConsumeResult::kSuccess;
  });
  REQUIRE(consumer.subscribe("T", MessageSelector::by_sql("amount < 3")));
  REQUIRE(consumer.start());
  REQUIRE(send_amounts(cluster, "T", 5));
  CHECK(in_time([&] { return again == 3; }));
  CHECK(first == 3);
  REQUIRE(consumer.shutdown());
}

TEST_CASE("tags: a thousand in one expression, and hashes that collide", "[business][filter]") {
  Cluster cluster;
  cluster.create_topic("T", 1);
  // Two tags with one hash, as everybody with Java knows them.
  REQUIRE(java_string_hash("Aa") == java_string_hash("BB"));
  std::string tags = "BB";
  for (int i = 0; i < 1'000; ++i) tags += " || tag" + std::to_string(i);
  Seen seen;
  auto consumer = listen(consumer_config<PushConsumerConfig>(cluster, "tags", "tags"), "T", tags, seen);
  Producer producer(producer_config(cluster));
  REQUIRE(producer.start());
  for (const char* tag : {"Aa", "tag1001", "tag0", "BB", "tag999"}) {
    Message message("T", tag);
    message.set_tags(tag);
    REQUIRE(producer.send(message));
  }
  CHECK(in_time([&] { return seen.count() >= 3; }));
  CHECK(seen.distinct() == std::set<std::string>{"tag0", "BB", "tag999"});
  CHECK(seen.count() == 3);

  // The same list in a pull, by raw frames: the broker knows hashes only.
  RawClient client(cluster.broker_port());
  auto request = pull_request("raw_tags", "T", 0, 0);
  request.ext.set("subscription", tags);
  auto answer = client.call(std::move(request));
  REQUIRE(answer);
  CHECK(bodies_of(*answer) == std::vector<std::string>{"Aa", "tag0", "BB", "tag999"});
}

}  // namespace apogee::test
