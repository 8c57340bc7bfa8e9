#include "broker/transactions/half_message.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include "common/base/text.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"

namespace apogee::broker {

namespace property = message::property;
namespace sys_flag = message::sys_flag;

namespace {

constexpr int64_t kImmunitySecondsMax = 10LL * 366 * 86'400;

template <typename Int>
std::optional<Int> number_of(std::optional<std::string_view> text) {
  Int number{};
  if (!text) return std::nullopt;
  auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), number);
  if (error != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return number;
}

}  // namespace

Result<HalfMessage> HalfMessage::of(SharedBytes record) {
  HalfMessage half;
  APOGEE_TRY_ASSIGN(half.record, message::decode_record(record.bytes));
  half.bytes = std::move(record);
  auto wrong = [](const char* why) { return Error{Errc::kInvalidArgument, why}; };
  if (half.record.topic != kHalfTopic) return wrong("it is not one of the half topic");
  const std::string_view properties = half.record.properties;
  auto topic = message::find_property(properties, property::kRealTopic);
  auto queue = number_of<int32_t>(message::find_property(properties, property::kRealQueueId));
  auto group = message::find_property(properties, property::kProducerGroup);
  if (!topic || !queue || *queue < 0) return wrong("its topic or queue is missing (REAL_TOPIC, REAL_QID)");
  if (!group) return wrong("its producer group is missing (PGROUP)");
  half.real_topic = *topic;
  half.real_queue_id = *queue;
  half.group = *group;
  half.unique_key = message::find_property(properties, property::kUniqueKey).value_or(std::string_view());
  half.check_times =
      number_of<int32_t>(message::find_property(properties, property::kTransactionCheckTimes)).value_or(0);
  half.root = number_of<int64_t>(message::find_property(properties, property::kPreparedQueueOffset))
                  .value_or(half.record.queue_offset);
  half.immunity_s = immunity_s_of(properties);
  return half;
}

Result<StoredCopy> HalfMessage::committed() const {
  APOGEE_TRY_ASSIGN(StoredCopy copy, StoredCopy::of(bytes));
  copy.topic = std::string(real_topic);
  copy.queue_id = real_queue_id;
  copy.sys_flag = (copy.sys_flag & ~sys_flag::kTransactionMask) | sys_flag::kTransactionCommit;
  copy.prepared_transaction_offset = record.physical_offset;
  return copy;
}

Result<StoredCopy> HalfMessage::renewed(int32_t checks) const {
  APOGEE_TRY_ASSIGN(StoredCopy copy, StoredCopy::of(bytes));
  message::set_property(copy.properties, property::kPreparedQueueOffset, std::to_string(root));
  if (checks > 0) message::set_property(copy.properties, property::kTransactionCheckTimes, std::to_string(checks));
  return copy;
}

Result<StoredCopy> HalfMessage::given_up() const {
  APOGEE_TRY_ASSIGN(StoredCopy copy, StoredCopy::of(bytes));
  copy.topic = std::string(kCheckMaxTopic);
  copy.queue_id = 0;
  return copy;
}

std::string HalfMessage::for_producer(std::string_view properties, store::QueueOffset queue_offset,
                                      store::LogOffset log_offset) const {
  message::RecordFields fields = message::fields_of(record);
  fields.topic = real_topic;
  fields.queue_id = real_queue_id;
  fields.properties = properties;
  return message::encode_record(fields, queue_offset, log_offset);
}

bool is_half_message(std::string_view properties, int32_t flags, int32_t reconsume_times) {
  auto prepared = message::find_property(properties, property::kTransactionPrepared);
  if (!prepared) return (flags & sys_flag::kTransactionMask) == sys_flag::kTransactionPrepared;
  if (!equals_ignore_case(*prepared, "true")) return false;
  const auto level = number_of<int32_t>(message::find_property(properties, property::kDelayLevel));
  return reconsume_times <= 0 || level.value_or(0) <= 0;
}

std::string half_properties(const store::MessageDraft& draft, bool with_transaction_id) {
  std::string properties(draft.properties);
  for (auto name : {property::kPreparedQueueOffset, property::kTransactionCheckTimes})
    if (message::find_property(properties, name)) message::remove_property(properties, name);
  message::set_property(properties, property::kTransactionPrepared, "true");
  message::set_property(properties, property::kRealTopic, draft.topic);
  message::set_property(properties, property::kRealQueueId, std::to_string(draft.queue_id));
  if (auto key = message::find_property(properties, property::kUniqueKey); key && with_transaction_id)
    message::set_property(properties, property::kTransactionId, std::string(*key));
  return properties;
}

int32_t immunity_s_of(std::string_view properties) {
  const auto seconds = number_of<int64_t>(message::find_property(properties, property::kCheckImmunityTime));
  if (!seconds || *seconds < 0) return -1;
  return static_cast<int32_t>(std::min(*seconds, kImmunitySecondsMax));
}

int64_t immunity_ms_of(int32_t immunity_s, int64_t timeout_ms) {
  return immunity_s < 0 ? timeout_ms : std::max(timeout_ms, int64_t{immunity_s} * 1'000);
}

std::vector<store::QueueOffset> op_offsets(std::string_view body) {
  std::vector<store::QueueOffset> offsets;
  for (auto part : split(body, ","))
    if (auto offset = number_of<int64_t>(part); offset && *offset >= 0) offsets.push_back(*offset);
  return offsets;
}

}  // namespace apogee::broker
