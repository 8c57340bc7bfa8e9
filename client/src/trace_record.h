#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "apogee/admin_trace_types.h"

namespace apogee {

using admin::TraceKind;
using admin::TraceMessageType;
using admin::TraceRecord;

inline constexpr std::string_view kTraceTopic = "RMQ_SYS_TRACE_TOPIC";

/// Appends the record as RocketMQ's clients write it: fields between 0x01, the end is 0x02. These two bytes in a field
/// become spaces, an empty text becomes "null", so that Java's reader finds all fields.
void append_trace_record(std::string& to, const TraceRecord& record);

/// The records of a trace message's body. What is no record, or one of a kind unknown here, is left out. Records of
/// SubAfter without a group (of 4.9 clients) get that of the SubBefore with the same request id in this body.
[[nodiscard]] std::vector<TraceRecord> decode_trace_records(std::string_view body);

}  // namespace apogee
