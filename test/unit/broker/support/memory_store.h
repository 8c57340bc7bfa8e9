#pragma once

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "common/base/hash.h"
#include "common/message/batch.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "store/message_store.h"

namespace apogee::broker::test {

/// A store in memory with real records, which answers as it is told. Thread: any.
class MemoryStore : public store::MessageStore {
 public:
  store::PutStatus next_status = store::PutStatus::kOk;  ///< of the appends to come
  bool tells_arrivals = true;
  /// Called by get() before it looks; lets a test slip something in between.
  std::function<void()> before_get;
  bool on_disk = false;  ///< nothing is in memory
  /// Called by get() after it looked.
  std::function<void()> after_get;
  store::GetLimits last_limits;
  /// Given by query().
  store::KeyAnswer key_answer;
  std::optional<Error> query_error;
  std::pair<std::string, std::string> last_query;  ///< topic and key
  std::array<int64_t, 3> last_query_limits{};      ///< count_max, begin_ms, end_ms

  void set_arrival_listener(store::ArrivalListener listener) override { listener_ = std::move(listener); }
  void set_removal_listener(store::RemovalListener) override {}
  Status start() override { return {}; }
  void stop() override {}

  void append(const store::MessageDraft& draft, store::PutCallback done) override {
    store::PutResult result;
    result.status = next_status;
    store::Arrival arrival;
    if (result.stored()) {
      std::lock_guard<std::mutex> lock(mutex_);
      add(draft, draft.flag, draft.body, std::string(draft.properties), result, arrival);
    }
    if (result.stored() && listener_ && tells_arrivals) listener_({arrival});
    done(std::move(result));
  }

  void append_batch(const store::MessageDraft& draft, store::PutCallback done) override {
    store::PutResult result;
    result.status = next_status;
    auto messages = message::decode_batch(draft.body);
    if (!messages) {
      result.status = store::PutStatus::kMessageIllegal;
      result.detail = messages.error().message;
      return done(std::move(result));
    }
    store::Arrival arrival;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      for (const auto& part : *messages) {
        std::string properties(part.properties);
        message::append_properties(properties, draft.properties);
        add(draft, part.flag, part.body, std::move(properties), result, arrival);
      }
    }
    if (listener_ && tells_arrivals) listener_({arrival});
    done(std::move(result));
  }

  store::GetResult get(std::string_view topic, int32_t queue_id, store::QueueOffset offset,
                       const store::GetLimits& limits, const store::TagsCodeFilter& filter) override {
    if (before_get) before_get();
    store::GetResult result;
    {
      std::lock_guard<std::mutex> lock(mutex_);
      last_limits = limits;
      auto found = queues_.find({std::string(topic), queue_id});
      const auto end = found == queues_.end() ? 0 : static_cast<int64_t>(found->second.size());
      result.max_offset = end;
      if (end == 0) {
        result.status = store::GetStatus::kNoMatchedLogicQueue;
      } else if (offset < 0) {
        result.status = store::GetStatus::kOffsetTooSmall;
      } else if (offset == end) {
        result.status = store::GetStatus::kOffsetOverflowOne;
        result.next_begin_offset = offset;
      } else if (offset > end) {
        result.status = store::GetStatus::kOffsetOverflowBadly;
        result.next_begin_offset = end;
      } else if (on_disk && limits.only_from_memory) {
        result.on_disk = true;
      } else {
        result.status = store::GetStatus::kNoMatchedMessage;
        for (; offset < end && static_cast<int32_t>(result.records.size()) < limits.count_max; ++offset) {
          const auto& entry = found->second[static_cast<size_t>(offset)];
          if (filter && !filter(entry.tags_code)) continue;
          if (limits.record_filter && !limits.record_filter(log_[entry.physical_offset].bytes)) continue;
          result.records.push_back(log_[entry.physical_offset]);
          result.bytes += entry.record_bytes;
          result.status = store::GetStatus::kFound;
        }
        result.next_begin_offset = offset;
      }
    }
    if (after_get) after_get();
    return result;
  }

