#include "broker/replication/metadata_sync.h"

#include <pthread.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <utility>

#include "broker/replication/master_log.h"
#include "broker/replication/sync_answers.h"
#include "broker/topics/lost_topics.h"
#include "common/config/properties_file.h"
#include "common/remoting/bodies/group_bodies.h"

namespace apogee::broker {

namespace code = remoting::response_code;
using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr int64_t kTimeoutMs = 3'000;
constexpr int64_t kWholeTableMs = 10'000;  // of a master that cannot tell what has changed
constexpr int64_t kInfoMs = 10'000;
constexpr int64_t kSweepMs = 10'000;
constexpr int64_t kHeldMsMax = 60'000;  // then a newer table takes the place of one that waits for the log

}  // namespace

MetadataSync::MetadataSync(Parts parts) : parts_(std::move(parts)) {
  const auto add = [this](RequestCode request, const char* what, bool progress, auto apply) {
    Item item;
    item.code = request;
    item.what = what;
    item.progress = progress;
    item.confirm = request == RequestCode::kGetAllTopicConfig || request == RequestCode::kGetAllSubscriptiongroupConfig;
    item.apply = apply;
    items_.push_back(std::move(item));
  };
  add(RequestCode::kGetAllTopicConfig, "topics", false, [this](const Command& answer) { return take_topics(answer); });
  add(RequestCode::kGetAllSubscriptiongroupConfig, "subscription groups", false,
      [this](const Command& answer) -> Status {
        APOGEE_TRY_ASSIGN(auto table, remoting::decode_subscription_group_wrapper(answer.body.bytes));
        return parts_.groups.take_over(std::move(table));
      });
  add(RequestCode::kGetAllConsumerOffset, "consumer offsets", false,
      [this](const Command& answer) { return take_offsets(answer); });
  add(RequestCode::kGetAllDelayOffset, "progress of delay levels", true, [this](const Command& answer) -> Status {
    APOGEE_TRY_ASSIGN(auto table, remoting::decode_delay_offset_table(answer.body.bytes));
    return parts_.delays.follow(table);
  });
  add(RequestCode::kGetTimerCheckPoint, "progress of timers", true, [this](const Command& answer) -> Status {
    APOGEE_TRY_ASSIGN(const auto progress, decode_timer_checkpoint(answer.body.bytes));
    return TimerService::write_checkpoint(parts_.timer_checkpoint_file, progress);
  });
  add(RequestCode::kGetAllConsumerFilters, "filters of groups", false, [this](const Command& answer) -> Status {
    APOGEE_TRY(parts_.filters.take_over(answer.body.bytes));
    return parts_.filters.save_if_changed();
  });
  add(RequestCode::kGetAllQueueLocks, "queue locks", false,
      [this](const Command& answer) { return parts_.locks.take_over(answer.body.bytes); });
}

MetadataSync::~MetadataSync() { stop(); }

Status MetadataSync::start() {
  ConsumerOffsets::Table own;
  if (auto text = config::read_whole_file(parts_.own_offsets_file)) {
    auto table = remoting::decode_consumer_offset_serialize_wrapper(*text);
    if (!table) return Error{Errc::kCorrupt, parts_.own_offsets_file + ": " + table.error().message};
    own = std::move(table->offset_table);
  }
  parts_.offsets.keep_own(own);
  saved_own_ = std::move(own);
  thread_ = std::thread([this] {
    pthread_setname_np(pthread_self(), "metadata");
    run();
  });
  return {};
}

void MetadataSync::stop() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    wanted_.notify_one();
  }
  if (!thread_.joinable()) return;
  thread_.join();
  save_own();
}

void MetadataSync::wake() {
  std::lock_guard lock(mutex_);
  woken_ = true;
  wanted_.notify_one();
}

void MetadataSync::run() {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      wanted_.wait_for(lock, std::chrono::milliseconds(parts_.config.slave_sync_ms.get()),
                       [this] { return stopping_ || woken_; });
      if (stopping_) return;
      woken_ = false;
    }
    round();
  }
}

void MetadataSync::forget_master(const std::string& address) {
  asked_ = address;
  next_info_ms_ = next_sweep_ms_ = 0;
  sweep_end_ = -1;
  deleted_.clear();
  for (auto& item : items_) {
    item.version.clear();
    item.next_ms = 0;
    item.unsupported = false;
    item.held.reset();
  }
}

