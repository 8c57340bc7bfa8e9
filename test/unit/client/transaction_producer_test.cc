#include "apogee/transaction_producer.h"

#include <future>
#include <stdexcept>

#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/response_code.h"
#include "test/support/catch.h"
#include "test/unit/client/fake_cluster.h"

namespace apogee::test {

using namespace std::chrono_literals;
using remoting::Command;
using remoting::RequestCode;

namespace {

TransactionProducerConfig config_of(const FakeCluster& cluster) {
  TransactionProducerConfig config;
  config.group = "tx";
  config.name_servers = cluster.name_servers();
  config.route_refresh_interval = 50ms;
  config.heartbeat_interval = 50ms;
  config.topics = {"T"};
  return config;
}

struct Listener {
  TransactionState executed = TransactionState::kCommit, checked = TransactionState::kCommit;
  bool throws = false;
  std::atomic<int> executions{0}, checks{0};
  std::mutex mutex;
  std::string last_id, last_topic, last_body;
  TransactionListener get() {
    TransactionListener listener;
    listener.execute = [this](const Message&, const SendReceipt& receipt) {
      ++executions;
      std::lock_guard lock(mutex);
      last_id = receipt.transaction_id;
      if (throws) throw std::runtime_error("as some do");
      return executed;
    };
    listener.check = [this](const ReceivedMessage& message) {
      std::lock_guard lock(mutex);
      last_id = message.msg_id();
      last_topic = message.topic();
      last_body = std::string(message.body());
      ++checks;
      if (throws) throw std::runtime_error("as some do");
      return checked;
    };
    return listener;
  }
};

/// A producer of group "tx" that has started, and a broker with the topic T.
struct Bench {
  FakeCluster cluster;
  FakeBroker& broker = cluster.broker();
  Listener listener;
  TransactionProducer producer{config_of(cluster), listener.get()};
  Bench() {
    cluster.add_topic("T", 1);
    REQUIRE(producer.start());
  }
};

std::string text(const Command& command, const char* field) {
  return std::string(command.ext.get(field).value_or("-"));
}

Command check_request(const std::string& store_host_ip, int32_t store_port, const std::string& broker_name,
                      const std::string& group = "tx") {
  std::string properties = "PGROUP\x01" + group + "\x02UNIQ_KEY\x01THE-ID\x02";
  const std::string ip = message::ip_bytes_of(store_host_ip);
  message::RecordFields fields;
  fields.topic = "T";
  fields.queue_id = 1;
  fields.born_host = {ip, 1};
  fields.store_host = {ip, store_port};
  fields.body = "half";
  fields.properties = properties;
  Command request = Command::request(RequestCode::kCheckTransactionState);
  request.ext.set("tranStateTableOffset", 17);
  request.ext.set("commitLogOffset", 4'711);
  request.ext.set("msgId", "THE-ID");
  request.ext.set("transactionId", "THE-ID");
  if (!broker_name.empty()) request.ext.set("bname", broker_name);
  request.body = SharedBytes::from(message::encode_record(fields, 17, 4'711));
  return request;
}

}  // namespace

TEST_CASE("a transaction: the half message, execute, the end", "[client][transaction]") {
  Bench bench;
  auto& broker = bench.broker;
  auto& listener = bench.listener;
  auto& producer = bench.producer;
  struct Row {
    TransactionState state;
    bool throws;
    const char* decision;
  };
  const std::vector<Row> rows{{TransactionState::kCommit, false, "8"},
                              {TransactionState::kRollback, false, "12"},
                              {TransactionState::kUnknown, false, "0"},
                              {TransactionState::kCommit, true, "0"}};
  for (size_t i = 0; i < rows.size(); ++i) {
    listener.executed = rows[i].state;
    listener.throws = rows[i].throws;
    TransactionOptions options;
    options.check_immunity = 30s;
    auto receipt = producer.send_in_transaction(Message("T", "body").set_tags("x"), options);
    REQUIRE(receipt);
    CHECK(receipt->state == (rows[i].throws ? TransactionState::kUnknown : rows[i].state));
    REQUIRE(eventually([&] { return broker.requests(RequestCode::kEndTransaction).size() == i + 1; }));
    const auto sent = broker.requests(RequestCode::kSendMessageV2).back();
    const std::string properties = text(sent, "i");
    CHECK(text(sent, "f") == "4");
    CHECK(message::find_property(properties, "TRAN_MSG") == "true");
    CHECK(message::find_property(properties, "PGROUP") == "tx");
    CHECK(message::find_property(properties, "CHECK_IMMUNITY_TIME_IN_SECONDS") == "30");
    CHECK(message::find_property(properties, "TAGS") == "x");
    const auto end = broker.requests(RequestCode::kEndTransaction).back();
    CHECK(end.is_oneway());
    CHECK(text(end, "producerGroup") == "tx");
    CHECK(text(end, "topic") == "T");
    CHECK(text(end, "tranStateTableOffset") == std::to_string(i));
    CHECK(text(end, "commitLogOffset") == "0");
    CHECK(text(end, "commitOrRollback") == rows[i].decision);
    CHECK(text(end, "fromTransactionCheck") == "false");
    CHECK(text(end, "msgId") == receipt->sent.msg_id);
    // This broker gives no transaction id, as those of 4.9.
    CHECK(text(end, "transactionId") == receipt->sent.msg_id);
    CHECK(listener.last_id == receipt->sent.msg_id);
  }
  CHECK(listener.executions == 4);
  auto plain = producer.send(Message("T", "plain"));
  REQUIRE(plain);
  CHECK(text(broker.requests(RequestCode::kSendMessageV2).back(), "f") == "0");
  CHECK(producer.shutdown());
  CHECK(broker.requests(RequestCode::kEndTransaction).size() == 4);
}

TEST_CASE("a half message that is not stored well, or not at all", "[client][transaction]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  auto& broker = cluster.broker();
  Listener listener;
  auto config = config_of(cluster);
  config.send_timeout = 300ms;
  config.attempt_timeout = 50ms;
  TransactionProducer producer(config, listener.get());
  REQUIRE(producer.start());
  SECTION("stored, but not on disk: rolled back without execute") {
    broker.set_intercept([](const Command& request) -> std::optional<Command> {
      if (request.request_code() != RequestCode::kSendMessageV2) return std::nullopt;
      Command reply = Command::response_to(request, remoting::response_code::kFlushDiskTimeout);
      reply.ext.set("msgId", "7F00000100002A9F0000000000000040");
      reply.ext.set("queueId", 0);
      reply.ext.set("queueOffset", 3);
      reply.ext.set("transactionId", "OF-5");
      return reply;
    });
    auto receipt = producer.send_in_transaction(Message("T", "body"));
    REQUIRE(receipt);
    CHECK(receipt->state == TransactionState::kRollback);
    REQUIRE(eventually([&] { return broker.requests(RequestCode::kEndTransaction).size() == 1; }));
    const auto end = broker.requests(RequestCode::kEndTransaction).back();
    CHECK(text(end, "commitOrRollback") == "12");
    CHECK(text(end, "commitLogOffset") == "64");
    CHECK(text(end, "transactionId") == "OF-5");
  }
  SECTION("nobody knows: not sent a second time") {
    broker.ignore(RequestCode::kSendMessageV2);
    auto receipt = producer.send_in_transaction(Message("T", "body"));
    REQUIRE_FALSE(receipt);
    CHECK(receipt.error().code == Errc::kTimeout);
    CHECK(broker.requests(RequestCode::kSendMessageV2).size() == 1);
    CHECK(broker.requests(RequestCode::kEndTransaction).empty());
  }
  SECTION("refused: tried again") {
    broker.set_intercept(
        [refused = std::make_shared<std::atomic<int>>(0)](const Command& request) -> std::optional<Command> {
          if (request.request_code() != RequestCode::kSendMessageV2 || ++*refused > 1) return std::nullopt;
          return Command::response_to(request, remoting::response_code::kSystemBusy, "later");
        });
    CHECK(producer.send_in_transaction(Message("T", "body")));
    CHECK(listener.executions == 1);
    return;
  }
  CHECK(listener.executions == 0);
}

TEST_CASE("brokers ask for the state of a transaction", "[client][transaction]") {
  Bench bench;
  auto& broker = bench.broker;
  auto& listener = bench.listener;
  // Without any send it is a member of its group.
  REQUIRE(eventually([&] {
    for (const auto& request : broker.requests(RequestCode::kHeartBeat)) {
      auto data = remoting::decode_heartbeat_data(request.body.bytes);
      if (data && data->producer_data_set.size() == 1 && data->producer_data_set[0].group_name == "tx") return true;
    }
    return false;
  }));
  const std::string address = broker.address();
  const auto colon = address.rfind(':');
  const int port = std::stoi(address.substr(colon + 1));
  auto ends = [&] { return broker.requests(RequestCode::kEndTransaction); };
  auto ask = [&](Command request) { broker.ask_producers(std::move(request)); };
  struct Row {
    TransactionState state;
    bool throws;
    const char* broker_name;
    const char* decision;
  };
  const std::vector<Row> rows{{TransactionState::kCommit, false, "broker-a", "8"},
                              {TransactionState::kRollback, false, "", "12"},
                              {TransactionState::kUnknown, false, "unheard-of", "0"},
                              {TransactionState::kCommit, true, "broker-a", "0"}};
  for (size_t i = 0; i < rows.size(); ++i) {
    listener.checked = rows[i].state;
    listener.throws = rows[i].throws;
    ask(check_request(address.substr(0, colon), port, rows[i].broker_name));
    REQUIRE(eventually([&] { return ends().size() == i + 1; }));
    const auto end = ends().back();
    CHECK(end.is_oneway());
    CHECK(text(end, "commitOrRollback") == rows[i].decision);
    CHECK(text(end, "fromTransactionCheck") == "true");
    CHECK(text(end, "tranStateTableOffset") == "17");
    CHECK(text(end, "commitLogOffset") == "4711");
    CHECK(text(end, "transactionId") == "THE-ID");
    CHECK(text(end, "msgId") == "THE-ID");
    CHECK(text(end, "producerGroup") == "tx");
  }
  CHECK(listener.last_id == "THE-ID");
  CHECK(listener.last_topic == "T");
  CHECK(listener.last_body == "half");
  // Questions that are none of this producer's, or none at all.
  ask(check_request(address.substr(0, colon), port, "broker-a", "others"));
  auto broken = check_request(address.substr(0, colon), port, "broker-a");
  broken.body = SharedBytes::from("no record");
  ask(broken);
  auto incomplete = check_request(address.substr(0, colon), port, "broker-a");
  incomplete.ext.set("commitLogOffset", "x");
  ask(incomplete);
  listener.throws = false;
  ask(check_request(address.substr(0, colon), port, "broker-a"));
  REQUIRE(eventually([&] { return ends().size() == rows.size() + 1; }));
  CHECK(listener.checks == static_cast<int>(rows.size()) + 1);
}

TEST_CASE("configurations and calls that a transaction producer refuses", "[client][transaction]") {
  FakeCluster cluster;
  cluster.add_topic("T", 1);
  Listener listener;
  auto without_check = listener.get();
  without_check.check = nullptr;
  CHECK(TransactionProducer(config_of(cluster), without_check).start().error().code == Errc::kInvalidArgument);
  auto config = config_of(cluster);
  config.check_threads = 0;
  CHECK(TransactionProducer(config, listener.get()).start().error().code == Errc::kInvalidArgument);
  TransactionProducer producer(config_of(cluster), listener.get());
  CHECK(producer.send_in_transaction(Message("T", "x")).error().code == Errc::kClosed);
  REQUIRE(producer.start());
  TransactionOptions options;
  options.check_immunity = -1s;
  CHECK(producer.send_in_transaction(Message("T", "x"), options).error().code == Errc::kInvalidArgument);
  CHECK(producer.shutdown());
  CHECK(producer.send_in_transaction(Message("T", "x")).error().code == Errc::kClosed);
  CHECK(std::string(to_string(TransactionState::kCommit)) == "COMMIT_MESSAGE");
  CHECK(std::string(to_string(TransactionState::kRollback)) == "ROLLBACK_MESSAGE");
  CHECK(std::string(to_string(TransactionState::kUnknown)) == "UNKNOW");
}

}  // namespace apogee::test
