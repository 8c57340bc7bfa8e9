// What messages ask for by TIMER_*, and where they go.
#include "broker/timers/timer_rule.h"

#include "common/message/properties.h"
#include "common/message/sys_flag.h"
#include "test/support/catch.h"

namespace apogee::broker {
namespace {

constexpr int64_t kNow = 1'700'000'000'000;

std::string text(std::initializer_list<std::pair<std::string_view, std::string_view>> properties) {
  std::string all;
  for (const auto& [name, value] : properties) message::append_property(all, name, value);
  return all;
}

void check_refused(const std::string& properties, int32_t code, const std::string& in_remark, TimerLimits limits = {}) {
  INFO(properties);
  auto refusal = refuse_timer(properties, limits, kNow);
  REQUIRE(refusal);
  INFO(refusal->remark);
  CHECK(refusal->code == code);
  CHECK(refusal->remark.find(in_remark) != std::string::npos);
}

Result<std::optional<ParkedAt>> parked(const std::string& properties, int32_t sys_flag = 0) {
  store::MessageDraft draft;
  draft.topic = "T";
  draft.queue_id = 3;
  draft.sys_flag = sys_flag;
  draft.properties = properties;
  return timer_rule([] { return TimerLimits{}; }, [] { return kNow; })(draft);
}

}  // namespace

TEST_CASE("Timers: TIMER_DELAY_SEC comes before TIMER_DELAY_MS before TIMER_DELIVER_MS", "[broker][timer]") {
  CHECK(timer_wish(text({{"TIMER_DELIVER_MS", "5"}}), kNow)->due_ms == 5);
  CHECK(timer_wish(text({{"TIMER_DELIVER_MS", "5"}, {"TIMER_DELAY_MS", "7"}}), kNow)->due_ms == kNow + 7);
  CHECK(
      timer_wish(text({{"TIMER_DELIVER_MS", "5"}, {"TIMER_DELAY_MS", "7"}, {"TIMER_DELAY_SEC", "2"}}), kNow)->due_ms ==
      kNow + 2'000);
  CHECK_FALSE(timer_wish(text({{"a", "b"}}), kNow)->due_ms);
  // A delay level comes before them all; what was a timer before is none again.
  CHECK_FALSE(timer_wish(text({{"TIMER_DELAY_MS", "7"}, {"DELAY", "1"}}), kNow)->due_ms);
  CHECK(timer_wish(text({{"TIMER_DELAY_MS", "7"}, {"DELAY", "0"}}), kNow)->due_ms == kNow + 7);
  CHECK_FALSE(timer_wish(text({{"TIMER_DELAY_MS", "7"}, {"TIMER_OUT_MS", "1"}}), kNow)->due_ms);
}

TEST_CASE("Timers: bad input is refused with property and value", "[broker][timer]") {
  for (const char* name : {"TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS"})
    for (const char* value : {"-1", "x", "1x", " 1", "1.5", "+1", "0x10", "-9223372036854775808"})
      check_refused(text({{name, value}}), 13, std::string(name) + "=\"" + value + "\"");
  check_refused(text({{"TIMER_DELAY_MS", std::string(10'000, 'a')}}), 13, "TIMER_DELAY_MS=\"aaaa");
  check_refused(text({{"TIMER_DELAY_SEC", "1"}, {"TIMER_DELIVER_MS", "soon"}}), 13, "TIMER_DELIVER_MS=\"soon\"");
  for (const char* name : {"TIMER_DELAY_SEC", "TIMER_DELAY_MS", "TIMER_DELIVER_MS"})
    for (const char* value : {"9223372036854775807", "9223372036854775808", "99999999999999999999999"})
      check_refused(text({{name, value}}), 13, "timerMaxDelaySec, which is 259200 s");
  check_refused(text({{"TIMER_DELAY_SEC", "259201"}}), 13, "timerMaxDelaySec");
  CHECK_FALSE(refuse_timer(text({{"TIMER_DELAY_SEC", "259200"}}), {}, kNow));
  TimerLimits years;
  years.max_delay_ms = 10LL * 366 * 86'400'000;
  CHECK_FALSE(refuse_timer(text({{"TIMER_DELAY_SEC", "300000000"}}), years, kNow));

  CHECK_FALSE(refuse_timer(text({{"TIMER_DELIVER_MS", "1"}}), {}, kNow));  // long ago: at once
  check_refused(text({{"TIMER_DELIVER_MS", "1"}, {"TIMER_DEL_UNIQKEY", "T+k"}}), 13, "whose time is over");
  check_refused(text({{"TIMER_DEL_UNIQKEY", "T+k"}}), 13, "needs TIMER_DELIVER_MS");
}

TEST_CASE("Timers: where they are switched off or could not be read, they are refused", "[broker][timer]") {
  TimerLimits off;
  off.enabled = false;
  check_refused(text({{"TIMER_DELAY_SEC", "1"}}), 1, "timerWheelEnable is false", off);
  CHECK_FALSE(refuse_timer(text({{"DELAY", "1"}}), off, kNow));
  TimerLimits old;
  old.compatible_with_49 = true;
  check_refused(text({{"TIMER_DELAY_SEC", "1"}}), 13, "storeCompatibility=4.9", old);
}

TEST_CASE("Timers: a message waits in the timer topic with its destination and instant", "[broker][timer]") {
  auto there = parked(text({{"a", "b"}, {"UNIQ_KEY", "K"}, {"TIMER_DELAY_MS", "7"}}));
  REQUIRE(there);
  REQUIRE(*there);
  CHECK((*there)->topic == "rmq_sys_wheel_timer");
  CHECK((*there)->queue_id == 0);
  auto read = read_waiting((*there)->properties);
  REQUIRE(read);
  CHECK(read->due_ms == kNow + 7);
  CHECK(read->real_topic == "T");
  CHECK(read->real_queue_id == 3);
  CHECK(read->unique_key == "K");
  CHECK_FALSE(read->cancels);
  CHECK(message::find_property((*there)->properties, "a") == "b");

  auto forged = parked(text({{"TIMER_DELAY_MS", "7"}, {"TIMER_ROLL_FROM", "5"}, {"TIMER_ROLL_TIMES", "5"}}));
  REQUIRE(forged);
  read = read_waiting((*forged)->properties);
  REQUIRE(read);
  CHECK(read->rolled_from == -1);
  CHECK(read->roll_times == 0);

  CHECK_FALSE(*parked(text({{"TIMER_DELAY_MS", "0"}})));
  CHECK_FALSE(*parked(text({{"TIMER_DELIVER_MS", std::to_string(kNow)}})));
  CHECK_FALSE(*parked(text({{"a", "b"}})));
  // A half message waits when it is committed.
  CHECK_FALSE(*parked(text({{"TIMER_DELAY_MS", "7"}}), message::sys_flag::kTransactionPrepared));
  CHECK(*parked(text({{"TIMER_DELAY_MS", "7"}}), message::sys_flag::kTransactionCommit));

  auto full = parked(text({{"TIMER_DELAY_MS", "7"}, {"long", std::string(32'650, 'x')}}));
  REQUIRE_FALSE(full);
  CHECK(full.error().code == Errc::kInvalidArgument);
}

TEST_CASE("Timers: a cancellation names its message with or without the topic", "[broker][timer]") {
  for (const char* target : {"T+a+b", "a+b"}) {
    const auto properties = text({{"TIMER_OUT_MS", "1"},
                                  {"REAL_TOPIC", "T"},
                                  {"REAL_QID", "0"},
                                  {"UNIQ_KEY", "x"},
                                  {"TIMER_DEL_UNIQKEY", target}});
    auto read = read_waiting(properties);  // views into them
    REQUIRE(read);
    CHECK(read->cancels);
    CHECK(read->unique_key == "a+b");
  }
  for (const char* missing : {"TIMER_OUT_MS", "REAL_TOPIC", "REAL_QID"}) {
    auto properties = text({{"TIMER_OUT_MS", "1"}, {"REAL_TOPIC", "T"}, {"REAL_QID", "0"}});
    message::remove_property(properties, missing);
    auto read = read_waiting(properties);
    REQUIRE_FALSE(read);
    CHECK(read.error().message.find(missing) != std::string::npos);
  }
}

}  // namespace apogee::broker
