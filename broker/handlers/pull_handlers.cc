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

std::optional<PullAnswer> PullOperation::find_subscription(Pull& pull) const {
  const PullRequest& request = pull.request;
  pull.sql_ = nullptr;
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
      pull.sql_ = std::move(*compiled);
      auto subscription = std::make_shared<Subscription>();
      subscription->topic = request.topic;
      subscription->expression_type = request.expression_type;
      pull.subscription_ = std::move(subscription);
      return without_sql(request.expression_type);
    }
    if (*request.expression == "*") {
      pull.subscription_ = everything_;
      return std::nullopt;
    }
    auto parsed = parse_tag_subscription(request.topic, *request.expression, request.subscription_version);
    if (!parsed) return no_parse(parsed.error());
    pull.subscription_ = std::move(*parsed);
    return std::nullopt;
  }
  auto consumers = parts_.consumers.find(request.group);
  if (consumers == nullptr) return refused(code::kSubscriptionNotExist, "the consumer's group info not exist");
  if (consumers->message_model == MessageModel::kBroadcasting)
    if (auto group = parts_.groups.find(request.group); group != nullptr && !group->consume_broadcast_enable)
      return refused(code::kNoPermission, "the consumer group[" + request.group + "] can not consume by broadcast way",
                     kByBroadcasting);
  pull.subscription_ = consumers->subscription(request.topic);
  if (pull.subscription_ == nullptr)
    return refused(code::kSubscriptionNotExist, "the consumer's subscription not exist: topic " + request.topic);
  if (pull.subscription_->version < request.subscription_version)
    return refused(code::kSubscriptionNotLatest, "the consumer's subscription not latest");
  const std::string& type = pull.subscription_->expression_type;
  if (is_tag_type(type)) return std::nullopt;
  auto filter = parts_.filters.find(request.topic, request.group);
  if (filter.expression == nullptr)
    return refused(code::kFilterDataNotExist,
                   "The broker's consumer filter data is not exist!Your expression may be wrong!" +
                       (filter.problem.empty() ? filter.problem : " " + filter.problem));
  if (filter.client_version < pull.subscription_->version)
    return refused(code::kFilterDataNotLatest, "the consumer's consumer filter data not latest");
  pull.sql_ = std::move(filter.expression);
  return without_sql(type);
}

bool PullOperation::filters_by_properties(const Pull& pull) const {
  if (pull.subscription_->class_filter_mode) return false;
  const PullRequest& request = pull.request;
  return pull.sql_ != nullptr ||
         (parts_.config.filter_retry && parts_.filters.enabled() && is_retry_topic(request.topic) &&
          request.topic.compare(kRetryTopicPrefix.size(), std::string::npos, request.group) == 0);
}

store::RecordFilter PullOperation::record_filter(const Pull& pull) const {
  if (!filters_by_properties(pull)) return nullptr;
  if (pull.sql_ != nullptr)
    return [sql = pull.sql_](std::string_view bytes) {
      const auto properties = properties_of(bytes);
      return !properties || sql->matches(*properties);
    };
  return [filters = &parts_.filters, group = pull.request.group](std::string_view bytes) {
    const auto properties = properties_of(bytes);
    return !properties || filters->matches_retry(group, *properties);
  };
}

void PullOperation::pull(PullRequest request, Done done) {
  struct Owned final : Pull, std::enable_shared_from_this<Owned> {
    Done done;
    void answered() override { std::exchange(done, nullptr)(std::move(answer)); }
    void dropped() override {}
    std::shared_ptr<Pull> life() override {
      auto self = shared_from_this();
      return {self, static_cast<Pull*>(self.get())};
    }
  };
  auto owned = std::make_shared<Owned>();
  owned->request = std::move(request);
  owned->done = std::move(done);
  start(*owned);
}

void PullOperation::start(Pull& pull) {
  pull.first_ = true;
  pull.next_ = pull.request.queue_offset;
  pull.deadline_ms_ = parts_.now_ms() + pull.request.hold_ms;
  run(pull);
}

void PullOperation::run(Pull& pull) {
  auto answer_with = [&pull](PullAnswer answer) {
    pull.answer = std::move(answer);
    pull.answered();
  };
  const PullRequest& request = pull.request;
  if (auto answer = refuse(request)) return answer_with(std::move(*answer));
  if (auto answer = find_subscription(pull)) return answer_with(std::move(*answer));
  if (auto reset = parts_.offsets.take_reset(request.group, request.topic, request.queue_id)) {
    PullAnswer answer;
    answer.has_offsets = true;
    answer.code = code::kPullOffsetMoved;
    answer.remark = "OFFSET_RESET";
    answer.next_begin_offset = *reset;
    answer.min_offset = parts_.store.min_offset(request.topic, request.queue_id);
    answer.max_offset = parts_.store.max_offset(request.topic, request.queue_id);
    return answer_with(std::move(answer));
  }
  if (auto why = parts_.limits.refuse_consumption(request.group, request.connection))
    return answer_with(refused(code::kFlowControl, std::move(*why)));
  pull.may_wait_ = !parts_.post_reader;
  if (pull.may_wait_ || !filters_by_properties(pull)) return read(pull);
  read_elsewhere(pull);
}

