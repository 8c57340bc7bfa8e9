#include "broker/timers/timer_rule.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "broker/schedule/delay_levels.h"
#include "common/base/hash.h"
#include "common/base/text.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"
#include "common/remoting/response_code.h"

namespace apogee::broker {

namespace code = remoting::response_code;
namespace property = message::property;
namespace sys_flag = message::sys_flag;

namespace {

constexpr std::string_view kInputs[] = {property::kTimerDelaySec, property::kTimerDelayMs, property::kTimerDeliverMs};

template <typename T>
std::optional<T> number_in(std::string_view text) {
  T number{};
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

// A quick look, for most messages are none.
bool may_be_timer(std::string_view properties) { return properties.find("TIMER_") != std::string_view::npos; }

// Digits alone, of any length, are a number too: one beyond every horizon.
std::optional<int64_t> time_in(std::string_view text) {
  if (text.empty() || !std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return std::nullopt;
  return number_in<int64_t>(text).value_or(INT64_MAX);
}

}  // namespace

Result<TimerWish> timer_wish(std::string_view properties, int64_t now_ms) {
  TimerWish wish;
  if (!may_be_timer(properties) || message::find_property(properties, property::kTimerOutMs)) return wish;
  if (auto level = delay_level_of(properties); level && *level > 0) return wish;
  wish.cancels = message::find_property(properties, property::kTimerDeleteUniqueKey).has_value();
  for (auto name : kInputs) {
    auto text = message::find_property(properties, name);
    if (!text) continue;
    auto value = time_in(*text);
    if (!value)
      return Error{Errc::kInvalidArgument, std::string(name) + "=\"" + to_valid_utf8(text->substr(0, 32)) +
                                               "\": a whole number from 0 on is wanted"};
    if (wish.due_ms) continue;
    if (name == property::kTimerDeliverMs) {
      wish.due_ms = *value;
      continue;
    }
    const int64_t unit = name == property::kTimerDelaySec ? 1'000 : 1;
    wish.due_ms = *value > (INT64_MAX - now_ms) / unit ? INT64_MAX : now_ms + *value * unit;
  }
  return wish;
}

std::optional<TimerRefusal> refuse_timer(std::string_view properties, const TimerLimits& limits, int64_t now_ms) {
  auto illegal = [](const std::string& why) {
    return TimerRefusal{code::kMessageIllegal, "the message is illegal: " + why};
  };
  auto wish = timer_wish(properties, now_ms);
  if (!wish) return illegal(wish.error().message);
  if (!wish->due_ms && !wish->cancels) return std::nullopt;
  if (!limits.enabled)
    return TimerRefusal{code::kSystemError, "accurate timer message is not enabled, timerWheelEnable is false"};
  if (limits.compatible_with_49)
    return illegal(
        "timers (TIMER_*) are not taken with storeCompatibility=4.9, because a broker of that version would "
        "never deliver them");
  if (!wish->due_ms)
    return illegal("TIMER_DEL_UNIQKEY cancels a timer at its time, so it needs TIMER_DELIVER_MS with that time");
  if (*wish->due_ms <= now_ms) {
    if (wish->cancels)
      return illegal("TIMER_DEL_UNIQKEY names a timer whose time is over, " + std::to_string(*wish->due_ms) +
                     " is not after " + std::to_string(now_ms));
    return std::nullopt;
  }
  if (*wish->due_ms - now_ms > limits.max_delay_ms)
    return illegal("it asks for a delay of more than timerMaxDelaySec, which is " +
                   std::to_string(limits.max_delay_ms / 1'000) + " s");
  return std::nullopt;
}

PutRule timer_rule(std::function<TimerLimits()> limits, NowMs now_ms) {
  return [limits = std::move(limits),
          now_ms = std::move(now_ms)](const store::MessageDraft& draft) -> Result<std::optional<ParkedAt>> {
    const int32_t type = draft.sys_flag & sys_flag::kTransactionMask;
    if ((type != sys_flag::kTransactionNot && type != sys_flag::kTransactionCommit) || !may_be_timer(draft.properties))
      return std::optional<ParkedAt>();
    const int64_t now = now_ms();
    if (auto refusal = refuse_timer(draft.properties, limits(), now))
      return Error{refusal->code == code::kMessageIllegal ? Errc::kInvalidArgument : Errc::kUnsupported,
                   std::move(refusal->remark)};
    APOGEE_TRY_ASSIGN(const auto wish, timer_wish(draft.properties, now));
    if (!wish.due_ms || *wish.due_ms <= now) return std::optional<ParkedAt>();
    ParkedAt parked = park(draft, kTimerTopic, 0);
    parked.due_ms = *wish.due_ms;
    // Bookkeeping of ours, which nobody may send.
    for (auto name : {property::kTimerRollTimes, property::kTimerRollFrom})
      if (message::find_property(parked.properties, name)) message::remove_property(parked.properties, name);
    message::set_property(parked.properties, property::kTimerOutMs, std::to_string(*wish.due_ms));
    if (parked.properties.size() + kRollPropertiesBytes > message::kPropertiesBytesMax)
      return Error{Errc::kInvalidArgument, "the properties of a message that waits have room for " +
                                               std::to_string(message::kPropertiesBytesMax - kRollPropertiesBytes) +
                                               " bytes, REAL_TOPIC and the like included"};
    return std::optional<ParkedAt>(std::move(parked));
  };
}

Result<WaitingMessage> read_waiting(std::string_view properties) {
  auto missing = [](std::string_view name) {
    return Error{Errc::kCorrupt, "the property " + std::string(name) + " is missing or no number"};
  };
  WaitingMessage waiting;
  auto due = message::find_property(properties, property::kTimerOutMs);
  auto due_ms = due ? time_in(*due) : std::nullopt;
  if (!due_ms) return missing(property::kTimerOutMs);
  waiting.due_ms = *due_ms;
  auto topic = message::find_property(properties, property::kRealTopic);
  if (!topic) return missing(property::kRealTopic);
  waiting.real_topic = *topic;
  auto queue = message::find_property(properties, property::kRealQueueId);
  auto queue_id = queue ? number_in<int32_t>(*queue) : std::nullopt;
  if (!queue_id || *queue_id < 0) return missing(property::kRealQueueId);
  waiting.real_queue_id = *queue_id;
  waiting.unique_key = message::find_property(properties, property::kUniqueKey).value_or(std::string_view());
  if (auto target = message::find_property(properties, property::kTimerDeleteUniqueKey)) {
    waiting.cancels = true;
    waiting.unique_key = *target;
    // Apache's brokers write TOPIC+KEY or, depending on a setting, KEY alone.
    if (target->size() > topic->size() && target->substr(0, topic->size()) == *topic && (*target)[topic->size()] == '+')
      waiting.unique_key = target->substr(topic->size() + 1);
  }
  if (auto times = message::find_property(properties, property::kTimerRollTimes))
    waiting.roll_times = number_in<int32_t>(*times).value_or(0);
  if (auto from = message::find_property(properties, property::kTimerRollFrom))
    waiting.rolled_from = number_in<int64_t>(*from).value_or(-1);
  return waiting;
}

uint64_t timer_key_hash(std::string_view real_topic, std::string_view unique_key) {
  return fnv1a_64(unique_key, fnv1a_64("\n", fnv1a_64(real_topic)));
}

}  // namespace apogee::broker
