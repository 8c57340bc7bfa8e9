#include "broker/handlers/send_operation.h"

#include <unistd.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "broker/schedule/delay_levels.h"
#include "broker/timers/timer_rule.h"
#include "common/base/text.h"
#include "common/message/batch.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/recall_handle.h"
#include "common/message/sys_flag.h"
#include "common/remoting/response_code.h"

namespace apogee::broker {

namespace code = remoting::response_code;
namespace property = message::property;
namespace sys_flag = message::sys_flag;

namespace {

constexpr int32_t kUnitFlag = 1, kUnitSubscriptionFlag = 2;

SendAnswer refused(int32_t response_code, std::string remark) {
  SendAnswer answer;
  answer.code = response_code;
  answer.remark = std::move(remark);
  return answer;
}

std::string text_of(const TopicConfig& config) {
  std::string perm = "---";
  if ((config.perm & remoting::perm::kRead) != 0) perm[0] = 'R';
  if ((config.perm & remoting::perm::kWrite) != 0) perm[1] = 'W';
  if ((config.perm & remoting::perm::kInherit) != 0) perm[2] = 'X';
  return "TopicConfig [topicName=" + config.topic_name + ", readQueueNums=" + std::to_string(config.read_queue_nums) +
         ", writeQueueNums=" + std::to_string(config.write_queue_nums) + ", perm=" + perm + "]";
}

int32_t random_number() {
  std::random_device device;
  return static_cast<int32_t>(device());
}

}  // namespace

store::HostAddress host_address_of(const std::string& address) {
  store::HostAddress host;
  size_t colon = address.rfind(':');
  if (colon == std::string::npos) return host;
  std::string ip = address.substr(0, colon);
  if (ip.size() > 2 && ip.front() == '[' && ip.back() == ']') ip = ip.substr(1, ip.size() - 2);
  if (auto bytes = message::ip_bytes_of(ip); !bytes.empty()) host.ip_bytes = std::move(bytes);
  int32_t port = 0;
  for (char c : address.substr(colon + 1))
    if (c >= '0' && c <= '9' && port < 65'536) port = port * 10 + (c - '0');
  host.port = port;
  return host;
}

SendAnswer answer_of(const store::PutResult& result, int32_t message_bytes_max) {
  using store::PutStatus;
  SendAnswer answer;
  answer.stored = result.stored();
  auto with = [&answer, &result](int32_t response_code, const std::string& remark) {
    answer.code = response_code;
    answer.remark = result.detail.empty() ? remark : remark.empty() ? result.detail : remark + " " + result.detail;
  };
  switch (result.status) {
    case PutStatus::kOk: answer.code = code::kSuccess; break;
    case PutStatus::kFlushDiskTimeout: answer.code = code::kFlushDiskTimeout; break;
    case PutStatus::kFlushSlaveTimeout: answer.code = code::kFlushSlaveTimeout; break;
    case PutStatus::kSlaveNotAvailable: answer.code = code::kSlaveNotAvailable; break;
    case PutStatus::kServiceNotAvailable:
      with(code::kServiceNotAvailable,
           "service not available now. It may be caused by one of the following reasons: the broker's disk is full, "
           "the broker is stopping, or its store is not writable.");
      break;
    case PutStatus::kMessageIllegal:
    case PutStatus::kPropertiesSizeExceeded:
      with(code::kMessageIllegal,
           "the message is illegal, maybe msg body or properties length not matched. msg body length limit " +
               std::to_string(message_bytes_max) + "B, msg properties length limit 32KB.");
      break;
    case PutStatus::kPageCacheBusy:
      with(code::kSystemBusy, "[PC_SYNCHRONIZED]broker busy, start flow control for a while");
      break;
    case PutStatus::kCreateFileFailed:
      with(code::kSystemError, "create mapped file failed, server is busy or broken.");
      break;
    case PutStatus::kInSyncReplicasNotEnough:
      with(code::kSystemError, "the in-sync replicas are not enough for a message to be stored:");
      break;
    case PutStatus::kUnknownError: with(code::kSystemError, "UNKNOWN_ERROR"); break;
  }
  return answer;
}

/// A message on its way; parked here while its topic is being made or synced.
struct SendOperation::Pending {
  SendRequest request;
  Done done;
  int64_t begin_ms = 0;
  std::string unique_key;
  bool wait_store_ok = true;
  bool multi_tags = false;
  bool half = false;   ///< of a transaction
  bool dead = false;   ///< on its way to the dead letters
  int64_t due_ms = 0;  ///< of a timer
};

SendOperation::SendOperation(Parts parts)
    : parts_(std::move(parts)), unique_ids_(parts_.store_host.ip_bytes, getpid(), random_number()) {}

void SendOperation::send(SendRequest request, Done done) {
  const BrokerConfig& config = parts_.config;
  const int64_t now = parts_.now_ms();
  if (int64_t from = config.accept_sends_from_ms; now < from)
    return done(refused(code::kSystemError, "broker unable to service, until " + std::to_string(from)));
  auto topic = parts_.topics.find(request.topic);
  if ((config.permission & remoting::perm::kWrite) == 0 && topic != nullptr && topic->order)
    return done(refused(code::kNoPermission, "the broker[" + parts_.broker_ip + "] sending message is forbidden"));
  if (Status status = check_topic_name(request.topic); !status)
    return done(refused(code::kInvalidParameter, status.error().message));
  if (is_closed_to_senders(request.topic))
    return done(refused(code::kNoPermission, "Sending message to topic[" + request.topic + "] is forbidden."));

  auto pending = std::make_shared<Pending>();
  pending->request = std::move(request);
  pending->done = std::move(done);
  pending->begin_ms = now;
  if (topic != nullptr) return with_topic(std::move(pending), topic);

  const SendRequest& wanted = pending->request;
  const bool retry = is_retry_topic(wanted.topic);
  auto created = [this, pending](const Status& status) {
    if (status)
      if (auto made = parts_.topics.find(pending->request.topic)) return with_topic(pending, made);
    if (status || status.error().code == Errc::kNotFound)
      return pending->done(
          refused(code::kTopicNotExist, "topic[" + pending->request.topic + "] not exist, apply first please!"));
    pending->done(refused(status.error().code == Errc::kInvalidArgument ? code::kInvalidParameter : code::kSystemError,
                          status.error().message));
  };
  if (retry)
    return parts_.topics.create_group_topic(wanted.topic, 1, wanted.unit_mode ? kUnitSubscriptionFlag : 0, created);
  parts_.topics.create_from_template(wanted.topic, wanted.default_topic, wanted.default_topic_queue_nums,
                                     wanted.unit_mode ? kUnitFlag : 0, created);
}

std::optional<SendAnswer> SendOperation::refuse_unsupported(const SendRequest& request) const {
  const std::string& properties = request.properties;
  auto illegal = [](std::string why) { return refused(code::kMessageIllegal, std::move(why)); };
  if (Status status = message::check_properties(properties); !status)
    return illegal("the message is illegal: " + status.error().message);
  if (request.body.size() > static_cast<size_t>(parts_.config.message_bytes_max))
    return illegal("the message is illegal: its body has " + std::to_string(request.body.size()) +
                   " bytes. msg body length limit " + std::to_string(parts_.config.message_bytes_max.get()) +
                   "B, msg properties length limit 32KB.");
  if (const int32_t type = request.sys_flag & sys_flag::kTransactionMask;
      type == sys_flag::kTransactionCommit || type == sys_flag::kTransactionRollback)
    return illegal("the message is illegal: its sysFlag has the transaction type of a message that was decided");
  if ((request.sys_flag & (sys_flag::kInnerBatch | sys_flag::kNeedUnwrap)) != 0 ||
      message::find_property(properties, property::kInnerNum))
    return illegal(
        "the message is illegal: inner batches (INNER_NUM, or their bits in sysFlag) are not supported by this "
        "release");
  if (message::find_property(properties, property::kInnerMultiDispatch))
    return illegal("the message is illegal: light queues (INNER_MULTI_DISPATCH) are not supported by this release");
  const bool retry = is_retry_topic(request.topic);
  // Told here too, because a half message meets the rules only when it is committed.
  const int64_t now = parts_.now_ms();
  if (auto refusal = refuse_timer(properties, parts_.config.timer_limits(), now))
    return refused(refusal->code, std::move(refusal->remark));
  if (request.batch)
    if (auto wish = timer_wish(properties, now); wish && (wish->due_ms || wish->cancels))
      return illegal("the message is illegal: a batch cannot be delayed (TIMER_*)");
  if (auto level = delay_level_of(properties); !level) {
    return illegal("the message is illegal: " + level.error().message);
  } else if (request.batch && *level > 0) {
    return illegal("the message is illegal: a batch cannot be delayed (DELAY)");
  }
  if (request.batch && retry) return illegal("the message is illegal: a batch cannot be sent to a retry topic");
  if (request.batch && request.topic.size() > kTopicBytesMax)
    return illegal("the message is illegal: the topic of a batch has at most " + std::to_string(kTopicBytesMax) +
                   " bytes");
  return std::nullopt;
}

std::optional<SendAnswer> SendOperation::refuse_half(const SendRequest& request) const {
  auto illegal = [](const char* why) { return refused(code::kMessageIllegal, why); };
  if (request.batch) return illegal("the message is illegal: a half message (TRAN_MSG) cannot be a batch");
  if (parts_.config.reject_transactions || parts_.transactions == nullptr)
    return refused(code::kNoPermission,
                   "the broker[" + parts_.broker_ip + "] sending transaction message is forbidden");
  if (!message::find_property(request.properties, property::kProducerGroup))
    return illegal("the message is illegal: a half message names its producer group (PGROUP)");
  if (auto why = parts_.transactions->busy()) return refused(code::kSystemBusy, std::move(*why));
  return std::nullopt;
}

void SendOperation::with_topic(PendingPtr pending, const std::shared_ptr<const TopicConfig>& topic) {
  SendRequest& request = pending->request;
  const int32_t queues = std::max(topic->read_queue_nums, topic->write_queue_nums);
  if (request.queue_id >= queues)
    return pending->done(refused(code::kInvalidParameter, "request queueId[" + std::to_string(request.queue_id) +
                                                              "] is illegal, " + text_of(*topic) +
                                                              " Producer: " + request.caller_address));
  if ((topic->perm & remoting::perm::kWrite) == 0 || topic->write_queue_nums <= 0)
    return pending->done(refused(code::kNoPermission, "the topic[" + request.topic + "] sending message is forbidden"));
  if (auto answer = refuse_unsupported(request)) return pending->done(std::move(*answer));
  pending->half = is_half_message(request.properties, request.sys_flag, request.reconsume_times);
  request.sys_flag &= ~sys_flag::kTransactionMask;
  if (pending->half)
    if (auto answer = refuse_half(request)) return pending->done(std::move(*answer));
  if (request.queue_id < 0)
    request.queue_id = static_cast<int32_t>(next_queue_.fetch_add(1, std::memory_order_relaxed) %
                                            static_cast<uint32_t>(topic->write_queue_nums));
  pending->multi_tags = topic->topic_filter_type == remoting::TopicFilterType::kMultiTag;
  if (is_retry_topic(request.topic)) return redirect_retry(std::move(pending));
  store_message(pending);
}

// A consumer that could not send a message back sends it here itself; after enough tries it is a dead letter.
void SendOperation::redirect_retry(PendingPtr pending) {
  SendRequest& request = pending->request;
  const std::string group = request.topic.substr(kRetryTopicPrefix.size());
  auto config = parts_.groups.find(group);
  if (config == nullptr)
    return pending->done(refused(code::kSubscriptionGroupNotExist, "subscription group not exist, " + group));
  if (request.reconsume_times < request.max_reconsume_times.value_or(config->retry_max_times))
    return store_message(pending);
  message::remove_property(request.properties, property::kDelayLevel);
  pending->dead = true;
  request.topic = dlq_topic_of(group);
  request.queue_id = 0;
  parts_.topics.create_group_topic(request.topic, 1, 0, [this, pending](const Status& status) {
    if (!status) return pending->done(refused(code::kSystemError, status.error().message));
    store_message(pending);
  });
}

void SendOperation::store_message(const PendingPtr& pending) {
  SendRequest& request = pending->request;
  std::string& properties = request.properties;
  auto unique_key = message::find_property(properties, property::kUniqueKey);
  if (unique_key) {
    pending->unique_key = std::string(*unique_key);
  } else if (!request.batch) {
    pending->unique_key = unique_ids_.next(pending->begin_ms);
    message::append_property(properties, property::kUniqueKey, pending->unique_key);
  }
  if (message::find_property(properties, property::kPopCheck))
    message::remove_property(properties, property::kPopCheck);
  message::set_property(properties, property::kMessageRegion, parts_.config.region_id.get());
  message::set_property(properties, property::kTraceOn, parts_.config.trace_on ? "true" : "false");
  message::set_property(properties, property::kCluster, parts_.config.cluster_name);
  auto wait = message::find_property(properties, property::kWait);
  pending->wait_store_ok = !wait || equals_ignore_case(*wait, "true");

  store::MessageDraft draft;
  draft.topic = request.topic;
  draft.queue_id = request.queue_id;
  draft.flag = request.flag;
  draft.sys_flag = request.sys_flag | (pending->multi_tags ? sys_flag::kMultiTags : 0);
  draft.born_timestamp_ms = request.born_timestamp_ms;
  draft.born_host = host_address_of(request.caller_address);
  draft.store_host = parts_.store_host;
  draft.reconsume_times = request.reconsume_times;
  draft.body = request.body.bytes;
  draft.properties = properties;
  draft.wait_store_ok = pending->wait_store_ok;
  auto done = [this, pending, bytes = request.body.size()](const store::PutResult& result) {
    answer(pending, result, bytes);
  };
  if (request.batch) {
    parts_.put.put_batch(draft, std::move(done));
  } else if (pending->dead) {
    parts_.put.deliver(draft, std::move(done));
  } else if (pending->half) {
    parts_.transactions->prepare(draft, std::move(done));
  } else {
    parts_.put.put(draft, std::move(done), &pending->due_ms);
  }
}

void SendOperation::answer(const PendingPtr& pending, const store::PutResult& result, size_t body_bytes) const {
  SendAnswer answer = answer_of(result, parts_.config.message_bytes_max);
  const SendRequest& request = pending->request;
  if (answer.stored) {
    const message::HostView host{parts_.store_host.ip_bytes, parts_.store_host.port};
    for (auto offset : result.offsets) {
      if (!answer.message_ids.empty()) answer.message_ids += ',';
      answer.message_ids += message::encode_offset_message_id(host, offset);
    }
    answer.queue_id = request.queue_id;
    answer.queue_offset = result.queue_offset;
    answer.unique_key = pending->unique_key;
    if (pending->due_ms > 0 && parts_.config.recall_enabled && !is_retry_topic(request.topic) &&
        !message::find_property(request.properties, property::kTimerDeleteUniqueKey))
      answer.recall_handle = message::encode_recall_handle(
          {request.topic, parts_.config.broker_name, pending->due_ms, pending->unique_key});
    parts_.stats.on_put(pending->half ? kHalfTopic : std::string_view(request.topic),
                        static_cast<int64_t>(result.offsets.size()), static_cast<int64_t>(body_bytes),
                        parts_.now_ms() - pending->begin_ms);
  }
  pending->done(std::move(answer));
}

}  // namespace apogee::broker
