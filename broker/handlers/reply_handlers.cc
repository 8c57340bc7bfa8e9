#include "broker/handlers/reply_handlers.h"

#include <atomic>
#include <utility>

#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/remoting/response_code.h"

namespace apogee::broker {

namespace code = remoting::response_code;
namespace property = message::property;

namespace {

constexpr int64_t kPushTimeoutMs = 10'000;

}  // namespace

/// A reply on its way; the last of the two parts to end answers.
struct ReplyHandlers::Pending {
  remoting::Command response;
  remoting::Responder respond;
  std::string push_failure;          ///< empty: pushed
  std::optional<SendAnswer> stored;  ///< nullopt: was not to be stored
  std::atomic<int> parts_left{2};

  void part_ended() {
    if (parts_left.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    SendAnswer answer = stored.value_or(SendAnswer{});
    if (!answer.stored) answer.message_ids = "0";
    set_send_answer(response, answer);
    response.code = push_failure.empty() ? code::kSuccess : code::kSystemError;
    if (!push_failure.empty()) {
      response.remark = push_failure;
    } else if (stored && !stored->stored) {
      response.remark = "the reply was pushed, but not stored: " + stored->remark;
    }
    respond(std::move(response));
  }
};

void ReplyHandlers::add_rows(RequestTable& requests) {
  auto row = [this](auto method) {
    return [this, method](const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
      (this->*method)(caller, std::move(request), std::move(respond));
    };
  };
  using Code = remoting::RequestCode;
  requests.add(Code::kSendReplyMessage, RunsOn::kIoLoop, row(&ReplyHandlers::send_reply));
  requests.add(Code::kSendReplyMessageV2, RunsOn::kIoLoop, row(&ReplyHandlers::send_reply_v2));
}

void ReplyHandlers::send_reply(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
  reply(caller, request, std::move(respond), kSendFieldsInWords);
}

void ReplyHandlers::send_reply_v2(const remoting::Caller& caller, remoting::Command request,
                                  remoting::Responder respond) {
  reply(caller, request, std::move(respond), kSendFieldsOfOneLetter);
}

void ReplyHandlers::reply(const remoting::Caller& caller, const remoting::Command& request, remoting::Responder respond,
                          const SendFieldNames& names) {
  RequestFields fields(request);
  SendRequest reply = read_send_fields(fields, caller, request, names);
  auto pending = std::make_shared<Pending>();
  pending->response = remoting::Command::response_to(request, code::kSystemError);
  pending->response.ext.set("MSG_REGION", parts_.config.region_id.get());
  pending->response.ext.set("TRACE_ON", parts_.config.trace_on.get());
  auto refuse_it = [&](int32_t response_code, std::string remark) {
    pending->response.code = response_code;
    pending->response.remark = std::move(remark);
    respond(std::move(pending->response));
  };
  if (!fields.ok()) return refuse_it(code::kInvalidParameter, fields.remark());
  if (reply.batch) return refuse_it(code::kMessageIllegal, "the message is illegal: a reply cannot be a batch");
  if (Status status = message::check_properties(reply.properties); !status)
    return refuse_it(code::kMessageIllegal, "the message is illegal: " + status.error().message);
  if (request.body.size() > static_cast<size_t>(parts_.config.message_bytes_max))
    return refuse_it(code::kMessageIllegal, "the message is illegal: its body has " +
                                                std::to_string(request.body.size()) + " bytes. msg body length limit " +
                                                std::to_string(parts_.config.message_bytes_max.get()) + "B.");
  reply.body = request.body;
  pending->respond = std::move(respond);
  push(pending, reply);
  if (!parts_.config.store_reply) return pending->part_ended();
  parts_.operation.send(std::move(reply), [pending](SendAnswer answer) {
    pending->stored = std::move(answer);
    pending->part_ended();
  });
}

void ReplyHandlers::push(const std::shared_ptr<Pending>& pending, const SendRequest& reply) {
  auto failed = [&pending](std::string why) {
    pending->push_failure = std::move(why);
    pending->part_ended();
  };
  const auto client_id = message::find_property(reply.properties, property::kReplyToClient);
  if (!client_id) return failed("the reply's property REPLY_TO_CLIENT is missing: nobody can get it");
  const std::string name(*client_id);
  const auto client = parts_.producers.find_client(name);
  if (!client) return failed("push reply message to " + name + " fail: no producer with this client id is connected");

  remoting::Command push = request_for(*client, remoting::RequestCode::kPushReplyMessageToClient);
  std::string properties = reply.properties;
  message::set_property(properties, property::kPushReplyTime, std::to_string(parts_.now_ms()));
  auto& ext = push.ext;
  ext.set("producerGroup", reply.group);
  ext.set("topic", reply.topic);
  ext.set("defaultTopic", reply.default_topic);
  ext.set("defaultTopicQueueNums", reply.default_topic_queue_nums);
  ext.set("queueId", reply.queue_id);
  ext.set("sysFlag", reply.sys_flag);
  ext.set("bornTimestamp", reply.born_timestamp_ms);
  ext.set("flag", reply.flag);
  ext.set("properties", properties);
  ext.set("reconsumeTimes", reply.reconsume_times);
  ext.set("unitMode", reply.unit_mode);
  ext.set("bornHost", reply.caller_address);
  ext.set("storeHost", parts_.store_address);
  ext.set("storeTimestamp", parts_.now_ms());
  push.body = reply.body;
  parts_.calls.call(client->connection, std::move(push), kPushTimeoutMs,
                    [pending, name](const Result<remoting::Command>& answer) {
                      if (!answer) {
                        pending->push_failure = "push reply message to " + name + " fail: " + answer.error().message;
                      } else if (answer->code != code::kSuccess) {
                        pending->push_failure = "push reply message to " + name + " fail: it answered " +
                                                std::to_string(answer->code) + " " + answer->remark.value_or("");
                      }
                      pending->part_ended();
                    });
}

}  // namespace apogee::broker
