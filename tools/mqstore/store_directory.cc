#include "tools/mqstore/store_directory.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <map>

#include "store/consume_queues.h"
#include "store/file_names.h"

namespace mqstore {

namespace fs = std::filesystem;
using apogee::Errc;
using apogee::Error;
using apogee::Result;
using apogee::Status;
using apogee::store::LogFile;
using apogee::store::LogPosition;

namespace {

Error io_error(const char* what, const std::string& path) {
  return Error(errno == ENOENT ? Errc::kNotFound : Errc::kIo,
               fmt::format("{} {}: {}", what, path, std::strerror(errno)));
}

class ReadOnlyRegion final : public apogee::io::MappedRegion {
 public:
  ReadOnlyRegion(char* data, size_t bytes) : data_(data), bytes_(bytes) {}
  ~ReadOnlyRegion() override { ::munmap(data_, bytes_); }
  char* data() const override { return data_; }
  size_t size() const override { return bytes_; }
  bool populate(size_t, size_t) override { return true; }

 private:
  char* data_;
  size_t bytes_;
};

/// Refuses everything that would change the file.
class ReadOnlyFile final : public apogee::io::File {
 public:
  ReadOnlyFile(int descriptor, std::string path) : fd_(descriptor), path_(std::move(path)) {}
  ~ReadOnlyFile() override { ::close(fd_); }
  Result<size_t> read_at(int64_t offset, char* to, size_t bytes) override {
    ssize_t n = ::pread(fd_, to, bytes, offset);
    if (n < 0) return io_error("read", path_);
    return static_cast<size_t>(n);
  }
  Status write_at(int64_t, std::string_view) override { return refused(); }
  Status sync() override { return refused(); }
  Status allocate(int64_t) override { return refused(); }
  Status resize(int64_t) override { return refused(); }
  Status zero(int64_t, int64_t) override { return refused(); }
  Result<int64_t> size() override {
    struct stat status {};
    if (::fstat(fd_, &status) != 0) return io_error("stat", path_);
    return static_cast<int64_t>(status.st_size);
  }
  Result<int64_t> next_data(int64_t offset) override {
    off_t found = ::lseek(fd_, offset, SEEK_DATA);
    if (found >= 0) return static_cast<int64_t>(found);
    if (errno == ENXIO) return size();
    return offset;
  }
  Result<std::shared_ptr<apogee::io::MappedRegion>> map(size_t bytes) override {
    void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd_, 0);
    if (data == MAP_FAILED) return io_error("map", path_);
    return std::shared_ptr<apogee::io::MappedRegion>(std::make_shared<ReadOnlyRegion>(static_cast<char*>(data), bytes));
  }

 private:
  [[nodiscard]] Status refused() const { return Error(Errc::kUnsupported, path_ + ": opened for reading"); }
  int fd_;
  std::string path_;
};

Result<std::unique_ptr<ReadOnlyFile>> open_for_reading(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return io_error("open", path);
  return std::make_unique<ReadOnlyFile>(fd, path);
}

/// The process that works on the store; nullopt: none.
std::optional<pid_t> holder_of(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return std::nullopt;
  struct flock range {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_len = 1;
  bool held = ::fcntl(fd, F_OFD_GETLK, &range) == 0 && range.l_type != F_UNLCK;
  pid_t holder = range.l_pid;
  if (held && holder <= 0) {
    // A lock of an open file has no process; its holder has written its own behind the word.
    char raw[32] = {};
    ssize_t n = ::pread(fd, raw, sizeof raw - 1, 0);
    std::string_view text(raw, n > 0 ? static_cast<size_t>(n) : 0);
    if (text.starts_with("lock\n")) std::from_chars(text.data() + 5, text.data() + text.size(), holder);
  }
  ::close(fd);
  return held ? std::optional<pid_t>(holder) : std::nullopt;
}

std::vector<StoreDirectory::File> files_in(const std::string& directory) {
  std::vector<StoreDirectory::File> files;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    auto begin = apogee::store::offset_of_file_name(it->path().filename().string());
    std::error_code unreadable;
    auto bytes = it->file_size(unreadable);
    if (begin && !unreadable) files.push_back({it->path().string(), *begin, static_cast<int64_t>(bytes)});
  }
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  return files;
}

}  // namespace

