#include "broker/handlers/quick_send.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/crc32.h"
#include "common/base/text.h"
#include "common/loop/event_loop.h"
#include "common/message/batch.h"
#include "common/message/message_id.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/record_form.h"
#include "common/message/sys_flag.h"
#include "common/remoting/command_codec.h"
#include "store/consume_queues.h"

namespace apogee::broker {

namespace code = remoting::response_code;
namespace property = message::property;
namespace sys_flag = message::sys_flag;

namespace {

constexpr size_t kKeyBytesMax = 96;
constexpr size_t kTopicsKeptMax = 20'000;
constexpr size_t kHeadBytes = 8;
/// Of a batch; larger ones are not worth the room that would be kept for them.
constexpr size_t kBatchMessagesMax = 4'096;
constexpr size_t kNumberBytesMax = 20;
constexpr size_t kIdTailBytes = 16;  ///< of a message id: its offset, in hexadecimal digits

template <typename Int>
bool to_number(std::string_view text, Int& to) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
  return error == std::errc() && end == text.data() + text.size();
}

/// The fields of a send, named by one letter: views into the header.
struct Fields {
  std::string_view topic, properties;
  bool escaped_properties = false;
  bool has_batch = false, batch = false;  ///< the field m
  int32_t queue_id = -1, sys_flag = 0, flag = 0, reconsume_times = 0;
  int64_t born_timestamp_ms = 0;
};

constexpr uint32_t bit(char letter) { return 1U << (letter - 'a'); }
constexpr uint32_t kNeeded = bit('a') | bit('b') | bit('d') | bit('e') | bit('f') | bit('g') | bit('h') | bit('i');

bool read_field(char letter, const remoting::HeaderView::Field& field, Fields& to) {
  const std::string_view value = field.value;
  int32_t unused = 0;
  if (letter == 'i') {
    to.properties = value;
    to.escaped_properties = field.escaped;
    return true;
  }
  if (field.escaped) return false;
  switch (letter) {
    case 'a': return !value.empty() && value.front() > ' ';
    case 'b': to.topic = value; return true;
    case 'd': return to_number(value, unused);
    case 'e': return to_number(value, to.queue_id);
    case 'f': return to_number(value, to.sys_flag);
    case 'g': return to_number(value, to.born_timestamp_ms);
    case 'h': return to_number(value, to.flag);
    case 'j': return to_number(value, to.reconsume_times);
    case 'l': return value.empty() || to_number(value, unused);
    case 'm':
      to.has_batch = true;
      to.batch = equals_ignore_case(value, "true");
      return true;
    default: return true;
  }
}

/// False: a field is missing, or is not what it should be.
bool read_fields(const remoting::HeaderView& header, Fields& to) {
  uint32_t seen = 0;
  for (size_t i = 0; i < header.field_count; ++i) {
    const auto& field = header.fields[i];
    if (field.name.size() != 1 || field.name[0] < 'a' || field.name[0] > 'm') continue;
    if (!read_field(field.name[0], field, to)) return false;
    seen |= bit(field.name[0]);
  }
  return (seen & kNeeded) == kNeeded;
}

struct PlainProperties {
  std::string_view unique_key;
  bool wait_store_ok = true;
};

/// Whether a property means nothing to this broker, which keeps it as it is.
bool is_plain_name(std::string_view name) {
  switch (name.front()) {
    case 'T': return name == property::kTags;  // TIMER_*, TRAN_*, TRACE_ON, TRANSACTION_*
    case 'I': return name != property::kInnerNum && name != property::kInnerMultiDispatch;
    case 'D': return name != property::kDelayLevel;
    case 'P': return name != property::kPopCheck;
    case 'M': return name != property::kMessageRegion;
    case 'C': return name != property::kCluster;
    default: return true;
  }
}

bool is_plain_key(std::string_view key) {
  return !key.empty() && key.size() <= kKeyBytesMax &&
         std::all_of(key.begin(), key.end(), [](char c) { return c > ' ' && c < 0x7F && c != '"' && c != '\\'; });
}

/// One look at all properties. False: one of them asks for something, or the text is not as it should be.
bool read_properties(std::string_view properties, PlainProperties& to) {
  const char* at = properties.data();
  const char* const end = at + properties.size();
  while (at != end) {
    const auto* part_end =
        static_cast<const char*>(std::memchr(at, message::kPropertySeparator, static_cast<size_t>(end - at)));
    if (part_end == nullptr) part_end = end;
    const auto* middle =
        static_cast<const char*>(std::memchr(at, message::kNameValueSeparator, static_cast<size_t>(part_end - at)));
    if (middle == nullptr || middle == at || middle + 1 == part_end) return false;
    const std::string_view name(at, static_cast<size_t>(middle - at));
    const std::string_view value(middle + 1, static_cast<size_t>(part_end - middle - 1));
    if (!is_plain_name(name)) return false;
    if (name == property::kUniqueKey) to.unique_key = value;
    if (name == property::kWait) to.wait_store_ok = equals_ignore_case(value, "true");
    at = part_end == end ? end : part_end + 1;
  }
  return to.unique_key.empty() || is_plain_key(to.unique_key);
}

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

struct KnownTopic {
  bool plain = false;
  int32_t queue_count = 0;
  std::vector<store::QuickQueue> queues;
};

char* put(char* to, std::string_view text) {
  std::memcpy(to, text.data(), text.size());
  return to + text.size();
}

template <typename Int>
char* put_number(char* to, Int number) {
  return std::to_chars(to, to + kNumberBytesMax, number).ptr;
}

/// Sixteen digits, eight a step.
char* put_hex(char* to, int64_t number) {
  constexpr uint64_t kOnes = 0x0101010101010101U;
  for (int shift : {32, 0}) {
    uint64_t digits = (static_cast<uint64_t>(number) >> shift) & 0xFFFFFFFFU;
    digits = (digits | digits << 16) & 0x0000FFFF0000FFFFU;
    digits = (digits | digits << 8) & 0x00FF00FF00FF00FFU;
    digits = (digits | digits << 4) & 0x0F0F0F0F0F0F0F0FU;
    const uint64_t letters = ((digits + kOnes * 6) >> 4) & kOnes;
    store_be<uint64_t>(to, digits + kOnes * '0' + letters * ('A' - '0' - 10));
    to += sizeof digits;
  }
  return to;
}

}  // namespace

