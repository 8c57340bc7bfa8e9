#include "common/base/log_file.h"

#include <fmt/core.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <algorithm>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <vector>

namespace apogee {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kFlushInterval = std::chrono::seconds(1);
constexpr size_t kRememberedLinesMax = 256;

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return spdlog::level::debug;
    case LogLevel::kInfo: return spdlog::level::info;
    case LogLevel::kWarn: return spdlog::level::warn;
    case LogLevel::kError: return spdlog::level::err;
    case LogLevel::kOff: break;
  }
  return spdlog::level::off;
}

using Sinks = std::vector<spdlog::sink_ptr>;

Result<std::shared_ptr<spdlog::logger>> make_logger(const LogFile::Options& options) {
  Sinks sinks;
  try {
    if (!options.path.empty())
      sinks.push_back(std::make_shared<spdlog::sinks::rotating_file_sink_mt>(options.path, options.file_bytes_max,
                                                                             options.files_max));
    if (options.to_stderr) sinks.push_back(std::make_shared<spdlog::sinks::stderr_sink_mt>());
  } catch (const std::exception& failure) {
    return Error{Errc::kIo, fmt::format("{}: cannot open the log file: {}", options.path, failure.what())};
  }
  auto logger = std::make_shared<spdlog::logger>("apogee", sinks.begin(), sinks.end());
  logger->set_level(spdlog::level::trace);
  logger->flush_on(spdlog::level::warn);
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %-5l [%t] %v");
  logger->set_error_handler(
      [](const std::string& text) { std::fprintf(stderr, "cannot write the log: %s\n", text.c_str()); });
  return logger;
}

}  // namespace

const char* to_string(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug: return "debug";
    case LogLevel::kInfo: return "info";
    case LogLevel::kWarn: return "warn";
    case LogLevel::kError: return "error";
    case LogLevel::kOff: return "off";
  }
  return "unknown";
}

Result<LogLevel> log_level_from_name(std::string_view name) {
  std::string lower(name);
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (LogLevel level : {LogLevel::kDebug, LogLevel::kInfo, LogLevel::kWarn, LogLevel::kError, LogLevel::kOff})
    if (lower == to_string(level)) return level;
  return Error{Errc::kInvalidArgument, fmt::format("\"{}\" is not one of debug, info, warn, error, off", name)};
}

struct LogFile::Impl {
  struct Repeats {
    Clock::time_point first;
    LogLevel level;
    uint64_t count = 0;
  };

  Options options;
  std::mutex mutex;
  std::shared_ptr<spdlog::logger> logger;
  std::unordered_map<std::string, Repeats> recent;
  bool stopping = false;
  std::condition_variable wake;
  std::thread flusher;

  void write(LogLevel level, std::string_view line) {
    std::lock_guard lock(mutex);
    if (stopping) return;
    if (options.repeat_window_ms > 0 && !is_news(level, line)) return;
    logger->log(to_spdlog(level), line);
  }

  /// False when the line came within the window already and was only counted.
  bool is_news(LogLevel level, std::string_view line) {
    std::string key(line);
    const auto now = Clock::now();
    auto found = recent.find(key);
    if (found != recent.end()) {
      if (now - found->second.first < std::chrono::milliseconds(options.repeat_window_ms)) {
        ++found->second.count;
        return false;
      }
      tell(found->first, found->second);
      found->second = {now, level, 0};
      return true;
    }
    if (recent.size() >= kRememberedLinesMax) forget(now);
    if (recent.size() < kRememberedLinesMax) recent.emplace(std::move(key), Repeats{now, level, 0});
    return true;
  }
  void tell(const std::string& line, const Repeats& repeats) {
    if (repeats.count > 0) logger->log(to_spdlog(repeats.level), "{} (repeated {} times)", line, repeats.count);
  }
  /// Drops lines whose window has ended, and tells of those that were held back.
  void forget(Clock::time_point now) {
    for (auto each = recent.begin(); each != recent.end();) {
      if (now - each->second.first < std::chrono::milliseconds(options.repeat_window_ms)) {
        ++each;
        continue;
      }
      tell(each->first, each->second);
      each = recent.erase(each);
    }
  }
  void flush_now_and_then() {
    std::unique_lock lock(mutex);
    while (!stopping) {
      wake.wait_for(lock, kFlushInterval, [this] { return stopping; });
      forget(Clock::now());
      logger->flush();
    }
  }
};

LogFile::LogFile(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {
  impl_->flusher = std::thread([state = impl_.get()] { state->flush_now_and_then(); });
}

LogFile::~LogFile() {
  {
    std::lock_guard lock(impl_->mutex);
    for (const auto& [line, repeats] : impl_->recent) impl_->tell(line, repeats);
    impl_->recent.clear();
    impl_->stopping = true;
  }
  impl_->wake.notify_all();
  impl_->flusher.join();
  impl_->logger->flush();
}

Result<std::unique_ptr<LogFile>> LogFile::open(Options options) {
  APOGEE_TRY_ASSIGN(auto logger, make_logger(options));
  auto impl = std::make_shared<Impl>();
  impl->options = std::move(options);
  impl->logger = std::move(logger);
  return std::unique_ptr<LogFile>(new LogFile(std::move(impl)));
}

LogSink LogFile::sink() const {
  return [impl = impl_](LogLevel level, std::string_view line) { impl->write(level, line); };
}

void LogFile::flush() {
  std::lock_guard lock(impl_->mutex);
  impl_->logger->flush();
}

Status LogFile::reopen() {
  APOGEE_TRY_ASSIGN(auto logger, make_logger(impl_->options));
  std::lock_guard lock(impl_->mutex);
  impl_->logger->flush();
  impl_->logger = std::move(logger);
  return {};
}

}  // namespace apogee
