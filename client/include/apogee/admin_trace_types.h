#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace apogee::admin {

enum class TraceKind : uint8_t {
  kPub,             ///< a producer sent the message
  kSubBefore,       ///< a consumer's listener is about to get it
  kSubAfter,        ///< the listener is done with it
  kEndTransaction,  ///< a producer decided on a half message
};
const char* to_string(TraceKind kind);  ///< "Pub", "SubBefore", "SubAfter", "EndTransaction"

/// Numbered as in RocketMQ's trace records.
enum class TraceMessageType : uint8_t { kNormal, kHalf, kCommit, kDelay, kOrder };

/// One step in the life of a message. Which fields are set depends on the kind.
struct TraceRecord {
  TraceKind kind = TraceKind::kPub;
  int64_t time_ms = 0;  ///< ms since 1970, the client's clock
  std::string region;
  std::string group;
  std::string msg_id;
  std::string keys;
  // kPub and kEndTransaction:
  std::string topic;
  std::string tags;
  std::string store_host;  ///< of the broker
  TraceMessageType type = TraceMessageType::kNormal;
  // kPub:
  int64_t body_bytes = 0;
  std::string offset_msg_id;
  // kPub and kSubAfter:
  int64_t cost_ms = 0;
  bool success = false;
  // kSubBefore and kSubAfter; both records of one handing out share the id.
  std::string request_id;
  int32_t retry_times = 0;   ///< kSubBefore
  int32_t context_code = 0;  ///< kSubAfter: 0 success, 1 time-out, 2 exception, 3 no result, 4 failed
  // kEndTransaction:
  std::string transaction_id;
  std::string transaction_state;  ///< "COMMIT_MESSAGE", "ROLLBACK_MESSAGE", "UNKNOW"
  bool from_check = false;
  /// "ip" of the client, where it is known: from who sent the trace.
  std::string client_host;
};

/// The life of a message, in the order of the times.
struct MessageTrace {
  std::vector<TraceRecord> records;
  bool truncated = false;             ///< there are more, older ones
  std::vector<std::string> warnings;  ///< why records may be missing
};

struct TraceQuery {
  std::string msg_id;
  std::string trace_topic = "RMQ_SYS_TRACE_TOPIC";
  int32_t messages_max = 64;  ///< of the trace topic; each has the records of many messages
  int64_t begin_ms = 0;       ///< when the trace was stored, ms since 1970, inclusive
  int64_t end_ms = INT64_MAX;
};

}  // namespace apogee::admin
