#include "apogee/transaction_producer.h"

#include <atomic>
#include <future>
#include <optional>
#include <string_view>
#include <utility>

#include "client/src/listener_pool.h"
#include "client/src/message_access.h"
#include "client/src/producer_impl.h"
#include "client/src/received_message.h"
#include "common/message/message_id.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"

namespace apogee {

using remoting::Command;
namespace property = message::property;

namespace {

constexpr const char* kDefaultTopic = "TBW102";
constexpr std::string_view kDefaultRegion = "DefaultRegion";
constexpr auto kChecksEndWithin = std::chrono::seconds(10);

int32_t decision_of(TransactionState state) {
  switch (state) {
    case TransactionState::kCommit: return message::sys_flag::kTransactionCommit;
    case TransactionState::kRollback: return message::sys_flag::kTransactionRollback;
    case TransactionState::kUnknown: break;
  }
  return message::sys_flag::kTransactionNot;
}

}  // namespace

const char* to_string(TransactionState state) {
  switch (state) {
    case TransactionState::kCommit: return "COMMIT_MESSAGE";
    case TransactionState::kRollback: return "ROLLBACK_MESSAGE";
    case TransactionState::kUnknown: return "UNKNOW";
  }
  return "UNKNOW";
}

class TransactionProducer::Impl {
 public:
  Impl(TransactionProducerConfig config, TransactionListener listener)
      : config_(std::move(config)), listener_(std::move(listener)), producer_(config_) {}

  Status start();
  Status shutdown();
  Result<TransactionReceipt> send_in_transaction(const Message& message, const TransactionOptions& options);
  [[nodiscard]] Producer& producer() { return producer_; }

 private:
  /// Where a half message lies, and which one it is.
  struct Half {
    int64_t queue_offset = 0, log_offset = 0;
    std::string topic, broker_name, msg_id, transaction_id;
    std::optional<TraceRecord> trace;  ///< of its end, as far as it is known before; none: it is not traced
  };
  /// What a trace says of the message; none where no traces are wanted.
  [[nodiscard]] std::optional<TraceRecord> trace_of(const std::string& topic, std::string_view tags,
                                                    std::string_view keys, std::string_view region, bool trace_on);
  void end(const std::string& address, const Half& half, TransactionState state, bool from_check);
  void on_check(const Command& request);  ///< on the loop
  void check(const Half& half, const std::string& address, const ReceivedMessage& message);
  [[nodiscard]] Producer::Impl& inner() { return *producer_.impl_; }
  [[nodiscard]] const Logger& logger() { return inner().instance().logger(); }

