// mqstore on stores that are damaged on purpose: each damage gives its finding, a repair makes it start again.
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/base/version.h"
#include "store/file_names.h"
#include "test/support/run_program.h"
#include "test/unit/store/store_bench.h"

namespace apogee::store {

namespace {

constexpr int64_t kFileBytes = 64 * 1024;
constexpr int kMessages = 300;

test::Ran mqstore(const std::vector<std::string>& arguments) {
  return test::run_program("tools/mqstore", arguments, {});
}

/// A store after a clean stop: 300 messages in two queues, over several files.
struct Stored {
  Directory directory;
  fs::path root = directory.path / "store";
  std::vector<LogOffset> offsets;

  Stored() {
    Running running(small_options(root));
    for (int i = 0; i < kMessages; ++i)
      offsets.push_back(put(*running.store, "T", i % 2, std::to_string(i) + std::string(500, 'b'),
                            "KEYS\x01key" + std::to_string(i) +
                                "\x02TAGS\x01"
                                "A\x02UNIQ_KEY\x01id" +
                                std::to_string(i))
                            .offsets[0]);
    REQUIRE(running.wait_for("T-0", kMessages / 2));
    REQUIRE(running.wait_for("T-1", kMessages / 2));
  }
  [[nodiscard]] fs::path log_file(LogOffset at) const {
    return root / "commitlog" / file_name_of(at / kFileBytes * kFileBytes);
  }
  static void overwrite(const fs::path& file, int64_t at, std::string_view bytes) {
    std::fstream out(file, std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(at);
    out << bytes;
    REQUIRE(out.good());
  }
  void overwrite_log(LogOffset at, std::string_view bytes) const { overwrite(log_file(at), at % kFileBytes, bytes); }
  [[nodiscard]] std::map<std::string, int64_t> findings(std::vector<std::string> more = {}) const {
    std::vector<std::string> arguments{"verify", root.string(), "--json", "--findings", "1000"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    auto result = mqstore(arguments);
    INFO(result.out << result.err);
    auto json = nlohmann::json::parse(result.out);
    std::map<std::string, int64_t> kinds;
    for (const auto& finding : json["list"]) ++kinds[finding["kind"].get<std::string>()];
    CHECK(result.exit_code == (kinds.empty() ? 0 : 1));
    CHECK(json["clean"].get<bool>() == kinds.empty());
    return kinds;
  }
};
using Kinds = std::map<std::string, int64_t>;

}  // namespace

TEST_CASE("mqstore verify: a store that was stopped well is clean", "[mqstore]") {
  Stored stored;
  CHECK(stored.findings().empty());
  auto text = mqstore({"verify", stored.root.string()});
  CHECK(text.exit_code == 0);
  CHECK(text.out.find("300 messages") != std::string::npos);
  CHECK(text.out.find("2 queues with 300 entries") != std::string::npos);
  CHECK(text.out.find("nothing wrong was found") != std::string::npos);
  auto json = nlohmann::json::parse(mqstore({"verify", stored.root.string(), "--json"}).out);
  CHECK(json["records"] == kMessages);
}

TEST_CASE("mqstore verify: each damage has its finding", "[mqstore]") {
  Stored stored;
  const fs::path queue = stored.root / "consumequeue" / "T" / "0";
  SECTION("a damaged body is a hole, a gap in its queue, and an entry that leads nowhere") {
    stored.overwrite_log(stored.offsets[100] + 200, "damage");
    CHECK(stored.findings({"--no-index"}) == Kinds{{"hole", 1}, {"queue-offset-gap", 1}, {"wrong-entry", 1}});
  }
  SECTION("garbage behind the last message is a torn tail") {
    stored.overwrite_log(stored.offsets.back() + 700, "garbage");
    CHECK(stored.findings() == Kinds{{"torn-tail", 1}});
  }
  SECTION("a missing file of the log") {
    fs::remove(stored.log_file(kFileBytes));
    auto kinds = stored.findings({"--no-index"});
    CHECK(kinds["log-file-missing"] == 1);
    CHECK(kinds["queue-offset-gap"] == 2);
    CHECK(kinds["wrong-entry"] > 50);
  }
  SECTION("a shorter file of the log") {
    fs::resize_file(stored.log_file(kFileBytes), kFileBytes / 2);
    CHECK(stored.findings({"--no-index"})["log-file-size"] == 1);
  }
  SECTION("a missing queue") {
    fs::remove_all(queue);
    CHECK(stored.findings() == Kinds{{"missing-queue", 1}});
  }
  SECTION("a missing file of a queue") {
    fs::remove(queue / file_name_of(0));
    CHECK(stored.findings() == Kinds{{"missing-entry", 1}});
  }
  SECTION("an entry of another message, and one with another tags code") {
    Stored::overwrite(queue / file_name_of(0), 20 * 5 + 7, "\x77");
    Stored::overwrite(queue / file_name_of(0), 20 * 8 + 19, "\x77");
    CHECK(stored.findings() == Kinds{{"wrong-entry", 1}, {"wrong-tags-code", 1}});
  }
  SECTION("entries that were wiped") {
    Stored::overwrite(queue / file_name_of(0), 20 * 5, std::string(20 * 10, '\0'));
    CHECK(stored.findings()["missing-entry"] == 1);
  }
  SECTION("configuration that is no JSON, and an offset beyond its queue") {
    fs::create_directories(stored.root / "config");
    std::ofstream(stored.root / "config" / "topics.json") << "{\"topicConfigTable\":";
    std::ofstream(stored.root / "config" / "consumerOffset.json") << R"({"offsetTable":{"T@g":{0:151,1:150}}})";
    CHECK(stored.findings() == Kinds{{"offset-beyond-queue", 1}, {"unreadable-config", 1}});
  }
  SECTION("an index in which entries are missing, and one that cannot be read") {
    fs::remove_all(stored.root / "indexdb");
    CHECK(stored.findings().empty());  // none is no inconsistency: it is built at the next start
    fs::create_directories(stored.root / "indexdb");
    std::ofstream(stored.root / "indexdb" / "CURRENT") << "nonsense";
    CHECK(stored.findings() == Kinds{{"unreadable-index", 1}});
  }
  SECTION("what a 4.9 broker could not read") {
    {
      Running running(small_options(stored.root));
      put(*running.store, std::string(200, 'x'), 0, "b");
    }
    CHECK(stored.findings().empty());
    auto kinds = stored.findings({"--for", "4.9"});
    CHECK(kinds == Kinds{{"4.9-index", 1}, {"4.9-record", 1}});
  }
}

TEST_CASE("mqstore: a store in use, none, and wrong calls exit with 2", "[mqstore]") {
  Stored stored;
  {
    Running running(small_options(stored.root));
    auto result = mqstore({"verify", stored.root.string()});
    CHECK(result.exit_code == 2);
    CHECK(result.err.find("in use by process " + std::to_string(::getpid())) != std::string::npos);
  }
  CHECK(mqstore({"verify", (stored.root / "nothing").string()}).exit_code == 2);
  CHECK(mqstore({"verify", stored.root.string(), "--for", "3.2"}).exit_code == 2);
  CHECK(mqstore({"dump", stored.root.string(), "--entries"}).exit_code == 2);
  CHECK(mqstore({}).exit_code == 2);
  CHECK(mqstore({"--help"}).exit_code == 0);
  CHECK(mqstore({"--version"}).out.find(kVersion) != std::string::npos);
}

TEST_CASE("mqstore dump: messages by topic, queue and key, whole, and entries of a queue", "[mqstore]") {
  Stored stored;
  auto by_key = mqstore({"dump", stored.root.string(), "--key", "key7", "--json", "--body"});
  CHECK(by_key.exit_code == 0);
  auto json = nlohmann::json::parse(by_key.out);
  CHECK(json["topic"] == "T");
  CHECK(json["queueId"] == 1);
  CHECK(json["queueOffset"] == 3);
  CHECK(json["physicalOffset"] == stored.offsets[7]);
  CHECK(json["properties"]["UNIQ_KEY"] == "id7");
  CHECK(json["body"] == "7" + std::string(500, 'b'));
  auto count = [](const std::string& text) { return std::count(text.begin(), text.end(), '\n'); };
  CHECK(count(mqstore({"dump", stored.root.string(), "--topic", "T", "--queue", "0"}).out) == kMessages / 2);
  CHECK(count(mqstore({"dump", stored.root.string(), "--limit", "5"}).out) == 5);
  CHECK(count(mqstore({"dump", stored.root.string(), "-t", "T", "-q", "1", "--entries"}).out) == kMessages / 2);
  CHECK(mqstore({"dump", stored.root.string(), "--topic", "Other"}).out.empty());
  stored.overwrite_log(stored.offsets[100] + 200, "damage");
  CHECK(mqstore({"dump", stored.root.string()}).out.find("-- damage up to " + std::to_string(stored.offsets[101])) !=
        std::string::npos);
}

TEST_CASE("mqstore repair: the tail is cut, queues and configuration come back, what was replaced is kept",
          "[mqstore]") {
  Stored stored;
  stored.overwrite_log(stored.offsets.back() + 700, "garbage");
  Stored::overwrite(stored.root / "consumequeue" / "T" / "0" / file_name_of(0), 20 * 5 + 7, "\x77");
  fs::create_directories(stored.root / "config");
  std::ofstream(stored.root / "config" / "topics.json") << "{";
  std::ofstream(stored.root / "config" / "topics.json.bak") << R"({"topicConfigTable":{}})";
  auto dry = mqstore({"repair", stored.root.string(), "--dry-run"});
  CHECK(dry.exit_code == 0);
  CHECK(dry.out.find("would be done: the log is cut at") != std::string::npos);
  CHECK(stored.findings() == Kinds{{"torn-tail", 1}, {"unreadable-config", 1}, {"wrong-entry", 1}});
  const std::string backup = (stored.directory.path / "kept").string();
  auto repaired = mqstore({"repair", stored.root.string(), "--backup", backup});
  INFO(repaired.out << repaired.err);
  CHECK(repaired.exit_code == 0);
  CHECK(stored.findings().empty());
  CHECK(fs::exists(fs::path(backup) / "consumequeue" / "T" / "0"));
  CHECK(fs::exists(fs::path(backup) / "config" / "topics.json"));
  CHECK(!fs::is_empty(fs::path(backup) / "commitlog-tail"));
  Running running(small_options(stored.root));
  CHECK(running.store->max_offset("T", 0) == kMessages / 2);
  CHECK(mqstore({"repair", stored.root.string()}).exit_code == 2);  // while it runs
}

}  // namespace apogee::store
