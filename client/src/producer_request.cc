// Requests that wait for a reply, and what brokers ask of a producer.
#include <set>
#include <utility>

#include "client/src/message_access.h"
#include "client/src/pending_requests.h"
#include "client/src/producer_impl.h"
#include "common/base/text.h"
#include "common/message/property_names.h"

namespace apogee {

using remoting::Command;
using remoting::RequestCode;
namespace property = message::property;
namespace response_code = remoting::response_code;

void Producer::Impl::request(const Message& message, SendOptions options, RequestCallback done) {
  if (!running_) return done(producer_closed());
  if (options.timeout.count() <= 0) options.timeout = config_.send_timeout;
  const std::string id = ids_->next(now_ms());
  Message asking = message;
  MessageAccess::set_system_property(asking, std::string(property::kCorrelationId), id);
  MessageAccess::set_system_property(asking, std::string(property::kReplyToClient), client_id());
  MessageAccess::set_system_property(asking, std::string(property::kTtl), std::to_string(options.timeout.count()));
  requests_.add(id, std::move(done));
  const bool posted = instance_.loop().post([this, id, timeout = options.timeout] {
    instance_.loop().run_after(timeout, [this, id, timeout] {
      requests_.finish(id, Error{Errc::kTimeout, "request: no reply in " + std::to_string(timeout.count()) + " ms"});
    });
  });
  const int64_t deadline_ms = steady_ms() + options.timeout.count();
  auto send_it = [this, id, deadline_ms, asking = std::move(asking), options = std::move(options)]() mutable {
    const int64_t left = deadline_ms - steady_ms();
    if (left <= 0) return;  // the timer answers
    options.timeout = std::chrono::milliseconds(left);
    send(asking, std::move(options), false, [this, id](Result<SendReceipt> receipt) {
      if (!receipt) requests_.finish(id, std::move(receipt).error());
    });
  };
  if (posted) prepare_for_replies(with_namespace(config_.name_space, message.topic()), std::move(send_it));
  if (!posted || !running_) requests_.finish(id, producer_closed());
}

// Brokers push a reply to who registered there as a producer; so every broker that a reply may be sent to has to know
// this client before the request is stored.
void Producer::Impl::prepare_for_replies(const std::string& topic, std::function<void()> then) {
  auto shared = std::make_shared<std::function<void()>>(std::move(then));
  auto greet = [this, shared] {
    instance_.greet_new_brokers();
    (*shared)();
  };
  auto with_route = [this, greet](const TopicRoutePtr& route) {
    std::set<std::string> unknown;
    for (const auto& broker : route->data.broker_datas) {
      const std::string reply_topic = reply_topic_of(broker.cluster);
      if (instance_.route(reply_topic) == nullptr) unknown.insert(reply_topic);
    }
    if (unknown.empty()) return greet();
    auto outstanding = std::make_shared<size_t>(unknown.size());
    for (const auto& reply_topic : unknown) {
      instance_.fetch_route(reply_topic, 0, [outstanding, greet](const Result<TopicRoutePtr>&) {
        if (--*outstanding == 0) greet();
      });
    }
  };
  instance_.loop().post([this, topic, shared, with_route] {
    if (auto route = instance_.route(topic)) return with_route(route);
    instance_.fetch_route(topic, config_.default_topic_queues, [shared, with_route](Result<TopicRoutePtr> found) {
      if (!found) return (*shared)();  // the send finds out what is wrong, or tries again
      with_route(*found);
    });
  });
}

Result<ReceivedMessage> Producer::Impl::request_and_wait(const Message& message, const SendOptions& options) {
  if (instance_.on_loop()) {
    return Error{Errc::kInvalidArgument,
                 "request() cannot be called in a callback of the producer; use request_async()"};
  }
  return request_future(message, options).get();
}

std::future<Result<ReceivedMessage>> Producer::Impl::request_future(const Message& message,
                                                                    const SendOptions& options) {
  auto promise = std::make_shared<std::promise<Result<ReceivedMessage>>>();
  auto result = promise->get_future();
  request(message, options, [promise](Result<ReceivedMessage> reply) { promise->set_value(std::move(reply)); });
  return result;
}

bool Producer::Impl::on_request(Command& request, const remoting::Responder& respond) {
  switch (request.request_code()) {
    case RequestCode::kPushReplyMessageToClient: on_pushed_reply(request, respond); return true;
    case RequestCode::kCheckTransactionState:
      if (!check_handler_) return false;
      check_handler_(std::move(request));
      return true;
    default: return false;
  }
}

void Producer::Impl::on_pushed_reply(const Command& request, const remoting::Responder& respond) {
  auto reply = read_pushed_reply(request);
  if (!reply) {
    instance_.logger().warn("a pushed reply: {}", reply.error().message);
    return respond(Command::response_to(request, response_code::kSystemError, reply.error().message));
  }
  respond(Command::response_to(request, response_code::kSuccess));
  const std::string id(reply->property(property::kCorrelationId).value_or(""));
  if (!requests_.finish(id, std::move(*reply))) {
    instance_.logger().warn("a reply to {} comes too late, or for the second time: nobody waits for it", id);
  }
}

}  // namespace apogee
