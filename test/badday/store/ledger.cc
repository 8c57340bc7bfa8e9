#include "test/badday/store/ledger.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <condition_variable>
#include <set>
#include <thread>

#include "common/message/batch.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "store/dispatcher.h"
#include "test/support/wait.h"

namespace apogee::store {

namespace {

constexpr size_t kProblemsMax = 20;

struct Reader {
  MessageStore& store;
  const Ledger& ledger;
  const Excuse& excuse;
  Reading reading;

  template <typename... Args>
  void problem(fmt::format_string<Args...> format, Args&&... args) {
    if (reading.problems.size() < kProblemsMax)
      reading.problems.push_back(fmt::format(format, std::forward<Args>(args)...));
  }
  bool excused(LogOffset offset, int64_t bytes) const { return excuse && excuse(offset, bytes); }

  /// The message that a record is; nullptr when it is not as it was sent, which is a problem unless excused.
  const Ledger::Sent* check(const message::RecordView& record, const std::string& where) {
    const bool may_differ = excused(record.physical_offset, static_cast<int64_t>(record.bytes.size()));
    auto bad = [&](const char* what) -> const Ledger::Sent* {
      if (!may_differ) problem("{}: {}", where, what);
      return nullptr;
    };
    if (!message::body_crc_matches(record)) return bad("a body that its CRC does not fit");
    const auto* sent = ledger.find(record.body);
    if (!sent) return bad("a message that nobody sent");
    if (record.topic != sent->topic || record.queue_id != sent->queue_id) return bad("in another queue than sent to");
    if (record.properties != sent->properties) return bad("other properties than sent");
    if ((record.sys_flag & message::sys_flag::kTransactionMask) != sent->sys_flag) return bad("another flag than sent");
    return sent;
  }

  void read_log() {
    auto figures = store.figures();
    for (LogOffset at = figures.log_min_offset; at < figures.log_max_offset;) {
      auto raw = store.record_at(at);
      auto record = raw ? message::decode_record(raw->bytes) : Result<message::RecordView>(Error());
      if (!record || (!excuse && !message::body_crc_matches(*record))) {
        ++at;  // a blank, or a hole
        continue;
      }
      if (const auto* sent = check(*record, fmt::format("log at {}", at))) {
        auto [there, is_new] = reading.in_log.insert({sent->id, {sent->id, at, record->queue_offset}});
        if (!is_new) problem("message {} is in the log twice, at {} and {}", sent->id, there->second.offset, at);
      }
      at += static_cast<LogOffset>(raw->size());
    }
  }

