// The traces that clients write, and what mqadmin makes of them.
#include <atomic>
#include <nlohmann/json.hpp>

#include "common/base/text.h"
#include "common/message/property_names.h"
#include "test/business/transaction_bench.h"
#include "test/support/raw_requests.h"
#include "test/support/run_program.h"

namespace apogee::test {

using namespace std::chrono_literals;
using admin::TraceKind;

namespace {

admin::MessageTrace trace_of(AdminClient& admin, const std::string& id) {
  auto trace = admin.message_trace({id});
  return trace ? *trace : admin::MessageTrace{};
}

int count(const admin::MessageTrace& trace, TraceKind kind) {
  int found = 0;
  for (const auto& record : trace.records) found += record.kind == kind ? 1 : 0;
  return found;
}

}  // namespace

TEST_CASE("trace: the life of a message from its producer to two groups, by the SDK and by mqadmin",
          "[business][trace]") {
  Cluster cluster({"--traceTopicEnable", "true"});
  cluster.create_topic("Traced", 2);
  auto config = producer_config(cluster);
  config.enable_trace = true;
  Producer producer(config);
  REQUIRE(producer.start());
  auto sent = producer.send(Message("Traced", "hello").set_tags("T").set_keys("order-1 order-2"));
  if (!sent) FAIL(sent.error().message);
  auto delayed = producer.send(Message("Traced", "later").set_delay_level(1));
  REQUIRE(delayed);
  auto batch = producer.send_batch({Message("Traced", "b1"), Message("Traced", "b2")});
  REQUIRE(batch);

  std::atomic<int> first_calls{0}, second_calls{0};
  auto first_config = consumer_config<PushConsumerConfig>(cluster, "traced_a", "a");
  first_config.enable_trace = true;
  PushConsumer first(first_config);
  first.set_concurrent_listener([&](const std::vector<ReceivedMessage>& messages, ConcurrentContext& context) {
    context.delay_level_when_later = 1;
    // The first try of "hello" fails.
    if (messages.front().body() == "hello" && first_calls++ == 0) return ConsumeResult::kLater;
    return ConsumeResult::kSuccess;
  });
  REQUIRE(first.subscribe("Traced"));
  REQUIRE(first.start());
  auto second_config = consumer_config<PushConsumerConfig>(cluster, "traced_b", "b");
  second_config.enable_trace = true;
  PushConsumer second(second_config);
  second.set_orderly_listener([&](const std::vector<ReceivedMessage>&, OrderlyContext&) {
    ++second_calls;
    return OrderlyResult::kSuccess;
  });
  REQUIRE(second.subscribe("Traced"));
  REQUIRE(second.start());

  AdminClient admin(admin_config(cluster));
  admin::MessageTrace trace;
  REQUIRE(eventually(
      [&] {
        trace = trace_of(admin, sent->msg_id);
        return count(trace, TraceKind::kPub) == 1 && count(trace, TraceKind::kSubAfter) == 3;
      },
      60s));
  const auto& pub = trace.records.front();
  CHECK(pub.kind == TraceKind::kPub);
  CHECK(pub.group == "sdk_producers");
  CHECK(pub.topic == "Traced");
  CHECK(pub.tags == "T");
  CHECK(pub.keys == "order-1 order-2");
  CHECK(pub.body_bytes == 5);
  CHECK(pub.store_host == cluster.broker());
  CHECK(pub.offset_msg_id == sent->offset_msg_id);
  CHECK(pub.success);
  CHECK(pub.client_host == "127.0.0.1");
  int failed = 0, retries = 0;
  std::set<std::string> groups;
  for (const auto& record : trace.records) {
    if (record.kind == TraceKind::kSubAfter) {
      groups.insert(record.group);
      if (!record.success) {
        ++failed;
        CHECK(record.context_code == 4);
      }
    }
    if (record.kind == TraceKind::kSubBefore && record.retry_times > 0) ++retries;
  }
  CHECK(groups == std::set<std::string>{"traced_a", "traced_b"});
  CHECK(failed == 1);
  CHECK(retries == 1);

  // By the application's key, a delayed message and a message of a batch.
  admin::MessageQuery by_key;
  by_key.topic = "RMQ_SYS_TRACE_TOPIC";
  by_key.key = "order-2";
  auto found = admin.query_messages(by_key);
  REQUIRE(found);
  CHECK_FALSE(found->messages.empty());
  CHECK(eventually(
      [&] {
        auto of_delayed = trace_of(admin, delayed->msg_id);
        return !of_delayed.records.empty() && of_delayed.records.front().type == admin::TraceMessageType::kDelay;
      },
      60s));
  const auto ids = split(batch->msg_id, ",");
  CHECK(eventually([&] { return count(trace_of(admin, std::string(ids[1])), TraceKind::kSubAfter) == 2; }, 60s));

  auto printed = run_program("tools/mqadmin", {"queryMsgTraceById", "-n", cluster.namesrv(), "-i", sent->msg_id}, {});
  CHECK(printed.exit_code == 0);
  for (auto text : {"#Type", "#ProducerGroup", "#ClientHost", "#SendTime", "#CostTimes", "#Status", "Pub",
                    "#ConsumerGroup", "#ConsumerTime", "Sub", "traced_a", "traced_b", "success", "failed"}) {
    INFO(text);
    CHECK(printed.out.find(text) != std::string::npos);
  }
  printed =
      run_program("tools/mqadmin", {"queryMsgTraceById", "--json", "-n", cluster.namesrv(), "-i", sent->msg_id}, {});
  auto json = nlohmann::json::parse(printed.out, nullptr, false);
  REQUIRE(json.is_object());
  CHECK(json["records"].size() == trace.records.size());
  CHECK(json["records"][0]["storeHost"] == cluster.broker());
  printed = run_program("tools/mqadmin", {"queryMsgTraceById", "-n", cluster.namesrv(), "-i", "nothing"}, {});
  CHECK(printed.out.find("No trace of this message") != std::string::npos);
}

TEST_CASE("trace: how transactions end, by execute and by check, and none where the broker wants none",
          "[business][trace][transactions]") {
  Cluster cluster(impatient({"--traceTopicEnable", "true"}));
  cluster.create_topic(kTransactionTopic, 1);
  Ledger ledger;
  ledger.execute = [](const std::string& body) {
    if (body == "asked") return TransactionState::kUnknown;
    return body == "back" ? TransactionState::kRollback : TransactionState::kCommit;
  };
  ledger.check = [](const std::string&) { return TransactionState::kCommit; };
  auto config = transaction_config(cluster);
  config.enable_trace = true;
  TransactionProducer producer(config, ledger.listener());
  REQUIRE(producer.start());
  AdminClient admin(admin_config(cluster));
  auto send = [&](const std::string& body) {
    auto receipt =
        producer.send_in_transaction(Message(kTransactionTopic, body).set_tags("created").set_keys("k " + body));
    REQUIRE(receipt);
    return receipt->sent;
  };
  auto ends_of = [&](const std::string& id) {
    std::vector<admin::TraceRecord> ends;
    for (auto& record : trace_of(admin, id).records)
      if (record.kind == TraceKind::kEndTransaction) ends.push_back(std::move(record));
    return ends;
  };
  const auto done = send("done"), back = send("back"), asked = send("asked");
  REQUIRE(eventually([&] { return ends_of(asked.msg_id).size() == 2 && ends_of(back.msg_id).size() == 1; }, 60s));
  REQUIRE(eventually([&] { return trace_of(admin, done.msg_id).records.size() == 2; }, 60s));
  const auto life = trace_of(admin, done.msg_id).records;
  CHECK(life[0].kind == TraceKind::kPub);
  CHECK(life[0].type == admin::TraceMessageType::kHalf);
  const auto& end = life[1];
  CHECK(end.kind == TraceKind::kEndTransaction);
  CHECK(end.type == admin::TraceMessageType::kCommit);
  CHECK(end.group == kTransactionProducers);
  CHECK(end.topic == kTransactionTopic);
  CHECK(end.tags == "created");
  CHECK(end.keys == "k done");
  CHECK(end.region == "DefaultRegion");
  CHECK(end.store_host == cluster.broker());
  CHECK(end.transaction_id == done.transaction_id);
  CHECK(end.transaction_state == "COMMIT_MESSAGE");
  CHECK_FALSE(end.from_check);
  CHECK(ends_of(back.msg_id)[0].transaction_state == "ROLLBACK_MESSAGE");
  const auto both = ends_of(asked.msg_id);
  CHECK(both[0].transaction_state == "UNKNOW");
  CHECK_FALSE(both[0].from_check);
  CHECK(both[1].transaction_state == "COMMIT_MESSAGE");
  CHECK(both[1].from_check);
  CHECK(both[1].tags == "created");
  CHECK(both[1].keys == "k asked");

  auto printed = run_program("tools/mqadmin", {"queryMsgTraceById", "-n", cluster.namesrv(), "-i", asked.msg_id}, {});
  CHECK(printed.exit_code == 0);
  for (auto text : {"EndTrans", "UNKNOW", "COMMIT_MESSAGE"}) {
    INFO(text);
    CHECK(printed.out.find(text) != std::string::npos);
  }

  REQUIRE(admin.update_broker_config(cluster.broker(), "traceOn", "false"));
  const auto quiet = send("quiet");
  REQUIRE(producer.shutdown());  // writes what is left
  CHECK(trace_of(admin, quiet.msg_id).records.empty());
}

TEST_CASE("trace: none where the broker says TRACE_ON=false, and none of traces", "[business][trace]") {
  Cluster cluster({"--traceTopicEnable", "true", "--traceOn", "false"});
  cluster.create_topic("Quiet", 1);
  auto config = producer_config(cluster);
  config.enable_trace = true;
  AdminClient admin(admin_config(cluster));
  std::string quiet_id;
  {
    Producer producer(config);
    REQUIRE(producer.start());
    auto sent = producer.send(Message("Quiet", "unseen"));
    REQUIRE(sent);
    quiet_id = sent->msg_id;
    auto reader_config = consumer_config<PushConsumerConfig>(cluster, "quiet", "q");
    reader_config.enable_trace = true;
    Seen seen;
    auto consumer = listen(reader_config, "Quiet", "*", seen);
    REQUIRE(eventually([&] { return seen.count() == 1; }, 60s));
    REQUIRE(consumer->shutdown());
    REQUIRE(producer.shutdown());  // writes what is left
  }
  auto offset = admin.max_offset({"RMQ_SYS_TRACE_TOPIC", Cluster::broker_name(0), 0});
  REQUIRE(offset);
  CHECK(*offset == 0);

  REQUIRE(admin.update_broker_config(cluster.broker(), "traceOn", "true"));
  {
    Producer producer(config);
    REQUIRE(producer.start());
    REQUIRE(producer.send(Message("RMQ_SYS_TRACE_TOPIC", "by hand")));
    auto sent = producer.send(Message("Quiet", "seen"));
    REQUIRE(sent);
    REQUIRE(producer.shutdown());
    REQUIRE(eventually([&] { return count(trace_of(admin, sent->msg_id), TraceKind::kPub) == 1; }, 60s));
  }
  // The message by hand and one with the trace of "seen".
  offset = admin.max_offset({"RMQ_SYS_TRACE_TOPIC", Cluster::broker_name(0), 0});
  REQUIRE(offset);
  CHECK(*offset == 2);
  CHECK(trace_of(admin, quiet_id).records.empty());
}

TEST_CASE("raw frames: traces that a Java client wrote are understood", "[business][trace]") {
  Cluster cluster({"--traceTopicEnable", "true"});
  RawClient java(cluster.broker_port());
  auto fields = [](std::initializer_list<std::string> all) {
    std::string text;
    for (const auto& each : all) text += (text.empty() ? "" : "\x01") + each;
    return text + "\x02";
  };
  RawSend send;
  send.topic = "RMQ_SYS_TRACE_TOPIC";
  send.body = fields({"Pub", "1700000000000", "DefaultRegion", "java_producers", "Orders", "ID1", "null", "null",
                      "10.0.0.9:10911", "12", "3", "0", "OFF1", "true"}) +
              fields({"SubBefore", "1700000000010", "DefaultRegion", "java_group", "REQ1", "ID1", "0", "null"}) +
              fields({"SubAfter", "REQ1", "ID1", "7", "true", "null", "0", "1700000000020"}) +
              fields({"EndTransaction", "1700000000030", "DefaultRegion", "java_producers", "Orders", "ID1", "null",
                      "null", "10.0.0.9:10911", "2", "TX1", "COMMIT_MESSAGE", "false"});
  send.properties = "KEYS\x01ID1\x02";
  REQUIRE(java.call(send_request(std::move(send)))->code == 0);
  AdminClient admin(admin_config(cluster));
  admin::MessageTrace trace;
  REQUIRE(eventually(
      [&] {
        trace = trace_of(admin, "ID1");
        return trace.records.size() == 4;
      },
      60s));
  CHECK(trace.records[0].kind == TraceKind::kPub);
  CHECK(trace.records[0].keys.empty());
  CHECK(trace.records[2].kind == TraceKind::kSubAfter);
  CHECK(trace.records[2].group == "java_group");  // 4.9 clients leave it out
  CHECK(trace.records[2].cost_ms == 7);
  CHECK(trace.records[3].transaction_state == "COMMIT_MESSAGE");
}

}  // namespace apogee::test
