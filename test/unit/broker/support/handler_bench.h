#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "broker/relay/client_calls.h"
#include "common/base/logger.h"
#include "common/remoting/command.h"
#include "common/remoting/remoting_server.h"
#include "store/message_store.h"
#include "test/support/catch.h"

namespace apogee::broker::test {

/// A directory of its own that goes with the object.
class TempDir {
 public:
  TempDir() {
    std::string pattern = (std::filesystem::temp_directory_path() / "apogee-broker-XXXXXX").string();
    REQUIRE(mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  [[nodiscard]] std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// Time that passes when told.
struct FakeClock {
  std::shared_ptr<std::atomic<int64_t>> ms = std::make_shared<std::atomic<int64_t>>(1'700'000'000'000);
  [[nodiscard]] NowMs now() const {
    return [time = ms] { return time->load(); };
  }
  void advance(int64_t by_ms) const { *ms += by_ms; }
};

/// Queues that are lists of store times; the message i of queue q lies at q * 1'000'000 + i * 100.
class FakeStore : public store::MessageStore {
 public:
  struct Queue {
    int64_t min_offset = 0;
    std::vector<int64_t> times;  ///< of messages min_offset, min_offset + 1, ...
    std::vector<int64_t> tags_codes;
  };
  std::map<std::pair<std::string, int32_t>, Queue> queues;
  std::map<int64_t, std::string> records;
  std::vector<std::string> deleted_topics;
  store::StoreFigures fixed_figures;

  void set_arrival_listener(store::ArrivalListener) override {}
  void set_removal_listener(store::RemovalListener) override {}
  Status start() override { return {}; }
  void stop() override {}
  void append(const store::MessageDraft&, store::PutCallback done) override { done({}); }
  void append_batch(const store::MessageDraft&, store::PutCallback done) override { done({}); }
  store::GetResult get(std::string_view, int32_t, store::QueueOffset, const store::GetLimits&,
                       const store::TagsCodeFilter&) override {
    return {};
  }
  store::QueueOffset max_offset(std::string_view topic, int32_t queue_id) override {
    const Queue* queue = find(topic, queue_id);
    return queue == nullptr ? 0 : queue->min_offset + static_cast<int64_t>(queue->times.size());
  }
  store::QueueOffset min_offset(std::string_view topic, int32_t queue_id) override {
    const Queue* queue = find(topic, queue_id);
    return queue == nullptr ? 0 : queue->min_offset;
  }
  store::QueueOffset offset_by_time(std::string_view topic, int32_t queue_id, int64_t time_ms,
                                    store::TimeBoundary) override {
    const Queue* queue = find(topic, queue_id);
    if (queue == nullptr) return 0;
    int64_t offset = queue->min_offset;
    for (int64_t time : queue->times) {
      if (time >= time_ms) break;
      ++offset;
    }
    return offset;
  }
  std::optional<int64_t> store_time_ms(std::string_view topic, int32_t queue_id, store::QueueOffset offset) override {
    const Queue* queue = find(topic, queue_id);
    if (queue == nullptr || offset < queue->min_offset) return std::nullopt;
    auto index = static_cast<size_t>(offset - queue->min_offset);
    if (index >= queue->times.size()) return std::nullopt;
    return queue->times[index];
  }
  std::optional<SharedBytes> record_at(store::LogOffset offset) override {
    auto record = records.find(offset);
    if (record == records.end()) return std::nullopt;
    return SharedBytes::from(record->second);
  }
  store::LogOffset next_record(store::LogOffset from) override {
    auto record = records.lower_bound(from);
    return record == records.end() ? -1 : record->first;
  }
  std::vector<store::QueueEntry> queue_entries(std::string_view topic, int32_t queue_id, store::QueueOffset from,
                                               int32_t count) override {
    std::vector<store::QueueEntry> entries;
    const Queue* queue = find(topic, queue_id);
    if (queue == nullptr || from < queue->min_offset) return entries;
    for (auto i = static_cast<size_t>(from - queue->min_offset);
         i < queue->times.size() && static_cast<int32_t>(entries.size()) < count; ++i)
      entries.push_back({queue_id * 1'000'000 + static_cast<int64_t>(i) * 100, 100,
                         i < queue->tags_codes.size() ? queue->tags_codes[i] : 0});
    return entries;
  }
  Result<store::KeyAnswer> query(const store::KeyQuery&) override { return store::KeyAnswer(); }
  void delete_topic(std::string_view topic) override { deleted_topics.emplace_back(topic); }
  void delete_topic_before(std::string_view topic, store::LogOffset) override { deleted_topics.emplace_back(topic); }
  int32_t queue_count(std::string_view topic) override {
    int32_t count = 0;
    for (const auto& [key, queue] : queues)
      if (key.first == topic) count = std::max(count, key.second + 1);
    return count;
  }
  std::vector<std::string> topics() override {
    std::vector<std::string> names;
    for (const auto& [queue, what] : queues)
      if (names.empty() || names.back() != queue.first) names.push_back(queue.first);
    return names;
  }
  Result<size_t> clean_expired_queues() override {
    ++queue_cleanings;
    return queue_cleaning;
  }
  void clean_expired_files() override { ++file_cleanings; }
  void set_retention(const store::RetentionOptions&) override {}
  void set_message_bytes_max(int64_t) override {}
  int queue_cleanings = 0, file_cleanings = 0;
  Result<size_t> queue_cleaning = size_t{0};
  store::StoreFigures figures() override { return fixed_figures; }
  bool writable(std::string*) override { return true; }
  store::ReplicatedLog& replicated_log() override { std::abort(); }  // nothing here replicates

 private:
  [[nodiscard]] const Queue* find(std::string_view topic, int32_t queue_id) const {
    auto queue = queues.find({std::string(topic), queue_id});
    return queue == queues.end() ? nullptr : &queue->second;
  }
};

/// Keeps what the broker sends to clients.
struct SentToClients {
  struct Sent {
    remoting::ConnectionId connection = 0;
    remoting::Command request;
    remoting::ReplyCallback done;  ///< empty: one-way
  };
  std::shared_ptr<std::vector<Sent>> sent = std::make_shared<std::vector<Sent>>();
  [[nodiscard]] ClientCalls calls() const {
    ClientCalls calls;
    calls.call = [sent = sent](remoting::ConnectionId connection, remoting::Command request, int64_t /*timeout_ms*/,
                               remoting::ReplyCallback done) {
      sent->push_back({connection, std::move(request), std::move(done)});
    };
    calls.send_oneway = [sent = sent](remoting::ConnectionId connection, remoting::Command request) {
      sent->push_back({connection, std::move(request), nullptr});
    };
    return calls;
  }
};

using Fields = std::vector<std::pair<std::string, std::string>>;

inline remoting::Command request_of(remoting::RequestCode code, const Fields& fields = {}, std::string body = {}) {
  remoting::Command request = remoting::Command::request(code);
  request.opaque = 77;
  request.language = remoting::LanguageCode::kJava;
  request.version = 409;
  for (const auto& [name, value] : fields) request.ext.set(name, value);
  if (!body.empty()) request.body = SharedBytes::from(std::move(body));
  return request;
}

inline remoting::Caller caller_of(remoting::ConnectionId connection) {
  return {connection, "10.0.0.9:" + std::to_string(30'000 + connection), 10911};
}

/// Where an answer arrives, at once or later, on any thread.
struct AnswerBox {
  std::mutex mutex;
  std::condition_variable arrived;
  std::optional<remoting::Command> answer;  // guarded by mutex

  [[nodiscard]] bool has_value() {
    std::lock_guard<std::mutex> lock(mutex);
    return answer.has_value();
  }
  /// Waits for the answer.
  remoting::Command get() {
    std::unique_lock<std::mutex> lock(mutex);
    REQUIRE(arrived.wait_for(lock, std::chrono::seconds(20), [this] { return answer.has_value(); }));
    return *answer;
  }
};
using Answer = std::shared_ptr<AnswerBox>;

/// Calls a handler method; the answer may come later.
template <typename Handlers>
Answer start(Handlers& handlers,
             void (Handlers::*method)(const remoting::Caller&, remoting::Command, remoting::Responder),
             remoting::Command request, remoting::ConnectionId connection = 1) {
  auto box = std::make_shared<AnswerBox>();
  (handlers.*method)(caller_of(connection), std::move(request), remoting::Responder([box](remoting::Command response) {
                       std::lock_guard<std::mutex> lock(box->mutex);
                       box->answer = std::move(response);
                       box->arrived.notify_all();
                     }));
  return box;
}

/// Calls a handler method and waits for its answer.
template <typename Handlers>
remoting::Command ask(Handlers& handlers,
                      void (Handlers::*method)(const remoting::Caller&, remoting::Command, remoting::Responder),
                      remoting::Command request, remoting::ConnectionId connection = 1) {
  remoting::Command answer = start(handlers, method, std::move(request), connection)->get();
  CHECK(answer.opaque == 77);
  CHECK(answer.is_response());
  return answer;
}

inline std::string body_text(const remoting::Command& command) { return std::string(command.body.bytes); }

}  // namespace apogee::broker::test
