#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "common/io/file_system.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace apogee::io {

namespace {

Error from_errno(int error, const char* what, const std::string& path) {
  Errc code = error == ENOENT ? Errc::kNotFound : error == ENOSPC || error == EDQUOT ? Errc::kDiskFull : Errc::kIo;
  return Error(code, fmt::format("{} {}: {}", what, path, std::strerror(error)));
}

constexpr unsigned kPageBytes = 4096;
/// Populated by one call into the kernel, which keeps the processor for all of it.
constexpr size_t kPopulateBytes = 64 << 10;
/// Asked for by one call.
constexpr size_t kAskBytes = 256 << 10;

class PosixRegion final : public MappedRegion {
 public:
  PosixRegion(char* data, size_t bytes) : data_(data), bytes_(bytes) {}
  ~PosixRegion() override { ::munmap(data_, bytes_); }
  char* data() const override { return data_; }
  size_t size() const override { return bytes_; }
  bool populate(size_t offset, size_t bytes) override {
    const size_t end = std::min(bytes_, offset + bytes);
    for (size_t at = offset - offset % kPageBytes; at < end;) {
      const size_t part = std::min(end - at, kPopulateBytes - at % kPopulateBytes);
      // A fault on a page that is not in memory reads ahead, megabytes in one go, with nobody else on the processor.
      // What was asked for before brings no more than itself.
      (void)::madvise(data_ + at, part, MADV_WILLNEED);
      if (::madvise(data_ + at, part, MADV_POPULATE_WRITE) != 0) return errno == EINVAL || errno == ENOSYS;
      at += part;
    }
    return true;
  }
  bool in_memory(size_t offset, size_t bytes) const override {
    constexpr size_t kPagesAtOnce = 512;
    unsigned char pages[kPagesAtOnce];
    const size_t end = std::min(bytes_, offset + bytes);
    for (size_t at = offset - offset % kPageBytes; at < end;) {
      const size_t part = std::min(end - at, kPagesAtOnce * kPageBytes);
      const size_t count = (part + kPageBytes - 1) / kPageBytes;
      if (::mincore(data_ + at, part, pages) != 0) return true;
      if (std::any_of(pages, pages + count, [](unsigned char page) { return (page & 1) == 0; })) return false;
      at += part;
    }
    return true;
  }
  bool load(size_t offset, size_t bytes, size_t ahead) override {
    const size_t begin = std::min(bytes_, offset - offset % kPageBytes);
    const size_t end = std::min(bytes_, offset + bytes);
    ask_for(begin, end);  // as above
    for (size_t at = begin; at < end;) {
      const size_t part = std::min(end - at, kPopulateBytes - at % kPopulateBytes);
      if (::madvise(data_ + at, part, MADV_POPULATE_READ) != 0) return errno == EINVAL || errno == ENOSYS;
      at += part;
    }
    ask_for(end - end % kPageBytes, std::min(bytes_, end + ahead));
    return true;
  }
  bool lock_in_memory() override { return ::mlock(data_, bytes_) == 0; }

 private:
  /// Waits for nothing but the pages' memory, and lets others have the processor in between.
  void ask_for(size_t begin, size_t end) {
    for (size_t at = begin; at < end; at += std::min(end - at, kAskBytes))
      (void)::madvise(data_ + at, std::min(end - at, kAskBytes), MADV_WILLNEED);
  }
  char* data_;
  size_t bytes_;
};

class PosixFile final : public File {
 public:
  PosixFile(int descriptor, std::string path) : fd_(descriptor), path_(std::move(path)) {}
  ~PosixFile() override {
    if (fd_ >= 0) ::close(fd_);
  }
  int release() { return std::exchange(fd_, -1); }