void PullOperation::read_elsewhere(Pull& pull) {
  pull.may_wait_ = true;
  if (parts_.post_reader([this, &pull, life = pull.life()] { read(pull); })) return;
  pull.answer = refused(code::kSystemBusy, "[OVERLOAD]system busy, start flow control for a while");
  pull.answered();
}

void PullOperation::read(Pull& pull) {
  parts_.store.dispatch_appended();  // may run other pulls that wait
  const PullRequest& request = pull.request;
  const int64_t begin_ms = parts_.now_ms();
  store::TagsCodeFilter filter;
  if (!pull.subscription_->codes.empty())
    filter = [subscription = pull.subscription_.get()](int64_t code) { return subscription->may_match(code); };
  store::GetLimits limits;
  limits.count_max = std::min(request.count_max, parts_.config.transfer_count_max.get());
  limits.bytes_max = std::min(request.bytes_max, parts_.config.transfer_bytes_max.get());
  limits.record_filter = record_filter(pull);
  limits.only_from_memory = !pull.may_wait_;
  limits.joined = true;
  store::GetResult& got = pull.got_;
  parts_.store.get_into(request.topic, request.queue_id, pull.next_, limits, filter, got);
  if (got.on_disk) return read_elsewhere(pull);
  if (pull.first_ && request.commit_offset && *request.commit_offset >= 0)
    parts_.offsets.commit(request.group, request.topic, request.queue_id, *request.commit_offset);

  PullAnswer& answer = pull.answer;
  answer.has_offsets = true;
  answer.code = code_of(got.status, request.queue_offset);
  answer.forbidden_type = 0;
  answer.suggested_broker_id = 0;
  answer.records.clear();
  // A pull that was held, and was woken by messages that its filter does not let pass, waits on behind them.
  const bool passed_over = !pull.first_ && limits.record_filter && begin_ms < pull.deadline_ms_ &&
                           got.status == store::GetStatus::kNoMatchedMessage;
  if (passed_over) pull.next_ = got.next_begin_offset;
  const bool wait = passed_over || (pull.first_ && answer.code == code::kPullNotFound);
  if (wait && request.hold_ms > 0) {
    pull.first_ = false;
    if (hold(pull, passed_over ? pull.next_ : std::max(request.queue_offset, got.max_offset))) return;
  }
  answer.remark = to_string(got.status);
  if (answer.code == code::kPullNotFound && pull.next_ > request.queue_offset) {
    answer.code = code::kPullRetryImmediately;  // it goes on behind what does not match
    answer.remark = to_string(store::GetStatus::kNoMatchedMessage);
  }
  if (answer.code == code::kPullOffsetMoved && parts_.moved != nullptr && parts_.config.role != BrokerRole::kSlave)
    parts_.moved->tell(request.group, request.topic, request.queue_id, pull.next_, got.next_begin_offset);
  answer.next_begin_offset = got.next_begin_offset;
  answer.min_offset = got.min_offset;
  answer.max_offset = got.max_offset;
  if (answer.code == code::kSuccess) {
    count_pulled(pull, begin_ms);
    answer.records.swap(got.records);
    answer.suggested_broker_id = suggested_broker(pull);
  } else {
    parts_.stats.on_get_miss();
    if (answer.code == code::kPullOffsetMoved && parts_.config.role == BrokerRole::kSlave &&
        !parts_.config.offset_check_in_slave) {
      // A slave that lacks messages must not set a consumer back; the master decides.
      answer.code = code::kPullRetryImmediately;
      answer.next_begin_offset = request.queue_offset;
    }
  }
  pull.answered();
}

void PullOperation::count_pulled(const Pull& pull, int64_t begin_ms) const {
  const PullRequest& request = pull.request;
  const auto& got = pull.got_;
  const int64_t now = parts_.now_ms();
  parts_.limits.consumed(request.group, request.connection, got.messages);
  if (got.messages == 0)
    parts_.stats.on_get(request.group, request.topic, 0, got.bytes, now - begin_ms);
  else
    parts_.stats.on_pull(request.group, request.topic, got.messages, got.bytes, now - begin_ms,
                         now - message::store_timestamp_of(got.last_record));
}

