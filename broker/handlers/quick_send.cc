#include "broker/handlers/quick_send.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cstring>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>

#include "common/base/bytes.h"
#include "common/base/text.h"
#include "common/loop/event_loop.h"
#include "common/message/message_id.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
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
constexpr size_t kRoomKeptMax = 256 * 1024;

template <typename Int>
bool to_number(std::string_view text, Int& to) {
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), to);
  return error == std::errc() && end == text.data() + text.size();
}

/// The fields of a send, named by one letter: views into the header.
struct Fields {
  std::string_view topic, properties;
  bool escaped_properties = false;
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
    case 'm': return !equals_ignore_case(value, "true");
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
  return is_plain_key(to.unique_key);
}

struct TextHash {
  using is_transparent = void;
  size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};

struct KnownTopic {
  bool plain = false;
  int32_t queues = 0;
  std::vector<std::string> queue_keys;
};

void append_hex(std::string& to, int64_t number) {
  static constexpr char kDigits[] = "0123456789ABCDEF";
  for (int shift = 60; shift >= 0; shift -= 4) to += kDigits[(static_cast<uint64_t>(number) >> shift) & 0xF];
}

void append_number(std::string& to, int64_t number) {
  fmt::format_int digits(number);
  to.append(digits.data(), digits.size());
}

}  // namespace

/// What one loop has for itself.
class QuickSend::Lane {
 public:
  explicit Lane(const Parts& parts)
      : parts_(parts),
        served_(parts.requests.requests_of(remoting::RequestCode::kSendMessageV2)),
        refused_(parts.requests.refused_of(remoting::RequestCode::kSendMessageV2)),
        id_head_(message::encode_offset_message_id({parts.store_host.ip_bytes, parts.store_host.port}, 0)) {
    id_head_.resize(id_head_.size() - 2 * sizeof(int64_t));
  }

  bool take(const remoting::Caller& caller, const remoting::HeaderView& header, std::string_view body,
            remoting::QuickReply& reply);

 private:
  /// What an answer needs of its request.
  struct Asked {
    int32_t opaque = 0, queue_id = 0;
    bool oneway = false;
    std::string_view topic, unique_key;
    int64_t body_bytes = 0;
  };
  /// A message whose answer waits for the disk.
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
  Waiting& take_waiting(const Asked& asked, remoting::QuickReply& reply);
  void finish(Waiting& waiting, store::Synced how);
  void answer(const Asked& asked, int32_t code, const store::QuickPlace& place, remoting::QuickReply& reply);

  const Parts& parts_;
  std::atomic<uint64_t>&served_, &refused_;
  std::string id_head_;  ///< the part of a message id that is the broker's address

  // What was made of the settings, and of which version of them.
  uint64_t region_version_ = 0;
  bool trace_on_ = false, made_ = false;
  std::string added_properties_, answer_head_, answer_tail_;

  uint64_t topics_generation_ = 0;
  std::unordered_map<std::string, KnownTopic, TextHash, std::equal_to<>> topics_;

  std::string properties_, record_, answer_;
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
  answer_head_ = text.substr(from, text.find("},\"flag\"") - from);
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
  if (known.plain) known.queues = std::max(config->read_queue_nums, config->write_queue_nums);
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
  if (code != code::kSuccess) refused_.fetch_add(1, std::memory_order_relaxed);
  parts_.stats.on_put(asked.topic, 1, asked.body_bytes, place.waits ? parts_.now_ms() - place.store_timestamp_ms : 0);
  if (asked.oneway) return reply.release();
  std::string& out = answer_;
  out.assign(kHeadBytes, '\0');
  out += "{\"code\":";
  append_number(out, code);
  out += answer_head_;
  out += ",\"msgId\":\"";
  out += id_head_;
  append_hex(out, place.offset);
  out += "\",\"queueId\":\"";
  append_number(out, asked.queue_id);
  out += "\",\"queueOffset\":\"";
  append_number(out, place.queue_offset);
  out += "\",\"transactionId\":\"";
  out += asked.unique_key;
  out += "\"},\"flag\":1,\"language\":\"CPP\",\"opaque\":";
  append_number(out, asked.opaque);
  out += answer_tail_;
  store_be<uint32_t>(out.data(), static_cast<uint32_t>(out.size() - sizeof(uint32_t)));
  store_be<uint32_t>(out.data() + sizeof(uint32_t), static_cast<uint32_t>(out.size() - kHeadBytes));
  reply.send(out);
}