  Result<size_t> read_at(int64_t offset, char* to, size_t bytes) override {
    size_t done = 0;
    while (done < bytes) {
      ssize_t n = ::pread(fd_, to + done, bytes - done, offset + static_cast<int64_t>(done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return from_errno(errno, "read", path_);
      if (n == 0) break;
      done += static_cast<size_t>(n);
    }
    return done;
  }

  Status write_at(int64_t offset, std::string_view bytes) override {
    while (!bytes.empty()) {
      ssize_t n = ::pwrite(fd_, bytes.data(), bytes.size(), offset);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return from_errno(errno, "write", path_);
      bytes.remove_prefix(static_cast<size_t>(n));
      offset += n;
    }
    return {};
  }

  Status sync() override { return ::fdatasync(fd_) == 0 ? Status() : Status(from_errno(errno, "sync", path_)); }

  Status sync_range(int64_t offset, int64_t bytes) override {
    auto region = mapped_.lock();
    if (!region) return sync();
    int64_t begin = offset - offset % kPageBytes;
    int64_t end = std::min(offset + bytes, static_cast<int64_t>(region->size()));
    if (begin >= end) return {};
    if (::msync(region->data() + begin, static_cast<size_t>(end - begin), MS_SYNC) == 0) return {};
    return from_errno(errno, "sync", path_);
  }

  Status write_zeros(int64_t offset, int64_t bytes, bool on_disk) override {
    static char zeros[zeros_piece(false)];  // never written to: one page of the kernel's, mapped again and again
    const int64_t end = offset + bytes, piece = zeros_piece(on_disk);
    for (int64_t at = offset; at < end;) {
      const int64_t part = std::min(end - at, piece - at % piece);
      APOGEE_TRY(write_at(at, {zeros, static_cast<size_t>(part)}));
      at += part;
    }
    constexpr unsigned kWait = SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
    if (!on_disk || bytes <= 0 || ::sync_file_range(fd_, offset, bytes, kWait) == 0 || errno == ENOSYS) return {};
    return from_errno(errno, "write", path_);
  }

  void start_write_back(int64_t offset, int64_t bytes) override {
    ::sync_file_range(fd_, offset, bytes, SYNC_FILE_RANGE_WRITE);
  }

  Result<int64_t> next_data(int64_t offset) override {
    off_t found = ::lseek(fd_, offset, SEEK_DATA);
    if (found >= 0) return static_cast<int64_t>(found);
    if (errno == ENXIO) return size();
    if (errno == EINVAL || errno == EOPNOTSUPP) return offset;  // the file system does not know
    return from_errno(errno, "seek", path_);
  }

  Status allocate(int64_t bytes) override {
    // fallocate(2) itself: glibc's posix_fallocate would write every block where this is not supported.
    if (::fallocate(fd_, 0, 0, bytes) == 0) return {};
    if (errno == EOPNOTSUPP || errno == ENOSYS) return resize(bytes);
    return from_errno(errno, "allocate", path_);
  }

  Status resize(int64_t bytes) override {
    return ::ftruncate(fd_, bytes) == 0 ? Status() : Status(from_errno(errno, "resize", path_));
  }

  Status zero(int64_t offset, int64_t bytes) override {
    if (bytes <= 0 || ::fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes) == 0) return {};
    const std::string zeros(64 * 1024, '\0');
    for (int64_t end = offset + bytes; offset < end;) {
      auto part = std::min<int64_t>(end - offset, static_cast<int64_t>(zeros.size()));
      APOGEE_TRY(write_at(offset, std::string_view(zeros).substr(0, static_cast<size_t>(part))));
      offset += part;
    }
    return {};
  }

  Result<int64_t> size() override {
    struct stat status {};
    if (::fstat(fd_, &status) != 0) return from_errno(errno, "stat", path_);
    return static_cast<int64_t>(status.st_size);
  }

  Result<std::shared_ptr<MappedRegion>> map(size_t bytes) override {
    void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
    if (data == MAP_FAILED) return from_errno(errno, "map", path_);
    auto region = std::make_shared<PosixRegion>(static_cast<char*>(data), bytes);
    mapped_ = region;
    return std::shared_ptr<MappedRegion>(std::move(region));
  }

 private:
  int fd_;
  std::string path_;
  std::weak_ptr<PosixRegion> mapped_;  // set before the file is shared among threads
};

/// The process id that the holder of a lock has written behind the word; "" when there is none.
std::string written_holder(PosixFile& file) {
  char raw[32];
  auto bytes = file.read_at(0, raw, sizeof raw);
  std::string_view content(raw, bytes ? *bytes : 0);
  constexpr std::string_view kWord = "lock\n";
  if (content.substr(0, kWord.size()) != kWord) return {};
  content.remove_prefix(kWord.size());
  return std::string(content.substr(0, content.find_first_not_of("0123456789")));
}

class PosixLock final : public DirectoryLock {
 public:
  explicit PosixLock(int descriptor) : fd_(descriptor) {}
  ~PosixLock() override { ::close(fd_); }

