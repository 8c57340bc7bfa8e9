#include "broker/state_db.h"

#include <rocksdb/cache.h>
#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>

#include <filesystem>

namespace apogee::broker {

Error state_db_error(const rocksdb::Status& status, const std::string& dir, const char* what) {
  const std::string text = dir + ": " + status.ToString();
  if (status.IsIOError() && text.find("LOCK") != std::string::npos)
    return {Errc::kAlreadyExists, std::string("another process holds ") + what + ", " + text};
  if (status.IsCorruption()) return {Errc::kCorrupt, text};
  if (status.IsNoSpace()) return {Errc::kDiskFull, text};
  return {Errc::kIo, text};
}

Result<std::unique_ptr<rocksdb::DB>> open_state_db(const std::string& dir, const char* what, int64_t cache_bytes) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error) return Error{Errc::kIo, dir + ": " + error.message()};
  rocksdb::BlockBasedTableOptions table;
  table.block_cache = rocksdb::NewLRUCache(static_cast<size_t>(cache_bytes));
  table.cache_index_and_filter_blocks = true;
  rocksdb::Options options;
  options.create_if_missing = true;
  options.write_buffer_size = 4 << 20;
  options.max_write_buffer_number = 2;
  options.max_open_files = 64;
  options.max_file_opening_threads = 1;  // they are few, and threads cost more to start
  options.keep_log_file_num = 2;
  options.max_log_file_size = 1 << 20;
  options.compression = rocksdb::kNoCompression;
  options.level_compaction_dynamic_level_bytes = true;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  rocksdb::DB* db = nullptr;
  rocksdb::Status status = rocksdb::DB::Open(options, dir, &db);
  if (!status.ok()) return state_db_error(status, dir, what);
  return std::unique_ptr<rocksdb::DB>(db);
}

}  // namespace apogee::broker