  store::QueueOffset max_offset(std::string_view topic, int32_t queue_id) override {
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = queues_.find({std::string(topic), queue_id});
    return found == queues_.end() ? 0 : static_cast<int64_t>(found->second.size());
  }
  store::QueueOffset min_offset(std::string_view, int32_t) override { return 0; }
  store::QueueOffset offset_by_time(std::string_view topic, int32_t queue_id, int64_t time_ms,
                                    store::TimeBoundary boundary) override {
    const auto end = max_offset(topic, queue_id);
    if (boundary == store::TimeBoundary::kLower) {
      for (int64_t i = 0; i < end; ++i)
        if (*store_time_ms(topic, queue_id, i) >= time_ms) return i;
      return end;
    }
    for (int64_t i = end; i-- > 0;)
      if (*store_time_ms(topic, queue_id, i) <= time_ms) return i;
    return 0;
  }
  std::optional<int64_t> store_time_ms(std::string_view topic, int32_t queue_id, store::QueueOffset offset) override {
    auto entries = queue_entries(topic, queue_id, offset, 1);
    if (entries.empty()) return std::nullopt;
    auto record = record_at(entries[0].physical_offset);
    return message::decode_record(record->bytes)->store_timestamp_ms;
  }
  std::optional<SharedBytes> record_at(store::LogOffset offset) override {
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = log_.find(offset);
    if (found == log_.end()) return std::nullopt;
    return found->second;
  }
  store::LogOffset next_record(store::LogOffset from) override {
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = log_.lower_bound(from);
    return found == log_.end() ? -1 : found->first;
  }
  std::vector<store::QueueEntry> queue_entries(std::string_view topic, int32_t queue_id, store::QueueOffset from,
                                               int32_t count) override {
    std::lock_guard<std::mutex> lock(mutex_);
    std::vector<store::QueueEntry> entries;
    auto found = queues_.find({std::string(topic), queue_id});
    if (found == queues_.end()) return entries;
    for (auto i = from; i >= 0 && i < static_cast<int64_t>(found->second.size()) && count-- > 0; ++i)
      entries.push_back(found->second[static_cast<size_t>(i)]);
    return entries;
  }
  Result<store::KeyAnswer> query(const store::KeyQuery& query) override {
    if (query_error) return *query_error;
    last_query = {std::string(query.topic), std::string(query.key)};
    last_query_limits = {query.count_max, query.begin_ms, query.end_ms};
    return key_answer;
  }
  void delete_topic(std::string_view topic) override {
    std::lock_guard<std::mutex> lock(mutex_);
    for (auto it = queues_.begin(); it != queues_.end();) it = it->first.first == topic ? queues_.erase(it) : ++it;
  }
  void delete_topic_before(std::string_view topic, store::LogOffset) override { delete_topic(topic); }
  int32_t queue_count(std::string_view topic) override {
    std::lock_guard<std::mutex> lock(mutex_);
    int32_t count = 0;
    for (const auto& [queue, entries] : queues_)
      if (queue.first == topic) count = std::max(count, queue.second + 1);
    return count;
  }
  std::vector<std::string> topics() override {
    std::lock_guard<std::mutex> lock(mutex_);
    std::vector<std::string> names;
    for (const auto& [queue, entries] : queues_)
      if (names.empty() || names.back() != queue.first) names.push_back(queue.first);
    return names;
  }
  Result<size_t> clean_expired_queues() override { return size_t{0}; }
  void clean_expired_files() override {}
  void set_retention(const store::RetentionOptions&) override {}
  void set_message_bytes_max(int64_t) override {}
  store::StoreFigures figures() override {
    std::lock_guard<std::mutex> lock(mutex_);
    store::StoreFigures figures;
    figures.log_max_offset = figures.dispatched_offset = end_;
    return figures;
  }
  bool writable(std::string*) override { return true; }
  store::ReplicatedLog& replicated_log() override { std::abort(); }  // nothing here replicates

  /// The message at an offset of a queue; the views live as long as the store.
  message::RecordView message(const std::string& topic, int32_t queue_id, int64_t offset) {
    auto entries = queue_entries(topic, queue_id, offset, 1);
    if (entries.empty()) return {};
    return *message::decode_record(record_at(entries[0].physical_offset)->bytes);
  }

 private:
  void add(const store::MessageDraft& draft, int32_t flag, std::string_view body, std::string properties,
           store::PutResult& result, store::Arrival& arrival) {
    auto& queue = queues_[{std::string(draft.topic), draft.queue_id}];
    message::RecordFields fields;
    fields.topic = draft.topic;
    fields.queue_id = draft.queue_id;
    fields.flag = flag;
    fields.sys_flag = draft.sys_flag;
    fields.born_timestamp_ms = draft.born_timestamp_ms;
    fields.born_host = {draft.born_host.ip_bytes, draft.born_host.port};
    fields.store_timestamp_ms = 1'000 + static_cast<int64_t>(log_.size());
    fields.store_host = {draft.store_host.ip_bytes, draft.store_host.port};
    fields.reconsume_times = draft.reconsume_times;
    fields.prepared_transaction_offset = draft.prepared_transaction_offset;
    fields.body = body;
    fields.properties = properties;
    const auto queue_offset = static_cast<int64_t>(queue.size());
    std::string record = message::encode_record(fields, queue_offset, end_);
    auto tag = message::find_property(properties, message::property::kTags);
    const int64_t tags_code = tag ? java_string_hash(*tag) : 0;
    queue.push_back({end_, static_cast<int32_t>(record.size()), tags_code});
    if (result.offsets.empty()) result.queue_offset = queue_offset;
    result.offsets.push_back(end_);
    const auto bytes = static_cast<int64_t>(record.size());
    log_[end_] = SharedBytes::from(std::move(record));
    end_ += bytes;
    arrival = {std::string(draft.topic), draft.queue_id, queue_offset + 1, tags_code};
  }

  store::ArrivalListener listener_;
  std::mutex mutex_;
  std::map<std::pair<std::string, int32_t>, std::vector<store::QueueEntry>> queues_;
  std::map<int64_t, SharedBytes> log_;
  int64_t end_ = 0;
};

}  // namespace apogee::broker::test
