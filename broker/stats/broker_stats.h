#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "broker/groups/client_info.h"

namespace apogee::broker {

/// Counts what goes in and out, in all and per topic and group, with rates over several spans.
/// The on_...() calls are for hot paths: a shared lock to find the counter, then relaxed atomics.
/// Thread: any; tick() by one thread.
class BrokerStats {
 public:
  /// Messages a second over the last 10, 60 and 600 s (or since the start where that is shorter).
  struct Rates {
    double ten_s = 0, minute = 0, ten_min = 0;
  };
  struct Totals {
    int64_t put_messages = 0, put_bytes = 0, get_messages = 0, get_bytes = 0;
    int64_t put_yesterday_morning = 0, put_today_morning = 0, get_yesterday_morning = 0, get_today_morning = 0;
    int64_t put_time_max_ms = 0, get_time_max_ms = 0;
    Rates put, get_messages_rate, get_found, get_miss;
    std::string put_time_distribution;  ///< as putMessageDistributeTime of GET_BROKER_RUNTIME_INFO
  };
  struct Span {
    int64_t sum = 0;
    double per_second = 0, average = 0;  ///< average: value a call
  };
  struct Item {
    Span minute, hour, day;
  };

  explicit BrokerStats(std::string cluster_name, NowMs now_ms = system_now_ms);
  ~BrokerStats();

  /// A stored message or batch. time_ms: from the request to the store's answer.
  void on_put(std::string_view topic, int64_t messages, int64_t bytes, int64_t time_ms);
  /// The counters of a topic, kept by who counts for it again and again. Thread: one at a time.
  class TopicCounters {
    friend class BrokerStats;
    std::shared_ptr<void> series_;
  };
  void on_put(TopicCounters& counters, std::string_view topic, int64_t messages, int64_t bytes, int64_t time_ms);
  /// A pull answered with messages.
  void on_get(std::string_view group, std::string_view topic, int64_t messages, int64_t bytes, int64_t time_ms);
  /// on_get() and on_get_latency() in one.
  void on_pull(std::string_view group, std::string_view topic, int64_t messages, int64_t bytes, int64_t time_ms,
               int64_t latency_ms);
  /// A pull answered without.
  void on_get_miss();
  /// A message sent back by a consumer.
  void on_send_back(std::string_view group, std::string_view topic);
  /// `group`'s consumers were behind by this many ms at the last message of a pull (GROUP_GET_LATENCY).
  void on_get_latency(std::string_view group, std::string_view topic, int32_t queue_id, int64_t latency_ms);

  /// Takes the samples that rates are made of; call each second.
  void tick();

  [[nodiscard]] Totals totals() const;
  /// VIEW_BROKER_STATS_DATA: name such as TOPIC_PUT_NUMS, key such as the topic; nullopt: no such counter.
  [[nodiscard]] std::optional<Item> item(std::string_view name, std::string_view key) const;
  /// Messages a second that the group got of the topic over the last minute; 0 when unknown.
  [[nodiscard]] double consume_tps(std::string_view group, std::string_view topic) const;
  [[nodiscard]] double topic_put_tps(std::string_view topic) const;

  void remove_topic(std::string_view topic);
  void remove_group(std::string_view group);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace apogee::broker
