// config/*.json of Apache RocketMQ, loaded, changed and written again: what a file had, it still has.
#include <fstream>
#include <nlohmann/json.hpp>

#include "broker/groups/subscription_groups.h"
#include "broker/offsets/consumer_offsets.h"
#include "broker/topics/topic_table.h"
#include "common/remoting/json_reader.h"
#include "test/support/catch.h"
#include "test/support/temporary_directory.h"

namespace apogee::broker {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

const Logger kQuiet;

json read_tree(const fs::path& path) {
  std::ifstream file(path);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  auto tree = remoting::read_json(text);
  INFO(path << ": " << text);
  REQUIRE(tree);
  return *tree;
}

/// The files as 4.9.8 wrote them, and the same with what 5.x adds to them and what nobody knows. There is no
/// recording of 5.x; the additions are made after the description of its files.
struct Files {
  explicit Files(bool newer) {
    fs::copy(fs::path(APOGEE_SOURCE_DIR) / "test/compat/store/clean-4.9.8/store/config", directory.path());
    if (!newer) return;
    change("topics.json", [](json& tree) {
      tree["topicConfigTable"]["FixtureOrders"]["attributes"] = {{"+message.type", "NORMAL"}};
      tree["topicConfigTable"]["FixtureOrders"]["ofTheFuture"] = {1, {{"deep", nullptr}}, "\u00e9\"\n"};
      tree["mixed"] = {{"FixtureOrders", false}};
    });
    change("subscriptionGroup.json", [](json& tree) {
      auto& group = tree["subscriptionGroupTable"]["fixture_push_group"];
      group["consumeMessageOrderly"] = true;
      group["consumeTimeoutMinute"] = 20;
      group["groupSysFlag"] = 2;
      group["attributes"] = {{"consume.lag", "10"}};
      group["groupRetryPolicy"] = {
          {"type", "EXPONENTIAL"},
          {"exponentialRetryPolicy", {{"initial", 5000}, {"max", 7200000}, {"multiplier", 2}}}};
      group["subscriptionDataSet"] = {{{"topic", "FixtureOrders"}, {"subString", "*"}, {"subVersion", 1}}};
      tree["forbiddenTable"] = {{"fixture_push_group", {{"FixtureOrders", 3}}}};
      tree["dataVersion"]["stateVersion"] = 4;
    });
    change("consumerOffset.json", [](json& tree) {
      tree["dataVersion"] = {{"counter", 9}, {"stateVersion", 0}, {"timestamp", 1700000000000}};
      tree["ofTheFuture"] = {{"a", true}};
    });
  }
  void change(const char* name, const std::function<void(json&)>& edit) const {
    json tree = read_tree(directory.path() / name);
    edit(tree);
    std::ofstream(directory.path() / name) << tree.dump();
  }
  [[nodiscard]] std::string path(const char* name) const { return (directory.path() / name).string(); }
  test::TemporaryDirectory directory;
};

/// `after` must have all members of `before` as they were; it may have more. What counts versions is left out.
void check_kept(const json& before, const json& after, const std::string& where = "") {
  if (!before.is_object()) {
    INFO(where);
    CHECK(before == after);
    return;
  }
  for (const auto& [name, value] : before.items()) {
    INFO(where << "/" << name);
    REQUIRE(after.contains(name));
    if (name != "dataVersion") check_kept(value, after[name], where + "/" + name);
  }
}

TEST_CASE("config files: topics.json keeps what it had when topics change", "[compat]") {
  const Files files(GENERATE(false, true));
  const json before = read_tree(files.path("topics.json"));
  TopicTable::Options options;
  options.file = files.path("topics.json");
  {
    TopicTable table(options, kQuiet);
    REQUIRE(table.load());
    TopicConfig config;
    config.topic_name = "New";
    REQUIRE(table.put(config, TopicTable::Until::kSaved));
  }
  const json after = read_tree(files.path("topics.json"));
  check_kept(before, after);
  CHECK(after["topicConfigTable"].contains("New"));
  CHECK(after["dataVersion"]["counter"] == before["dataVersion"]["counter"].get<int>() + 1);
  TopicTable again(options, kQuiet);
  REQUIRE(again.load());
  check_kept(before["topicConfigTable"]["FixtureOrders"], *remoting::read_json(encode(*again.find("FixtureOrders"))));
}

TEST_CASE("config files: subscriptionGroup.json keeps what it had when groups change", "[compat]") {
  const bool newer = GENERATE(false, true);
  const Files files(newer);
  const json before = read_tree(files.path("subscriptionGroup.json"));
  SubscriptionGroups groups({files.path("subscriptionGroup.json"), true}, kQuiet);
  REQUIRE(groups.load());
  SECTION("one is put") {
    GroupConfig config;
    config.group_name = "New";
    config.other_members = R"("groupRetryPolicy":{"type":"CUSTOMIZED"})";
    REQUIRE(groups.put(config));
  }
  SECTION("one is made by use") {
    REQUIRE(groups.find_or_create("New") != nullptr);
    REQUIRE(groups.save_if_changed());
  }
  SECTION("the file is written twice") {
    GroupConfig config;
    config.group_name = "New";
    REQUIRE(groups.put(config));
    SubscriptionGroups second({files.path("subscriptionGroup.json"), true}, kQuiet);
    REQUIRE(second.load());
    REQUIRE(second.remove("New"));
    REQUIRE(second.put(config));
  }
  const json after = read_tree(files.path("subscriptionGroup.json"));
  check_kept(before, after);
  CHECK(after["subscriptionGroupTable"].contains("New"));
  CHECK(groups.find("fixture_disabled_group")->consume_enable == false);
  if (!newer) return;
  CHECK(after["dataVersion"]["stateVersion"] == 4);
  CHECK(groups.find("fixture_push_group")->consume_timeout_minute == 20);
  CHECK(groups.other_members().find("forbiddenTable") != std::string::npos);
}

TEST_CASE("config files: consumerOffset.json keeps what it had when offsets change", "[compat]") {
  const bool newer = GENERATE(false, true);
  const Files files(newer);
  const json before = read_tree(files.path("consumerOffset.json"));
  const ConsumerOffsets::Options options{files.path("offsetsdb"), files.path("consumerOffset.json")};
  for (int64_t offset : {1, 2}) {  // imported the first time, from the database the second
    auto offsets = ConsumerOffsets::open(options, kQuiet);
    if (!offsets) FAIL(offsets.error().message);
    CHECK((*offsets)->query("fixture_partial_group", "FixtureOrders", 2) == 9);
    (*offsets)->commit("New", "FixtureOrders", 0, offset);
    REQUIRE((*offsets)->flush(true));
    REQUIRE((*offsets)->export_json());
    offsets->reset();
    const json after = read_tree(options.json_file);
    check_kept(before, after);
    CHECK(after["offsetTable"]["FixtureOrders@New"]["0"] == offset);
    if (newer) CHECK(after["dataVersion"] == before["dataVersion"]);
  }
}

}  // namespace
}  // namespace apogee::broker
