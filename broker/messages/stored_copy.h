#pragma once

#include <cstdint>
#include <string>

#include "apogee/result.h"
#include "common/base/bytes.h"
#include "common/message/message_record.h"
#include "store/message_store.h"

namespace apogee::broker {

/// A message that is stored again: what was stored, and what shall be different. Body, flags, born time and born host
/// stay as they are.
struct StoredCopy {
  SharedBytes original;        ///< keeps alive what `record` points into
  message::RecordView record;  ///< as it was stored
  std::string topic;
  int32_t queue_id = 0;
  int32_t sys_flag = 0;
  int32_t reconsume_times = 0;
  int64_t prepared_transaction_offset = 0;
  std::string properties;
  bool wait_store_ok = false;

  /// A copy in which nothing is different yet. Error: kCorrupt.
  [[nodiscard]] static Result<StoredCopy> of(SharedBytes record);
  /// What an error line says to find the message again: its id, key and where it should have gone. By the id it can be
  /// read (mqadmin queryMsgById) until its file of the log goes.
  [[nodiscard]] std::string name() const;
  /// Points into this copy.
  [[nodiscard]] store::MessageDraft draft(const store::HostAddress& store_host) const;
};

}  // namespace apogee::broker
