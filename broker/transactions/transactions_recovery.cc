#include <algorithm>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <utility>

#include "broker/transactions/transactions.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"

namespace apogee::broker {

namespace property = message::property;
namespace sys_flag = message::sys_flag;

namespace {

constexpr int64_t kQueuesWaitMs = 120'000;
constexpr int32_t kReadCount = 1'000;
constexpr int64_t kReadBytes = 16 << 20;

store::LogOffset covered_by(std::string_view properties) {
  store::LogOffset covered = 0;
  if (auto text = message::find_property(properties, kOpsCoverProperty))
    std::from_chars(text->data(), text->data() + text->size(), covered);
  return covered;
}

}  // namespace

Status Transactions::recover() {
  APOGEE_TRY(wait_for_queues());
  std::unordered_set<store::QueueOffset> done;
  store::LogOffset covered = 0;
  const store::LogOffset log_end = parts_.store.figures().log_max_offset;
  log_.start_at(log_end);
  half_progress_ = begin_of(kHalfTopic);
  op_progress_ = begin_of(kOpTopic);
  read_ops(done, covered);
  read_halves(done);
  find_commits(covered);
  std::lock_guard lock(mutex_);
  if (!table_.empty())
    parts_.logger.info("transactions: {} are undecided, {} were committed just before the last end",
                       table_.size() - decided_, decided_);
  return {};
}

std::map<store::QueueOffset, store::LogOffset> Transactions::undecided() const {
  std::map<store::QueueOffset, store::LogOffset> open;
  std::lock_guard lock(mutex_);
  for (const auto& [root, entry] : table_)
    if (entry.state == State::kOpen) open[entry.offset] = entry.physical;
  return open;
}

Status Transactions::wait_for_queues() const {
  const store::LogOffset log_end = parts_.store.figures().log_max_offset;
  std::mutex mutex;
  std::condition_variable nobody;
  std::unique_lock lock(mutex);
  for (int64_t waited = 0; parts_.store.figures().dispatched_offset < log_end; ++waited) {
    if (waited >= kQueuesWaitMs)
      return Error{Errc::kTimeout,
                   "transactions: the queues do not catch up with the log, which ends at " + std::to_string(log_end)};
    nobody.wait_for(lock, std::chrono::milliseconds(1));
  }
  return {};
}

store::QueueOffset Transactions::begin_of(std::string_view topic) const {
  const store::QueueOffset min = parts_.store.min_offset(topic, 0);
  const store::QueueOffset max = std::max(min, parts_.store.max_offset(topic, 0));
  return std::clamp(parts_.offsets.query(kTransactionGroup, topic, 0).value_or(min), min, max);
}

void Transactions::read_queue(std::string_view topic, store::QueueOffset from, store::QueueOffset to,
                              const std::function<void(SharedBytes)>& use) const {
  while (from < to) {
    auto result = parts_.store.get(topic, 0, from, {kReadCount, kReadBytes}, {});
    for (auto& record : result.records) use(std::move(record));
    if (result.next_begin_offset <= from) return;
    from = result.next_begin_offset;
  }
}

void Transactions::read_ops(std::unordered_set<store::QueueOffset>& done, store::LogOffset& covered) {
  const store::QueueOffset end = parts_.store.max_offset(kOpTopic, 0);
  std::lock_guard lock(mutex_);
  op_messages_.start_at(end);
  // The last one is read for what it says of the log, also when everything that it tells is over.
  const store::QueueOffset from = std::max<store::QueueOffset>(0, std::min(op_progress_, end - 1));
  read_queue(kOpTopic, from, end, [&](const SharedBytes& bytes) {
    auto record = message::decode_record(bytes.bytes);
    if (!record || message::find_property(record->properties, property::kTags) != kOpTag) return;
    covered = std::max(covered, covered_by(record->properties));
    store::QueueOffset highest = -1;
    for (auto offset : op_offsets(record->body)) {
      highest = std::max(highest, offset);
      done.insert(offset);
    }
    if (record->queue_offset < op_progress_) return;
    op_messages_.hold(record->queue_offset);
    ops_undone_[record->queue_offset] = highest;
  });
}

void Transactions::read_halves(const std::unordered_set<store::QueueOffset>& done) {
  const store::QueueOffset end = parts_.store.max_offset(kHalfTopic, 0);
  std::lock_guard lock(mutex_);
  halves_.start_at(end);
  std::unordered_set<store::QueueOffset> decided;  // roots
  read_queue(kHalfTopic, half_progress_, end, [&](SharedBytes bytes) {
    auto half = HalfMessage::of(std::move(bytes));
    if (!half) {
      parts_.logger.warn("a message in {} is no half message and is passed over: {}", kHalfTopic, half.error().message);
      return;
    }
    if (done.count(half->record.queue_offset) != 0 || done.count(half->root) != 0) {
      table_.erase(half->root);
      decided.insert(half->root);
      return;
    }
    if (decided.count(half->root) != 0) return;
    oldest_read_ = std::min(oldest_read_, half->record.physical_offset);
    Entry& entry = table_[half->root];
    entry.offset = half->record.queue_offset;
    entry.physical = half->record.physical_offset;
    entry.born_ms = half->record.born_timestamp_ms;
    entry.immunity_s = half->immunity_s;
  });
  for (const auto& [root, entry] : table_) halves_.hold(entry.offset);
}

// A commit whose op message was not stored before the end is known by its own message, which names its half message.
// It is behind that one, and behind what the last op message covers.
void Transactions::find_commits(store::LogOffset covered) {
  {
    std::lock_guard lock(mutex_);
    if (table_.empty()) return;
  }
  const auto figures = parts_.store.figures();
  const store::LogOffset end = figures.log_max_offset;
  store::LogOffset at = std::max(oldest_read_, figures.log_min_offset);
  if (covered > at && covered < end && parts_.store.record_at(covered)) at = covered;
  if (at >= end) return;
  parts_.logger.info("transactions: {} bytes of the log are looked through for commits", end - at);
  while (at < end) {
    auto record = parts_.store.record_at(at);
    if (!record) {  // the blank at the end of a file, or damage
      at = parts_.store.next_record(at + 1);
      if (at < 0) break;
      continue;
    }
    at += static_cast<int64_t>(record->size());
    const auto flags = load_be<int32_t>(record->bytes.data() + message::kSysFlagPosition);
    if ((flags & sys_flag::kTransactionMask) == sys_flag::kTransactionCommit) commit_found(*record);
  }
}

void Transactions::commit_found(const SharedBytes& bytes) {
  auto record = message::decode_record(bytes.bytes);
  if (!record) return;
  auto half_bytes = parts_.store.record_at(record->prepared_transaction_offset);
  auto half = half_bytes ? HalfMessage::of(std::move(*half_bytes)) : Result<HalfMessage>(Error{});
  if (!half || message::find_property(record->properties, property::kUniqueKey).value_or("") != half->unique_key)
    return;
  std::lock_guard lock(mutex_);
  auto entry = table_.find(half->root);
  if (entry == table_.end() || entry->second.state != State::kOpen) return;
  entry->second.commit_at = record->physical_offset;
  log_.hold(record->physical_offset);
  decided_locked(half->root, entry->second);
}

}  // namespace apogee::broker
