#include "store/ha/log_crc.h"

#include <fmt/core.h>

#include "common/base/crc32.h"

namespace apogee::store {

Result<uint32_t> crc_of_log(const ReplicatedLog& log, LogOffset from, LogOffset to) {
  uint32_t crc = 0;
  while (from < to) {
    APOGEE_TRY_ASSIGN(auto bytes, log.read(from, to - from));
    if (bytes.empty()) return Error(Errc::kNotFound, fmt::format("the log ends at {}", from));
    crc = crc32(bytes.bytes, crc);
    from += static_cast<LogOffset>(bytes.size());
  }
  return crc;
}

}  // namespace apogee::store
