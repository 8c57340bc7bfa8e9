#include "tools/mqbench/store/bench_store.h"

#include <fcntl.h>
#include <fmt/core.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>
#include <thread>

#include "common/message/message_record.h"

namespace mqbench {

namespace fs = std::filesystem;
using apogee::LogLevel;
using apogee::store::MessageDraft;
using apogee::store::MessageStore;

namespace {
constexpr int64_t kOutstandingMax = 4'096;
constexpr auto kLook = std::chrono::milliseconds(1);

void log_line(LogLevel /*level*/, std::string_view line) { fmt::print(stderr, "{}\n", line); }
}  // namespace

BenchStore::BenchStore(const StoreBenchOptions& bench, const std::string& name) : logger_(log_line, LogLevel::kWarn) {
  const auto root = bench.directory / name;
  if (fs::exists(root)) throw std::runtime_error(root.string() + " is there already; remove it");
  options.root_dir = root.string();
  options.commit_log_file_bytes = bench.log_file_bytes;
  options.disk_used_ratio_max = 1.01;
  options.retention.clean_above = options.retention.clean_forcibly_above = 1.01;
  options.retention.clean_forcibly = false;
}

BenchStore::~BenchStore() {
  stop();
  std::error_code ignored;
  fs::remove_all(options.root_dir, ignored);
}

double BenchStore::open() {
  Stopwatch watch;
  auto opened = MessageStore::open(options, logger_);
  if (!opened) throw std::runtime_error(opened.error().message);
  store_ = std::move(*opened);
  if (auto started = store_->start(); !started) throw std::runtime_error(started.error().message);
  return watch.seconds();
}

void BenchStore::stop() {
  if (!store_) return;
  store_->stop();
  store_.reset();
}

void BenchStore::append(const MessageDraft& draft) {
  {
    std::unique_lock lock(mutex_);
    answered_.wait(lock, [this] { return outstanding_ < kOutstandingMax; });
    ++outstanding_;
  }
  store_->append(draft, [this](const apogee::store::PutResult& result) {
    std::lock_guard lock(mutex_);
    if (!result.stored()) refused_ = result.detail;
    --outstanding_;
    answered_.notify_one();
  });
}

void BenchStore::wait_for_answers() {
  std::unique_lock lock(mutex_);
  answered_.wait(lock, [this] { return outstanding_ == 0; });
  if (!refused_.empty()) throw std::runtime_error("an append was refused: " + refused_);
}

void BenchStore::wait_until_built(bool index) {
  for (;;) {
    auto figures = store_->figures();
    if (figures.dispatched_offset >= figures.log_max_offset &&
        (!index || figures.indexed_offset >= figures.log_max_offset))
      return;
    std::this_thread::sleep_for(kLook);
  }
}

MessageDraft draft_of(std::string_view topic, int32_t queue_id, std::string_view body) {
  MessageDraft draft;
  draft.topic = topic;
  draft.queue_id = queue_id;
  draft.body = body;
  draft.born_timestamp_ms = 1;
  return draft;
}

int64_t record_bytes_of(const MessageDraft& draft) {
  apogee::message::RecordFields fields;
  fields.topic = draft.topic;
  fields.body = draft.body;
  fields.properties = draft.properties;
  fields.born_host = {draft.born_host.ip_bytes, draft.born_host.port};
  fields.store_host = {draft.store_host.ip_bytes, draft.store_host.port};
  return static_cast<int64_t>(apogee::message::record_bytes(fields));
}

double cpu_seconds() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

double memory_mib(const std::string& field) {
  std::ifstream in("/proc/self/status");
  for (std::string line; std::getline(in, line);)
    if (line.compare(0, field.size() + 1, field + ":") == 0) return std::stod(line.substr(field.size() + 1)) / 1'024;
  return 0;
}

int64_t open_descriptors() {
  auto all = fs::directory_iterator("/proc/self/fd");
  return std::distance(fs::begin(all), fs::end(all)) - 1;  // less the one that lists them
}

void drop_from_cache(const fs::path& directory) {
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    if (!entry.is_regular_file()) continue;
    int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) continue;
    ::fdatasync(fd);
    ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    ::close(fd);
  }
}

}  // namespace mqbench
