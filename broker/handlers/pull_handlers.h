#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "broker/broker_config.h"
#include "broker/filter/consumer_filters.h"
#include "broker/groups/consumer_groups.h"
#include "broker/groups/subscription_groups.h"
#include "broker/limits/rate_limits.h"
#include "broker/offsets/consumer_offsets.h"
#include "broker/pull/held_pulls.h"
#include "broker/pull/offset_moved_events.h"
#include "broker/stats/broker_stats.h"
#include "broker/topics/topic_table.h"
#include "common/base/bytes.h"
#include "store/message_store.h"

namespace apogee::broker {

/// What a consumer asks for, whatever protocol it came by.
struct PullRequest {
  remoting::ConnectionId connection = 0;
  std::string caller_address;
  std::string group, topic;
  int32_t queue_id = 0;
  int64_t queue_offset = 0;
  int32_t count_max = 32;
  int64_t bytes_max = INT64_MAX;
  std::optional<int64_t> commit_offset;
  int64_t hold_ms = 0;  ///< 0: is not held
  bool lite = false;
  std::optional<std::string> expression;  ///< nullopt: as registered by heartbeats
  std::string expression_type;            ///< empty: TAG
  int64_t subscription_version = 0;
};

struct PullAnswer {
  int32_t code = 0;
  std::string remark;
  int32_t forbidden_type = 0;  ///< with code 16: 1 broker, 2 group, 3 topic, 4 broadcasting, 5 subscription
  bool has_offsets = false;
  int64_t next_begin_offset = 0, min_offset = 0, max_offset = 0;
  int64_t suggested_broker_id = 0;   ///< where the consumer should pull next
  std::vector<SharedBytes> records;  ///< each part one record, or several that follow one another
};

/// The numbers of a pull's header.
struct PullFields {
  int32_t queue_id = 0, count_max = 0, sys_flag = 0, bytes_max = INT32_MAX;
  int64_t queue_offset = 0, commit_offset = 0, suspend_ms = 0, subscription_version = 0;
};
/// What they ask for, in words of the broker; leaves alone what is a text.
void apply(const PullFields& fields, const BrokerConfig& config, PullRequest& to);
/// Code, remark, fields and body of the answer, which loses its records.
void fill_response(PullAnswer& answer, remoting::Command& response);

/// A tag expression as a subscription: "*", or tags with || between them. Error: kInvalidArgument.
[[nodiscard]] Result<std::shared_ptr<const Subscription>> parse_tag_subscription(const std::string& topic,
                                                                                 const std::string& expression,
                                                                                 int64_t version);

/// A pull on its way, in room of who asked. He leaves it alone from start() on until answered() or dropped() comes.
/// Used again, it takes no memory for a pull like the last one.
class Pull {
 public:
  PullRequest request;
  PullAnswer answer;  ///< when answered() comes
  /// Once, on the thread that starts the pull, a reader, or one that HeldPulls posts to.
  virtual void answered() = 0;
  /// In place of it, when the connection has closed while the pull was held.
  virtual void dropped() = 0;
  /// What keeps this alive while others hold it; nullptr: it lives on by itself.
  [[nodiscard]] virtual std::shared_ptr<Pull> life() { return nullptr; }

 protected:
  Pull() = default;
  Pull(const Pull&) = delete;
  ~Pull() = default;

 private:
  friend class PullOperation;
  /// Which messages it wants.
  std::shared_ptr<const Subscription> subscription_;
  ConsumerFilters::ExpressionPtr sql_;
  // How far it is.
  bool first_ = true;            ///< it was not held yet
  store::QueueOffset next_ = 0;  ///< where to read; nothing before matches
  int64_t deadline_ms_ = 0;      ///< of holding it
  bool may_wait_ = false;        ///< for the disk: it is on a reader
  store::GetResult got_;         ///< for its room
};

/// Checks a pull, reads, and holds it when there is nothing. Thread: any.
class PullOperation {
 public:
  using Done = std::function<void(PullAnswer)>;
  struct Parts {
    const BrokerConfig& config;
    TopicTable& topics;
    SubscriptionGroups& groups;
    ConsumerGroups& consumers;
    ConsumerOffsets& offsets;
    BrokerStats& stats;
    store::MessageStore& store;
    HeldPulls& held;
    ConsumerFilters& filters;
    RateLimits& limits;
    std::string broker_ip;
    NowMs now_ms = system_now_ms;
    /// Runs a task on the reader pool, false when that is full; empty: what reads from the disk or filters by
    /// properties runs where the pull came in.
    std::function<bool(std::function<void()>)> post_reader;
    int64_t hot_bytes = INT64_MAX;       ///< end of the log that is taken to be in memory
    OffsetMovedEvents* moved = nullptr;  ///< nullptr: offsets that are corrected are told to nobody
  };
  explicit PullOperation(Parts parts) : parts_(std::move(parts)) {}

  void start(Pull& pull);
  /// start() with room of its own. `done` is called exactly once (never, when the connection closes while the pull is
  /// held), where Pull::answered() would be.
  void pull(PullRequest request, Done done);

 private:
  void run(Pull& pull);
  void read(Pull& pull);
  [[nodiscard]] std::optional<PullAnswer> refuse(const PullRequest& request) const;
  [[nodiscard]] std::optional<PullAnswer> find_subscription(Pull& pull) const;
  [[nodiscard]] bool filters_by_properties(const Pull& pull) const;
  [[nodiscard]] store::RecordFilter record_filter(const Pull& pull) const;
  void read_elsewhere(Pull& pull);
  void count_pulled(const Pull& pull, int64_t begin_ms) const;
  [[nodiscard]] int64_t suggested_broker(const Pull& pull) const;
  [[nodiscard]] bool hold(Pull& pull, store::QueueOffset end);
  Parts parts_;
  /// What a pull wants that brings "*" along.
  const std::shared_ptr<const Subscription> everything_ = std::make_shared<const Subscription>();
};

/// The wire side: 11 and 361. Runs on: the IO loop.
class PullHandlers {
 public:
  PullHandlers(PullOperation& operation, const BrokerConfig& config) : operation_(operation), config_(config) {}
  void pull(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);

 private:
  PullOperation& operation_;
  const BrokerConfig& config_;
};

}  // namespace apogee::broker
