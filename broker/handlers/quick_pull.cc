#include "broker/handlers/quick_pull.h"

#include <fmt/format.h>

#include <exception>
#include <optional>
#include <string>
#include <utility>

#include "common/base/decimal.h"
#include "common/loop/event_loop.h"
#include "common/message/sys_flag.h"
#include "common/remoting/command_codec.h"

namespace apogee::broker {

namespace code = remoting::response_code;

namespace {

/// Room of pulls that were held at once, which is kept when they are answered; each some hundred bytes.
constexpr size_t kIdleKeptMax = 256;

enum Field : uint32_t {
  kGroup = 1,
  kTopic = 2,
  kQueueId = 4,
  kQueueOffset = 8,
  kCountMax = 16,
  kSysFlag = 32,
  kCommitOffset = 64,
  kSuspend = 128,
  kSubVersion = 256,
  kNeeded = 511,
  kSubscription = 512,
  kExpressionType = 1'024,
  kBytesMax = 2'048,
};

struct Name {
  std::string_view name;
  Field field;
};
constexpr Name kNames[] = {{"consumerGroup", kGroup},
                           {"topic", kTopic},
                           {"queueId", kQueueId},
                           {"queueOffset", kQueueOffset},
                           {"maxMsgNums", kCountMax},
                           {"sysFlag", kSysFlag},
                           {"commitOffset", kCommitOffset},
                           {"suspendTimeoutMillis", kSuspend},
                           {"subVersion", kSubVersion},
                           {"subscription", kSubscription},
                           {"expressionType", kExpressionType},
                           {"maxMsgBytes", kBytesMax}};

/// Not nothing, and not white space in front, so that trim() would leave something of it.
bool is_text(std::string_view value) { return !value.empty() && value.front() > ' '; }

bool read_field(Field field, std::string_view value, PullFields& to, std::string_view& group, std::string_view& topic,
                std::string_view& subscription, std::string_view& expression_type) {
  switch (field) {
    case kGroup: group = value; return is_text(value);
    case kTopic: topic = value; return is_text(value);
    case kQueueId: return read_decimal(value, to.queue_id);
    case kQueueOffset: return read_decimal(value, to.queue_offset);
    case kCountMax: return read_decimal(value, to.count_max) && to.count_max >= 1;
    case kSysFlag: return read_decimal(value, to.sys_flag);
    case kCommitOffset: return read_decimal(value, to.commit_offset);
    case kSuspend: return read_decimal(value, to.suspend_ms);
    case kSubVersion: return read_decimal(value, to.subscription_version);
    case kSubscription: subscription = value; return is_text(value);
    case kExpressionType: expression_type = value; return is_text(value);
    case kBytesMax: return read_decimal(value, to.bytes_max);
    case kNeeded: break;
  }
  return false;
}

/// False: a field is missing, or is not what it should be, or has escapes.
bool read_fields(const remoting::HeaderView& header, PullFields& fields, PullRequest& to) {
  std::string_view group, topic, subscription, expression_type;
  uint32_t seen = 0;
  for (size_t i = 0; i < header.field_count; ++i) {
    const auto& field = header.fields[i];
    // Clients write them in this order, or one that is sorted.
    for (const auto& [name, kind] : kNames) {
      if (field.name.size() != name.size() || field.name != name) continue;
      if (field.escaped || !read_field(kind, field.value, fields, group, topic, subscription, expression_type))
        return false;
      seen |= kind;
      break;
    }
  }
  if ((seen & kNeeded) != kNeeded) return false;
  to.group.assign(group);
  to.topic.assign(topic);
  to.expression_type.assign(expression_type);
  if ((fields.sys_flag & message::pull_sys_flag::kSubscription) == 0) {
    to.expression.reset();
    return true;
  }
  if (!to.expression) to.expression.emplace();
  to.expression->assign((seen & kSubscription) != 0 ? subscription : std::string_view("*"));
  return true;
}

void append_number(std::string& to, std::string_view name, int64_t number) {
  fmt::format_int digits(number);
  to += name;
  to.append(digits.data(), digits.size());
}

bool counts_as_refused(int32_t answer) {
  return answer != code::kSuccess && (answer < code::kPullNotFound || answer > code::kPullOffsetMoved);
}

}  // namespace

/// What one loop has for itself.
class QuickPull::Lane {
 public:
  explicit Lane(const Parts& parts)
      : parts_(parts),
        served_(parts.requests.requests_of(remoting::RequestCode::kPullMessage)),
        refused_(parts.requests.refused_of(remoting::RequestCode::kPullMessage)),
        answer_tail_(remoting::json_header_tail()) {}

  bool take(const remoting::Caller& caller, const remoting::HeaderView& header, remoting::QuickReply& reply);

 private:
  struct Asked final : Pull {
    Lane* lane = nullptr;
    loop::EventLoop* loop = nullptr;
    std::shared_ptr<loop::EventLoop::Mailbox> mailbox;
    std::optional<remoting::QuickReply> reply;
    int32_t opaque = 0;
    size_t index = 0;     ///< in all_
    bool failed = false;  ///< it was answered for the operation, and its room is not used again
    /// Thread: any.
    void answered() override {
      if (loop::EventLoop::current() == loop) return lane->finish(*this);
      (void)mailbox->post([this] { lane->finish(*this); });  // else the connection has gone with its loop
    }
    void dropped() override {
      if (loop::EventLoop::current() == loop) return lane->let_go(*this);
      (void)mailbox->post([this] { lane->let_go(*this); });
    }
  };
  [[nodiscard]] Asked& take_room();
  void let_go(Asked& asked);
  void finish(Asked& asked);
  void answer(Asked& asked);
  void answer_unusual(Asked& asked);

