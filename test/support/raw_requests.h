#pragma once

#include <string>
#include <string_view>

#include "common/remoting/command.h"

// Requests as clients send them, for tests with raw sockets.
namespace apogee::test {

inline remoting::Command create_topic_request(std::string_view topic, int32_t queues) {
  auto request = remoting::Command::request(remoting::RequestCode::kUpdateAndCreateTopic);
  request.ext.set("topic", topic);
  request.ext.set("defaultTopic", "TBW102");
  request.ext.set("readQueueNums", queues);
  request.ext.set("writeQueueNums", queues);
  request.ext.set("perm", 6);
  request.ext.set("topicFilterType", "SINGLE_TAG");
  request.ext.set("topicSysFlag", 0);
  request.ext.set("order", false);
  return request;
}

struct RawSend {
  std::string_view topic;
  int32_t queue_id = 0;
  std::string body;  ///< of a batch: the batch
  std::string_view properties = {};
  bool batch = false;
  bool oneway = false;
};

inline remoting::Command send_request(RawSend send) {
  auto request = remoting::Command::request(send.batch ? remoting::RequestCode::kSendBatchMessage
                                                       : remoting::RequestCode::kSendMessageV2);
  request.ext.set("a", "raw_producer");
  request.ext.set("b", send.topic);
  request.ext.set("c", "TBW102");
  request.ext.set("d", 4);
  request.ext.set("e", send.queue_id);
  request.ext.set("f", 0);
  request.ext.set("g", 1);
  request.ext.set("h", 0);
  request.ext.set("i", send.properties);
  request.ext.set("m", send.batch);
  if (send.oneway) request.flag |= remoting::kOnewayFlag;
  request.body = SharedBytes::from(std::move(send.body));
  return request;
}

/// Answered at once, with up to 32 messages.
inline remoting::Command pull_request(std::string_view group, std::string_view topic, int32_t queue_id,
                                      int64_t offset) {
  auto request = remoting::Command::request(remoting::RequestCode::kPullMessage);
  request.ext.set("consumerGroup", group);
  request.ext.set("topic", topic);
  request.ext.set("queueId", queue_id);
  request.ext.set("queueOffset", offset);
  request.ext.set("maxMsgNums", 32);
  request.ext.set("sysFlag", 4);
  request.ext.set("commitOffset", 0);
  request.ext.set("suspendTimeoutMillis", 0);
  request.ext.set("subscription", "*");
  request.ext.set("subVersion", 0);
  request.ext.set("expressionType", "TAG");
  return request;
}

/// Max or min offset, with kGetMaxOffset or kGetMinOffset.
inline remoting::Command queue_request(remoting::RequestCode code, std::string_view topic, int32_t queue_id) {
  auto request = remoting::Command::request(code);
  request.ext.set("topic", topic);
  request.ext.set("queueId", queue_id);
  return request;
}

}  // namespace apogee::test