/// What one loop has for itself.
class QuickSend::Lane {
 public:
  explicit Lane(const Parts& parts)
      : parts_(parts),
        single_(parts, remoting::RequestCode::kSendMessageV2),
        batches_(parts, remoting::RequestCode::kSendBatchMessage),
        id_head_(message::encode_offset_message_id({parts.store_host.ip_bytes, parts.store_host.port}, 0)) {
    id_head_.resize(id_head_.size() - kIdTailBytes);
  }

  bool take(const remoting::Caller& caller, const remoting::HeaderView& header, std::string_view body,
            remoting::QuickReply& reply);

 private:
  struct Counters {
    std::atomic<uint64_t>&served, &refused;
    Counters(const Parts& parts, remoting::RequestCode code)
        : served(parts.requests.requests_of(code)), refused(parts.requests.refused_of(code)) {}
  };
  /// What an answer needs of its request.
  struct Asked {
    Counters* counters = nullptr;
    int32_t opaque = 0, queue_id = 0;
    bool oneway = false;
    std::string_view topic, unique_key;
    int64_t body_bytes = 0;
  };
  /// A request whose answer waits for the disk.
  struct Waiting {
    Lane* lane = nullptr;
    loop::EventLoop* loop = nullptr;
    std::shared_ptr<loop::EventLoop::Mailbox> mailbox;
    std::optional<remoting::QuickReply> reply;
    Asked asked;
    std::string topic, unique_key;  ///< what the views of `asked` are into
    store::QuickPlace place;
    /// Thread: any.
    void synced(store::Synced how) {
      if (loop::EventLoop::current() == loop) return lane->finish(*this, how);
      (void)mailbox->post([this, how] { lane->finish(*this, how); });  // else the connection has gone with its loop
    }
  };

