#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "apogee/result.h"

namespace rocksdb {
class DB;
class Status;
}  // namespace rocksdb

namespace apogee::broker {

/// Opens, or creates, a small RocksDB for what the broker knows besides messages: buffers of 4 MiB, no compression, few
/// files open, `cache_bytes` of blocks in memory. `what` names it in errors: "the offsets database".
/// Errors: as state_db_error; kIo when the directory cannot be made.
[[nodiscard]] Result<std::unique_ptr<rocksdb::DB>> open_state_db(const std::string& dir, const char* what,
                                                                 int64_t cache_bytes = 8 << 20);

/// What RocksDB says of a database in `dir`. kAlreadyExists: another process holds it; kCorrupt, kDiskFull, kIo.
[[nodiscard]] Error state_db_error(const rocksdb::Status& status, const std::string& dir, const char* what);

}  // namespace apogee::broker