  void read_queue(const std::string& topic, int32_t queue_id) {
    const QueueOffset min = store.min_offset(topic, queue_id), max = store.max_offset(topic, queue_id);
    std::string name = fmt::format("{}-{}", topic, queue_id);
    for (QueueOffset offset = min; offset < max;) {
      GetResult got;
      // A wrong entry is looked for in the log by a store that runs; readers wait in front of it.
      test::eventually([&] {
        got = store.get(topic, queue_id, offset, {}, nullptr);
        return got.status != GetStatus::kMessageWasRemoving || got.next_begin_offset != offset;
      });
      if (got.next_begin_offset <= offset || got.next_begin_offset > max)
        return problem("{}: {} at {} of {} leads to {}", name, to_string(got.status), offset, max,
                       got.next_begin_offset);
      QueueOffset expected = offset;
      for (const auto& raw : got.records) {
        auto record = message::decode_record(raw.bytes);
        if (!record) {
          if (!excuse) problem("{} at {}: no record: {}", name, expected, record.error().message);
          continue;
        }
        auto where = fmt::format("{} at {}", name, record->queue_offset);
        const auto* sent = check(*record, where);
        if (!sent) continue;
        if (sent->topic != topic || sent->queue_id != queue_id)
          problem("{}: message {} of another queue", where, sent->id);
        if (record->queue_offset < expected || record->queue_offset >= got.next_begin_offset) {
          if (!excused(record->physical_offset, static_cast<int64_t>(raw.size())))
            problem("{}: message {} is read at {}", where, sent->id, expected);
          continue;
        }
        reading.gaps += record->queue_offset - expected;
        expected = record->queue_offset + 1;
        if (!reading.in_queue.insert({sent->id, record->queue_offset}).second)
          problem("{}: message {} is in its queue twice", where, sent->id);
      }
      reading.gaps += got.next_begin_offset - expected;
      offset = got.next_begin_offset;
    }
  }
};

}  // namespace

bool Ledger::Sent::takes_queue_offset() const { return has_queue_entry(sys_flag); }

int64_t Ledger::Sent::record_bytes() const {
  return static_cast<int64_t>(message::kRecordBytesMin + topic.size() + body.size() + properties.size());
}

const Ledger::Sent& Ledger::write(const std::string& topic, int32_t queue_id, int32_t sys_flag, size_t body_bytes,
                                  test::Random& random) {
  std::string filler = random.bytes(body_bytes);
  std::string properties;
  message::append_property(properties, "UNIQ_KEY", fmt::format("{:016X}", random.next()));
  if (random.chance(0.3)) message::append_property(properties, "TAGS", fmt::format("tag{}", random.below(5)));
  std::lock_guard lock(mutex_);
  auto id = static_cast<int64_t>(sent_.size());
  queues_[{topic, queue_id}] = true;
  sent_.push_back({id, topic, queue_id, sys_flag, fmt::format("{}|", id) + filler, std::move(properties)});
  return sent_.back();
}

void Ledger::placed(const Place& place, bool promised) {
  std::lock_guard lock(mutex_);
  places_.push_back(place);
  if (promised) promise_.places.push_back(place);
}

void Ledger::durable_to(LogOffset end) {
  std::lock_guard lock(mutex_);
  durable_to_ = std::max(durable_to_, end);
}

void Ledger::deleted(const std::string& topic) {
  std::lock_guard lock(mutex_);
  deleted_.insert(topic);
}

bool Ledger::is_deleted(const std::string& topic) const {
  std::lock_guard lock(mutex_);
  return deleted_.count(topic) != 0;
}

Ledger::Promise Ledger::promise() const {
  std::lock_guard lock(mutex_);
  Promise promise = promise_;
  for (const auto& place : places_) {
    const auto& sent = sent_[static_cast<size_t>(place.id)];
    if (place.offset + sent.record_bytes() <= durable_to_) promise.places.push_back(place);
  }
  return promise;
}

void Ledger::take_back_to(const Promise& promise) {
  std::lock_guard lock(mutex_);
  promise_ = promise;
  durable_to_ = 0;
  places_.clear();
}

void Ledger::go_on_with(std::vector<Place> found) {
  std::lock_guard lock(mutex_);
  promise_ = {std::move(found), static_cast<int64_t>(sent_.size())};
  durable_to_ = 0;
  places_.clear();
}

const Ledger::Sent* Ledger::find(std::string_view body) const {
  int64_t id = -1;
  auto [end, error] = std::from_chars(body.data(), body.data() + body.size(), id);
  std::lock_guard lock(mutex_);
  if (error != std::errc() || id < 0 || id >= static_cast<int64_t>(sent_.size())) return nullptr;
  const Sent& sent = sent_[static_cast<size_t>(id)];
  return sent.body == body ? &sent : nullptr;
}

const Ledger::Sent& Ledger::sent(int64_t id) const {
  std::lock_guard lock(mutex_);
  return sent_.at(static_cast<size_t>(id));
}

std::vector<std::pair<std::string, int32_t>> Ledger::queues() const {
  std::lock_guard lock(mutex_);
  std::vector<std::pair<std::string, int32_t>> queues;
  for (const auto& [queue, known] : queues_) queues.push_back(queue);
  return queues;
}

namespace {

struct Outstanding {
  std::mutex mutex;
  std::condition_variable changed;
  int count = 0;       // guarded by mutex
  int not_stored = 0;  // guarded by mutex
  void begin(int most) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return count < most; });
    ++count;
  }
  void end(bool stored) {
    std::lock_guard lock(mutex);
    --count;
    not_stored += stored ? 0 : 1;
    changed.notify_all();
  }
};

void send_one(MessageStore& store, Ledger& ledger, const Traffic& traffic, test::Random& random,
              Outstanding& outstanding) {
  std::string topic = fmt::format("Topic{}", random.below(traffic.topics));
  auto queue_id = static_cast<int32_t>(random.below(traffic.queues));
  auto body_bytes = [&] {
    auto most = static_cast<int64_t>(traffic.body_bytes_max);
    return static_cast<size_t>(random.chance(0.7) ? random.below(most / 8) : random.below(most));
  };
  MessageDraft draft;
  draft.topic = topic;
  draft.queue_id = queue_id;
  draft.born_timestamp_ms = 1;
  draft.wait_store_ok = !random.chance(0.1);
  std::vector<const Ledger::Sent*> sent;
  std::string batch;
  const bool is_batch = random.chance(0.15);
  if (is_batch) {
    for (int64_t left = random.between(1, 5); left > 0; --left) {
      sent.push_back(&ledger.write(topic, queue_id, 0, body_bytes() / 8, random));
      message::append_batch_message(batch, {0, sent.back()->body, sent.back()->properties});
    }
    draft.body = batch;
  } else {
    const bool is_half = random.chance(0.1);
    draft.sys_flag = is_half ? message::sys_flag::kTransactionPrepared : 0;
    sent.push_back(&ledger.write(topic, queue_id, draft.sys_flag, body_bytes(), random));
    draft.body = sent.front()->body;
    draft.properties = sent.front()->properties;
  }
  const bool promises = traffic.sync_flush && draft.wait_store_ok;
  outstanding.begin(traffic.outstanding);
  auto done = [&ledger, &outstanding, sent, promises](const PutResult& result) {
    for (size_t i = 0; result.stored() && i < sent.size(); ++i) {
      QueueOffset queue_offset =
          result.queue_offset + (sent[i]->takes_queue_offset() ? static_cast<QueueOffset>(i) : 0);
      ledger.placed({sent[i]->id, result.offsets[i], queue_offset}, promises && result.status == PutStatus::kOk);
    }
    outstanding.end(result.stored());
  };
  if (is_batch) {
    store.append_batch(draft, done);
  } else {
    store.append(draft, done);
  }
  ledger.durable_to(store.figures().flushed_offset);
  if (!traffic.sync_flush || !random.chance(0.2)) return;
  // What a consumer has seen under SYNC_FLUSH does not go away either.
  QueueOffset max = store.max_offset(topic, queue_id);
  auto got = store.get(topic, queue_id, std::max<QueueOffset>(0, max - 3), {}, nullptr);
  for (const auto& raw : got.records)
    if (auto record = message::decode_record(raw.bytes))
      if (const auto* seen = ledger.find(record->body))
        ledger.placed({seen->id, record->physical_offset, record->queue_offset}, true);
}

}  // namespace

