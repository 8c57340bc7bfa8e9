// How messages get into the store: what is refused, what is encoded, how the answers are told.
#include <fmt/core.h>

#include <algorithm>

#include "common/message/batch.h"
#include "common/message/message_record.h"
#include "common/message/properties.h"
#include "common/message/record_form.h"
#include "store/file_store.h"

namespace apogee::store {

namespace {

constexpr size_t kPropertiesBytesMax = message::kPropertiesBytesMax;
const char* const kZerosInProperties = "properties: zeros at the begin or the end, or 512 of them in a row";
constexpr size_t kTopicBytesV1Max = 127;
constexpr size_t kTopicBytesMax = 255;

PutResult failed(PutStatus status, std::string why) {
  PutResult result;
  result.status = status;
  result.detail = std::move(why);
  return result;
}

PutStatus put_status_of(Errc error) {
  switch (error) {
    case Errc::kTooLarge: return PutStatus::kMessageIllegal;
    case Errc::kClosed:
    case Errc::kDiskFull: return PutStatus::kServiceNotAvailable;
    case Errc::kBusy: return PutStatus::kPageCacheBusy;
    default: return PutStatus::kCreateFileFailed;
  }
}

/// Of a stored message. That it is on this disk alone says less than that it is on no other.
PutStatus status_of(const CommitLog::Placement& placed) {
  switch (placed.replicated) {
    case Replicated::kTimeout: return PutStatus::kFlushSlaveTimeout;
    case Replicated::kNoSlave: return PutStatus::kSlaveNotAvailable;
    case Replicated::kYes: break;
  }
  return placed.synced == Synced::kYes ? PutStatus::kOk : PutStatus::kFlushDiskTimeout;
}

message::RecordFields fields_of(const MessageDraft& draft) {
  message::RecordFields fields;
  fields.topic = draft.topic;
  fields.queue_id = draft.queue_id;
  fields.flag = draft.flag;
  fields.sys_flag = draft.sys_flag;
  fields.born_timestamp_ms = draft.born_timestamp_ms;
  fields.born_host = {draft.born_host.ip_bytes, draft.born_host.port};
  fields.store_host = {draft.store_host.ip_bytes, draft.store_host.port};
  fields.reconsume_times = draft.reconsume_times;
  fields.prepared_transaction_offset = draft.prepared_transaction_offset;
  fields.body = draft.body;
  fields.properties = draft.properties;
  return fields;
}

}  // namespace

/// Also of what comes with each message of a batch.
std::optional<PutResult> FileMessageStore::refusal(const MessageDraft& draft) const {
  if (could_look_lost(draft.properties)) return failed(PutStatus::kMessageIllegal, kZerosInProperties);
  return refusal(draft.topic, draft.properties.size(), draft.body.size());
}

std::optional<PutResult> FileMessageStore::refusal(std::string_view topic, size_t properties_bytes,
                                                   size_t body_bytes) const {
  if (options_.slave) return failed(PutStatus::kServiceNotAvailable, "this broker is a slave");
  if (std::string why; !log_.writable(&why)) return failed(PutStatus::kServiceNotAvailable, why);
  if (std::string why; !log_.admits(&why)) return failed(PutStatus::kInSyncReplicasNotEnough, why);
  if (topic.empty() || topic.size() > kTopicBytesMax)
    return failed(PutStatus::kMessageIllegal,
                  fmt::format("topic: {} bytes, allowed are 1 to {}", topic.size(), kTopicBytesMax));
  if (!is_topic_text(topic)) return failed(PutStatus::kMessageIllegal, "topic: a character that none may have");
  if (topic.size() > kTopicBytesV1Max && options_.compatibility == StoreCompatibility::k49)
    return failed(PutStatus::kMessageIllegal,
                  fmt::format("topic: {} bytes, with storeCompatibility=4.9 allowed are 1 to {}", topic.size(),
                              kTopicBytesV1Max));
  if (properties_bytes > kPropertiesBytesMax)
    return failed(PutStatus::kPropertiesSizeExceeded,
                  fmt::format("properties: {} bytes, the limit is {}", properties_bytes, kPropertiesBytesMax));
  if (const int64_t most = message_bytes_max_.load(std::memory_order_relaxed); static_cast<int64_t>(body_bytes) > most)
    return failed(PutStatus::kMessageIllegal, fmt::format("body: {} bytes, maxMessageSize is {}", body_bytes, most));
  if (log_.append_busy_ms() > options_.page_cache_busy_ms)
    return failed(PutStatus::kPageCacheBusy, "an append has been waiting for the disk too long");
  return std::nullopt;
}

bool FileMessageStore::append_quickly(const QuickMessages& messages, QuickPlace& place,
                                      std::function<void(Synced)> synced) {
  size_t bytes = 0, properties_bytes = 0;
  for (size_t i = 0; i < messages.count; ++i) {
    if (could_look_lost(messages.parts[i].properties)) return false;
    bytes += messages.form.record_bytes(messages.parts[i]);
    properties_bytes = std::max(properties_bytes, messages.form.properties_bytes(messages.parts[i]));
  }
  if (!has_queue_entry(messages.form.sys_flag()) || could_look_lost(messages.form.more_properties()) ||
      refusal(messages.form.topic(), properties_bytes, messages.body_bytes) ||
      !log_.append_quickly(messages, bytes, place, std::move(synced)))
    return false;
  put_messages_.fetch_add(static_cast<int64_t>(messages.count), std::memory_order_relaxed);
  put_bytes_.fetch_add(static_cast<int64_t>(bytes), std::memory_order_relaxed);
  return true;
}

void FileMessageStore::append(const MessageDraft& draft, PutCallback done) {
  if (auto refused = refusal(draft)) {
    ++put_failed_;
    return done(std::move(*refused));
  }
  CommitLog::Unit unit;
  auto fields = fields_of(draft);
  unit.bytes.resize(message::record_bytes(fields));
  message::encode_record(fields, 0, 0, unit.bytes.data());
  unit.record_bytes.push_back(static_cast<uint32_t>(unit.bytes.size()));
  unit.takes_queue_offset = has_queue_entry(draft.sys_flag);
  unit.queue_key = ConsumeQueues::queue_key(draft.topic, draft.queue_id);
  unit.wait_for_sync = draft.wait_store_ok;
  place(std::move(unit), std::move(done));
}

void FileMessageStore::append_batch(const MessageDraft& draft, PutCallback done) {
  auto refuse = [&](PutResult refused) {
    ++put_failed_;
    done(std::move(refused));
  };
  if (auto refused = refusal(draft)) return refuse(std::move(*refused));
  if (draft.topic.size() > kTopicBytesV1Max)
    return refuse(failed(PutStatus::kMessageIllegal, fmt::format("topic of a batch: {} bytes, the limit is {}",
                                                                 draft.topic.size(), kTopicBytesV1Max)));
  auto messages = message::decode_batch(draft.body);
  if (!messages) return refuse(failed(PutStatus::kMessageIllegal, messages.error().message));
  CommitLog::Unit unit;
  auto fields = fields_of(draft);
  std::string properties;
  for (const auto& each : *messages) {
    properties.assign(each.properties);
    message::append_properties(properties, draft.properties);
    if (properties.size() > kPropertiesBytesMax)
      return refuse(failed(PutStatus::kPropertiesSizeExceeded,
                           fmt::format("properties of a message in the batch: {} bytes, the limit is {}",
                                       properties.size(), kPropertiesBytesMax)));
    if (could_look_lost(properties)) return refuse(failed(PutStatus::kMessageIllegal, kZerosInProperties));
    fields.flag = each.flag;
    fields.body = each.body;
    fields.properties = properties;
    size_t begin = unit.bytes.size();
    unit.bytes.resize(begin + message::record_bytes(fields));
    message::encode_record(fields, 0, 0, unit.bytes.data() + begin);
    unit.record_bytes.push_back(static_cast<uint32_t>(unit.bytes.size() - begin));
  }
  unit.queue_key = ConsumeQueues::queue_key(draft.topic, draft.queue_id);
  unit.wait_for_sync = draft.wait_store_ok;
  place(std::move(unit), std::move(done));
}

void FileMessageStore::place(CommitLog::Unit unit, PutCallback done) {
  auto messages = static_cast<int64_t>(unit.record_bytes.size());
  auto bytes = static_cast<int64_t>(unit.bytes.size());
  log_.append(std::move(unit), [this, messages, bytes, done = std::move(done)](Result<CommitLog::Placement> placed) {
    if (!placed) {
      ++put_failed_;
      return done(failed(put_status_of(placed.error().code), placed.error().message));
    }
    put_messages_.fetch_add(messages, std::memory_order_relaxed);
    put_bytes_.fetch_add(bytes, std::memory_order_relaxed);
    PutResult result;
    result.status = status_of(*placed);
    result.offsets = std::move(placed->offsets);
    result.queue_offset = placed->queue_offset;
    result.store_timestamp_ms = placed->store_timestamp_ms;
    done(std::move(result));
  });
}

}  // namespace apogee::store