  const Parts& parts_;
  std::atomic<uint64_t>&served_, &refused_;
  const std::string answer_tail_;
  std::string answer_;
  Asked* current_ = nullptr;  ///< it was started, and has not been answered since
  std::vector<std::unique_ptr<Asked>> all_;
  std::vector<Asked*> free_;
};

QuickPull::Lane::Asked& QuickPull::Lane::take_room() {
  if (free_.empty()) {
    all_.push_back(std::make_unique<Asked>());
    all_.back()->index = all_.size() - 1;
    free_.reserve(kIdleKeptMax);
    free_.push_back(all_.back().get());
  }
  Asked& asked = *free_.back();
  free_.pop_back();
  return asked;
}

void QuickPull::Lane::let_go(Asked& asked) {
  asked.answer.records.clear();
  if (free_.size() < kIdleKeptMax) return free_.push_back(&asked);
  const size_t index = asked.index;
  std::swap(all_[index], all_.back());
  all_[index]->index = index;
  all_.pop_back();
}

void QuickPull::Lane::finish(Asked& asked) {
  if (current_ == &asked) current_ = nullptr;
  if (asked.failed) return;
  answer(asked);
  let_go(asked);
}

void QuickPull::Lane::answer(Asked& asked) {
  auto& answer = asked.answer;
  if (counts_as_refused(answer.code)) refused_.fetch_add(1, std::memory_order_relaxed);
  if (!answer.has_offsets || answer.forbidden_type != 0) return answer_unusual(asked);
  size_t body_bytes = 0;
  for (const auto& part : answer.records) body_bytes += part.size();
  std::string& out = answer_;
  out.assign(remoting::kFrameHeadBytes, '\0');
  append_number(out, "{\"code\":", answer.code);
  append_number(out, ",\"extFields\":{\"suggestWhichBrokerId\":\"", answer.suggested_broker_id);
  append_number(out, "\",\"nextBeginOffset\":\"", answer.next_begin_offset);
  append_number(out, "\",\"minOffset\":\"", answer.min_offset);
  append_number(out, "\",\"maxOffset\":\"", answer.max_offset);
  append_number(out, "\"},\"flag\":1,\"language\":\"CPP\",\"opaque\":", asked.opaque);
  out += ",\"remark\":\"";
  out += answer.remark;  // one of a few words
  out += '"';
  out += answer_tail_;
  remoting::store_frame_head(out.data(), remoting::SerializeType::kJson, out.size() - remoting::kFrameHeadBytes,
                             body_bytes);
  asked.reply->send(out, answer.records);
}

void QuickPull::Lane::answer_unusual(Asked& asked) {
  remoting::Command response;
  response.flag = remoting::kResponseFlag;
  response.opaque = asked.opaque;
  fill_response(asked.answer, response);
  std::string head;
  remoting::append_frame_head(head, response);
  asked.reply->send(head);
}

bool QuickPull::Lane::take(const remoting::Caller& caller, const remoting::HeaderView& header,
                           remoting::QuickReply& reply) {
  if (header.binary || (header.flag & remoting::kOnewayFlag) != 0 ||
      (parts_.vip_port != 0 && caller.local_port == parts_.vip_port))
    return false;
  Asked& asked = take_room();
  PullFields fields;
  if (!read_fields(header, fields, asked.request)) {
    let_go(asked);
    return false;
  }
  asked.request.connection = caller.connection;
  asked.request.caller_address.assign(caller.address);
  apply(fields, parts_.config, asked.request);
  asked.lane = this;
  if (asked.loop == nullptr) {
    asked.loop = loop::EventLoop::current();
    asked.mailbox = asked.loop->mailbox();
  }
  asked.opaque = header.opaque;
  asked.reply = reply;
  served_.fetch_add(1, std::memory_order_relaxed);
  current_ = &asked;
  try {
    parts_.operation.start(asked);
  } catch (const std::exception& e) {
    // As RequestTable does: what a library throws must not end the process.
    parts_.logger.error("request {} of {} failed: {}", header.code, caller.address, e.what());
    if (std::exchange(current_, nullptr) != &asked) return true;
    asked.failed = true;
    refused_.fetch_add(1, std::memory_order_relaxed);
    asked.answer = {};
    asked.answer.code = code::kSystemError;
    asked.answer.remark = std::string("internal error: ") + e.what();
    answer_unusual(asked);
  }
  if (std::exchange(current_, nullptr) == &asked) asked.reply->hold();
  return true;
}

QuickPull::QuickPull(Parts parts) : parts_(parts) {
  for (size_t i = 0; i < parts_.loops; ++i) lanes_.push_back(std::make_unique<Lane>(parts_));
}

QuickPull::~QuickPull() = default;

bool QuickPull::take(size_t loop, const remoting::Caller& caller, const remoting::HeaderView& header,
                     remoting::QuickReply reply) {
  return header.code == static_cast<int32_t>(remoting::RequestCode::kPullMessage) &&
         lanes_[loop]->take(caller, header, reply);
}

}  // namespace apogee::broker
