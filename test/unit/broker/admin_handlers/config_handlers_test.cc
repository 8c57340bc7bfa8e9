#include <fstream>

#include "broker/handlers/config_admin_handlers.h"
#include "test/unit/broker/support/handler_bench.h"

namespace apogee::broker {
namespace {

using remoting::RequestCode;
using namespace test;  // NOLINT: the bench's words read better bare
namespace code = remoting::response_code;

const Logger kQuiet;

struct Bench {
  TempDir dir;
  FakeClock clock;
  config::Tunable<bool> auto_create = true;
  config::Tunable<int64_t> interval_ms = 5'000;
  std::string root = "/store";
  std::string acl = "false";
  config::ConfigTable table;
  std::vector<std::string> changed;
  std::unique_ptr<ConfigAdminHandlers> handlers;

  Bench() {
    table.add_bool("autoCreateTopicEnable", &auto_create, "");
    table.add_int("flushConsumerOffsetInterval", &interval_ms, {1, 1'000'000}, "", {"ms", false, false});
    table.add_string("storePathRootDir", &root, "");
    config::Traits locked;
    locked.locked = true;
    table.add_string("aclEnable", &acl, "", locked);
    table.add_ignored({"deleteWhen"});
    use_file(dir.file("config/broker.properties"));
  }
  void use_file(const std::string& file) {
    handlers = std::make_unique<ConfigAdminHandlers>(
        ConfigAdminHandlers::Parts{table, file, kQuiet,
                                   [this](const ConfigAdminHandlers::Changes& changes) {
                                     for (const auto& change : changes) changed.push_back(change.key);
                                   },
                                   clock.now()});
  }
  remoting::Command update(const std::string& text) {
    return ask(*handlers, &ConfigAdminHandlers::update_config, request_of(RequestCode::kUpdateBrokerConfig, {}, text));
  }
};

TEST_CASE("UPDATE_BROKER_CONFIG changes settings and writes them to the file", "[broker]") {
  Bench bench;
  CHECK(bench.update("flushConsumerOffsetInterval=700\nautoCreateTopicEnable=false\ndeleteWhen=05\n").code == 0);
  CHECK(bench.interval_ms == 700);
  CHECK_FALSE(bench.auto_create);
  CHECK(bench.changed.size() == 2);
  std::ifstream file(bench.dir.file("config/broker.properties"));
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  CHECK(text.find("flushConsumerOffsetInterval=700") != std::string::npos);
  CHECK(text.find("autoCreateTopicEnable=false") != std::string::npos);

  auto answer = ask(*bench.handlers, &ConfigAdminHandlers::get_config, request_of(RequestCode::kGetBrokerConfig));
  CHECK(answer.code == code::kSuccess);
  CHECK(answer.ext.get("version") == R"({"counter":1,"timestamp":1700000000000})");
  CHECK(body_text(answer).find("flushConsumerOffsetInterval=700\n") != std::string::npos);
  CHECK(body_text(answer).find("storePathRootDir=/store\n") != std::string::npos);
}

TEST_CASE("UPDATE_BROKER_CONFIG refuses what may not change, naming the key, and then changes nothing", "[broker]") {
  Bench bench;
  struct Case {
    const char *text, *key;
    int32_t code;
  };
  for (const Case& c :
       {Case{"brokerConfigPath=/etc/passwd", "brokerConfigPath", code::kNoPermission},
        Case{"rocketmqHome=/", "rocketmqHome", code::kNoPermission},
        Case{"configBlackList=x", "configBlackList", code::kNoPermission},
        Case{"aclEnable=true", "aclEnable", code::kNoPermission},
        Case{"storePathRootDir=/other", "storePathRootDir", code::kInvalidParameter},
        Case{"flushConsumerOffsetInterval=0", "flushConsumerOffsetInterval", code::kInvalidParameter},
        Case{"noSuchKey=1", "noSuchKey", code::kInvalidParameter}, Case{"", "body", code::kInvalidParameter}}) {
    auto answer = bench.update(c.text[0] == 0 ? "" : "autoCreateTopicEnable=false\n" + std::string(c.text));
    INFO(c.text << ": " << answer.remark.value_or(""));
    CHECK(answer.code == c.code);
    CHECK(answer.remark.value_or("").find(c.key) != std::string::npos);
  }
  CHECK(bench.auto_create);
  CHECK(bench.changed.empty());
  CHECK_FALSE(std::filesystem::exists(bench.dir.file("config/broker.properties")));
}

TEST_CASE("UPDATE_BROKER_CONFIG takes the change back when the file cannot be written", "[broker]") {
  Bench bench;
  std::ofstream(bench.dir.file("plain")) << "x";
  bench.use_file(bench.dir.file("plain") + "/broker.properties");
  CHECK(bench.update("flushConsumerOffsetInterval=700").code != code::kSuccess);
  CHECK(bench.interval_ms == 5'000);
  CHECK(bench.changed.empty());
}

}  // namespace
}  // namespace apogee::broker