void MetadataSync::round() {
  save_own();
  release_held();
  remove_deleted();
  const std::string address = parts_.master.get().address;
  if (address.empty()) return restore_lost();
  if (address != asked_) forget_master(address);
  Status status = ask_runtime_info(address);
  for (auto& item : items_) {
    if (!status) break;
    status = ask(item, address);
  }
  if (status) status = push_own(address);
  const bool was_reachable = reachable_.exchange(static_cast<bool>(status));
  if (status) {
    synced_ms_ = parts_.now_ms();
    if (!was_reachable) parts_.logger.info("settings and offsets are synced from the master {}", address);
    return;
  }
  // Where it comes back it may be another one.
  for (auto& item : items_) item.next_ms = 0;
  next_info_ms_ = 0;
  restore_lost();
  if (was_reachable) parts_.logger.warn("the master {} does not answer: {}", address, status.error().message);
}

Status MetadataSync::ask_runtime_info(const std::string& address) {
  const int64_t now = parts_.now_ms();
  if (now < next_info_ms_) return {};
  auto answer = parts_.client.call_and_wait(address, Command::request(RequestCode::kGetBrokerRuntimeInfo), kTimeoutMs);
  if (!answer) return std::move(answer).error();
  next_info_ms_ = now + kInfoMs;
  if (const auto log = master_log_in(*answer)) master_begin_ = log->begin;
  return {};
}

// An error is one of the network; what the answer says wrong concerns its table only.
Status MetadataSync::ask(Item& item, const std::string& address) {
  const std::string known = item.version;
  Status status = ask_once(item, address);
  const bool taken = status && !item.version.empty() && item.version != known;
  return item.confirm && taken ? ask_once(item, address) : status;
}

Status MetadataSync::ask_once(Item& item, const std::string& address) {
  const int64_t now = parts_.now_ms();
  if (item.unsupported || now < item.next_ms) return {};
  if (item.held && now - item.held_since_ms < kHeldMsMax) return {};
  auto request = Command::request(item.code);
  request.ext.set(kKnownVersionField, item.version);
  request.ext.set(kAskingBrokerField, parts_.config.broker_id);
  auto answer = parts_.client.call_and_wait(address, std::move(request), kTimeoutMs);
  if (!answer) return std::move(answer).error();
  if (answer->code != code::kSuccess) {
    item.unsupported = answer->code == code::kRequestCodeNotSupported;
    item.next_ms = now + kWholeTableMs;
    if (!item.unsupported && !std::exchange(item.failing, true))
      parts_.logger.warn("the master {} does not give its {}: {} {}", address, item.what, answer->code,
                         answer->remark.value_or(""));
    return {};
  }
  const auto version = answer->ext.get(kVersionField);
  if (!version) item.next_ms = now + kWholeTableMs;
  if (answer->ext.get(kUnchangedField)) {
    if (item.code == RequestCode::kGetAllTopicConfig && now >= next_sweep_ms_) sweep_up_to(*answer);
    return {};
  }
  if (item.progress) {
    store::LogOffset end = -1;
    if (answer->ext.get(kLogEndField)) {
      end = answer->ext.get_int<store::LogOffset>(kLogEndField).value_or(-1);
    } else {
      auto asked =
          parts_.client.call_and_wait(address, Command::request(RequestCode::kGetBrokerRuntimeInfo), kTimeoutMs);
      if (!asked) return std::move(asked).error();
      if (const auto log = master_log_in(*asked)) end = log->end;
    }
    if (end < 0) return {};
    item.version = version.value_or("");
    item.held = std::move(*answer);
    item.held_for = end;
    item.held_since_ms = now;
    release_held();
    return {};
  }
  const std::string told(version.value_or(""));
  take(item, *answer);
  if (!item.failing) item.version = told;
  return {};
}

void MetadataSync::take(Item& item, const Command& answer) {
  if (Status status = item.apply(answer); !status) {
    if (!std::exchange(item.failing, true))
      parts_.logger.error("{} of the master are not taken over: {}", item.what, status.error().message);
    item.version.clear();
    return;
  }
  item.failing = false;
  ++changes_;
}

void MetadataSync::release_held() {
  const auto end = parts_.store.figures().log_max_offset;
  for (auto& item : items_) {
    if (!item.held || end < item.held_for) continue;
    const auto answer = std::move(*item.held);
    item.held.reset();
    take(item, answer);
  }
}

Status MetadataSync::take_topics(const Command& answer) {
  APOGEE_TRY_ASSIGN(auto table, remoting::decode_topic_config_serialize_wrapper(answer.body.bytes));
  const auto before = parts_.topics.snapshot();
  APOGEE_TRY(parts_.topics.take_over(std::move(table)));
  const auto now = parts_.topics.snapshot();
  // Remembered, for it may be made again before the log is here.
  const auto end = answer.ext.get_int<store::LogOffset>(kLogBeforeField);
  for (const auto& [name, config] : *before)
    if (end && now->find(name) == now->end() && !parts_.topics.is_system_topic(name)) deleted_[name] = *end;
  sweep_up_to(answer);
  return {};
}

