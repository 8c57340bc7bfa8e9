#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "common/io/file_system.h"

namespace apogee::store {

enum class FileCall : uint8_t {
  kOpen,
  kRead,
  kWrite,
  kSync,  ///< of a file, a range of it, a directory, everything
  kAllocate,
  kResize,
  kZero,
  kMap,
  kPopulate,
  kRemove,
  kRename,
};

/// Another file system, in which chosen calls on paths with a chosen part fail or wait. Thread: any.
class FaultFileSystem final : public io::FileSystem {
 public:
  explicit FaultFileSystem(io::FileSystem& below = io::posix_file_system()) : below_(below) {}

  /// From now on these calls fail with this code, until allow().
  void fail(FileCall call, std::string path_part, Errc code) {
    std::lock_guard lock(mutex_);
    failing_[call] = {std::move(path_part), code};
  }
  void allow(FileCall call) {
    std::lock_guard lock(mutex_);
    failing_.erase(call);
  }
  /// After so many further calls that change or sync something, `times` of them fail, whichever they are.
  void fail_after(int64_t calls, int64_t times, Errc code) {
    std::lock_guard lock(mutex_);
    window_ = {changes_ + calls, changes_ + calls + times, code};
  }
  void allow_all() {
    std::lock_guard lock(mutex_);
    failing_.clear();
    window_ = {};
  }
  /// Told of each sync of a file that was made to fail; called under a lock of this object.
  void on_failed_sync(std::function<void(const std::string& path)> listener) {
    std::lock_guard lock(mutex_);
    failed_sync_ = std::move(listener);
  }
  /// From now on syncs of such paths wait, until release_syncs().
  void hold_syncs(std::string path_part) {
    std::lock_guard lock(mutex_);
    held_ = std::move(path_part);
  }
  void release_syncs() {
    std::lock_guard lock(mutex_);
    held_.clear();
    changed_.notify_all();
  }
  /// Waits until a sync is being held.
  bool wait_for_held_sync() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(20), [this] { return waiting_ > 0; });
  }
  int failures() const { return failures_; }
  /// Writes that are made to fail write their first half, as a disk that gets full does.
  std::atomic<bool> half_written{false};
  /// Set before the store starts; called with each range that has been synced.
  std::function<void(int64_t offset, int64_t bytes)> after_sync_of_range;
  /// Set before the store starts; called with each path that is about to be removed.
  std::function<void(const std::string& path)> before_remove;

  Status check(FileCall call, const std::string& path) {
    std::unique_lock lock(mutex_);
    if (call == FileCall::kSync) {
      auto is_held = [&] { return !held_.empty() && path.find(held_) != std::string::npos; };
      if (is_held()) {
        ++waiting_;
        changed_.notify_all();
        changed_.wait(lock, [&] { return !is_held(); });
        --waiting_;
      }
    }
    std::optional<Errc> code;
    if (call != FileCall::kOpen && call != FileCall::kRead && call != FileCall::kMap) {
      if (changes_ >= window_.first && changes_ < window_.end) code = window_.code;
      ++changes_;
    }
    auto found = failing_.find(call);
    if (found != failing_.end() && path.find(found->second.path_part) != std::string::npos) code = found->second.code;
    if (!code) return {};
    ++failures_;
    if (call == FileCall::kSync && failed_sync_) failed_sync_(path);
    return Error(*code, path + ": made to fail");
  }

  Result<std::unique_ptr<io::File>> open(const std::string& path, io::OpenMode mode) override;
  Result<std::vector<std::string>> list(const std::string& directory) override { return below_.list(directory); }
  bool exists(const std::string& path) override { return below_.exists(path); }
  bool is_directory(const std::string& path) override { return below_.is_directory(path); }
  Status make_directories(const std::string& path) override { return below_.make_directories(path); }
  Status remove(const std::string& path) override {
    if (before_remove) before_remove(path);
    APOGEE_TRY(check(FileCall::kRemove, path));
    return below_.remove(path);
  }
  Status remove_all(const std::string& path) override {
    APOGEE_TRY(check(FileCall::kRemove, path));
    return below_.remove_all(path);
  }
  Status rename(const std::string& from, const std::string& to) override {
    APOGEE_TRY(check(FileCall::kRename, from));
    return below_.rename(from, to);
  }
  Status sync_directory(const std::string& path) override {
    APOGEE_TRY(check(FileCall::kSync, path));
    return below_.sync_directory(path);
  }
  Status sync_everything(const std::string& directory) override {
    APOGEE_TRY(check(FileCall::kSync, directory));
    return below_.sync_everything(directory);
  }
  Result<std::unique_ptr<io::DirectoryLock>> lock(const std::string& path) override { return below_.lock(path); }
  double used_ratio(const std::string&) override { return used_; }
  void set_used_ratio(double used) { used_ = used; }

 private:
  struct Failure {
    std::string path_part;
    Errc code;
  };
  struct Window {
    int64_t first = std::numeric_limits<int64_t>::max(), end = 0;
    Errc code = Errc::kIo;
  };
  io::FileSystem& below_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<FileCall, Failure> failing_;                  // guarded by mutex_
  Window window_;                                        // guarded by mutex_
  int64_t changes_ = 0;                                  // guarded by mutex_
  std::function<void(const std::string&)> failed_sync_;  // guarded by mutex_
  std::string held_;                                     // guarded by mutex_
  int waiting_ = 0;                                      // guarded by mutex_
  std::atomic<int> failures_{0};
  std::atomic<double> used_{0.1};
};

