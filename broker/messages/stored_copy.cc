#include "broker/messages/stored_copy.h"

#include <utility>

#include "common/message/message_id.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"

namespace apogee::broker {

Result<StoredCopy> StoredCopy::of(SharedBytes record) {
  StoredCopy copy;
  APOGEE_TRY_ASSIGN(copy.record, message::decode_record(record.bytes));
  copy.original = std::move(record);
  copy.topic = std::string(copy.record.topic);
  copy.queue_id = copy.record.queue_id;
  copy.sys_flag = copy.record.sys_flag;
  copy.reconsume_times = copy.record.reconsume_times;
  copy.prepared_transaction_offset = copy.record.prepared_transaction_offset;
  copy.properties = std::string(copy.record.properties);
  return copy;
}

std::string StoredCopy::name() const {
  const auto key = message::find_property(record.properties, message::property::kUniqueKey);
  return "message " + message::encode_offset_message_id(record.store_host, record.physical_offset) + ", key " +
         std::string(key.value_or("(none)")) + ", for " + topic + "[" + std::to_string(queue_id) + "]";
}

store::MessageDraft StoredCopy::draft(const store::HostAddress& store_host) const {
  store::MessageDraft draft;
  draft.topic = topic;
  draft.queue_id = queue_id;
  draft.flag = record.flag;
  draft.sys_flag = sys_flag;
  draft.born_timestamp_ms = record.born_timestamp_ms;
  draft.born_host = {std::string(record.born_host.ip_bytes), record.born_host.port};
  draft.store_host = store_host;
  draft.reconsume_times = reconsume_times;
  draft.prepared_transaction_offset = prepared_transaction_offset;
  draft.body = record.body;
  draft.properties = properties;
  draft.wait_store_ok = wait_store_ok;
  return draft;
}

}  // namespace apogee::broker
