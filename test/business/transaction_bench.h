#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "apogee/transaction_producer.h"
#include "common/message/message_id.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/response_code.h"
#include "test/integration/sdk_bench.h"
#include "test/support/raw_requests.h"

// What the tests of transactions share.
namespace apogee::test {

inline constexpr const char* kTransactionTopic = "Orders";
inline constexpr const char* kTransactionProducers = "order_service";

/// Brokers that ask soon.
inline std::vector<std::string> impatient(std::vector<std::string> more = {}) {
  std::vector<std::string> options{"--transactionTimeOut",         "300", "--transactionCheckInterval", "200",
                                   "--transactionOpBatchInterval", "200"};
  options.insert(options.end(), more.begin(), more.end());
  return options;
}

inline TransactionProducerConfig transaction_config(const Cluster& cluster, const std::string& instance = {}) {
  TransactionProducerConfig config;
  static_cast<ProducerConfig&>(config) = producer_config(cluster);
  config.group = kTransactionProducers;
  config.instance_name = instance;
  config.heartbeat_interval = std::chrono::milliseconds(500);
  config.topics = {kTransactionTopic};
  return config;
}

/// What an application knows of its transactions: by body what becomes of a message, now and when it is asked.
/// Thread: any.
struct Ledger {
  std::function<TransactionState(const std::string&body)> execute, check;
  std::mutex mutex;
  std::map<std::string, int> executed, checked;  ///< by body
  std::vector<std::string> checked_ids, executed_ids;

  TransactionListener listener() {
    TransactionListener listener;
    listener.execute = [this](const Message& message, const SendReceipt& receipt) {
      {
        std::lock_guard lock(mutex);
        ++executed[message.body()];
        executed_ids.push_back(receipt.transaction_id);
      }
      return execute ? execute(message.body()) : TransactionState::kCommit;
    };
    listener.check = [this](const ReceivedMessage& message) {
      const std::string body(message.body());
      {
        std::lock_guard lock(mutex);
        ++checked[body];
        checked_ids.push_back(message.msg_id());
      }
      return check ? check(body) : TransactionState::kUnknown;
    };
    return listener;
  }
  int checks(const std::string& body) {
    std::lock_guard lock(mutex);
    return checked[body];
  }
};

/// A half message as a foreign client sends it, and where it lies.
struct RawHalf {
  std::string topic = kTransactionTopic, group = kTransactionProducers, body, key;
  int32_t queue_id = 0;
  std::vector<std::pair<std::string, std::string>> more;  ///< properties
  // After send():
  int64_t queue_offset = -1, log_offset = -1;
  std::string transaction_id;

  [[nodiscard]] remoting::Command request() const {
    std::string properties;
    message::append_property(properties, message::property::kTransactionPrepared, "true");
    message::append_property(properties, message::property::kProducerGroup, group);
    if (!key.empty()) message::append_property(properties, message::property::kUniqueKey, key);
    for (const auto& [name, value] : more) message::append_property(properties, name, value);
    RawSend send;
    send.topic = topic;
    send.queue_id = queue_id;
    send.body = body;
    send.properties = properties;
    auto request = send_request(std::move(send));
    request.ext.set("f", 4);
    request.ext.set(
        "g", std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
                 .count());
    return request;
  }
  void send(RawClient& client) {
    auto reply = client.call(request());
    REQUIRE(reply);
    INFO(reply->remark.value_or(""));
    REQUIRE(reply->code == 0);
    queue_offset = *reply->ext.get_int<int64_t>("queueOffset");
    transaction_id = std::string(reply->ext.get("transactionId").value_or(""));
    auto place = message::decode_offset_message_id(std::string(reply->ext.get("msgId").value_or("")));
    REQUIRE(place);
    log_offset = place->physical_offset;
  }
  /// 8 commit, 12 rollback, 0 neither.
  [[nodiscard]] remoting::Command end(int32_t decision, bool from_check = false) const {
    auto request = remoting::Command::request(remoting::RequestCode::kEndTransaction);
    request.ext.set("producerGroup", group);
    request.ext.set("tranStateTableOffset", queue_offset);
    request.ext.set("commitLogOffset", log_offset);
    request.ext.set("commitOrRollback", decision);
    request.ext.set("fromTransactionCheck", from_check);
    request.ext.set("msgId", transaction_id);
    request.ext.set("transactionId", transaction_id);
    return request;
  }
};

inline RawHalf raw_half(std::string body) {
  RawHalf half;
  half.body = std::move(body);
  return half;
}

inline remoting::Command producer_heartbeat(const std::string& client_id, const std::string& group) {
  remoting::HeartbeatData data;
  data.client_id = client_id;
  data.producer_data_set.push_back({group});
  auto request = remoting::Command::request(remoting::RequestCode::kHeartBeat);
  request.body = SharedBytes::from(remoting::encode(data));
  return request;
}

inline int64_t figure(uint16_t port, const std::string& name) {
  RawClient client(port);
  auto reply = client.call(remoting::Command::request(remoting::RequestCode::kGetBrokerRuntimeInfo));
  REQUIRE(reply);
  const std::string text(reply->body.bytes);
  const std::string wanted = "\"" + name + "\":\"";
  const auto at = text.find(wanted);
  INFO(text);
  REQUIRE(at != std::string::npos);
  return std::stoll(text.substr(at + wanted.size()));
}

/// Bodies of all messages of a topic's queues, read from their beginnings.
inline std::vector<std::string> bodies_of(uint16_t port, const std::string& topic, int32_t queues = 1) {
  // What was answered is in its queue a moment later.
  REQUIRE(eventually([&] { return figure(port, "dispatchBehindBytes") == 0; }, std::chrono::seconds(60)));
  RawClient client(port);
  std::vector<std::string> bodies;
  for (int32_t queue = 0; queue < queues; ++queue) {
    for (int64_t at = 0;;) {
      auto reply = client.call(pull_request("raw_readers", topic, queue, at));
      REQUIRE(reply);
      if (reply->code != 0) break;
      auto records = message::split_records(reply->body.bytes);
      REQUIRE(records);
      for (auto bytes : *records) bodies.emplace_back(message::decode_record(bytes)->body);
      at += static_cast<int64_t>(records->size());
    }
  }
  return bodies;
}

}  // namespace apogee::test
