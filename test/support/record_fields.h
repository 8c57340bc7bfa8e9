#pragma once

#include "common/message/message_record.h"

namespace apogee::test {

/// What a record was made of, to be encoded again.
inline message::RecordFields fields_of(const message::RecordView& record) {
  message::RecordFields fields;
  fields.topic = record.topic;
  fields.queue_id = record.queue_id;
  fields.flag = record.flag;
  fields.sys_flag = record.sys_flag;
  fields.born_timestamp_ms = record.born_timestamp_ms;
  fields.born_host = record.born_host;
  fields.store_timestamp_ms = record.store_timestamp_ms;
  fields.store_host = record.store_host;
  fields.reconsume_times = record.reconsume_times;
  fields.prepared_transaction_offset = record.prepared_transaction_offset;
  fields.body = record.body;
  fields.properties = record.properties;
  return fields;
}

}  // namespace apogee::test
