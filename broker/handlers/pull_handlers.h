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
  int64_t suggested_broker_id = 0;  ///< where the consumer should pull next
  std::vector<SharedBytes> records;
};

/// A tag expression as a subscription: "*", or tags with || between them. Error: kInvalidArgument.
[[nodiscard]] Result<std::shared_ptr<const Subscription>> parse_tag_subscription(const std::string& topic,
                                                                                 const std::string& expression,
                                                                                 int64_t version);

/// Checks a pull, reads, and holds it when there is nothing. Thread: any. `done` is called exactly once (never, when
/// the connection closes while the pull is held), on the calling thread or on one that HeldPulls posts to.
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

  void pull(PullRequest request, Done done);

 private:
  using RequestPtr = std::shared_ptr<const PullRequest>;
  /// Which messages a pull wants.
  struct Wanted {
    std::shared_ptr<const Subscription> subscription;
    ConsumerFilters::ExpressionPtr sql;
  };
  /// How far a pull is.
  struct Progress {
    bool first = true;            ///< it was not held yet
    store::QueueOffset next = 0;  ///< where to read; nothing before matches
    int64_t deadline_ms = 0;      ///< of holding it
    bool may_wait = false;        ///< for the disk: it is on a reader
  };
  using DonePtr = std::shared_ptr<const Done>;
  void run(const RequestPtr& request, const DonePtr& done, Progress progress);
  void read(const RequestPtr& request, const DonePtr& done, Progress progress, const Wanted& wanted);
  [[nodiscard]] std::optional<PullAnswer> refuse(const PullRequest& request) const;
  [[nodiscard]] std::optional<PullAnswer> find_subscription(const PullRequest& request, Wanted& wanted) const;
  [[nodiscard]] bool filters_by_properties(const PullRequest& request, const Wanted& wanted) const;
  [[nodiscard]] store::RecordFilter record_filter(const PullRequest& request, const Wanted& wanted) const;
  void read_elsewhere(const RequestPtr& request, const DonePtr& done, Progress progress, const Wanted& wanted);
  [[nodiscard]] int64_t suggested_broker(const PullRequest& request, const PullAnswer& answer) const;
  [[nodiscard]] bool hold(const RequestPtr& request, const DonePtr& done, store::TagsCodeFilter filter,
                          store::QueueOffset end, Progress progress);
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
