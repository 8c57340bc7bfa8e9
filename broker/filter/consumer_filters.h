#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "broker/broker_config.h"
#include "broker/filter/sql_expression.h"
#include "broker/groups/client_info.h"
#include "broker/groups/consumer_groups.h"
#include "common/base/logger.h"
#include "common/remoting/bodies/filter_bodies.h"

namespace apogee::broker {

inline constexpr std::string_view kSql92 = "SQL92";
[[nodiscard]] inline bool is_tag_type(std::string_view type) { return type.empty() || type == "TAG"; }

/// The filters other than tags that groups registered with their heartbeats, compiled; kept in consumerFilter.json,
/// also for a while after a group has gone. Thread: any; a lock held for map operations and for compiling.
class ConsumerFilters {
 public:
  using ExpressionPtr = std::shared_ptr<const SqlExpression>;
  struct Filter {
    ExpressionPtr expression;  ///< nullptr: there is none, or it does not compile
    int64_t client_version = 0;
    std::string problem;  ///< why it does not compile
  };

  /// `file`: empty for none.
  ConsumerFilters(std::string file, const BrokerConfig& config, const Logger& logger, NowMs now_ms = system_now_ms);

  /// Reads the file, or its .bak. Groups in it count as gone until they register. A file that cannot be read is
  /// logged and passed over: its groups register again.
  void load();
  /// Writes the file when something changed, without what has been dead for filterDataCleanTimeSpan.
  Status save_if_changed();

  /// All filters that can be used, in the form of the file.
  [[nodiscard]] std::string to_json() const;
  /// A slave takes over what its master has and it has not, or has older. Error: kInvalidArgument (no such table).
  [[nodiscard]] Status take_over(std::string_view json);

  /// enablePropertyFilter
  [[nodiscard]] bool enabled() const { return config_.property_filter; }

  /// Compiles an expression that comes with a request, or takes what was compiled lately.
  /// Error: kInvalidArgument with place and reason, or naming the type that is unknown.
  [[nodiscard]] Result<ExpressionPtr> compile(std::string_view type, const std::string& expression);

  /// The subscriptions of a heartbeat. What does not compile is logged, at most once a minute for each, and has no
  /// filter. Of one group and topic a newer version counts only.
  void register_group(const std::string& group, const std::vector<Subscription>& subscriptions);
  /// The group's last member has left.
  void unregister_group(const std::string& group);

  [[nodiscard]] Filter find(std::string_view topic, std::string_view group) const;
  /// Whether a message that this group gets again passes the filter of its own topic; always true for a group without.
  [[nodiscard]] bool matches_retry(std::string_view group, std::string_view properties) const;

 private:
  struct Entry {
    remoting::ConsumerFilterData data;
    ExpressionPtr expression;
    std::string problem;
    int64_t problem_logged_ms = 0;
  };
  using Topics = std::map<std::string, Entry, std::less<>>;
  void register_one(const Subscription& subscription, const std::string& group, Topics& topics, int64_t now);
  [[nodiscard]] Result<ExpressionPtr> compile_locked(std::string_view type, const std::string& expression);
  void clean_locked(int64_t now);
  [[nodiscard]] remoting::ConsumerFilterTable table_locked() const;

  const std::string file_;
  const BrokerConfig& config_;
  const Logger& logger_;
  const NowMs now_ms_;

  mutable std::mutex mutex_;
  std::map<std::string, Topics, std::less<>> groups_;  // guarded by mutex_, as all here
  bool changed_ = false;
  struct Compiled {
    ExpressionPtr expression;
    std::string problem;
    uint64_t used = 0;
  };
  std::map<std::string, Compiled> compiled_;  // by text
  uint64_t uses_ = 0;
};

}  // namespace apogee::broker
