#include "broker/replication/slave_requests.h"

namespace apogee::broker {

namespace code = remoting::response_code;

std::optional<RequestTable::Refusal> refused_by_slave(remoting::RequestCode request) {
  using Code = remoting::RequestCode;
  switch (request) {
    case Code::kSendMessage:
    case Code::kSendMessageV2:
    case Code::kSendBatchMessage:
    case Code::kSendReplyMessage:
    case Code::kSendReplyMessageV2:
      return RequestTable::Refusal{code::kServiceNotAvailable,
                                   "service not available now: the broker is a slave, its master takes messages"};
    case Code::kConsumerSendMsgBack:
      return RequestTable::Refusal{code::kSystemError, "the broker is a slave: messages go back to its master"};
    case Code::kUpdateAndCreateTopic:
    case Code::kUpdateAndCreateTopicList:
    case Code::kDeleteTopicInBroker:
    case Code::kUpdateAndCreateSubscriptiongroup:
    case Code::kUpdateAndCreateSubscriptiongroupList:
    case Code::kDeleteSubscriptiongroup:
    case Code::kSetMessageRequestMode:
    case Code::kInvokeBrokerToResetOffset:
    case Code::kCloneGroupOffset:
      return RequestTable::Refusal{code::kSystemError, "can't do it from slave: the broker is one, ask its master"};
    default: return std::nullopt;
  }
}

}  // namespace apogee::broker
