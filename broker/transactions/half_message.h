#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "broker/messages/stored_copy.h"
#include "common/base/bytes.h"
#include "common/message/message_record.h"
#include "store/message_store.h"

namespace apogee::broker {

inline constexpr std::string_view kHalfTopic = "RMQ_SYS_TRANS_HALF_TOPIC";
inline constexpr std::string_view kOpTopic = "RMQ_SYS_TRANS_OP_HALF_TOPIC";
inline constexpr std::string_view kCheckMaxTopic = "TRANS_CHECK_MAX_TIME_TOPIC";
inline constexpr std::string_view kTransactionGroup = "CID_RMQ_SYS_TRANS";
inline constexpr std::string_view kOpTag = "d";  ///< of the messages in the op topic
/// Property of op messages, this broker's own: where a record begins in the log, or its end; what was committed in
/// front of it is told by this op message or an earlier one.
inline constexpr std::string_view kOpsCoverProperty = "APOGEE_OPS_COVER";

/// A message of the half topic, read.
struct HalfMessage {
  SharedBytes bytes;           ///< keeps alive what the views point into
  message::RecordView record;  ///< as it was stored
  /// Where the transaction's first half message is in the half queue; copies of it keep that.
  store::QueueOffset root = 0;
  std::string_view real_topic, group, unique_key;
  int32_t real_queue_id = 0;
  int32_t check_times = 0;
  int32_t immunity_s = -1;  ///< see immunity_s_of()

  /// Errors: kInvalidArgument (not of the half topic, or without topic, queue or group), kCorrupt.
  [[nodiscard]] static Result<HalfMessage> of(SharedBytes record);

  /// The message that consumers get.
  [[nodiscard]] Result<StoredCopy> committed() const;
  /// A copy for the end of the half queue, asked for so often.
  [[nodiscard]] Result<StoredCopy> renewed(int32_t checks) const;
  /// The message for TRANS_CHECK_MAX_TIME_TOPIC.
  [[nodiscard]] Result<StoredCopy> given_up() const;
  /// The record as a producer is shown it: with its own topic and queue, at its place in the half queue.
  [[nodiscard]] std::string for_producer(std::string_view properties, store::QueueOffset queue_offset,
                                         store::LogOffset log_offset) const;
};

/// Whether a send is one of a half message: TRAN_MSG says so or, without it, the type in sysFlag. TRAN_MSG does not
/// count in a message that a consumer gives back with a delay level.
[[nodiscard]] bool is_half_message(std::string_view properties, int32_t sys_flag, int32_t reconsume_times);

/// The properties under which a half message is stored: with its own topic and queue, without what only copies have.
/// What asks for a delay stays, and counts when the message is committed.
[[nodiscard]] std::string half_properties(const store::MessageDraft& draft, bool with_transaction_id);

/// CHECK_IMMUNITY_TIME_IN_SECONDS, at most ten years; -1: none, or no number from 0 on.
[[nodiscard]] int32_t immunity_s_of(std::string_view properties);
/// How long nobody asks for the state of such a half message: at least the time-out.
[[nodiscard]] int64_t immunity_ms_of(int32_t immunity_s, int64_t timeout_ms);

/// The offsets in the body of an op message; parts that are no number are left out.
[[nodiscard]] std::vector<store::QueueOffset> op_offsets(std::string_view body);

}  // namespace apogee::broker
