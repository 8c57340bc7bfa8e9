#pragma once

#include "broker/groups/producer_groups.h"
#include "broker/handlers/send_fields.h"
#include "broker/handlers/send_operation.h"
#include "broker/relay/client_calls.h"
#include "broker/request_table.h"
#include "common/remoting/remoting_server.h"

namespace apogee::broker {

/// 324 and 325: a reply is pushed (326) to the producer whose client id it names, and stored as well where
/// storeReplyMessageEnable says so. Answered when both are done: the requester not there, or its push failed, is code 1
/// with the reason, even if the reply was stored; a pushed reply that could not be stored is a success with a remark.
/// Runs on: the IO loop.
class ReplyHandlers {
 public:
  struct Parts {
    const BrokerConfig& config;
    SendOperation& operation;
    const ProducerGroups& producers;
    ClientCalls calls;
    std::string store_address;  ///< "ip:port" of this broker
    NowMs now_ms = system_now_ms;
  };
  explicit ReplyHandlers(Parts parts) : parts_(std::move(parts)) {}
  void add_rows(RequestTable& requests);

  void send_reply(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);
  void send_reply_v2(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond);

 private:
  struct Pending;
  void reply(const remoting::Caller& caller, const remoting::Command& request, remoting::Responder respond,
             const SendFieldNames& names);
  void push(const std::shared_ptr<Pending>& pending, const SendRequest& reply);
  Parts parts_;
};

}  // namespace apogee::broker
