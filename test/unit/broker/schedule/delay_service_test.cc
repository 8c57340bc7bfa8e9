#include "broker/schedule/delay_service.h"

#include <algorithm>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "broker/schedule/delay_levels.h"
#include "common/base/hash.h"
#include "common/config/properties_file.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "test/support/wait.h"
#include "test/unit/broker/support/handler_bench.h"
#include "test/unit/broker/support/topic_bench.h"

namespace apogee::broker {
namespace {

using namespace apogee::broker::test;

const std::vector<int64_t> kDelays{1'000, 5'000, 10'000};

/// The service over a real store.
struct DelayBench {
  TempDir dir;
  Logger quiet;
  std::vector<std::string> lines;
  std::mutex lines_mutex;
  Logger logger{[this](LogLevel, std::string_view line) {
    std::lock_guard lock(lines_mutex);
    lines.emplace_back(line);
  }};
  FakeClock clock;
  TopicBench topics;
  SubscriptionGroups groups{{"", true}, quiet};
  std::unique_ptr<store::MessageStore> store;
  std::unique_ptr<MessagePut> put;
  std::unique_ptr<DelayService> service;

  DelayBench() {
    REQUIRE(groups.load());
    topics.add("T", 4);
  }
  ~DelayBench() { close(); }

  void open_store() {
    store::StoreOptions options;
    options.root_dir = dir.file("store");
    options.commit_log_file_bytes = 1 << 20;
    options.consume_queue_file_bytes = 20 * 1'000;
    options.delay_levels_ms = kDelays;
    options.flush_interval_ms = 5;
    options.flush_least_pages = 0;
    options.message_index_enabled = false;
    options.now_ms = clock.now();
    auto opened = store::MessageStore::open(options, quiet);
    REQUIRE(opened);
    store = std::move(*opened);
    put = std::make_unique<MessagePut>(*store);
    put->add_rule(delay_rule(kDelays.size()));
  }
  [[nodiscard]] Status load(std::vector<int64_t> delays = kDelays) {
    service =
        std::make_unique<DelayService>(DelayService::Parts{*store, *put, topics.table, groups, std::move(delays),
                                                           dir.file("config/delayOffset.json"), logger, clock.now()});
    return service->load();
  }
  void start() {
    store->set_arrival_listener(
        [this](const std::vector<store::Arrival>& arrivals) { service->on_arrivals(arrivals); });
    REQUIRE(store->start());
    service->start({std::string("\x7f\0\0\1", 4), 10911});
  }
  void open() {
    open_store();
    REQUIRE(load());
    start();
  }
  void close() {
    if (service) service->stop();
    if (store) store->stop();
    service.reset();
    put.reset();
    store.reset();
  }
  store::PutStatus send(int level, const std::string& body, const std::string& topic = "T", int32_t queue_id = 1,
                        const std::string& more = {}) const {
    store::MessageDraft draft;
    draft.topic = topic;
    draft.queue_id = queue_id;
    draft.body = body;
    draft.reconsume_times = 2;
    draft.born_timestamp_ms = 77;
    const std::string properties =
        "TAGS\x01X\x02"
        "DELAY\x01" +
        std::to_string(level) + "\x02" + more;
    draft.properties = properties;
    std::promise<store::PutStatus> status;
    put->put(draft, [&status](const store::PutResult& result) { status.set_value(result.status); });
    return status.get_future().get();
  }
  void advance(int64_t by_ms) const {
    clock.advance(by_ms);
    service->wake();
  }
  [[nodiscard]] std::vector<std::string> bodies(const std::string& topic = "T", int32_t queue_id = 1) const {
    std::vector<std::string> found;
    for (;;) {  // not more than those of one file at a time
      const auto entries = store->queue_entries(topic, queue_id, static_cast<int64_t>(found.size()), 1'000);
      if (entries.empty()) return found;
      for (const auto& entry : entries) {
        auto record = store->record_at(entry.physical_offset);
        if (!record) return {"(lost)"};
        found.emplace_back(message::decode_record(record->bytes)->body);
      }
    }
  }
  [[nodiscard]] bool has_line(const std::string& part) {
    std::lock_guard lock(lines_mutex);
    for (const auto& line : lines)
      if (line.find(part) != std::string::npos) return true;
    return false;
  }
  void wait_for(size_t count, const std::string& topic = "T") const {
    const auto wanted = static_cast<int64_t>(count);
    CHECK(apogee::test::eventually([&] { return store->max_offset(topic, 1) >= wanted; }));
    CHECK(store->max_offset(topic, 1) == wanted);
  }
};

using Bodies = std::vector<std::string>;

TEST_CASE("messages are delivered when they are due, in order within a level", "[broker][delay]") {
  DelayBench bench;
  bench.open();
  CHECK(bench.send(2, "late") == store::PutStatus::kOk);
  CHECK(bench.send(1, "a") == store::PutStatus::kOk);
  CHECK(bench.send(1, "b", "T", 1, "KEYS\x01k\x02") == store::PutStatus::kOk);
  bench.advance(999);
  CHECK(bench.send(1, "c") == store::PutStatus::kOk);
  CHECK(bench.bodies().empty());
  bench.advance(1);
  bench.wait_for(2);
  CHECK(bench.bodies() == Bodies{"a", "b"});
  const auto entry = bench.store->queue_entries("T", 1, 1, 1).at(0);
  const auto bytes = *bench.store->record_at(entry.physical_offset);
  const auto record = *message::decode_record(bytes.bytes);
  CHECK(record.reconsume_times == 2);
  CHECK(record.born_timestamp_ms == 77);
  CHECK(message::find_property(record.properties, "KEYS") == "k");
  CHECK(message::find_property(record.properties, "DELAY") == "1");  // stays in the text, as in Apache RocketMQ
  CHECK(entry.tags_code == java_string_hash("X"));
  bench.advance(999);
  bench.wait_for(3);
  bench.advance(3'001);
  bench.wait_for(4);
  CHECK(bench.bodies() == Bodies{"a", "b", "c", "late"});
  CHECK(bench.service->offsets().offset_table == std::map<int32_t, int64_t>{{1, 3}, {2, 1}});
  CHECK(bench.service->figures().at("scheduleMessageOffset_1") == "3,3");
}

TEST_CASE("ten thousand messages that are due together, in order", "[broker][delay]") {
  DelayBench bench;
  bench.open();
  Bodies sent;
  for (int i = 0; i < 10'000; ++i) {
    sent.push_back(std::to_string(i));
    REQUIRE(bench.send(1, sent.back()) == store::PutStatus::kOk);
  }
  bench.advance(1'000);
  bench.wait_for(sent.size());
  const bool same = bench.bodies() == sent;  // printed only as that
  CHECK(same);
}

TEST_CASE("progress is saved every interval, and read again", "[broker][delay]") {
  DelayBench bench;
  bench.open();
  for (const char* body : {"a", "b"}) CHECK(bench.send(1, body) == store::PutStatus::kOk);
  CHECK(bench.send(3, "waits") == store::PutStatus::kOk);
  bench.advance(1'000);
  bench.wait_for(2);
  const auto file = bench.dir.file("config/delayOffset.json");
  bench.clock.advance(8'999);
  CHECK(bench.service->save(10'000));
  CHECK_FALSE(config::read_whole_file(file));
  bench.clock.advance(1);
  // The interval is over; it waits for the disk, and then holds what the snapshot held.
  CHECK(apogee::test::eventually([&] {
    CHECK(bench.service->save(10'000));
    return config::read_whole_file(file).has_value();
  }));
  CHECK(remoting::decode_delay_offset_table(*config::read_whole_file(file))->offset_table ==
        std::map<int32_t, int64_t>{{1, 2}});
  bench.wait_for(2);
  bench.close();
  bench.open();
  bench.advance(10'000);
  bench.wait_for(3);
  CHECK(bench.bodies() == Bodies{"a", "b", "waits"});
  bench.service->stop();
  bench.store->stop();
  CHECK(bench.service->save(0));  // all of it
  CHECK(remoting::decode_delay_offset_table(*config::read_whole_file(file))->offset_table ==
        std::map<int32_t, int64_t>{{1, 2}, {3, 1}});
}

TEST_CASE("a log file may go when its delayed messages are delivered, and that is on disk",
          "[broker][delay][retention]") {
  using apogee::test::eventually;
  DelayBench bench;
  bench.open();
  CHECK(bench.service->may_remove(bench.store->figures().log_max_offset));
  REQUIRE(bench.send(1, "m") == store::PutStatus::kOk);
  REQUIRE(eventually([&] { return bench.store->max_offset(kScheduleTopic, 0) == 1; }));
  const auto behind = bench.store->figures().log_max_offset;
  CHECK_FALSE(bench.service->may_remove(behind));
  CHECK(bench.service->may_remove(0));
  bench.clock.advance(2'000);
  bench.service->wake();
  REQUIRE(eventually([&] { return bench.service->delivered_total() == 1; }));
  CHECK_FALSE(bench.service->may_remove(behind));  // a restart would deliver it again
  CHECK(eventually([&] { return bench.service->save(0).has_value() && bench.service->may_remove(behind); }));
}

TEST_CASE("bad and foreign delayOffset.json", "[broker][delay]") {
  DelayBench bench;
  bench.open();
  for (const char* body : {"a", "b", "c"}) CHECK(bench.send(1, body) == store::PutStatus::kOk);
  bench.close();
  auto write = [&](const std::string& text) {
    REQUIRE(config::replace_file(bench.dir.file("config/delayOffset.json"), text));
  };
  // As Java writes it. Beyond the end: taken back to it; level 2 has no messages at all.
  write(R"({"dataVersion":{"counter":3,"stateVersion":0,"timestamp":5},"offsetTable":{1:2,2:45,19:7}})");
  bench.open_store();
  REQUIRE(bench.load());
  CHECK(bench.service->offsets().offset_table == std::map<int32_t, int64_t>{{1, 2}});
  CHECK(bench.has_line("delay level 2: offset 45 is taken as 0"));
  bench.start();
  bench.clock.advance(1'000);
  bench.service->wake();
  bench.wait_for(1);
  CHECK(bench.bodies() == Bodies{"c"});
  bench.close();
  write("{\"offsetTable\":{1:");
  bench.open_store();
  REQUIRE(bench.load());  // the .bak
  CHECK(bench.has_line("delayOffset.json.bak is taken instead"));
  bench.close();
  write("[]]");
  bench.open_store();
  auto loaded = bench.load();
  REQUIRE_FALSE(loaded);
  CHECK(loaded.error().code == Errc::kCorrupt);
}

TEST_CASE("a message that cannot be stored is tried again, and those behind it wait", "[broker][delay]") {
  DelayBench bench;
  bench.open();
  CHECK(bench.send(1, std::string(500, 'x')) == store::PutStatus::kOk);
  CHECK(bench.send(1, "small") == store::PutStatus::kOk);
  bench.store->set_message_bytes_max(100);
  bench.advance(1'000);
  CHECK(apogee::test::eventually([&] { return bench.has_line("message 0 for T is tried again"); }));
  CHECK(bench.bodies().empty());
  bench.store->set_message_bytes_max(1'000);
  bench.advance(100);
  bench.wait_for(2);
  CHECK(bench.bodies().at(1) == "small");
  CHECK(bench.has_line("delay level 1 is delivered again"));
}

TEST_CASE("a message that the store refuses for what it is does not block its level", "[broker][delay]") {
  DelayBench bench;
  bench.open();
  CHECK(bench.send(1, "before") == store::PutStatus::kOk);
  for (const char* key : {"K1", "K2"})
    CHECK(bench.send(1, std::string(500, 'x'), "T", 1, "UNIQ_KEY\x01" + std::string(key) + "\x02") ==
          store::PutStatus::kOk);
  CHECK(bench.send(1, "behind") == store::PutStatus::kOk);
  bench.store->set_message_bytes_max(100);
  bench.advance(1'000);
  CHECK(apogee::test::eventually([&] { return bench.has_line("message 1 for T is tried again"); }));
  // It waits, until it was tried often enough.
  CHECK(apogee::test::eventually([&] { return bench.bodies() == Bodies{"before"}; }));
  CHECK(apogee::test::eventually(
      [&] {
        bench.advance(100);
        return bench.store->max_offset("T", 1) == 2;
      },
      std::chrono::seconds(60)));
  CHECK(bench.bodies() == Bodies{"before", "behind"});
  CHECK(bench.has_line("key K1, for T[1] is not delivered, because the store refuses it"));
  CHECK(bench.has_line("key K2, for T[1] is not delivered, because the store refuses it"));
  CHECK(bench.has_line("delay level 1 is delivered again"));
  CHECK(bench.service->figures().at("scheduleMessagesSkipped") == "2");
  CHECK(bench.service->delivered_total() == 2);
  CHECK(bench.service->may_remove(0));
}

TEST_CASE("delayed messages whose topic is gone", "[broker][delay]") {
  DelayBench bench;
  bench.open();
  REQUIRE(bench.groups.find_or_create("g") != nullptr);
  CHECK(bench.send(1, "one", "Gone", 0) == store::PutStatus::kOk);
  CHECK(bench.send(1, "two", "Gone", 0) == store::PutStatus::kOk);
  CHECK(bench.send(1, "retry", "%RETRY%g", 0) == store::PutStatus::kOk);
  CHECK(bench.send(1, "no group", "%RETRY%unknown", 0) == store::PutStatus::kOk);
  CHECK(bench.send(1, "half", "RMQ_SYS_TRANS_HALF_TOPIC", 0) == store::PutStatus::kOk);
  bench.advance(1'000);
  auto all_delivered = [&] {
    bench.advance(50);  // the retry topic takes a while
    return bench.service->offsets().offset_table == std::map<int32_t, int64_t>{{1, 5}};
  };
  CHECK(apogee::test::eventually(all_delivered));
  CHECK(apogee::test::eventually([&] { return bench.bodies("%RETRY%unknown", 0).size() == 1; }));
  CHECK(bench.bodies("Gone", 0) == Bodies{"one", "two"});
  CHECK(bench.bodies("%RETRY%g", 0) == Bodies{"retry"});
  CHECK(bench.topics.table.find("%RETRY%g") != nullptr);
  CHECK(bench.topics.table.find("Gone") == nullptr);
  CHECK(bench.has_line("the topic Gone is gone"));
  CHECK(bench.has_line("half messages are not delayed"));
  CHECK(bench.bodies("RMQ_SYS_TRANS_HALF_TOPIC", 0).empty());
}

TEST_CASE("another clock or another configuration delays nothing for longer than the level says", "[broker][delay]") {
  DelayBench bench;
  bench.open();
  CHECK(bench.send(3, "ten seconds") == store::PutStatus::kOk);
  CHECK(bench.send(2, "five seconds") == store::PutStatus::kOk);
  bench.close();
  bench.open_store();
  REQUIRE(bench.load({1'000, 5'000, 2'000}));  // level 3 is shorter now
  bench.start();
  bench.wait_for(1);
  CHECK(bench.bodies() == Bodies{"ten seconds"});
  bench.close();
  bench.open_store();
  REQUIRE(bench.load({1'000}));  // levels that are configured no more
  bench.start();
  bench.advance(10'000);
  CHECK(apogee::test::eventually([&] { return bench.bodies().size() == 3; }));
  // Nothing was saved in between; levels do not wait for each other.
  auto delivered = bench.bodies();
  std::sort(delivered.begin(), delivered.end());
  CHECK(delivered == Bodies{"five seconds", "ten seconds", "ten seconds"});
  CHECK(bench.send(1, "one second") == store::PutStatus::kOk);
  bench.clock.advance(-3'600'000);
  bench.wait_for(4);
}

}  // namespace
}  // namespace apogee::broker
