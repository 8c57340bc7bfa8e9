#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "broker/broker_config.h"
#include "broker/ignored_keys.h"
#include "common/base/bytes.h"
#include "common/config/config_table.h"
#include "common/config/properties_file.h"
#include "common/remoting/command_codec.h"
#include "test/support/catch.h"

using namespace apogee;
using namespace apogee::broker;

namespace {

std::vector<std::string> broker_conf_files() {
  std::vector<std::string> files;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(APOGEE_SOURCE_DIR "/conf")) {
    const auto extension = entry.path().extension();
    if ((extension == ".conf" || extension == ".properties") && entry.path().filename() != "namesrv.conf")
      files.push_back(entry.path().string());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

TEST_CASE("conf/: every broker file is loaded and can be started with", "[conf]") {
  const auto files = broker_conf_files();
  REQUIRE(files.size() == 11);
  for (const auto& file : files) {
    BrokerConfig config;
    config::ConfigTable table;
    add_rows(table, config);
    auto status = table.load_file(file);
    INFO(file << ": " << (status ? "" : status.error().message));
    CHECK(status.has_value());
    CHECK(table.take_notices().empty());  // no key without effect in a file of ours
    auto checked = check(config);
    const bool slave = config.role == BrokerRole::kSlave;
    CHECK(slave == (file.find("-s.properties") != std::string::npos));
    CHECK(checked.has_value());
    CHECK((config.broker_id != 0) == slave);
  }
}

TEST_CASE("Broker settings: every key of Apache RocketMQ 4.9.8 is known", "[conf][compat]") {
  BrokerConfig config;
  config::ConfigTable table;
  add_rows(table, config);
  std::stringstream frame;
  frame << std::ifstream(APOGEE_SOURCE_DIR "/test/compat/remoting/frames/json/broker-config-get.response.bin",
                         std::ios::binary)
               .rdbuf();
  auto response = remoting::decode_frame(SharedBytes::from(frame.str().substr(4)));
  REQUIRE(response.has_value());
  auto properties = config::parse_properties(response->body.bytes);
  REQUIRE(properties.has_value());
  REQUIRE(properties->size() > 170);
  for (const auto& property : *properties) {
    INFO(property.key << "=" << property.value);
    auto status = table.set(property.key, property.value, config::Origin::kFile);
    CHECK((status || status.error().code != Errc::kNotFound));
  }
  auto typo = table.set("flushDiskTyp", "SYNC_FLUSH", config::Origin::kFile);
  REQUIRE(typo.error().message == "unknown key \"flushDiskTyp\"; did you mean \"flushDiskType\"?");
}