bool QuickSend::Lane::take(const remoting::Caller& caller, const remoting::HeaderView& header, std::string_view body,
                           remoting::QuickReply& reply) {
  Fields fields;
  if (!read_fields(header, fields) || !settings_allow()) return false;
  constexpr int32_t kUnusual = sys_flag::kTransactionMask | sys_flag::kInnerBatch | sys_flag::kNeedUnwrap;
  if ((fields.sys_flag & kUnusual) != 0 || body.size() > static_cast<size_t>(parts_.config.message_bytes_max))
    return false;
  KnownTopic* known = topic(fields.topic);
  if (known == nullptr || !known->plain || fields.queue_id < 0 || fields.queue_id >= known->queues) return false;
  if (!fields.escaped_properties) {
    properties_.assign(fields.properties);
  } else if (!remoting::unescape(fields.properties, properties_)) {
    return false;
  }
  PlainProperties plain;
  if (properties_.size() > message::kPropertiesBytesMax || !read_properties(properties_, plain)) return false;
  const auto key_at = static_cast<size_t>(plain.unique_key.data() - properties_.data());
  message::append_properties(properties_, added_properties_);
  const std::string_view unique_key = std::string_view(properties_).substr(key_at, plain.unique_key.size());

  const auto queue = static_cast<size_t>(fields.queue_id);
  if (known->queue_keys.size() <= queue) known->queue_keys.resize(static_cast<size_t>(known->queues));
  auto& queue_key = known->queue_keys[queue];
  if (queue_key.empty()) queue_key = store::ConsumeQueues::queue_key(fields.topic, fields.queue_id);

  message::RecordFields record;
  record.topic = fields.topic;
  record.queue_id = fields.queue_id;
  record.flag = fields.flag;
  record.sys_flag = fields.sys_flag;
  record.born_timestamp_ms = fields.born_timestamp_ms;
  record.born_host = {caller.ip_bytes, caller.port};
  record.store_host = {parts_.store_host.ip_bytes, parts_.store_host.port};
  record.reconsume_times = fields.reconsume_times;
  record.body = body;
  if (record_.capacity() > kRoomKeptMax && body.size() < kRoomKeptMax / 2) record_ = {};  // one large message is rare
  record.properties = properties_;
  const store::QuickMessage message{record, queue_key, plain.wait_store_ok, record_};

  const Asked asked{header.opaque, fields.queue_id, (header.flag & remoting::kOnewayFlag) != 0,
                    fields.topic,  unique_key,      static_cast<int64_t>(body.size())};
  if (!parts_.sync_flush) {
    store::QuickPlace place;
    if (!parts_.put.put_quickly(message, place, nullptr)) return false;
    served_.fetch_add(1, std::memory_order_relaxed);
    answer(asked, code::kSuccess, place, reply);
    return true;
  }
  // Before it is stored, because the answer may be due at once.
  Waiting& waits = take_waiting(asked, reply);
  const bool stored = parts_.put.put_quickly(message, waits.place, [w = &waits](store::Synced how) { w->synced(how); });
  if (!stored) {
    reply.release();
    free_waiting_.push_back(&waits);
    return false;
  }
  served_.fetch_add(1, std::memory_order_relaxed);
  if (!waits.place.waits) finish(waits, store::Synced::kYes);
  return true;
}

QuickSend::QuickSend(Parts parts) : parts_(std::move(parts)) {
  for (size_t i = 0; i < parts_.loops; ++i) lanes_.push_back(std::make_unique<Lane>(parts_));
}

QuickSend::~QuickSend() = default;

bool QuickSend::take(size_t loop, const remoting::Caller& caller, const remoting::HeaderView& header,
                     std::string_view body, remoting::QuickReply reply) {
  return header.code == static_cast<int32_t>(remoting::RequestCode::kSendMessageV2) &&
         lanes_[loop]->take(caller, header, body, reply);
}

}  // namespace apogee::broker
