#pragma once

#include "store/ha/replicated_log.h"

namespace apogee::store {

/// CRC-32 of the bytes [from, to). Errors: as ReplicatedLog::read; kNotFound also where `to` lies behind the log's end.
[[nodiscard]] Result<uint32_t> crc_of_log(const ReplicatedLog& log, LogOffset from, LogOffset to);

}  // namespace apogee::store
