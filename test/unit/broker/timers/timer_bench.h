#pragma once

#include <future>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "broker/timers/timer_service.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "test/support/wait.h"
#include "test/unit/broker/support/handler_bench.h"

namespace apogee::broker::test {

using apogee::test::eventually;

/// A real store, timers over it and a clock that passes when told.
struct TimerBench {
  TempDir dir;
  Logger quiet;
  FakeClock clock;
  int64_t log_file_bytes = 64 << 20;
  TimerLimits limits;
  std::chrono::duration<double> open_time{};  ///< of the timers, without the store
  std::unique_ptr<store::MessageStore> store;
  std::unique_ptr<MessagePut> put;
  std::unique_ptr<TimerService> timers;

  ~TimerBench() { stop(); }
  [[nodiscard]] int64_t now() const { return clock.ms->load(); }
  [[nodiscard]] std::string db_dir() const { return dir.file("store/timersdb"); }
  [[nodiscard]] std::string checkpoint() const { return dir.file("store/config/timersCheckpoint.json"); }

  void open() {
    store::StoreOptions options;
    options.root_dir = dir.file("store");
    options.commit_log_file_bytes = log_file_bytes;
    options.disk_used_ratio_max = 1.01;
    options.flush_interval_ms = 5;
    options.flush_least_pages = 0;
    options.keep_interval_ms = 20;
    options.retention.clean_forcibly = false;
    options.retention.delete_hours = {};
    options.retention.reserved_ms = 0;
    options.retention.first_after_ms = 0;
    options.retention.interval_ms = 10;
    options.retention.file_pause_ms = 0;
    options.retention.clean_above = 1.01;
    auto opened = store::MessageStore::open(options, quiet);
    if (!opened) FAIL(opened.error().message);
    store = std::move(*opened);
    put = std::make_unique<MessagePut>(*store);
    put->add_rule(timer_rule([this] { return limits; }, clock.now()));
    const auto store_open = std::chrono::steady_clock::now();
    TimerService::Options timer_options{db_dir(), checkpoint(), dir.file("store/config/timercheck"), 1'000, 10, 10};
    auto made = TimerService::open(timer_options, {*store, *put, quiet, clock.now()});
    if (!made) FAIL(made.error().message);
    timers = std::move(*made);
    open_time = std::chrono::steady_clock::now() - store_open;
    store->set_arrival_listener([this](const auto& arrivals) { timers->on_arrivals(arrivals); });
    store->set_removal_listener([this](store::LogOffset begin) { return timers->may_remove(begin); });
    REQUIRE(store->start());
  }
  void start() {
    open();
    timers->start({});
  }
  void stop() {
    if (timers) timers->stop();
    if (store) store->stop();
    timers.reset();
    store.reset();
  }
  void restart() {
    stop();
    start();
  }
  /// Lets time pass and the timers notice.
  void advance(int64_t ms) {
    clock.advance(ms);
    wake();
  }
  void wake() const { timers->on_arrivals({{std::string(kTimerTopic), 0, 0, 0}}); }

  store::PutResult send(const std::string& topic, const std::string& body, const std::string& properties,
                        int32_t queue_id = 0) const {
    store::MessageDraft draft;
    draft.topic = topic;
    draft.queue_id = queue_id;
    draft.body = body;
    draft.properties = properties;
    draft.born_timestamp_ms = 77;
    draft.flag = 5;
    std::promise<store::PutResult> done;
    put->put(draft, [&done](store::PutResult result) { done.set_value(std::move(result)); });
    return done.get_future().get();
  }
  void send_at(const std::string& body, int64_t due_ms, const std::string& unique = "", int32_t queue_id = 0) const {
    auto result = send("T", body, timer_properties(due_ms, unique.empty() ? body : unique), queue_id);
    REQUIRE(result.stored());
  }
  void cancel(const std::string& unique, int64_t due_ms, const std::string& topic = "T") const {
    std::string properties = timer_properties(due_ms, "cancel-" + unique);
    message::append_property(properties, message::property::kTimerDeleteUniqueKey, topic + "+" + unique);
    REQUIRE(send(topic, "", properties).stored());
  }
  static std::string timer_properties(int64_t due_ms, const std::string& unique) {
    std::string properties;
    message::append_property(properties, message::property::kUniqueKey, unique);
    message::append_property(properties, message::property::kTimerDeliverMs, std::to_string(due_ms));
    return properties;
  }
  /// Bodies of a queue of T.
  std::vector<std::string> bodies(int32_t queue_id = 0) const {
    std::vector<std::string> found;
    for (const auto& entry : store->queue_entries("T", queue_id, store->min_offset("T", queue_id), 100'000))
      if (auto bytes = store->record_at(entry.physical_offset))
        found.emplace_back(message::decode_record(bytes->bytes)->body);
    return found;
  }
  bool has(const std::vector<std::string>& wanted, int32_t queue_id = 0) const {
    return eventually([&] { return bodies(queue_id).size() >= wanted.size(); }, std::chrono::seconds(60)) &&
           bodies(queue_id) == wanted;
  }
  /// Everything that was sent is in the database, and what is due was delivered.
  bool settled() const {
    return eventually(
        [&] {
          auto figures = timers->figures();
          return figures.offset_behind == 0 && figures.read_behind_ms == 0;
        },
        std::chrono::seconds(60));
  }
  bool waiting(int64_t count) const {
    return eventually([&] { return settled() && timers->figures().pending == count; }, std::chrono::seconds(60));
  }
};

}  // namespace apogee::broker::test