 private:
  int fd_;
};

class PosixFileSystem final : public FileSystem {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenMode mode) override {
    int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC | (mode == OpenMode::kCreate ? O_CREAT : 0), 0644);
    if (fd < 0) return from_errno(errno, "open", path);
    return std::unique_ptr<File>(std::make_unique<PosixFile>(fd, path));
  }

  Result<std::vector<std::string>> list(const std::string& directory) override {
    std::vector<std::string> names;
    std::error_code error;
    for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
      names.push_back(it->path().filename().string());
    if (error && error.value() != ENOENT) return from_errno(error.value(), "list", directory);
    std::sort(names.begin(), names.end());
    return names;
  }

  bool exists(const std::string& path) override { return ::access(path.c_str(), F_OK) == 0; }

  bool is_directory(const std::string& path) override {
    std::error_code error;
    return std::filesystem::is_directory(path, error);
  }

  Status make_directories(const std::string& path) override {
    std::error_code error;
    std::filesystem::create_directories(path, error);
    return error ? Status(from_errno(error.value(), "create", path)) : Status();
  }

  Status remove(const std::string& path) override {
    return ::unlink(path.c_str()) == 0 ? Status() : Status(from_errno(errno, "remove", path));
  }

  Status remove_all(const std::string& path) override {
    std::error_code error;
    std::filesystem::remove_all(path, error);
    return error ? Status(from_errno(error.value(), "remove", path)) : Status();
  }

  Status rename(const std::string& from, const std::string& to) override {
    return ::rename(from.c_str(), to.c_str()) == 0 ? Status() : Status(from_errno(errno, "rename", from));
  }

  Status sync_directory(const std::string& path) override { return sync_with(path, ::fsync); }

  Status sync_everything(const std::string& directory) override { return sync_with(directory, ::syncfs); }

  Status sync_with(const std::string& path, int (*call)(int)) {
    int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return from_errno(errno, "open", path);
    int failed = call(fd) == 0 ? 0 : errno;
    ::close(fd);
    return failed == 0 ? Status() : Status(from_errno(failed, "sync", path));
  }

  Result<std::unique_ptr<DirectoryLock>> lock(const std::string& path) override {
    int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return from_errno(errno, "open", path);
    PosixFile file(fd, path);
    struct flock range {};
    range.l_type = F_WRLCK;
    range.l_whence = SEEK_SET;
    range.l_len = 1;
    // A lock of the open file, not of the process: it also holds against a second store in this process, and
    // against the locks that Java takes.
    if (::fcntl(fd, F_OFD_SETLK, &range) != 0) {
      if (errno != EAGAIN && errno != EACCES) return from_errno(errno, "lock", path);
      ::fcntl(fd, F_OFD_GETLK, &range);
      std::string holder = range.l_pid > 0 ? std::to_string(range.l_pid) : written_holder(file);
      return Error(Errc::kAlreadyExists, fmt::format("{} is held by {}: only one broker can work on a store directory",
                                                     path, holder.empty() ? "another process" : "process " + holder));
    }
    std::string content = fmt::format("lock\n{}\n", ::getpid());
    APOGEE_TRY(file.write_at(0, content));
    APOGEE_TRY(file.resize(static_cast<int64_t>(content.size())));
    return std::unique_ptr<DirectoryLock>(std::make_unique<PosixLock>(file.release()));
  }

  double used_ratio(const std::string& path) override {
    struct statvfs status {};
    if (::statvfs(path.c_str(), &status) != 0 || status.f_blocks == 0) return -1;
    auto used = static_cast<double>(status.f_blocks - status.f_bfree);
    return used / (used + static_cast<double>(status.f_bavail));
  }
};

}  // namespace

Status make_durable_directories(FileSystem& files, const std::string& path) {
  std::vector<std::string> above_made;
  for (std::filesystem::path at = path; !at.empty() && !files.exists(at.string()); at = at.parent_path()) {
    auto above = at.parent_path();
    above_made.push_back(above.empty() ? "." : above.string());
    if (above == at) break;
  }
  APOGEE_TRY(files.make_directories(path));
  for (const auto& above : above_made) APOGEE_TRY(files.sync_directory(above));
  return {};
}

FileSystem& posix_file_system() {
  static PosixFileSystem instance;
  return instance;
}

}  // namespace apogee::io
