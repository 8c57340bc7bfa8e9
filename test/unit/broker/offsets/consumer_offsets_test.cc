#include "broker/offsets/consumer_offsets.h"

#include <fstream>
#include <thread>

#include "test/unit/broker/support/handler_bench.h"

namespace apogee::broker {
namespace {

const Logger kQuiet;

struct Bench {
  test::TempDir dir;
  ConsumerOffsets::Options options{dir.file("offsetsdb"), dir.file("consumerOffset.json")};
  std::unique_ptr<ConsumerOffsets> open() {
    auto offsets = ConsumerOffsets::open(options, kQuiet);
    if (!offsets) FAIL(offsets.error().message);
    return std::move(*offsets);
  }
  [[nodiscard]] std::string json() const {
    std::ifstream file(options.json_file);
    return {std::istreambuf_iterator<char>(file), {}};
  }
};

TEST_CASE("ConsumerOffsets: a committed offset is read back, a lower one too", "[broker]") {
  Bench bench;
  auto offsets = bench.open();
  CHECK_FALSE(offsets->query("G", "T", 0).has_value());
  CHECK(offsets->commit("G", "T", 0, 7));
  CHECK(offsets->query("G", "T", 0) == 7);
  CHECK(offsets->commit("G", "T", 0, 3));
  CHECK(offsets->query("G", "T", 0) == 3);
  CHECK_FALSE(offsets->query("G", "T", 1).has_value());
  CHECK_FALSE(offsets->query("H", "T", 0).has_value());
  CHECK(offsets->topics_of_group("G") == std::vector<std::string>{"T"});
  CHECK(offsets->groups_of_topic("T") == std::vector<std::string>{"G"});
}

TEST_CASE("ConsumerOffsets: what was flushed survives without an orderly end", "[broker]") {
  Bench bench;
  {
    auto offsets = bench.open();
    offsets->commit("G", "T", 0, 7);
    offsets->commit("G", "%RETRY%G", 0, 1);
    offsets->commit("gone", "T", 3, 9);
    REQUIRE(offsets->flush(false));
    offsets->commit("G", "T", 0, 8);
    offsets->remove_group("gone");
    REQUIRE(offsets->flush(true));
  }
  auto offsets = bench.open();
  CHECK(offsets->query("G", "T", 0) == 8);
  CHECK(offsets->query("G", "%RETRY%G", 0) == 1);
  CHECK_FALSE(offsets->query("gone", "T", 3).has_value());
}

TEST_CASE("ConsumerOffsets: the JSON file has bare queue ids, as RocketMQ writes them", "[broker]") {
  Bench bench;
  auto offsets = bench.open();
  offsets->commit("G", "T", 0, 5);
  offsets->commit("G", "T", 11, 6);
  REQUIRE(offsets->export_json());
  CHECK(bench.json().find(R"("offsetTable":{"T@G":{0:5,11:6}})") != std::string::npos);
}

TEST_CASE("ConsumerOffsets: an existing store's JSON file is imported, its .bak where that is bad", "[broker]") {
  Bench bench;
  std::ofstream(bench.options.json_file + ".bak") << R"({"offsetTable":{"T@G":{0:4}}})";
  SECTION("the file") {
    std::ofstream(bench.options.json_file) << "{\n\t\"offsetTable\":{\"T@G\":{0:5,1:6},\"%RETRY%G@G\":{0:1}\n\t}\n}";
    auto offsets = bench.open();
    CHECK(offsets->offsets("G", "T") == ConsumerOffsets::QueueOffsets{{0, 5}, {1, 6}});
    CHECK(offsets->query("G", "%RETRY%G", 0) == 1);
  }
  SECTION("the backup") {
    std::ofstream(bench.options.json_file) << "{\"offsetTable\":";
    CHECK(bench.open()->query("G", "T", 0) == 4);
  }
}

TEST_CASE("ConsumerOffsets: a JSON file without sense and without a backup stops the start", "[broker]") {
  Bench bench;
  std::ofstream(bench.options.json_file) << "nonsense";
  auto offsets = ConsumerOffsets::open(bench.options, kQuiet);
  REQUIRE_FALSE(offsets);
  CHECK(offsets.error().code == Errc::kCorrupt);
}

TEST_CASE("ConsumerOffsets: a file that somebody else wrote since is taken over, our own is not", "[broker]") {
  Bench bench;
  {
    auto offsets = bench.open();
    offsets->commit("G", "T", 0, 5);
    REQUIRE(offsets->export_json());
    offsets->commit("G", "T", 0, 6);
    REQUIRE(offsets->flush(true));
  }
  CHECK(bench.open()->query("G", "T", 0) == 6);
  std::ofstream(bench.options.json_file) << R"({"offsetTable":{"T@G":{0:9}}})";
  {
    auto offsets = bench.open();
    CHECK(offsets->query("G", "T", 0) == 9);
    REQUIRE(offsets->flush(true));
    REQUIRE(offsets->export_json());
  }
  CHECK(bench.open()->query("G", "T", 0) == 9);
}

TEST_CASE("ConsumerOffsets: a pending reset goes before commits until it is taken", "[broker]") {
  Bench bench;
  auto offsets = bench.open();
  offsets->commit("G", "T", 0, 50);
  CHECK_FALSE(offsets->take_reset("G", "T", 0).has_value());
  offsets->reset("G", "T", 0, 10);
  CHECK(offsets->query("G", "T", 0) == 10);
  CHECK_FALSE(offsets->commit("G", "T", 0, 51));
  CHECK(offsets->commit("G", "T", 1, 51));
  CHECK(offsets->query("G", "T", 0) == 10);
  CHECK(offsets->take_reset("G", "T", 0) == 10);
  CHECK_FALSE(offsets->take_reset("G", "T", 0).has_value());
  CHECK(offsets->commit("G", "T", 0, 11));
  CHECK(offsets->query("G", "T", 0) == 11);
  offsets->reset("G", "T", 0, 1);
  offsets->remove_topic("T");
  CHECK_FALSE(offsets->take_reset("G", "T", 0).has_value());
  CHECK_FALSE(offsets->query("G", "T", 0).has_value());
}

TEST_CASE("ConsumerOffsets: offsets are cloned per topic or all", "[broker]") {
  Bench bench;
  auto offsets = bench.open();
  offsets->commit("G", "T", 0, 1);
  offsets->commit("G", "T", 1, 2);
  offsets->commit("G", "U", 0, 3);
  CHECK(offsets->clone("G", "H", "T") == 2);
  CHECK(offsets->topics_of_group("H") == std::vector<std::string>{"T"});
  CHECK(offsets->clone("G", "I", "") == 3);
  CHECK(offsets->query("I", "U", 0) == 3);
}

TEST_CASE("ConsumerOffsets: a second process is told that the database is in use", "[broker]") {
  Bench bench;
  auto offsets = bench.open();
  auto second = ConsumerOffsets::open(bench.options, kQuiet);
  REQUIRE_FALSE(second);
  CHECK(second.error().code == Errc::kAlreadyExists);
}

TEST_CASE("ConsumerOffsets: commits, flushes and exports may run side by side", "[broker]") {
  Bench bench;
  {
    auto offsets = bench.open();
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t)
      threads.emplace_back([&offsets, t] {
        for (int i = 1; i <= 500; ++i) offsets->commit("G" + std::to_string(i % 7), "T", t, i);
      });
    for (int i = 0; i < 10; ++i) {
      CHECK(offsets->flush(false));
      CHECK(offsets->export_json());
    }
    for (auto& thread : threads) thread.join();
    REQUIRE(offsets->flush(true));
  }
  auto offsets = bench.open();
  for (int t = 0; t < 3; ++t) CHECK(offsets->query("G3", "T", t) == 500);
}

}  // namespace
}  // namespace apogee::broker
