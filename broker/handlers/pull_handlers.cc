#include "broker/handlers/pull_handlers.h"

#include <algorithm>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "common/base/bytes.h"
#include "common/base/hash.h"
#include "common/base/text.h"
#include "common/message/message_record.h"
#include "common/message/sys_flag.h"

namespace apogee::broker {

namespace code = remoting::response_code;
namespace pull_flag = message::pull_sys_flag;

namespace {

constexpr int64_t kHoldMsMax = 300'000;
enum Forbidden : int32_t { kByBroker = 1, kByGroup = 2, kByTopic = 3, kByBroadcasting = 4 };

PullAnswer refused(int32_t response_code, std::string remark, int32_t forbidden_type = 0) {
  PullAnswer answer;
  answer.code = response_code;
  answer.remark = std::move(remark);
  answer.forbidden_type = forbidden_type;
  return answer;
}

int32_t code_of(store::GetStatus status, int64_t asked_offset) {
  using store::GetStatus;
  switch (status) {
    case GetStatus::kFound: return code::kSuccess;
    case GetStatus::kMessageWasRemoving:
    case GetStatus::kNoMatchedMessage: return code::kPullRetryImmediately;
    case GetStatus::kNoMatchedLogicQueue:
    case GetStatus::kNoMessageInQueue: return asked_offset == 0 ? code::kPullNotFound : code::kPullOffsetMoved;
    case GetStatus::kOffsetFoundNull:
    case GetStatus::kOffsetOverflowOne: return code::kPullNotFound;
    case GetStatus::kOffsetOverflowBadly:
    case GetStatus::kOffsetTooSmall: return code::kPullOffsetMoved;
  }
  return code::kSystemError;
}

/// The properties of a record, without a look at its other fields; nullopt: its lengths cannot be.
std::optional<std::string_view> properties_of(std::string_view record) {
  constexpr size_t kHostBytes = 8, kHostV6Bytes = 20, kTimeBytes = 8, kReconsumeBytes = 4, kPreparedBytes = 8;
  if (record.size() < message::kRecordBytesMin) return std::nullopt;
  const auto flags = load_be<int32_t>(record.data() + message::kSysFlagPosition);
  const size_t hosts = ((flags & message::sys_flag::kBornHostV6) != 0 ? kHostV6Bytes : kHostBytes) +
                       ((flags & message::sys_flag::kStoreHostV6) != 0 ? kHostV6Bytes : kHostBytes);
  ByteReader in(record);
  in.take(message::kBornHostPosition + hosts + kTimeBytes + kReconsumeBytes + kPreparedBytes);
  const auto body_bytes = in.read<int32_t>();
  if (!in.ok() || body_bytes < 0) return std::nullopt;
  in.take(static_cast<size_t>(body_bytes));
  const bool v2 = load_be<int32_t>(record.data() + 4) == message::kRecordMagicV2;
  const int32_t topic_bytes = v2 ? in.read<int16_t>() : in.read<int8_t>();
  if (!in.ok() || topic_bytes < 0) return std::nullopt;
  in.take(static_cast<size_t>(topic_bytes));
  const auto properties_bytes = in.read<int16_t>();
  if (!in.ok() || properties_bytes < 0) return std::nullopt;
  const auto properties = in.take(static_cast<size_t>(properties_bytes));
  return in.ok() ? std::optional(properties) : std::nullopt;
}

}  // namespace

Result<std::shared_ptr<const Subscription>> parse_tag_subscription(const std::string& topic,
                                                                   const std::string& expression, int64_t version) {
  auto subscription = std::make_shared<Subscription>();
  subscription->topic = topic;
  subscription->expression = expression.empty() ? "*" : expression;
  subscription->version = version;
  if (subscription->expression == "*") return std::shared_ptr<const Subscription>(std::move(subscription));
  for (std::string_view part : split(expression, "||"))
    if (auto tag = trim(part); !tag.empty()) subscription->tags.emplace_back(tag);
  if (subscription->tags.empty())
    return Error{Errc::kInvalidArgument, "the expression " + expression + " names no tag"};
  for (const auto& tag : subscription->tags) subscription->codes.push_back(java_string_hash(tag));
  std::sort(subscription->codes.begin(), subscription->codes.end());
  return std::shared_ptr<const Subscription>(std::move(subscription));
}

std::optional<PullAnswer> PullOperation::refuse(const PullRequest& request) const {
  const BrokerConfig& config = parts_.config;
  if ((config.permission & remoting::perm::kRead) == 0)
    return refused(code::kNoPermission, "the broker[" + parts_.broker_ip + "] pulling message is forbidden", kByBroker);
  if (request.lite && !config.lite_pull)
    return refused(code::kNoPermission, "the broker[" + parts_.broker_ip + "] for lite pull consumer is forbidden",
                   kByBroker);
  auto group = parts_.groups.find_or_create(request.group);
  if (group == nullptr)
    return refused(code::kSubscriptionGroupNotExist, "subscription group [" + request.group + "] does not exist");
  if (!group->consume_enable)
    return refused(code::kNoPermission, "subscription group no permission, " + request.group, kByGroup);
  auto topic = parts_.topics.find(request.topic);
  if (topic == nullptr)
    return refused(code::kTopicNotExist, "topic[" + request.topic + "] not exist, apply first please!");
  if ((topic->perm & remoting::perm::kRead) == 0)
    return refused(code::kNoPermission, "the topic[" + request.topic + "] pulling message is forbidden", kByTopic);
  if (request.queue_id < 0 || request.queue_id >= topic->read_queue_nums)
    return refused(code::kInvalidParameter, "queueId[" + std::to_string(request.queue_id) + "] is illegal, topic:[" +
                                                request.topic + "] topicConfig.readQueueNums:[" +
                                                std::to_string(topic->read_queue_nums) + "] consumer:[" +
                                                request.caller_address + "]");
  return std::nullopt;
}

std::optional<PullAnswer> PullOperation::find_subscription(const PullRequest& request, Wanted& wanted) const {
  auto without_sql = [this](const std::string& type) -> std::optional<PullAnswer> {
    if (parts_.filters.enabled()) return std::nullopt;
    return refused(code::kSystemError, "The broker does not support consumer to filter message by " + type);
  };
  if (request.expression) {
    auto no_parse = [](const Error& error) {
      return refused(code::kSubscriptionParseFailed,
                     "parse the consumer's subscription failed: subscription: " + error.message);
    };
    if (!is_tag_type(request.expression_type)) {
      auto compiled = parts_.filters.compile(request.expression_type, *request.expression);
      if (!compiled) return no_parse(compiled.error());
      wanted.sql = std::move(*compiled);
      auto subscription = std::make_shared<Subscription>();
      subscription->topic = request.topic;
      subscription->expression_type = request.expression_type;
      wanted.subscription = std::move(subscription);
      return without_sql(request.expression_type);
    }
    if (*request.expression == "*") {
      wanted.subscription = everything_;
      return std::nullopt;
    }
    auto parsed = parse_tag_subscription(request.topic, *request.expression, request.subscription_version);
    if (!parsed) return no_parse(parsed.error());
    wanted.subscription = std::move(*parsed);
    return std::nullopt;
  }
  auto consumers = parts_.consumers.find(request.group);
  if (consumers == nullptr) return refused(code::kSubscriptionNotExist, "the consumer's group info not exist");
  if (consumers->message_model == MessageModel::kBroadcasting)
    if (auto group = parts_.groups.find(request.group); group != nullptr && !group->consume_broadcast_enable)
      return refused(code::kNoPermission, "the consumer group[" + request.group + "] can not consume by broadcast way",
                     kByBroadcasting);
  wanted.subscription = consumers->subscription(request.topic);
  if (wanted.subscription == nullptr)
    return refused(code::kSubscriptionNotExist, "the consumer's subscription not exist: topic " + request.topic);
  if (wanted.subscription->version < request.subscription_version)
    return refused(code::kSubscriptionNotLatest, "the consumer's subscription not latest");
  const std::string& type = wanted.subscription->expression_type;
  if (is_tag_type(type)) return std::nullopt;
  auto filter = parts_.filters.find(request.topic, request.group);
  if (filter.expression == nullptr)
    return refused(code::kFilterDataNotExist,
                   "The broker's consumer filter data is not exist!Your expression may be wrong!" +
                       (filter.problem.empty() ? filter.problem : " " + filter.problem));
  if (filter.client_version < wanted.subscription->version)
    return refused(code::kFilterDataNotLatest, "the consumer's consumer filter data not latest");
  wanted.sql = std::move(filter.expression);
  return without_sql(type);
}

bool PullOperation::filters_by_properties(const PullRequest& request, const Wanted& wanted) const {
  if (wanted.subscription->class_filter_mode) return false;
  return wanted.sql != nullptr ||
         (parts_.config.filter_retry && parts_.filters.enabled() && is_retry_topic(request.topic) &&
          request.topic.compare(kRetryTopicPrefix.size(), std::string::npos, request.group) == 0);
}

store::RecordFilter PullOperation::record_filter(const PullRequest& request, const Wanted& wanted) const {
  if (!filters_by_properties(request, wanted)) return nullptr;
  if (wanted.sql != nullptr)
    return [sql = wanted.sql](std::string_view bytes) {
      const auto properties = properties_of(bytes);
      return !properties || sql->matches(*properties);
    };
  return [filters = &parts_.filters, group = request.group](std::string_view bytes) {
    const auto properties = properties_of(bytes);
    return !properties || filters->matches_retry(group, *properties);
  };
}

void PullOperation::pull(PullRequest request, Done done) {
  Progress progress;
  progress.next = request.queue_offset;
  progress.deadline_ms = parts_.now_ms() + request.hold_ms;
  run(std::make_shared<PullRequest>(std::move(request)), std::make_shared<const Done>(std::move(done)), progress);
}

void PullOperation::run(const RequestPtr& request, const DonePtr& done, Progress progress) {
  if (auto answer = refuse(*request)) return (*done)(std::move(*answer));
  Wanted wanted;
  if (auto answer = find_subscription(*request, wanted)) return (*done)(std::move(*answer));
  if (auto reset = parts_.offsets.take_reset(request->group, request->topic, request->queue_id)) {
    PullAnswer answer;
    answer.has_offsets = true;
    answer.code = code::kPullOffsetMoved;
    answer.remark = "OFFSET_RESET";
    answer.next_begin_offset = *reset;
    answer.min_offset = parts_.store.min_offset(request->topic, request->queue_id);
    answer.max_offset = parts_.store.max_offset(request->topic, request->queue_id);
    return (*done)(std::move(answer));
  }
  if (auto why = parts_.limits.refuse_consumption(request->group, request->connection))
    return (*done)(refused(code::kFlowControl, std::move(*why)));
  progress.may_wait = !parts_.post_reader;
  if (progress.may_wait || !filters_by_properties(*request, wanted)) return read(request, done, progress, wanted);
  read_elsewhere(request, done, progress, wanted);
}

void PullOperation::read_elsewhere(const RequestPtr& request, const DonePtr& done, Progress progress,
                                   const Wanted& wanted) {
  progress.may_wait = true;
  if (!parts_.post_reader([this, request, done, progress, wanted] { read(request, done, progress, wanted); }))
    (*done)(refused(code::kSystemBusy, "[OVERLOAD]system busy, start flow control for a while"));
}

void PullOperation::read(const RequestPtr& request, const DonePtr& done, Progress progress, const Wanted& wanted) {
  const int64_t begin_ms = parts_.now_ms();
  store::TagsCodeFilter filter;
  if (!wanted.subscription->codes.empty())
    filter = [subscription = wanted.subscription](int64_t tags_code) { return subscription->may_match(tags_code); };
  store::GetLimits limits;
  limits.count_max = std::min(request->count_max, parts_.config.transfer_count_max.get());
  limits.bytes_max = std::min(request->bytes_max, parts_.config.transfer_bytes_max.get());
  limits.record_filter = record_filter(*request, wanted);
  limits.only_from_memory = !progress.may_wait;
  auto got = parts_.store.get(request->topic, request->queue_id, progress.next, limits, filter);
  if (got.on_disk) return read_elsewhere(request, done, progress, wanted);
  if (progress.first && request->commit_offset && *request->commit_offset >= 0)
    parts_.offsets.commit(request->group, request->topic, request->queue_id, *request->commit_offset);

  PullAnswer answer;
  answer.has_offsets = true;
  answer.code = code_of(got.status, request->queue_offset);
  // A pull that was held, and was woken by messages that its filter does not let pass, waits on behind them.
  const bool passed_over = !progress.first && limits.record_filter && begin_ms < progress.deadline_ms &&
                           got.status == store::GetStatus::kNoMatchedMessage;
  if (passed_over) progress.next = got.next_begin_offset;
  const bool wait = passed_over || (progress.first && answer.code == code::kPullNotFound);
  if (wait && request->hold_ms > 0) {
    progress.first = false;
    if (hold(request, done, filter, passed_over ? progress.next : std::max(request->queue_offset, got.max_offset),
             progress))
      return;
  }
  answer.remark = to_string(got.status);
  if (answer.code == code::kPullNotFound && progress.next > request->queue_offset) {
    answer.code = code::kPullRetryImmediately;  // it goes on behind what does not match
    answer.remark = to_string(store::GetStatus::kNoMatchedMessage);
  }
  if (answer.code == code::kPullOffsetMoved && parts_.moved != nullptr && parts_.config.role != BrokerRole::kSlave)
    parts_.moved->tell(request->group, request->topic, request->queue_id, progress.next, got.next_begin_offset);
  answer.next_begin_offset = got.next_begin_offset;
  answer.min_offset = got.min_offset;
  answer.max_offset = got.max_offset;
  if (answer.code == code::kSuccess) {
    const int64_t now = parts_.now_ms();
    parts_.limits.consumed(request->group, request->connection, static_cast<int64_t>(got.records.size()));
    parts_.stats.on_get(request->group, request->topic, static_cast<int64_t>(got.records.size()), got.bytes,
                        now - begin_ms);
    if (!got.records.empty())
      parts_.stats.on_get_latency(request->group, request->topic, request->queue_id,
                                  now - message::store_timestamp_of(got.records.back().bytes));
    answer.records = std::move(got.records);
    answer.suggested_broker_id = suggested_broker(*request, answer);
  } else {
    parts_.stats.on_get_miss();
    if (answer.code == code::kPullOffsetMoved && parts_.config.role == BrokerRole::kSlave &&
        !parts_.config.offset_check_in_slave) {
      // A slave that lacks messages must not set a consumer back; the master decides.
      answer.code = code::kPullRetryImmediately;
      answer.next_begin_offset = request->queue_offset;
    }
  }
  (*done)(std::move(answer));
}

// Who reads what has left the memory is better served by a slave.
int64_t PullOperation::suggested_broker(const PullRequest& request, const PullAnswer& answer) const {
  if (!parts_.config.slave_read || answer.records.empty()) return 0;
  const auto last = load_be<int64_t>(answer.records.back().bytes.data() + message::kPhysicalOffsetPosition);
  const auto group = parts_.groups.find(request.group);
  if (group == nullptr) return 0;
  const bool slow = parts_.store.log_end() - last > parts_.hot_bytes;
  return slow ? group->which_broker_when_consume_slowly : group->broker_id;
}

bool PullOperation::hold(const RequestPtr& request, const DonePtr& done, store::TagsCodeFilter filter,
                         store::QueueOffset end, Progress progress) {
  HeldPulls::Pull pull;
  pull.connection = request->connection;
  pull.topic = request->topic;
  pull.queue_id = request->queue_id;
  pull.offset = end;
  pull.deadline_ms = progress.deadline_ms;
  pull.filter = std::move(filter);
  pull.resume = [this, request, done, progress] { run(request, done, progress); };
  auto id = parts_.held.hold(std::move(pull));
  if (id == 0) return false;
  // A message that arrived since the read was told to nobody.
  if (parts_.store.max_offset(request->topic, request->queue_id) > end)
    parts_.held.wake(request->topic, request->queue_id, id);
  return true;
}

namespace {

/// Records that follow one another in memory become one part, which costs less to send. Takes the first one out.
SharedBytes join_neighbours(std::vector<SharedBytes>& records) {
  SharedBytes first = std::move(records.front());
  SharedBytes* last = &first;
  size_t kept = 0;
  for (size_t i = 1; i < records.size(); ++i) {
    auto& record = records[i];
    if (last->bytes.data() + last->size() == record.bytes.data() && last->owner == record.owner) {
      last->bytes = std::string_view(last->bytes.data(), last->size() + record.size());
      continue;
    }
    records[kept] = std::move(record);
    last = &records[kept++];
  }
  records.resize(kept);
  return first;
}

}  // namespace

void PullHandlers::pull(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
  RequestFields fields(request);
  PullRequest wanted;
  wanted.connection = caller.connection;
  wanted.caller_address = caller.address;
  wanted.group = fields.text("consumerGroup");
  wanted.topic = fields.text("topic");
  wanted.queue_id = fields.i32("queueId");
  wanted.queue_offset = fields.i64("queueOffset");
  wanted.count_max = fields.i32("maxMsgNums");
  const int32_t flags = fields.i32("sysFlag");
  const int64_t commit_offset = fields.i64("commitOffset");
  const int64_t suspend_ms = fields.i64("suspendTimeoutMillis");
  wanted.subscription_version = fields.i64("subVersion");
  wanted.expression_type = fields.text_or("expressionType", "");
  const int32_t bytes_max = fields.i32_or("maxMsgBytes", INT32_MAX);
  if (wanted.count_max < 1) fields.reject("the header field maxMsgNums is less than 1");
  if (!fields.ok()) return refuse(request, respond, fields);
  if (bytes_max > 0) wanted.bytes_max = bytes_max;
  wanted.lite =
      (flags & pull_flag::kLitePull) != 0 || request.request_code() == remoting::RequestCode::kLitePullMessage;
  if ((flags & pull_flag::kCommitOffset) != 0) wanted.commit_offset = commit_offset;
  if ((flags & pull_flag::kSuspend) != 0)
    wanted.hold_ms =
        config_.long_polling ? std::clamp<int64_t>(suspend_ms, 0, kHoldMsMax) : config_.short_polling_ms.get();
  if ((flags & pull_flag::kSubscription) != 0) wanted.expression = fields.text_or("subscription", "*");

  remoting::Command response = remoting::Command::response_to(request, code::kSystemError);
  operation_.pull(std::move(wanted),
                  [response = std::move(response), respond = std::move(respond)](PullAnswer answer) mutable {
                    response.code = answer.code;
                    response.remark = std::move(answer.remark);
                    if (answer.has_offsets) {
                      constexpr size_t kFields = 4, kTextBytes = 160;
                      response.ext.reserve(kFields, kTextBytes);
                      response.ext.set("suggestWhichBrokerId", answer.suggested_broker_id);
                      response.ext.set("nextBeginOffset", answer.next_begin_offset);
                      response.ext.set("minOffset", answer.min_offset);
                      response.ext.set("maxOffset", answer.max_offset);
                    }
                    if (answer.forbidden_type != 0) response.ext.set("forbiddenType", answer.forbidden_type);
                    if (!answer.records.empty()) {
                      response.body = join_neighbours(answer.records);
                      response.body_tail = std::move(answer.records);
                    }
                    respond(std::move(response));
                  });
}

}  // namespace apogee::broker