/// The table here is that of the answer, which has every topic with messages in front of where the master's log ended.
void MetadataSync::sweep_up_to(const Command& answer) {
  next_sweep_ms_ = parts_.now_ms() + kSweepMs;
  sweep_end_ = answer.ext.get_int<store::LogOffset>(kLogBeforeField).value_or(-1);
}

void MetadataSync::remove_deleted() {
  const auto end = parts_.store.figures().log_max_offset;
  if (sweep_end_ >= 0 && sweep_end_ <= end) {
    for (const auto& lost : lost_topics(parts_.store, parts_.topics))
      deleted_[lost.topic_name] = std::max(deleted_[lost.topic_name], sweep_end_);
    sweep_end_ = -1;
  }
  for (auto each = deleted_.begin(); each != deleted_.end();) {
    if (each->second > end) {
      ++each;
      continue;
    }
    parts_.logger.info("topic {} was deleted at the master: its messages in front of {} of the log are in no queue now",
                       each->first, each->second);
    parts_.store.delete_topic_before(each->first, each->second);
    each = deleted_.erase(each);
  }
}

/// While there is no master to ask.
void MetadataSync::restore_lost() {
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return;
  }
  auto lost = lost_topics(parts_.store, parts_.topics);
  lost.erase(std::remove_if(lost.begin(), lost.end(),
                            [this](const auto& config) { return deleted_.count(config.topic_name) != 0; }),
             lost.end());
  if (lost.empty()) return;
  auto table = parts_.topics.contents();
  for (auto& config : lost) {
    warn_of(config, parts_.logger);
    table.topic_config_table[config.topic_name] = std::move(config);
  }
  ++table.data_version.counter;
  if (Status status = parts_.topics.take_over(std::move(table)); !status)
    parts_.logger.error("topics without configuration cannot be made again: {}", status.error().message);
  // The master's table is another one, even if it has not changed.
  for (auto& item : items_)
    if (item.code == RequestCode::kGetAllTopicConfig) item.version.clear();
}

Status MetadataSync::take_offsets(const Command& answer) {
  APOGEE_TRY_ASSIGN(auto table, remoting::decode_consumer_offset_serialize_wrapper(answer.body.bytes));
  parts_.offsets.take_over(table.offset_table);
  master_offsets_ = std::move(table.offset_table);
  return parts_.offsets.flush(true);
}

Status MetadataSync::push_own(const std::string& address) {
  for (const auto& [name, queues] : parts_.offsets.own()) {
    const auto at = name.find('@');
    if (at == std::string::npos) continue;
    for (const auto& [queue_id, offset] : queues) {
      if (auto known = master_offsets_.find(name); known != master_offsets_.end())
        if (auto queue = known->second.find(queue_id); queue != known->second.end() && queue->second >= offset) {
          parts_.offsets.give_up_own(name, queue_id, offset);
          continue;
        }
      auto request = Command::request(RequestCode::kUpdateConsumerOffset);
      request.ext.set("consumerGroup", name.substr(at + 1));
      request.ext.set("topic", name.substr(0, at));
      request.ext.set("queueId", queue_id);
      request.ext.set("commitOffset", offset);
      request.ext.set("onlyForward", true);
      auto answer = parts_.client.call_and_wait(address, std::move(request), kTimeoutMs);
      if (!answer) return std::move(answer).error();
      if (answer->code == code::kSuccess) {
        ++pushed_;
      } else {
        parts_.logger.warn("offset {} of {} queue {}, committed at this slave, is refused by the master: {} {}", offset,
                           name, queue_id, answer->code, answer->remark.value_or(""));
      }
      parts_.offsets.give_up_own(name, queue_id, offset);
    }
  }
  return {};
}

void MetadataSync::save_own() {
  auto own = parts_.offsets.own();
  int64_t count = 0;
  for (const auto& entry : own) count += static_cast<int64_t>(entry.second.size());
  own_ = count;
  if (own == saved_own_) return;
  remoting::ConsumerOffsetSerializeWrapper wrapper;
  wrapper.offset_table = own;
  if (Status status = config::replace_file(parts_.own_offsets_file, encode(wrapper)); !status)
    return parts_.logger.error("{}", status.error().message);
  saved_own_ = std::move(own);
}

MetadataSync::Figures MetadataSync::figures() const {
  Figures figures;
  figures.reachable = reachable_;
  const int64_t synced = synced_ms_;
  if (synced >= 0) figures.synced_ms_ago = std::max<int64_t>(0, parts_.now_ms() - synced);
  figures.changes = changes_;
  figures.own_offsets = own_;
  figures.pushed_offsets = pushed_;
  figures.master_begin = master_begin_;
  return figures;
}

}  // namespace apogee::broker