  [[nodiscard]] bool settings_allow();
  [[nodiscard]] KnownTopic* topic(std::string_view name);
  [[nodiscard]] bool read_batch(std::string_view body);
  Waiting& take_waiting(const Asked& asked, remoting::QuickReply& reply);
  void finish(Waiting& waiting, store::Synced how);
  void answer(const Asked& asked, int32_t code, const store::QuickPlace& place, remoting::QuickReply& reply);

  const Parts& parts_;
  Counters single_, batches_;
  std::string id_head_;  ///< the part of a message id that is the broker's address

  // What was made of the settings, and of which version of them.
  uint64_t region_version_ = 0;
  bool trace_on_ = false, made_ = false;
  std::string added_properties_, answer_head_, answer_tail_;

  uint64_t topics_generation_ = 0;
  std::unordered_map<std::string, KnownTopic, TextHash, std::equal_to<>> topics_;

  message::RecordForm form_;
  std::vector<message::RecordPart> messages_;
  store::QuickPlace place_;
  std::string properties_, more_properties_;
  std::string answer_;  ///< as long as the longest one
  std::vector<std::unique_ptr<Waiting>> all_waiting_;
  std::vector<Waiting*> free_waiting_;
};

bool QuickSend::Lane::settings_allow() {
  const BrokerConfig& config = parts_.config;
  if (config.accept_sends_from_ms > 0 || (config.permission & remoting::perm::kWrite) == 0 ||
      parts_.limits.limits_publishing())
    return false;
  if (made_ && region_version_ == config.region_id.version() && trace_on_ == config.trace_on) return true;
  made_ = true;
  region_version_ = config.region_id.version();
  trace_on_ = config.trace_on;
  const std::string region = config.region_id.get();
  added_properties_.clear();
  message::append_property(added_properties_, property::kMessageRegion, region);
  message::append_property(added_properties_, property::kTraceOn, trace_on_ ? "true" : "false");
  message::append_property(added_properties_, property::kCluster, config.cluster_name);
  remoting::Command head;
  head.ext.set("MSG_REGION", region);
  head.ext.set("TRACE_ON", trace_on_);
  // From its extFields on, up to the brace that ends them.
  const std::string text = remoting::encode_header(head);
  const size_t from = text.find(",\"extFields\"");
  answer_head_ = text.substr(from, text.find("},\"flag\"") - from) + ",\"msgId\":\"";
  answer_tail_ = text.substr(text.find(",\"serializeTypeCurrentRPC\""));
  return true;
}

/// nullptr: there is no such topic.
KnownTopic* QuickSend::Lane::topic(std::string_view name) {
  const uint64_t generation = parts_.topics.generation();
  if (generation != topics_generation_ || topics_.size() > kTopicsKeptMax) {
    topics_.clear();
    topics_generation_ = generation;
  }
  if (auto found = topics_.find(name); found != topics_.end()) return &found->second;
  const auto config = parts_.topics.find(name);
  if (config == nullptr) return nullptr;
  KnownTopic& known = topics_[std::string(name)];
  known.plain = check_topic_name(std::string(name)) && !is_closed_to_senders(name) && !is_retry_topic(name) &&
                (config->perm & remoting::perm::kWrite) != 0 && config->write_queue_nums > 0 &&
                config->topic_filter_type != remoting::TopicFilterType::kMultiTag;
  if (known.plain) known.queue_count = std::max(config->read_queue_nums, config->write_queue_nums);
  return &known;
}

