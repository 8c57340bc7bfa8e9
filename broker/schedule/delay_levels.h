#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "broker/messages/message_put.h"

namespace apogee::broker {

/// Where messages with a delay level wait: one queue a level, that of level n is n - 1.
inline constexpr std::string_view kScheduleTopic = "SCHEDULE_TOPIC_XXXX";

/// The delays of "1s 5s 10s 30s 1m 2h 1d", level 1 first, in ms. Error: kInvalidArgument naming the word.
[[nodiscard]] Result<std::vector<int64_t>> parse_delay_levels(std::string_view text);

/// The level that the property DELAY asks for; 0: none. Error: kInvalidArgument for anything but a whole number from
/// 0 to 2147483647; the message is fit for a remark.
[[nodiscard]] Result<int32_t> delay_level_of(std::string_view properties);

/// Parks messages that ask for a delay level (those above `levels` as the last one) until the delay service delivers
/// them. Half messages are let pass: they are delayed when they are committed.
[[nodiscard]] PutRule delay_rule(size_t levels);

}  // namespace apogee::broker
