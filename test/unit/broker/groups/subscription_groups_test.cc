#include "broker/groups/subscription_groups.h"

#include <fstream>

#include "test/unit/broker/support/handler_bench.h"

namespace apogee::broker {
namespace {

GroupConfig config(const std::string& name, int32_t retries = 16) {
  GroupConfig c;
  c.group_name = name;
  c.retry_max_times = retries;
  return c;
}

std::string content(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

const Logger kQuiet;

TEST_CASE("SubscriptionGroups: the built-in groups are there and cannot be removed", "[broker]") {
  SubscriptionGroups groups({}, kQuiet);
  CHECK(groups.find("TOOLS_CONSUMER") != nullptr);
  CHECK(groups.find("CID_RMQ_SYS_TRANS") != nullptr);
  auto status = groups.remove("TOOLS_CONSUMER");
  REQUIRE_FALSE(status);
  CHECK(status.error().code == Errc::kPermission);
}

TEST_CASE("SubscriptionGroups: what was put is on disk and comes back", "[broker]") {
  test::TempDir dir;
  const std::string file = dir.file("subscriptionGroup.json");
  {
    SubscriptionGroups groups({file, true}, kQuiet);
    REQUIRE(groups.load());
    REQUIRE(groups.put(config("G", 3)));
    REQUIRE(groups.put(config("H")));
    REQUIRE(groups.remove("H"));
    CHECK(groups.remove("H").error().code == Errc::kNotFound);
    CHECK(groups.version().counter == 3);
  }
  CHECK(content(file).find("\"subscriptionGroupTable\"") != std::string::npos);
  SubscriptionGroups groups({file, true}, kQuiet);
  REQUIRE(groups.load());
  REQUIRE(groups.find("G") != nullptr);
  CHECK(groups.find("G")->retry_max_times == 3);
  CHECK(groups.find("H") == nullptr);
  CHECK(groups.find("TOOLS_CONSUMER") != nullptr);
  CHECK(groups.version().counter == 3);
}

TEST_CASE("SubscriptionGroups: a group made by use is saved later", "[broker]") {
  test::TempDir dir;
  const std::string file = dir.file("subscriptionGroup.json");
  SubscriptionGroups groups({file, true}, kQuiet);
  REQUIRE(groups.find_or_create("made") != nullptr);
  CHECK(groups.find_or_create("bad name!") == nullptr);
  CHECK_FALSE(std::filesystem::exists(file));
  REQUIRE(groups.save_if_changed());
  CHECK(content(file).find("\"made\"") != std::string::npos);

  groups.set_auto_create(false);
  CHECK(groups.find_or_create("other") == nullptr);
  CHECK(groups.find_or_create("made") != nullptr);
  CHECK(groups.find_or_create("CID_RMQ_SYS_anything") != nullptr);
}

TEST_CASE("SubscriptionGroups: bad configurations are refused and change nothing", "[broker]") {
  SubscriptionGroups groups({}, kQuiet);
  CHECK(groups.put(config("")).error().code == Errc::kInvalidArgument);
  CHECK(groups.put(config("with space")).error().code == Errc::kInvalidArgument);
  CHECK(groups.put(config(std::string(300, 'g'))).error().code == Errc::kInvalidArgument);
  auto negative = config("G");
  negative.retry_queue_nums = -1;
  CHECK(groups.put(negative).error().message.find("retryQueueNums") != std::string::npos);
  CHECK(groups.put_all({config("ok"), config("")}).error().code == Errc::kInvalidArgument);
  CHECK(groups.find("ok") == nullptr);
  CHECK(groups.version().counter == 0);
}

TEST_CASE("SubscriptionGroups: a file that cannot be written leaves the table as it was", "[broker]") {
  test::TempDir dir;
  std::ofstream(dir.file("plain")) << "x";
  SubscriptionGroups groups({dir.file("plain") + "/below/a/file.json", true}, kQuiet);
  REQUIRE_FALSE(groups.put(config("G")));
  CHECK(groups.find("G") == nullptr);
}

TEST_CASE("SubscriptionGroups: a bad file is replaced by its .bak, and refused without one", "[broker]") {
  test::TempDir dir;
  const std::string file = dir.file("subscriptionGroup.json");
  std::ofstream(file) << "{\"subscriptionGroupTable\":{";
  SubscriptionGroups refused({file, true}, kQuiet);
  auto status = refused.load();
  REQUIRE_FALSE(status);
  CHECK(status.error().code == Errc::kCorrupt);
  // Pretty printed, with members that we do not know, as a Java broker writes it.
  std::ofstream(file + ".bak") << R"({
	"dataVersion":{"counter":7,"stateVersion":0,"timestamp":1700000000000},
	"forbiddenTable":{},
	"subscriptionGroupTable":{"G":{"groupName":"G","consumeEnable":false,"retryMaxTimes":5,"groupRetryPolicy":{"type":"CUSTOMIZED"}}}
})";
  SubscriptionGroups groups({file, true}, kQuiet);
  REQUIRE(groups.load());
  REQUIRE(groups.find("G") != nullptr);
  CHECK_FALSE(groups.find("G")->consume_enable);
  CHECK(groups.find("G")->retry_max_times == 5);
  CHECK(groups.version().counter == 7);
}

}  // namespace
}  // namespace apogee::broker