// Who reads what has left the memory is better served by a slave.
int64_t PullOperation::suggested_broker(const Pull& pull) const {
  if (!parts_.config.slave_read || pull.got_.messages == 0) return 0;
  const auto last = load_be<int64_t>(pull.got_.last_record.data() + message::kPhysicalOffsetPosition);
  const auto group = parts_.groups.find(pull.request.group);
  if (group == nullptr) return 0;
  const bool slow = parts_.store.log_end() - last > parts_.hot_bytes;
  return slow ? group->which_broker_when_consume_slowly : group->broker_id;
}

/// True: the pull is held, and may be gone already.
bool PullOperation::hold(Pull& pull, store::QueueOffset end) {
  // Kept for their room.
  static thread_local std::string topic;
  static thread_local HeldPulls::Pull held;
  topic = pull.request.topic;
  const int32_t queue_id = pull.request.queue_id;
  held.connection = pull.request.connection;
  held.topic = topic;
  held.queue_id = queue_id;
  held.offset = end;
  held.deadline_ms = pull.deadline_ms_;
  held.filter = nullptr;
  if (!pull.subscription_->codes.empty())
    held.filter = [subscription = pull.subscription_.get()](int64_t code) { return subscription->may_match(code); };
  held.dropped = nullptr;
  if (auto life = pull.life()) {
    held.resume = [this, &pull, life = std::move(life)] { run(pull); };
  } else {
    held.resume = [this, &pull] { run(pull); };
    held.dropped = [&pull] { pull.dropped(); };
  }
  const auto id = parts_.held.hold(std::move(held));
  held.resume = nullptr;  // NOLINT(bugprone-use-after-move): when it was not taken it must not keep the pull alive
  if (id == 0) return false;
  // A message that arrived since the read was told to nobody.
  if (parts_.store.max_offset(topic, queue_id) > end) parts_.held.wake(topic, queue_id, id);
  return true;
}

void apply(const PullFields& fields, const BrokerConfig& config, PullRequest& to) {
  to.queue_id = fields.queue_id;
  to.queue_offset = fields.queue_offset;
  to.count_max = fields.count_max;
  to.subscription_version = fields.subscription_version;
  to.bytes_max = fields.bytes_max > 0 ? fields.bytes_max : INT64_MAX;
  to.lite = (fields.sys_flag & pull_flag::kLitePull) != 0;
  to.commit_offset.reset();
  if ((fields.sys_flag & pull_flag::kCommitOffset) != 0) to.commit_offset = fields.commit_offset;
  to.hold_ms = 0;
  if ((fields.sys_flag & pull_flag::kSuspend) != 0)
    to.hold_ms =
        config.long_polling ? std::clamp<int64_t>(fields.suspend_ms, 0, kHoldMsMax) : config.short_polling_ms.get();
}

void fill_response(PullAnswer& answer, remoting::Command& response) {
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
  if (answer.records.empty()) return;
  response.body = std::move(answer.records.front());
  answer.records.erase(answer.records.begin());
  response.body_tail = std::move(answer.records);
}

void PullHandlers::pull(const remoting::Caller& caller, remoting::Command request, remoting::Responder respond) {
  RequestFields fields(request);
  PullRequest wanted;
  wanted.connection = caller.connection;
  wanted.caller_address = caller.address;
  wanted.group = fields.text("consumerGroup");
  wanted.topic = fields.text("topic");
  PullFields numbers;
  numbers.queue_id = fields.i32("queueId");
  numbers.queue_offset = fields.i64("queueOffset");
  numbers.count_max = fields.i32("maxMsgNums");
  numbers.sys_flag = fields.i32("sysFlag");
  numbers.commit_offset = fields.i64("commitOffset");
  numbers.suspend_ms = fields.i64("suspendTimeoutMillis");
  numbers.subscription_version = fields.i64("subVersion");
  wanted.expression_type = fields.text_or("expressionType", "");
  numbers.bytes_max = fields.i32_or("maxMsgBytes", INT32_MAX);
  if (numbers.count_max < 1) fields.reject("the header field maxMsgNums is less than 1");
  if (!fields.ok()) return refuse(request, respond, fields);
  apply(numbers, config_, wanted);
  if (request.request_code() == remoting::RequestCode::kLitePullMessage) wanted.lite = true;
  if ((numbers.sys_flag & pull_flag::kSubscription) != 0) wanted.expression = fields.text_or("subscription", "*");

  remoting::Command response = remoting::Command::response_to(request, code::kSystemError);
  operation_.pull(std::move(wanted),
                  [response = std::move(response), respond = std::move(respond)](PullAnswer answer) mutable {
                    fill_response(answer, response);
                    respond(std::move(response));
                  });
}

}  // namespace apogee::broker