class FaultRegion final : public io::MappedRegion {
 public:
  FaultRegion(FaultFileSystem& faults, std::string path, std::shared_ptr<io::MappedRegion> below)
      : faults_(faults), path_(std::move(path)), below_(std::move(below)) {}
  char* data() const override { return below_->data(); }
  size_t size() const override { return below_->size(); }
  bool populate(size_t offset, size_t bytes) override {
    return faults_.check(FileCall::kPopulate, path_).has_value() && below_->populate(offset, bytes);
  }
  bool lock_in_memory() override { return below_->lock_in_memory(); }

 private:
  FaultFileSystem& faults_;
  const std::string path_;
  std::shared_ptr<io::MappedRegion> below_;
};

class FaultFile final : public io::File {
 public:
  FaultFile(FaultFileSystem& faults, std::string path, std::unique_ptr<io::File> below)
      : faults_(faults), path_(std::move(path)), below_(std::move(below)) {}
  Result<size_t> read_at(int64_t offset, char* to, size_t bytes) override {
    APOGEE_TRY(faults_.check(FileCall::kRead, path_));
    return below_->read_at(offset, to, bytes);
  }
  Status write_at(int64_t offset, std::string_view bytes) override {
    auto failed = faults_.check(FileCall::kWrite, path_);
    if (!failed && faults_.half_written) APOGEE_TRY(below_->write_at(offset, bytes.substr(0, bytes.size() / 2)));
    APOGEE_TRY(failed);
    return below_->write_at(offset, bytes);
  }
  Status sync() override {
    APOGEE_TRY(faults_.check(FileCall::kSync, path_));
    return below_->sync();
  }
  Status sync_range(int64_t offset, int64_t bytes) override {
    APOGEE_TRY(faults_.check(FileCall::kSync, path_));
    APOGEE_TRY(below_->sync_range(offset, bytes));
    if (faults_.after_sync_of_range) faults_.after_sync_of_range(offset, bytes);
    return {};
  }
  Status write_zeros(int64_t offset, int64_t bytes, bool on_disk) override {
    return below_->write_zeros(offset, bytes, on_disk);
  }
  void start_write_back(int64_t offset, int64_t bytes) override { below_->start_write_back(offset, bytes); }
  Result<int64_t> next_data(int64_t offset) override { return below_->next_data(offset); }
  Status allocate(int64_t bytes) override {
    APOGEE_TRY(faults_.check(FileCall::kAllocate, path_));
    return below_->allocate(bytes);
  }
  Status resize(int64_t bytes) override {
    APOGEE_TRY(faults_.check(FileCall::kResize, path_));
    return below_->resize(bytes);
  }
  Status zero(int64_t offset, int64_t bytes) override {
    APOGEE_TRY(faults_.check(FileCall::kZero, path_));
    return below_->zero(offset, bytes);
  }
  Result<int64_t> size() override { return below_->size(); }
  Result<std::shared_ptr<io::MappedRegion>> map(size_t bytes) override {
    APOGEE_TRY(faults_.check(FileCall::kMap, path_));
    APOGEE_TRY_ASSIGN(auto region, below_->map(bytes));
    return std::shared_ptr<io::MappedRegion>(std::make_shared<FaultRegion>(faults_, path_, std::move(region)));
  }

 private:
  FaultFileSystem& faults_;
  const std::string path_;
  std::unique_ptr<io::File> below_;
};

inline Result<std::unique_ptr<io::File>> FaultFileSystem::open(const std::string& path, io::OpenMode mode) {
  APOGEE_TRY(check(FileCall::kOpen, path));
  APOGEE_TRY_ASSIGN(auto file, below_.open(path, mode));
  return std::unique_ptr<io::File>(std::make_unique<FaultFile>(*this, path, std::move(file)));
}

}  // namespace apogee::store
