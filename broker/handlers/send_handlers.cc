#include "broker/handlers/send_handlers.h"

#include <utility>

#include "broker/handlers/send_fields.h"
#include "common/message/batch.h"

namespace apogee::broker {

namespace code = remoting::response_code;

void SendHandlers::send_message(const remoting::Caller& caller, remoting::Command request,
                                remoting::Responder respond) {
  send(caller, std::move(request), std::move(respond), kSendFieldsInWords, false);
}

void SendHandlers::send_message_v2(const remoting::Caller& caller, remoting::Command request,
                                   remoting::Responder respond) {
  send(caller, std::move(request), std::move(respond), kSendFieldsOfOneLetter, false);
}

void SendHandlers::send_batch(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
  const bool batch = !request.ext.get("m").has_value();
  send(caller, std::move(request), std::move(respond), kSendFieldsOfOneLetter, batch);
}

void SendHandlers::send(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond,
                        const SendFieldNames& names, bool batch) {
  RequestFields fields(request);
  SendRequest wanted = read_send_fields(fields, caller, request, names);
  wanted.batch = wanted.batch || batch;
  remoting::Command response = remoting::Command::response_to(request, code::kSystemError);
  response.ext.set("MSG_REGION", config_.region_id.get());
  response.ext.set("TRACE_ON", config_.trace_on.get());
  if (!fields.ok()) {
    response.code = code::kInvalidParameter;
    response.remark = fields.remark();
    return respond(std::move(response));
  }
  auto count = [&]() -> int64_t {
    if (!wanted.batch) return 1;
    const auto messages = message::decode_batch(request.body.bytes);
    return messages ? static_cast<int64_t>(messages->size()) : 1;  // what is no batch is refused behind
  };
  if (auto why = limits_.refuse_publishing(wanted.topic, caller.connection, count)) {
    response.code = code::kFlowControl;
    response.remark = std::move(*why);
    return respond(std::move(response));
  }
  wanted.body = std::move(request.body);
  operation_.send(std::move(wanted),
                  [response = std::move(response), respond = std::move(respond)](SendAnswer answer) mutable {
                    response.code = answer.code;
                    if (!answer.remark.empty()) response.remark = std::move(answer.remark);
                    if (answer.stored) set_send_answer(response, answer);
                    respond(std::move(response));
                  });
}

}  // namespace apogee::broker
