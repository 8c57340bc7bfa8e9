#include "broker/schedule/delay_levels.h"

#include <string>

#include "broker/broker_config.h"
#include "common/message/sys_flag.h"
#include "test/support/catch.h"

namespace apogee::broker {
namespace {

TEST_CASE("the text of messageDelayLevel", "[broker][delay]") {
  using Levels = std::vector<int64_t>;
  CHECK(*parse_delay_levels("1s 5s 2m 1h 1d") == Levels{1'000, 5'000, 120'000, 3'600'000, 86'400'000});
  CHECK(*parse_delay_levels("  7s   8s ") == Levels{7'000, 8'000});
  CHECK(*parse_delay_levels("0s") == Levels{0});
  CHECK(*parse_delay_levels(BrokerConfig().message_delay_level) == store::StoreOptions().delay_levels_ms);
  for (const char* bad :
       {"", "  ", "1", "s", "1x", "-1s", "1s 2q", "1.5s", "1 s", "99999999999999999999s", "3651d", "1s,5s", "1S"}) {
    INFO(bad);
    auto levels = parse_delay_levels(bad);
    REQUIRE_FALSE(levels);
    CHECK(levels.error().code == Errc::kInvalidArgument);
  }
  BrokerConfig config;
  config.message_delay_level = "1s 5y";
  auto refused = check(config);
  REQUIRE_FALSE(refused);
  CHECK(refused.error().message.find("messageDelayLevel: \"5y\" is no delay") == 0);
  config.message_delay_level = "1s 200d";
  auto warned = check(config);
  REQUIRE(warned);
  REQUIRE(warned->size() == 1);
  CHECK(warned->front().find("fileReservedTime") != std::string::npos);
}

TEST_CASE("which messages the delay rule parks", "[broker][delay]") {
  const PutRule rule = delay_rule(3);
  store::MessageDraft draft;
  draft.topic = "T";
  draft.queue_id = 5;
  CHECK_FALSE(rule(draft)->has_value());
  // As of a message that waited before: REAL_* are those of the draft.
  const std::string properties =
      "REAL_TOPIC\x01old\x02REAL_QID\x01"
      "9\x02TIMER_DELAY_SEC\x01"
      "7\x02"
      "DELAY\x01"
      "2\x02";
  draft.properties = properties;
  auto parked = rule(draft);
  REQUIRE(parked);
  REQUIRE(parked->has_value());
  CHECK((*parked)->topic == "SCHEDULE_TOPIC_XXXX");
  CHECK((*parked)->queue_id == 1);
  CHECK((*parked)->properties ==
        "DELAY\x01"
        "2\x02REAL_TOPIC\x01T\x02REAL_QID\x01"
        "5\x02");
  draft.sys_flag = message::sys_flag::kTransactionCommit;
  CHECK(rule(draft)->has_value());
  for (auto type : {message::sys_flag::kTransactionPrepared, message::sys_flag::kTransactionRollback}) {
    draft.sys_flag = type;
    CHECK_FALSE(rule(draft)->has_value());
  }
  draft.sys_flag = 0;
  draft.properties = "DELAY\x01-3\x02";
  REQUIRE_FALSE(rule(draft));
  CHECK(rule(draft).error().code == Errc::kInvalidArgument);
}

}  // namespace
}  // namespace apogee::broker
