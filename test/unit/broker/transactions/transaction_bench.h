#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/handlers/send_operation.h"
#include "broker/transactions/transactions.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"
#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/memory_store.h"

namespace apogee::broker::test {

/// A store that keeps the answers to some appends back.
class HoldingStore : public MemoryStore {
 public:
  std::string held_topic;  ///< appends to this topic are answered by release()
  void append(const store::MessageDraft& draft, store::PutCallback done) override {
    if (draft.topic != held_topic) return MemoryStore::append(draft, std::move(done));
    MemoryStore::append(draft, [this, done = std::move(done)](store::PutResult result) {
      held_.emplace_back([done, result] { done(result); });
    });
  }
  void lose() { held_.clear(); }
  void release() {
    auto held = std::move(held_);
    held_.clear();
    for (auto& each : held) each();
  }

 private:
  std::deque<std::function<void()>> held_;
};

/// Transactions over a store in memory; no thread of their own. Losing the object is what a crash is.
struct TransactionBench {
  TempDir dir;
  Logger quiet;
  FakeClock clock;
  BrokerConfig config;
  HoldingStore store;
  MessagePut put{store};
  std::unique_ptr<ConsumerOffsets> offsets;
  ProducerGroups producers{clock.now()};
  BrokerStats stats{"DefaultCluster"};
  SentToClients sent;
  std::unique_ptr<Transactions> transactions;

  TransactionBench() {
    config.broker_name = "broker-a";
    auto opened = ConsumerOffsets::open({dir.file("offsetsdb"), dir.file("consumerOffset.json")}, quiet);
    REQUIRE(opened);
    offsets = std::move(*opened);
    restart();
  }
  void restart() {
    transactions.reset();
    transactions =
        std::make_unique<Transactions>(Transactions::Parts{config, store, put, *offsets, producers, stats, sent.calls(),
                                                           host_address_of("127.0.0.1:10911"), quiet, clock.now()});
    REQUIRE(transactions->recover());
  }
  void add_producer(remoting::ConnectionId connection, const std::string& group = "g") {
    ClientInfo client;
    client.connection = connection;
    client.client_id = "client-" + std::to_string(connection);
    producers.register_producer(group, client);
  }

  struct Half {
    store::QueueOffset offset = -1;
    store::LogOffset log_offset = -1;
    std::string key, group = "g";
  };
  /// more: properties as name 0x01 value 0x02.
  Half prepare(const std::string& body, const std::string& more = "", const std::string& topic = "T",
               int32_t queue_id = 3) {
    Half half;
    half.key = "KEY-" + body;
    std::string properties = "PGROUP\x01g\x02TRAN_MSG\x01true\x02UNIQ_KEY\x01" + half.key + "\x02" + more;
    store::MessageDraft draft;
    draft.topic = topic;
    draft.queue_id = queue_id;
    draft.sys_flag = message::sys_flag::kTransactionPrepared;
    draft.flag = 9;
    draft.born_timestamp_ms = clock.now()();
    draft.body = body;
    draft.properties = properties;
    transactions->prepare(draft, [&half](const store::PutResult& result) {
      REQUIRE(result.stored());
      half.offset = result.queue_offset;
      half.log_offset = result.offsets[0];
    });
    return half;
  }
  using Decision = EndTransaction::Decision;
  static EndTransaction request(const Half& half, Decision decision) {
    EndTransaction end;
    end.group = half.group;
    end.half_offset = half.offset;
    end.log_offset = half.log_offset;
    end.decision = decision;
    end.transaction_id = half.key;
    end.awaited = true;
    return end;
  }
  Transactions::Answer end(const EndTransaction& request) const {
    auto answer = std::make_shared<Transactions::Answer>(Transactions::Answer{-1, "no answer yet"});
    transactions->end(request, [answer](Transactions::Answer given) { *answer = std::move(given); });
    return *answer;
  }
  [[nodiscard]] int32_t commit(const Half& half) const { return end(request(half, Decision::kCommit)).code; }
  [[nodiscard]] int32_t roll_back(const Half& half) const { return end(request(half, Decision::kRollback)).code; }

  /// The bodies in a queue.
  std::vector<std::string> bodies(std::string_view topic, int32_t queue_id = 0) {
    std::vector<std::string> all;
    for (int64_t i = 0; i < store.max_offset(topic, queue_id); ++i)
      all.emplace_back(store.message(std::string(topic), queue_id, i).body);
    return all;
  }
  std::string property_of(std::string_view topic, int32_t queue_id, int64_t offset, std::string_view name) {
    return std::string(
        message::find_property(store.message(std::string(topic), queue_id, offset).properties, name).value_or(""));
  }
  /// Where the check that was sent last says that the half message is.
  [[nodiscard]] Half asked() const {
    const auto& request = sent.sent->back().request;
    Half half;
    half.offset = *request.ext.get_int<int64_t>("tranStateTableOffset");
    half.log_offset = *request.ext.get_int<int64_t>("commitLogOffset");
    half.key = std::string(*request.ext.get("transactionId"));
    return half;
  }
};

}  // namespace apogee::broker::test
