#include "tools/mqstore/repair.h"

#include <fmt/core.h>

#include <filesystem>
#include <fstream>

#include "common/base/logger.h"
#include "common/io/file_system.h"
#include "store/message_store.h"

namespace mqstore {

namespace fs = std::filesystem;
using apogee::Errc;
using apogee::Error;
using apogee::Result;
using apogee::Status;

namespace {

Status keep(const fs::path& from, const fs::path& backup) {
  std::error_code error;
  fs::create_directories(backup, error);
  fs::path to = backup / from.filename();
  if (!error) fs::rename(from, to, error);
  if (error) return Error(Errc::kIo, fmt::format("move {} to {}: {}", from.string(), to.string(), error.message()));
  return {};
}

Status keep_bytes(std::string_view bytes, const fs::path& file) {
  std::error_code error;
  fs::create_directories(file.parent_path(), error);
  std::ofstream out(file, std::ios::binary);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out) return Error(Errc::kIo, "write " + file.string());
  return {};
}

/// What stands behind the last whole message, file by file, without the zeros at its end.
Status keep_tail(const StoreDirectory& store, int64_t log_end, const fs::path& backup) {
  for (const auto& file : store.log_files()) {
    if (file.begin + file.bytes <= log_end || file.bytes == 0) continue;
    APOGEE_TRY_ASSIGN(std::string content, read_file(file.path));
    auto from = static_cast<size_t>(std::max<int64_t>(0, log_end - file.begin));
    if (from >= content.size()) continue;
    auto tail = std::string_view(content).substr(from);
    auto last = tail.find_last_not_of('\0');
    if (last == std::string_view::npos) continue;
    APOGEE_TRY(keep_bytes(tail.substr(0, last + 1),
                          backup / "commitlog-tail" / std::to_string(file.begin + static_cast<int64_t>(from))));
  }
  return {};
}

}  // namespace

Result<Repaired> repair(const StoreDirectory& store, const Verified& verified, const RepairOptions& options,
                        const std::function<void(std::string_view line)>& log) {
  Repaired repaired;
  const fs::path root = store.root();
  const fs::path backup = options.backup_dir.empty()
                              ? root / fmt::format("repair-{}", std::chrono::duration_cast<std::chrono::seconds>(
                                                                    std::chrono::system_clock::now().time_since_epoch())
                                                                    .count())
                              : fs::path(options.backup_dir);
  for (const auto& finding : verified.findings)
    if (finding.kind == "hole" || finding.kind.starts_with("log-file") || finding.kind == "foreign-layout" ||
        finding.kind.starts_with("queue-offset") || finding.kind.starts_with("4.9"))
      repaired.left.push_back(fmt::format("{}: {}", finding.where, finding.what));
  bool changed = false;
  auto tell = [&](std::string what) {
    changed = true;
    repaired.done.push_back(std::move(what));
  };
  std::unique_ptr<apogee::io::DirectoryLock> lock;
  if (!options.dry_run) {
    APOGEE_TRY_ASSIGN(lock, apogee::io::posix_file_system().lock((root / "lock").string()));
  }
  for (const auto& path : verified.bad_config_files) {
    std::error_code none;
    if (!fs::exists(path + ".bak", none) || fs::file_size(path + ".bak", none) == 0) {
      repaired.left.push_back(path + ": it has no .bak to put in its place");
      continue;
    }
    tell(path + ": the .bak takes its place");
    if (options.dry_run) continue;
    APOGEE_TRY(keep(path, backup / "config"));
    std::error_code error;
    fs::copy_file(path + ".bak", path, error);
    if (error) return Error(Errc::kIo, path + ": " + error.message());
  }
  if (verified.index_bad) {
    tell("the index goes; the broker builds it again, while it serves");
    if (!options.dry_run) APOGEE_TRY(keep(root / "indexdb", backup));
  }
  if (verified.torn_tail) {
    tell(fmt::format("the log is cut at {}, behind its last whole message", verified.log_end));
    if (!options.dry_run) APOGEE_TRY(keep_tail(store, verified.log_end, backup));
  }
  if (verified.queues_bad) {
    tell("all queues are built again from the log");
    if (!options.dry_run && fs::exists(root / "consumequeue")) APOGEE_TRY(keep(root / "consumequeue", backup));
  }
  if (!options.dry_run && (verified.torn_tail || verified.queues_bad)) {
    lock.reset();  // the store takes it itself
    apogee::store::StoreOptions open;
    open.root_dir = store.root();
    open.commit_log_dir = store.commit_log_dir();
    open.commit_log_file_bytes = store.log_file_bytes();
    open.consume_queue_file_bytes = store.queue_file_bytes();
    open.message_index_enabled = false;
    open.retention.clean_forcibly = false;
    open.retention.reserved_ms = INT64_MAX / 2;
    apogee::Logger logger([&](apogee::LogLevel, std::string_view line) { log(line); });
    APOGEE_TRY_ASSIGN(auto opened, apogee::store::MessageStore::open(open, logger));
    APOGEE_TRY(opened->start());
    opened->stop();
  }
  if (changed && fs::exists(backup)) repaired.backup_dir = backup.string();
  return repaired;
}

}  // namespace mqstore
