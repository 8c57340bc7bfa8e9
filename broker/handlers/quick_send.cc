#include "broker/handlers/quick_send.h"

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "broker/handlers/plain_properties.h"
#include "common/base/bytes.h"
#include "common/base/crc32.h"
#include "common/base/decimal.h"
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

constexpr size_t kTopicsKeptMax = 20'000;
/// Of a batch; larger ones are not worth the room that would be kept for them.
constexpr size_t kBatchMessagesMax = 4'096;
constexpr size_t kNumberBytesMax = 20;
/// In front of the key of a message that came without one: its property's name and separator.
constexpr std::string_view kUniqueKeyHead = "UNIQ_KEY\x01";
constexpr size_t kIdTailBytes = 16;  ///< of a message id: its offset, in hexadecimal digits

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
    case 'd': return read_decimal(value, unused);
    case 'e': return read_decimal(value, to.queue_id);
    case 'f': return read_decimal(value, to.sys_flag);
    case 'g': return read_decimal(value, to.born_timestamp_ms);
    case 'h': return read_decimal(value, to.flag);
    case 'j': return read_decimal(value, to.reconsume_times);
    case 'l': return value.empty() || read_decimal(value, unused);
    case 'm':
      to.has_batch = true;
      to.batch = is_true(value);
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

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

struct KnownTopic {
  std::string_view name;
  bool plain = false;
  int32_t queue_count = 0;
  std::vector<store::QuickQueue> queues;
  BrokerStats::TopicCounters counters;
};

char* put(char* to, std::string_view text) {
  std::memcpy(to, text.data(), text.size());
  return to + text.size();
}

template <typename Int>
char* put_number(char* to, Int number) {
  if (number >= 0 && number < 10) {
    *to = static_cast<char>('0' + number);
    return to + 1;
  }
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
    bool oneway = false, binary = false;
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
  char* put_ids(const store::QuickPlace& place, char* at) const;
  char* write_json(const Asked& asked, int32_t code, const store::QuickPlace& place, char* at) const;
  char* write_binary(const Asked& asked, int32_t code, const store::QuickPlace& place, char* at) const;

  const Parts& parts_;
  Counters single_, batches_;
  std::string id_head_;  ///< the part of a message id that is the broker's address

  // What was made of the settings, and of which version of them.
  uint64_t region_version_ = 0;
  bool trace_on_ = false, made_ = false;
  std::string added_properties_, answer_head_, answer_tail_, binary_head_;

  uint64_t topics_generation_ = 0;
  KnownTopic* last_topic_ = nullptr;
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
  head.flag = remoting::kResponseFlag;
  // From its extFields on, up to the brace that ends them.
  const std::string text = remoting::encode_header(head);
  const size_t from = text.find(",\"extFields\"");
  answer_head_ = text.substr(from, text.find("},\"flag\"") - from) + ",\"msgId\":\"";
  answer_tail_ = remoting::json_header_tail();
  head.serialize = remoting::SerializeType::kRocketMq;
  binary_head_ = remoting::encode_header(head);
  return true;
}

/// nullptr: there is no such topic.
KnownTopic* QuickSend::Lane::topic(std::string_view name) {
  const uint64_t generation = parts_.topics.generation();
  if (generation != topics_generation_ || topics_.size() > kTopicsKeptMax) {
    topics_.clear();
    topics_generation_ = generation;
    last_topic_ = nullptr;
  }
  if (last_topic_ != nullptr && last_topic_->name == name) return last_topic_;
  if (auto found = topics_.find(name); found != topics_.end()) return last_topic_ = &found->second;
  const auto config = parts_.topics.find(name);
  if (config == nullptr) return nullptr;
  const auto added = topics_.try_emplace(std::string(name)).first;
  KnownTopic& known = added->second;
  known.name = added->first;
  known.plain = check_topic_name(std::string(name)) && !is_closed_to_senders(name) && !is_retry_topic(name) &&
                (config->perm & remoting::perm::kWrite) != 0 && config->write_queue_nums > 0 &&
                config->topic_filter_type != remoting::TopicFilterType::kMultiTag;
  if (known.plain) known.queue_count = std::max(config->read_queue_nums, config->write_queue_nums);
  return last_topic_ = &known;
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
  const auto messages = static_cast<int64_t>(place.offsets.size());
  if (place.waits) {
    parts_.stats.on_put(asked.topic, messages, asked.body_bytes, parts_.now_ms() - place.store_timestamp_ms);
  } else {
    parts_.stats.on_put(last_topic_->counters, asked.topic, messages, asked.body_bytes, 0);
  }
  if (asked.oneway) return reply.release();
  constexpr size_t kNamesBytesMax = 256;
  const size_t ids_bytes = place.offsets.size() * (id_head_.size() + kIdTailBytes + 1) - 1;
  const size_t most = kNamesBytesMax + answer_head_.size() + answer_tail_.size() + binary_head_.size() + ids_bytes +
                      asked.unique_key.size();
  if (answer_.size() < most) answer_.resize(most);
  char* const begin = answer_.data();
  char* const head = begin + remoting::kFrameHeadBytes;
  char* const end = asked.binary ? write_binary(asked, code, place, head) : write_json(asked, code, place, head);
  remoting::store_frame_head(begin, asked.binary ? remoting::SerializeType::kRocketMq : remoting::SerializeType::kJson,
                             static_cast<size_t>(end - head), 0);
  reply.send({begin, static_cast<size_t>(end - begin)});
}