QuickSend::Lane::Waiting& QuickSend::Lane::take_waiting(const Asked& asked, remoting::QuickReply& reply) {
  if (free_waiting_.empty()) {
    all_waiting_.push_back(std::make_unique<Waiting>());
    free_waiting_.reserve(all_waiting_.size());
    free_waiting_.push_back(all_waiting_.back().get());
  }
  Waiting& waiting = *free_waiting_.back();
  free_waiting_.pop_back();
  waiting.lane = this;
  waiting.loop = loop::EventLoop::current();
  waiting.mailbox = waiting.loop->mailbox();
  waiting.asked = asked;
  waiting.topic = asked.topic;
  waiting.unique_key = asked.unique_key;
  waiting.asked.topic = waiting.topic;
  waiting.asked.unique_key = waiting.unique_key;
  reply.hold();
  waiting.reply = reply;
  return waiting;
}

void QuickSend::Lane::finish(Waiting& waiting, store::Synced how) {
  answer(waiting.asked, how == store::Synced::kYes ? code::kSuccess : code::kFlushDiskTimeout, waiting.place,
         *waiting.reply);
  free_waiting_.push_back(&waiting);
}

void QuickSend::Lane::answer(const Asked& asked, int32_t code, const store::QuickPlace& place,
                             remoting::QuickReply& reply) {
  if (code != code::kSuccess) asked.counters->refused.fetch_add(1, std::memory_order_relaxed);
  parts_.stats.on_put(asked.topic, static_cast<int64_t>(place.offsets.size()), asked.body_bytes,
                      place.waits ? parts_.now_ms() - place.store_timestamp_ms : 0);
  if (asked.oneway) return reply.release();
  constexpr size_t kNamesBytesMax = 256;
  const size_t most = kNamesBytesMax + answer_head_.size() + answer_tail_.size() + asked.unique_key.size() +
                      place.offsets.size() * (id_head_.size() + kIdTailBytes + 1);
  if (answer_.size() < most) answer_.resize(most);
  char* const begin = answer_.data();
  char* at = put(begin + kHeadBytes, "{\"code\":");
  at = put(put_number(at, code), answer_head_);
  for (const store::LogOffset offset : place.offsets) {
    at = put_hex(put(at, id_head_), offset);
    *at++ = ',';
  }
  at = put_number(put(at - 1, "\",\"queueId\":\""), asked.queue_id);
  at = put_number(put(at, "\",\"queueOffset\":\""), place.queue_offset);
  if (!asked.unique_key.empty()) at = put(put(at, "\",\"transactionId\":\""), asked.unique_key);
  at = put_number(put(at, "\"},\"flag\":1,\"language\":\"CPP\",\"opaque\":"), asked.opaque);
  at = put(at, answer_tail_);
  const auto bytes = static_cast<size_t>(at - begin);
  store_be<uint32_t>(begin, static_cast<uint32_t>(bytes - sizeof(uint32_t)));
  store_be<uint32_t>(begin + sizeof(uint32_t), static_cast<uint32_t>(bytes - kHeadBytes));
  reply.send({begin, bytes});
}

/// False: it is no batch, or a large one.
bool QuickSend::Lane::read_batch(std::string_view body) {
  message::BatchMessage each;
  message::BatchReader in(body);
  while (!in.at_end()) {
    if (messages_.size() == kBatchMessagesMax || in.next(each) != nullptr) return false;
    messages_.push_back({each.flag, 0, each.body, each.properties});
  }
  for (auto& message : messages_) message.body_crc = crc32_31(message.body);
  return !messages_.empty();
}