  const TransactionProducerConfig config_;
  const TransactionListener listener_;
  Producer producer_;
  ListenerPool pool_;
  std::atomic<bool> running_{false};
};

Status TransactionProducer::Impl::start() {
  if (!listener_.execute || !listener_.check)
    return Error{Errc::kInvalidArgument, "listener: execute and check are both needed"};
  if (config_.check_threads < 1) return Error{Errc::kInvalidArgument, "check_threads: must be at least 1"};
  inner().set_check_handler([this](const Command& request) { on_check(request); });
  APOGEE_TRY(producer_.start());
  pool_.start(config_.check_threads);
  running_ = true;
  auto topics = config_.topics;
  if (topics.empty()) topics.emplace_back(kDefaultTopic);
  for (const auto& topic : topics)
    inner().instance().fetch_route(with_namespace(config_.name_space, topic), 0, nullptr);
  return {};
}

Status TransactionProducer::Impl::shutdown() {
  if (pool_.on_pool_thread() || inner().instance().on_loop())
    return Error{Errc::kInvalidArgument, "shutdown() cannot be called in the listener's check()"};
  running_ = false;
  const bool ended = pool_.stop(kChecksEndWithin);
  APOGEE_TRY(producer_.shutdown());
  if (!ended) return Error{Errc::kTimeout, "a check() still runs"};
  return {};
}

Result<TransactionReceipt> TransactionProducer::Impl::send_in_transaction(const Message& message,
                                                                          const TransactionOptions& options) {
  if (!running_) return producer_closed();
  if (options.check_immunity.count() < 0) return Error{Errc::kInvalidArgument, "check_immunity: is negative"};
  Message half = message;
  auto set = [&half](std::string_view name, std::string value) {
    MessageAccess::set_system_property(half, std::string(name), std::move(value));
  };
  set(property::kTransactionPrepared, "true");
  set(property::kProducerGroup, inner().group());
  if (options.check_immunity.count() > 0)
    set(property::kCheckImmunityTime, std::to_string(options.check_immunity.count()));
  TransactionReceipt receipt;
  APOGEE_TRY_ASSIGN(receipt.sent, producer_.send(half, options));
  auto place = message::decode_offset_message_id(receipt.sent.offset_msg_id);
  if (!place) return Error{Errc::kCorrupt, "send: the broker's answer has no offset id: " + place.error().message};
  // Brokers of 4.9 do not send it back; it is the id that the producer gave to the message.
  if (receipt.sent.transaction_id.empty()) receipt.sent.transaction_id = receipt.sent.msg_id;
  receipt.state = TransactionState::kRollback;
  if (receipt.sent.status == SendStatus::kOk) {
    try {
      receipt.state = listener_.execute(message, receipt.sent);
    } catch (...) {
      receipt.state = TransactionState::kUnknown;
      logger().warn("transaction {}: execute() threw an exception, the broker will ask", receipt.sent.transaction_id);
    }
  }
  const std::string& broker = receipt.sent.queue.broker_name;
  if (auto address = inner().instance().broker_address(broker)) {
    end(*address,
        {receipt.sent.queue_offset, place->physical_offset, with_namespace(config_.name_space, message.topic()), broker,
         receipt.sent.msg_id, receipt.sent.transaction_id,
         trace_of(message.topic(), message.tags(), message.keys(), receipt.sent.region_id, receipt.sent.trace_on)},
        receipt.state, false);
  } else {
    logger().warn("transaction {}: broker {} is gone, it will ask", receipt.sent.transaction_id, broker);
  }
  return receipt;
}

std::optional<TraceRecord> TransactionProducer::Impl::trace_of(const std::string& topic, std::string_view tags,
                                                               std::string_view keys, std::string_view region,
                                                               bool trace_on) {
  const TraceWriter* writer = inner().trace();
  if (writer == nullptr || !trace_on || !writer->traces(topic)) return std::nullopt;
  TraceRecord record;
  record.kind = admin::TraceKind::kEndTransaction;
  record.region = region.empty() ? kDefaultRegion : region;
  record.group = config_.group;
  record.topic = topic;
  record.tags = tags;
  record.keys = keys;
  record.type = admin::TraceMessageType::kCommit;  // as in Java, whatever is decided
  return record;
}

void TransactionProducer::Impl::end(const std::string& address, const Half& half, TransactionState state,
                                    bool from_check) {
  Command request = Command::request(remoting::RequestCode::kEndTransaction);
  request.ext.set("producerGroup", inner().group());
  request.ext.set("topic", half.topic);
  request.ext.set("tranStateTableOffset", half.queue_offset);
  request.ext.set("commitLogOffset", half.log_offset);
  request.ext.set("commitOrRollback", decision_of(state));
  request.ext.set("fromTransactionCheck", from_check);
  request.ext.set("msgId", half.msg_id);
  request.ext.set("transactionId", half.transaction_id);
  request.ext.set("bname", half.broker_name);
  inner().instance().rpc().send_oneway(address, std::move(request), [this, id = half.transaction_id](Status written) {
    if (!written) logger().warn("transaction {}: its end could not be told: {}", id, written.error().message);
  });
  if (!half.trace) return;
  TraceRecord record = *half.trace;
  record.time_ms = now_ms();
  record.msg_id = half.msg_id;
  record.store_host = address;
  record.transaction_id = half.transaction_id;
  record.transaction_state = to_string(state);
  record.from_check = from_check;
  inner().trace()->add({std::move(record)});
}

void TransactionProducer::Impl::on_check(const Command& request) {
  const auto queue_offset = request.ext.get_int<int64_t>("tranStateTableOffset");
  const auto log_offset = request.ext.get_int<int64_t>("commitLogOffset");
  std::string broker(request.ext.get("bname").value_or(""));
  auto message = decode_received_message(request.body, broker);
  if (!queue_offset || !log_offset || !message)
    return logger().warn("a broker asks for a transaction's state, but not as it should: {}",
                         message ? std::string("an offset is missing") : message.error().message);
  if (message->property(property::kProducerGroup) != inner().group())
    return logger().warn("a broker asks for a transaction of another group");
  Half half;
  half.queue_offset = *queue_offset;
  half.log_offset = *log_offset;
  half.topic = message->topic();
  half.broker_name = broker;
  half.msg_id = message->msg_id();
  half.transaction_id = std::string(request.ext.get("transactionId").value_or(half.msg_id));
  half.trace = trace_of(without_namespace(config_.name_space, message->topic()), message->tags(), message->keys(),
                        message->property(property::kMessageRegion).value_or(""),
                        message->property(property::kTraceOn) != "false");
  // A broker of 4.9 does not say its name, but every one has stored its own address in the message.
  auto address = broker.empty() ? std::nullopt : inner().instance().broker_address(broker);
  if (!address) address = message->store_host();
  if (pool_.waiting() >= config_.check_queue_max)
    return logger().warn("transaction {}: too many questions wait, this one is dropped", half.transaction_id);
  ReceivedMessage shown = with_topic(*message, without_namespace(config_.name_space, message->topic()));
  pool_.submit(
      [this, half = std::move(half), address = *address, shown = std::move(shown)] { check(half, address, shown); });
}

void TransactionProducer::Impl::check(const Half& half, const std::string& address, const ReceivedMessage& message) {
  TransactionState state = TransactionState::kUnknown;
  try {
    state = listener_.check(message);
  } catch (...) {
    logger().warn("transaction {}: check() threw an exception, the broker will ask again", half.transaction_id);
  }
  end(address, half, state, true);
}

TransactionProducer::TransactionProducer(TransactionProducerConfig config, TransactionListener listener)
    : impl_(std::make_unique<Impl>(std::move(config), std::move(listener))) {}
TransactionProducer::~TransactionProducer() { impl_->shutdown().ignore("nothing is left to be told"); }
Status TransactionProducer::start() { return impl_->start(); }
Status TransactionProducer::shutdown() { return impl_->shutdown(); }
Result<TransactionReceipt> TransactionProducer::send_in_transaction(const Message& message,
                                                                    const TransactionOptions& options) {
  return impl_->send_in_transaction(message, options);
}
Result<SendReceipt> TransactionProducer::send(const Message& message, const SendOptions& options) {
  return impl_->producer().send(message, options);
}
std::string TransactionProducer::client_id() const { return impl_->producer().client_id(); }

}  // namespace apogee