char* QuickSend::Lane::put_ids(const store::QuickPlace& place, char* at) const {
  for (size_t i = 0; i < place.offsets.size(); ++i) {
    if (i > 0) *at++ = ',';
    at = put_hex(put(at, id_head_), place.offsets[i]);
  }
  return at;
}

char* QuickSend::Lane::write_json(const Asked& asked, int32_t code, const store::QuickPlace& place, char* at) const {
  at = put(at, "{\"code\":");
  at = put(put_number(at, code), answer_head_);
  at = put_ids(place, at);
  at = put_number(put(at, "\",\"queueId\":\""), asked.queue_id);
  at = put_number(put(at, "\",\"queueOffset\":\""), place.queue_offset);
  if (!asked.unique_key.empty()) at = put(put(at, "\",\"transactionId\":\""), asked.unique_key);
  at = put_number(put(at, "\"},\"flag\":1,\"language\":\"CPP\",\"opaque\":"), asked.opaque);
  return put(at, answer_tail_);
}

char* QuickSend::Lane::write_binary(const Asked& asked, int32_t code, const store::QuickPlace& place, char* at) const {
  // i16 code | u8 language | i16 version | i32 opaque | i32 flag | i32 remark bytes | i32 field bytes | fields
  constexpr size_t kOpaquePosition = 5, kFieldBytesPosition = 17;
  char* const begin = at;
  at = put(at, binary_head_);
  store_be<int16_t>(begin, static_cast<int16_t>(code));
  store_be<int32_t>(begin + kOpaquePosition, asked.opaque);
  const auto field = [&at](std::string_view name, auto&& value) {
    store_be<uint16_t>(at, static_cast<uint16_t>(name.size()));
    char* const from = put(at + sizeof(uint16_t), name);
    at = value(from + sizeof(uint32_t));
    store_be<uint32_t>(from, static_cast<uint32_t>(at - from - sizeof(uint32_t)));
  };
  field("msgId", [&](char* to) { return put_ids(place, to); });
  field("queueId", [&](char* to) { return put_number(to, asked.queue_id); });
  field("queueOffset", [&](char* to) { return put_number(to, place.queue_offset); });
  if (!asked.unique_key.empty()) field("transactionId", [&](char* to) { return put(to, asked.unique_key); });
  store_be<uint32_t>(begin + kFieldBytesPosition,
                     static_cast<uint32_t>(at - begin - kFieldBytesPosition - sizeof(uint32_t)));
  return at;
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
  PlainProperties plain;
  if (!read_plain_properties(fields.properties, fields.escaped_properties, properties_, plain)) return false;

  messages_.clear();
  std::string_view more_properties = added_properties_;
  if (batch) {
    if (!read_batch(body)) return false;
    more_properties_.assign(plain.all);
    message::append_properties(more_properties_, added_properties_);
    more_properties = more_properties_;
  } else {
    messages_.push_back({fields.flag, crc32_31(body), body, plain.all});
    if (plain.unique_key.empty()) {
      more_properties_.assign(kUniqueKeyHead);
      parts_.unique_ids.append_next(parts_.now_ms(), more_properties_);
      const size_t key_end = more_properties_.size();
      more_properties_ += message::kPropertySeparator;
      more_properties_ += added_properties_;
      more_properties = more_properties_;
      plain.unique_key = more_properties.substr(kUniqueKeyHead.size(), key_end - kUniqueKeyHead.size());
    }
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
  form_.set(record, more_properties);
  const store::QuickMessages messages{form_, messages_.data(),   messages_.size(), body.size(),
                                      queue, plain.wait_store_ok};

  Asked asked;
  asked.counters = of_batches ? &batches_ : &single_;
  asked.opaque = header.opaque;
  asked.queue_id = fields.queue_id;
  asked.oneway = (header.flag & remoting::kOnewayFlag) != 0;
  asked.binary = header.binary;
  asked.topic = fields.topic;
  asked.unique_key = plain.unique_key;
  asked.body_bytes = static_cast<int64_t>(body.size());
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