bool QuickSend::Lane::take(const remoting::Caller& caller, const remoting::HeaderView& header, std::string_view body,
                           remoting::QuickReply& reply) {
  Fields fields;
  if (!read_fields(header, fields) || !settings_allow()) return false;
  const bool of_batches = header.code == static_cast<int32_t>(remoting::RequestCode::kSendBatchMessage);
  const bool batch = fields.batch || (of_batches && !fields.has_batch);
  constexpr int32_t kUnusual = sys_flag::kTransactionMask | sys_flag::kInnerBatch | sys_flag::kNeedUnwrap;
  if ((fields.sys_flag & kUnusual) != 0 || body.size() > static_cast<size_t>(parts_.config.message_bytes_max) ||
      (batch && fields.topic.size() > kTopicBytesMax))
    return false;
  KnownTopic* known = topic(fields.topic);
  if (known == nullptr || !known->plain || fields.queue_id < 0 || fields.queue_id >= known->queue_count) return false;
  std::string_view properties = fields.properties;
  if (fields.escaped_properties) {
    if (!remoting::unescape(properties, properties_)) return false;
    properties = properties_;
  }
  PlainProperties plain;
  if (properties.size() > message::kPropertiesBytesMax || !read_properties(properties, plain)) return false;

  messages_.clear();
  if (batch) {
    if (!read_batch(body)) return false;
    more_properties_.assign(properties);
    message::append_properties(more_properties_, added_properties_);
  } else {
    if (plain.unique_key.empty()) return false;  // it gets one
    messages_.push_back({fields.flag, crc32_31(body), body, properties});
  }

  const auto queue_id = static_cast<size_t>(fields.queue_id);
  if (known->queues.size() <= queue_id) known->queues.resize(static_cast<size_t>(known->queue_count));
  auto& queue = known->queues[queue_id];
  if (queue.key.empty()) queue.key = store::ConsumeQueues::queue_key(fields.topic, fields.queue_id);

  message::RecordFields record;
  record.topic = fields.topic;
  record.queue_id = fields.queue_id;
  record.sys_flag = fields.sys_flag;
  record.born_timestamp_ms = fields.born_timestamp_ms;
  record.born_host = {caller.ip_bytes, caller.port};
  record.store_host = {parts_.store_host.ip_bytes, parts_.store_host.port};
  record.reconsume_times = fields.reconsume_times;
  form_.set(record, batch ? more_properties_ : added_properties_);
  const store::QuickMessages messages{form_, messages_.data(),   messages_.size(), body.size(),
                                      queue, plain.wait_store_ok};

  const Asked asked{of_batches ? &batches_ : &single_,          header.opaque, fields.queue_id,
                    (header.flag & remoting::kOnewayFlag) != 0, fields.topic,  plain.unique_key,
                    static_cast<int64_t>(body.size())};
  if (!parts_.sync_flush) {
    if (!parts_.put.put_quickly(messages, place_, nullptr)) return false;
    asked.counters->served.fetch_add(1, std::memory_order_relaxed);
    answer(asked, code::kSuccess, place_, reply);
    return true;
  }
  // Before it is stored, because the answer may be due at once.
  Waiting& waits = take_waiting(asked, reply);
  const bool stored =
      parts_.put.put_quickly(messages, waits.place, [w = &waits](store::Synced how) { w->synced(how); });
  if (!stored) {
    reply.release();
    free_waiting_.push_back(&waits);
    return false;
  }
  asked.counters->served.fetch_add(1, std::memory_order_relaxed);
  if (!waits.place.waits) finish(waits, store::Synced::kYes);
  return true;
}

QuickSend::QuickSend(Parts parts) : parts_(std::move(parts)) {
  for (size_t i = 0; i < parts_.loops; ++i) lanes_.push_back(std::make_unique<Lane>(parts_));
}

QuickSend::~QuickSend() = default;

bool QuickSend::take(size_t loop, const remoting::Caller& caller, const remoting::HeaderView& header,
                     std::string_view body, remoting::QuickReply reply) {
  return (header.code == static_cast<int32_t>(remoting::RequestCode::kSendMessageV2) ||
          header.code == static_cast<int32_t>(remoting::RequestCode::kSendBatchMessage)) &&
         lanes_[loop]->take(caller, header, body, reply);
}

}  // namespace apogee::broker
