#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"

namespace apogee::io {

/// A file mapped shared and writable; unmapped when the last holder lets it go. Thread: any.
class MappedRegion {
 public:
  virtual ~MappedRegion() = default;
  [[nodiscard]] virtual char* data() const = 0;
  [[nodiscard]] virtual size_t size() const = 0;
  /// Makes the pages present and writable, so that no append takes a write fault. True also where the kernel knows
  /// no way to do it ahead of time: then the faults come with the appends. False: the pages cannot be had now (no
  /// room, an I/O error), and touching them may raise SIGBUS.
  virtual bool populate(size_t offset, size_t bytes) = 0;
  /// Whether all of these pages are in memory, so that reading them waits for no disk; may be out of date at once. True
  /// also where that cannot be told.
  [[nodiscard]] virtual bool in_memory(size_t offset, size_t bytes) const {
    (void)offset, (void)bytes;
    return true;
  }
  /// Reads the pages into memory, and waits for it; has `ahead` bytes behind them read too, and does not wait for
  /// these. False: they cannot be read, and touching them may raise SIGBUS.
  virtual bool load(size_t offset, size_t bytes, size_t ahead) {
    (void)offset, (void)bytes, (void)ahead;
    return true;
  }
  /// Keeps all pages in memory, mlock(2). False when the limit RLIMIT_MEMLOCK or the kernel refuses.
  virtual bool lock_in_memory() { return false; }
};

/// What write_zeros() brings into memory at a time, and what a kernel with large folios then keeps, dirties and writes
/// as one. The larger, the cheaper; but where each sync is waited for, each writes at least one piece.
constexpr int64_t zeros_piece(bool on_disk) { return on_disk ? 16 << 10 : 64 << 10; }

/// An open file. Reads and writes at a position; thread: any.
class File {
 public:
  virtual ~File() = default;
  /// Bytes read: fewer than asked only at the end of the file.
  [[nodiscard]] virtual Result<size_t> read_at(int64_t offset, char* to, size_t bytes) = 0;
  [[nodiscard]] virtual Status write_at(int64_t offset, std::string_view bytes) = 0;
  /// Until this returns success nothing written, also through a mapping, is durable.
  [[nodiscard]] virtual Status sync() = 0;
  /// As sync(), for this range alone where the file is mapped: pages outside keep what populate() has made of them.
  [[nodiscard]] virtual Status sync_range(int64_t offset, int64_t bytes) {
    (void)offset, (void)bytes;
    return sync();
  }
  /// Writes zeros over a range that is to be filled through the mapping, and that nobody writes to meanwhile. Pages
  /// that come this way cost a third of those that the first touch brings. With `on_disk` the zeros and the blocks for
  /// them are on the disk when it returns (and durable with the next sync()), so that a sync of what is put there later
  /// waits for its own bytes, not for the file system's journal. Errors: kDiskFull, kIo.
  [[nodiscard]] virtual Status write_zeros(int64_t offset, int64_t bytes, bool on_disk) {
    (void)offset, (void)bytes, (void)on_disk;
    return {};
  }
  /// Begins to write the range to the disk and does not wait for it. Says nothing about durability.
  virtual void start_write_back(int64_t offset, int64_t bytes) { (void)offset, (void)bytes; }
  /// The first position from `offset` on that may hold anything but zeros; the file's size when there is none.
  [[nodiscard]] virtual Result<int64_t> next_data(int64_t offset) { return offset; }
  /// Reserves room for the whole file without writing it, where the file system can.
  [[nodiscard]] virtual Status allocate(int64_t bytes) = 0;
  /// Sets the length; a longer file is sparse.
  [[nodiscard]] virtual Status resize(int64_t bytes) = 0;
  /// Zeroes [offset, offset + bytes) and gives the room back where the file system can; the length stays.
  [[nodiscard]] virtual Status zero(int64_t offset, int64_t bytes) = 0;
  [[nodiscard]] virtual Result<int64_t> size() = 0;
  [[nodiscard]] virtual Result<std::shared_ptr<MappedRegion>> map(size_t bytes) = 0;
};

enum class OpenMode : uint8_t { kExisting, kCreate };

/// Held while alive.
class DirectoryLock {
 public:
  virtual ~DirectoryLock() = default;
};

/// Every operation on files that the store makes, so that a test can own each byte and fail any call.
/// Errors: kNotFound, kDiskFull (ENOSPC, EDQUOT), else kIo; the message names the path.
class FileSystem {
 public:
  virtual ~FileSystem() = default;
  [[nodiscard]] virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) = 0;
  /// Names of the entries, ascending; an absent directory has none.
  [[nodiscard]] virtual Result<std::vector<std::string>> list(const std::string& directory) = 0;
  [[nodiscard]] virtual bool exists(const std::string& path) = 0;
  [[nodiscard]] virtual bool is_directory(const std::string& path) = 0;
  [[nodiscard]] virtual Status make_directories(const std::string& path) = 0;
  [[nodiscard]] virtual Status remove(const std::string& path) = 0;
  [[nodiscard]] virtual Status remove_all(const std::string& path) = 0;
  /// Replaces what is at `to`, unless that is a directory with entries.
  [[nodiscard]] virtual Status rename(const std::string& from, const std::string& to) = 0;
  /// Makes created, renamed and removed names of a directory durable.
  [[nodiscard]] virtual Status sync_directory(const std::string& path) = 0;
  /// Makes everything durable that was written to the file system which holds the directory: one wait for the
  /// disk where a sync of each of many files would take as many.
  [[nodiscard]] virtual Status sync_everything(const std::string& directory) = 0;
  /// Locks the file's first byte as Apache RocketMQ does, also against this process. The file begins with `lock`,
  /// as there, and goes on with our process id. Error: kAlreadyExists, naming the holder's process id.
  [[nodiscard]] virtual Result<std::unique_ptr<DirectoryLock>> lock(const std::string& path) = 0;
  /// used / (used + usable for this user), 0 to 1, of the file system that holds the path; -1 when unknown.
  [[nodiscard]] virtual double used_ratio(const std::string& path) = 0;
};

/// Makes a directory and those above it that are missing, and makes their names durable.
[[nodiscard]] Status make_durable_directories(FileSystem& files, const std::string& path);

/// The real one. Stateless; lives as long as the process.
FileSystem& posix_file_system();

}  // namespace apogee::io
