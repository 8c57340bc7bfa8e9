#include "client/src/pull_request.h"

#include <algorithm>
#include <utility>

#include "client/src/client_instance.h"
#include "client/src/received_message.h"
#include "common/message/property_names.h"

namespace apogee {

using remoting::Command;
namespace response_code = remoting::response_code;

Command make_pull_request(const PullRequest& request) {
  Command command = Command::request(remoting::RequestCode::kPullMessage);
  auto& ext = command.ext;
  ext.set("consumerGroup", request.group);
  ext.set("topic", request.queue.topic);
  ext.set("queueId", request.queue.queue_id);
  ext.set("queueOffset", request.offset);
  ext.set("maxMsgNums", request.count_max);
  ext.set("sysFlag", request.sys_flag);
  ext.set("commitOffset", request.commit_offset);
  ext.set("suspendTimeoutMillis", request.suspend_ms);
  if (!request.subscription.empty()) ext.set("subscription", request.subscription);
  ext.set("subVersion", request.subscription_version);
  ext.set("expressionType", request.expression_type);
  ext.set("bname", request.queue.broker_name);
  return command;
}

bool is_behind(const PullOutcome& outcome, int64_t asked_offset) {
  return outcome.status == PullStatus::kNoMatchedMessage && outcome.next_offset <= asked_offset;
}

bool matches_tags(const ReceivedMessage& message, const remoting::SubscriptionData& subscription) {
  const auto& tags = subscription.tags_set;
  if (tags.empty() || subscription.class_filter_mode) return true;
  const auto tag = message.tags();
  return !tag.empty() && std::find(tags.begin(), tags.end(), tag) != tags.end();
}

Result<PullOutcome> read_pull_reply(const Command& reply, const MessageQueue& queue,
                                    const remoting::SubscriptionData& subscription, const std::string& name_space) {
  PullOutcome outcome;
  switch (reply.code) {
    case response_code::kSuccess: outcome.status = PullStatus::kFound; break;
    case response_code::kPullNotFound: outcome.status = PullStatus::kNoNewMessage; break;
    case response_code::kPullRetryImmediately: outcome.status = PullStatus::kNoMatchedMessage; break;
    case response_code::kPullOffsetMoved: outcome.status = PullStatus::kOffsetIllegal; break;
    default: return broker_error(reply, "pull");
  }
  const auto next = reply.ext.get_int<int64_t>("nextBeginOffset");
  if (!next) return Error{Errc::kCorrupt, "pull: the broker's answer has no nextBeginOffset"};
  outcome.next_offset = *next;
  outcome.min_offset = reply.ext.get_int<int64_t>("minOffset").value_or(0);
  outcome.max_offset = reply.ext.get_int<int64_t>("maxOffset").value_or(0);
  outcome.suggested_broker_id = reply.ext.get_int<int64_t>("suggestWhichBrokerId").value_or(0);
  if (outcome.status != PullStatus::kFound) return outcome;
  APOGEE_TRY_ASSIGN(auto messages, decode_received_messages(reply.body, queue.broker_name));
  for (auto& message : messages) {
    if (!matches_tags(message, subscription)) continue;
    if (auto original = message.property(message::property::kRetryTopic)) {
      message = with_topic(message, without_namespace(name_space, std::string(*original)));
    } else if (!name_space.empty()) {
      message = with_topic(message, without_namespace(name_space, message.topic()));
    }
    outcome.messages.push_back(std::move(message));
  }
  return outcome;
}

}  // namespace apogee
