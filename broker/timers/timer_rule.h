#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "apogee/result.h"
#include "broker/groups/client_info.h"
#include "broker/messages/message_put.h"
#include "broker/timers/timer_limits.h"
#include "store/message_store.h"

namespace apogee::broker {

/// Where messages wait for an instant; they lie in its queue 0.
inline constexpr std::string_view kTimerTopic = "rmq_sys_wheel_timer";

/// What a message asks for by TIMER_DELAY_SEC, TIMER_DELAY_MS, TIMER_DELIVER_MS (in this order the first counts) and
/// TIMER_DEL_UNIQKEY.
struct TimerWish {
  std::optional<int64_t> due_ms;  ///< since 1970; INT64_MAX: later than can be told
  bool cancels = false;
};
/// Nothing is asked for by a message with a delay level, nor by one that was a timer before (TIMER_OUT_MS).
/// Error: kInvalidArgument naming property and value.
[[nodiscard]] Result<TimerWish> timer_wish(std::string_view properties, int64_t now_ms);

/// Why a message cannot be taken, with the protocol's code.
struct TimerRefusal {
  int32_t code = 0;
  std::string remark;
};
/// Thread: any. For the check of a message before it is stored, half messages too.
[[nodiscard]] std::optional<TimerRefusal> refuse_timer(std::string_view properties, const TimerLimits& limits,
                                                       int64_t now_ms);

/// Parks messages that ask for an instant later than now until the timer service delivers them; TIMER_OUT_MS keeps the
/// instant. Half messages are let pass: they wait when they are committed. What refuse_timer() refuses is refused.
[[nodiscard]] PutRule timer_rule(std::function<TimerLimits()> limits, NowMs now_ms);

/// A record of the timer topic, read for what it says.
struct WaitingMessage {
  int64_t due_ms = 0;
  std::string_view real_topic;
  int32_t real_queue_id = 0;
  std::string_view unique_key;        ///< of the message, or of the one to be cancelled
  bool cancels = false;               ///< TIMER_DEL_UNIQKEY is there
  int32_t roll_times = 0;             ///< TIMER_ROLL_TIMES: how often it was appended again
  store::LogOffset rolled_from = -1;  ///< TIMER_ROLL_FROM: where it stood before
};
/// The views live as long as `properties`. Error: kCorrupt naming what is missing.
[[nodiscard]] Result<WaitingMessage> read_waiting(std::string_view properties);

/// Of real topic and unique key; the database holds it, so it stays as it is.
[[nodiscard]] uint64_t timer_key_hash(std::string_view real_topic, std::string_view unique_key);

/// Room that the properties of a waiting message keep for TIMER_ROLL_TIMES and TIMER_ROLL_FROM.
inline constexpr size_t kRollPropertiesBytes = 80;

}  // namespace apogee::broker
