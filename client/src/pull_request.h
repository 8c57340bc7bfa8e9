#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "apogee/message.h"
#include "apogee/message_queue.h"
#include "apogee/result.h"
#include "common/remoting/bodies/client_bodies.h"
#include "common/remoting/command.h"

namespace apogee {

/// Before a pull that the broker answered with its flow-control code is repeated.
inline constexpr std::chrono::milliseconds kBrokerBusyDelay{20};

struct PullRequest {
  std::string group;  ///< names are those of the wire
  MessageQueue queue;
  int64_t offset = 0;
  int32_t count_max = 32;
  int32_t sys_flag = 0;  ///< bits of message::pull_sys_flag
  int64_t commit_offset = 0;
  int64_t suspend_ms = 15'000;
  std::string subscription;  ///< sent when not empty
  int64_t subscription_version = 0;
  std::string expression_type = "TAG";
};
[[nodiscard]] remoting::Command make_pull_request(const PullRequest& request);

enum class PullStatus : uint8_t { kFound, kNoNewMessage, kNoMatchedMessage, kOffsetIllegal };
struct PullOutcome {
  PullStatus status = PullStatus::kFound;
  int64_t next_offset = 0;
  int64_t min_offset = 0;
  int64_t max_offset = 0;
  int64_t suggested_broker_id = 0;
  std::vector<ReceivedMessage> messages;
};
/// Tags are compared by string here; names are given without the namespace. Errors: kBroker, kCorrupt, kTooLarge.
[[nodiscard]] Result<PullOutcome> read_pull_reply(const remoting::Command& reply, const MessageQueue& queue,
                                                  const remoting::SubscriptionData& subscription,
                                                  const std::string& name_space);

/// Whether the broker has nothing at the place that was asked for and moves nothing either, as a slave that is behind
/// answers: another pull at once would be answered alike.
[[nodiscard]] bool is_behind(const PullOutcome& outcome, int64_t asked_offset);
inline constexpr std::chrono::milliseconds kSlaveBehindDelay{500};

/// Whether the message's tag is one of the subscription's.
[[nodiscard]] bool matches_tags(const ReceivedMessage& message, const remoting::SubscriptionData& subscription);

}  // namespace apogee