Result<StoreDirectory> StoreDirectory::open(Options options) {
  StoreDirectory store;
  store.options_ = std::move(options);
  auto& known = store.options_;
  if (known.commit_log_dir.empty()) known.commit_log_dir = known.root + "/commitlog";
  if (!fs::is_directory(known.root)) return Error(Errc::kNotFound, known.root + ": there is no such directory");
  if (!fs::is_directory(known.commit_log_dir))
    return Error(Errc::kNotFound, known.commit_log_dir +
                                      ": there is no such directory. Give the directory that storePathRootDir names, "
                                      "and --commitLogDir when the log stands elsewhere");
  if (auto holder = holder_of(known.root + "/lock"))
    return Error(Errc::kAlreadyExists,
                 fmt::format("{} is in use{}: stop the broker, or work on a copy", known.root,
                             *holder > 0 ? fmt::format(" by process {}", *holder) : " by another process"));
  store.log_files_ = files_in(known.commit_log_dir);
  if (known.log_file_bytes == 0 && !store.log_files_.empty()) known.log_file_bytes = store.log_files_.front().bytes;
  std::error_code error;
  std::map<int64_t, int> sizes;
  std::vector<fs::path> topics;
  for (fs::directory_iterator it(known.root + "/consumequeue", error), end; !error && it != end; it.increment(error))
    if (it->is_directory()) topics.push_back(it->path());
  std::sort(topics.begin(), topics.end());
  for (const auto& topic : topics) {
    for (fs::directory_iterator it(topic, error), end; !error && it != end; it.increment(error)) {
      std::string name = it->path().filename().string();
      Queue queue;
      auto [last, failed] = std::from_chars(name.data(), name.data() + name.size(), queue.queue_id);
      if (failed != std::errc() || last != name.data() + name.size() || !it->is_directory()) continue;
      queue.topic = topic.filename().string();
      queue.files = files_in(it->path().string());
      for (const auto& file : queue.files) ++sizes[file.bytes];
      store.queues_.push_back(std::move(queue));
    }
  }
  std::sort(store.queues_.begin(), store.queues_.end(), [](const Queue& a, const Queue& b) {
    return std::tie(a.topic, a.queue_id) < std::tie(b.topic, b.queue_id);
  });
  if (known.queue_file_bytes == 0) {
    auto most =
        std::max_element(sizes.begin(), sizes.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
    known.queue_file_bytes = most == sizes.end() ? 6'000'000 : most->first;
  }
  return store;
}

int64_t StoreDirectory::log_bytes() const {
  int64_t bytes = 0;
  for (const auto& file : log_files_) bytes += file.bytes;
  return bytes;
}

Result<LogFile> StoreDirectory::map(const File& file) {
  LogFile mapped;
  mapped.begin = file.begin;
  APOGEE_TRY_ASSIGN(auto opened, open_for_reading(file.path));
  APOGEE_TRY_ASSIGN(mapped.map, opened->map(static_cast<size_t>(file.bytes)));
  mapped.file = std::move(opened);
  return mapped;
}

std::optional<std::string_view> StoreDirectory::log_bytes_from(int64_t offset) {
  if (!mapped_ || offset < mapped_->begin || offset >= mapped_->end()) {
    auto file = std::find_if(log_files_.begin(), log_files_.end(), [&](const File& each) {
      return offset >= each.begin && offset < each.begin + each.bytes;
    });
    if (file == log_files_.end()) return std::nullopt;
    auto mapped = map(*file);
    if (!mapped) return std::nullopt;
    mapped_ = std::move(*mapped);
  }
  return mapped_->bytes_from(offset);
}

Result<std::string> read_file(const std::string& path) {
  APOGEE_TRY_ASSIGN(auto file, open_for_reading(path));
  APOGEE_TRY_ASSIGN(int64_t bytes, file->size());
  constexpr int64_t kStep = 256 << 10;
  std::string content;
  for (int64_t at = 0; at < bytes;) {
    APOGEE_TRY_ASSIGN(at, file->next_data(at));
    if (at >= bytes) break;
    auto step = static_cast<size_t>(std::min(kStep, bytes - at));
    content.resize(static_cast<size_t>(at) + step);
    APOGEE_TRY_ASSIGN(size_t got, file->read_at(at, content.data() + at, step));
    if (got < step) return Error(Errc::kIo, path + ": it became shorter while it was read");
    at += static_cast<int64_t>(step);
  }
  return content;
}

Status walk_log(const StoreDirectory& store, const std::function<bool(const Span& span)>& visit) {
  int64_t bad_from = -1;  // not yet known whether it is a hole or the tail
  bool dirty = false;
  for (const auto& file : store.log_files()) {
    if (file.bytes == 0) continue;
    APOGEE_TRY_ASSIGN(LogFile mapped, StoreDirectory::map(file));
    for (int64_t at = file.begin; at < mapped.end();) {
      auto position = apogee::store::look_at(mapped.bytes_from(at), at, true);
      if (position.kind == LogPosition::Kind::kNothing) {
        if (bad_from < 0) bad_from = at;
        APOGEE_TRY_ASSIGN(int64_t next, apogee::store::next_record(mapped, at + 1));
        const int64_t end = next < 0 ? mapped.end() : next;
        for (int64_t look = at; look < end && !dirty;) {
          APOGEE_TRY_ASSIGN(int64_t data, mapped.file->next_data(look - file.begin));
          look = std::max(look, file.begin + data);
          if (look >= end) break;
          auto part = mapped.bytes_from(look).substr(0, static_cast<size_t>(std::min<int64_t>(end - look, 1 << 20)));
          dirty = part.find_first_not_of('\0') != std::string_view::npos;
          look += static_cast<int64_t>(part.size());
        }
        at = end;
        continue;
      }
      Span span;
      const bool blank = position.kind == LogPosition::Kind::kBlank;
      if (blank && bad_from >= 0) {  // no proof that the log goes on here
        at += position.bytes;
        continue;
      }
      if (bad_from >= 0) {
        span.kind = Span::Kind::kHole;
        span.begin = bad_from;
        span.end = at;
        if (!visit(span)) return {};
        bad_from = -1;
        dirty = false;
      }
      span.kind = blank ? Span::Kind::kBlank : Span::Kind::kRecord;
      span.begin = at;
      span.end = at + position.bytes;
      if (!blank) span.record = *apogee::message::decode_record(mapped.bytes_from(at));
      if (!visit(span)) return {};
      at = span.end;
    }
  }
  if (bad_from >= 0) {
    Span tail;
    tail.kind = Span::Kind::kTail;
    tail.begin = bad_from;
    tail.end = store.log_files().back().begin + store.log_files().back().bytes;
    tail.dirty = dirty;
    visit(tail);
  }
  return {};
}

}  // namespace mqstore