int send_traffic(MessageStore& store, Ledger& ledger, const Traffic& traffic, uint64_t seed) {
  Outstanding outstanding;
  std::vector<std::thread> senders;
  auto send = [&](int sender) {
    test::Random random(seed + static_cast<uint64_t>(sender));
    for (int i = sender; i < traffic.messages; i += traffic.senders) {
      if (traffic.between) traffic.between();
      send_one(store, ledger, traffic, random, outstanding);
    }
  };
  for (int sender = 1; sender < traffic.senders; ++sender) senders.emplace_back(send, sender);
  send(0);
  for (auto& sender : senders) sender.join();
  std::unique_lock lock(outstanding.mutex);
  outstanding.changed.wait(lock, [&] { return outstanding.count == 0; });
  return outstanding.not_stored;
}

std::vector<Ledger::Place> Reading::places() const {
  std::vector<Ledger::Place> places;
  for (const auto& [id, place] : in_log) places.push_back(place);
  return places;
}

Reading read_everything(MessageStore& store, const Ledger& ledger, const Excuse& excuse) {
  Reader reader{store, ledger, excuse, {}};
  reader.read_log();
  for (const auto& [topic, queue_id] : ledger.queues()) reader.read_queue(topic, queue_id);
  auto& reading = reader.reading;
  for (const auto& [id, place] : reading.in_log) {
    const auto& sent = ledger.sent(id);
    auto queued = reading.in_queue.find(id);
    if (!sent.takes_queue_offset()) {
      if (queued != reading.in_queue.end()) reader.problem("half message {} is in a queue", id);
    } else if (queued == reading.in_queue.end()) {
      if (!excuse && !ledger.is_deleted(sent.topic))
        reader.problem("message {} at {} is not at {} of its queue {}-{} [{}, {})", id, place.offset,
                       place.queue_offset, sent.topic, sent.queue_id, store.min_offset(sent.topic, sent.queue_id),
                       store.max_offset(sent.topic, sent.queue_id));
    }
  }
  if (!excuse)
    for (const auto& [id, offset] : reading.in_queue)
      if (reading.in_log.count(id) == 0)
        reader.problem("message {} is in its queue at {}, but not in the log", id, offset);
  return std::move(reader.reading);
}

void check_promise(const Ledger::Promise& promise, Reading& reading) {
  auto problem = [&](std::string text) {
    if (reading.problems.size() < kProblemsMax) reading.problems.push_back(std::move(text));
  };
  std::set<int64_t> promised;
  auto expect = [&](const Ledger::Place& place) {
    auto found = reading.in_log.find(place.id);
    if (found == reading.in_log.end())
      return problem(fmt::format("message {} is lost: it was at {}", place.id, place.offset));
    if (found->second.offset != place.offset || found->second.queue_offset != place.queue_offset)
      problem(fmt::format("message {} was at {} with offset {}, but is at {} with {}", place.id, place.offset,
                          place.queue_offset, found->second.offset, found->second.queue_offset));
  };
  for (const auto& place : promise.places) {
    expect(place);
    promised.insert(place.id);
  }
  for (const auto& [id, place] : reading.in_log)
    if (id < promise.epoch_begin && promised.count(id) == 0)
      problem(fmt::format("message {} had gone and is back at {}", id, place.offset));
}

namespace {
// Options that other builds of the store may not have.
template <typename Options>
void leave_out_what_is_not_a_file_of_ours(Options& options) {
  if constexpr (requires { options.message_index_enabled; }) options.message_index_enabled = false;
  if constexpr (requires { options.keep_interval_ms; }) options.keep_interval_ms = 20;
}
}  // namespace

StoreOptions bad_day_options(test::Random& random) {
  StoreOptions options;
  options.root_dir = "/data/store";
  constexpr int64_t kLogFileBytes[] = {64 * 1024, 64 * 1024, 16 * 1024, 40'000};
  constexpr int64_t kQueueFileBytes[] = {2'000, 200, 20};
  options.commit_log_file_bytes = kLogFileBytes[random.below(std::size(kLogFileBytes))];
  options.consume_queue_file_bytes = kQueueFileBytes[random.below(std::size(kQueueFileBytes))];
  options.disk_used_ratio_max = 1.01;
  options.flush_interval_ms = 2;
  options.sync_flush_timeout_ms = 60'000;
  leave_out_what_is_not_a_file_of_ours(options);
  return options;
}

}  // namespace apogee::store
