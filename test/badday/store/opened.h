#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/logger.h"
#include "store/message_store.h"

namespace apogee::store {

/// A store that was opened, or the reason why it was not; and what it logged.
class Opened {
 public:
  Opened(const StoreOptions& options, io::FileSystem& files)
      : logger_([this](LogLevel, std::string_view line) {
          std::lock_guard lock(mutex_);
          lines_.emplace_back(line);
        }) {
    auto opened = MessageStore::open(options, logger_, files);
    if (opened) {
      store_ = std::move(*opened);
    } else {
      error_ = opened.error();
    }
  }
  explicit operator bool() const { return store_ != nullptr; }
  MessageStore& operator*() const { return *store_; }
  MessageStore* operator->() const { return store_.get(); }
  [[nodiscard]] const Error& error() const { return *error_; }
  [[nodiscard]] std::vector<std::string> lines() const {
    std::lock_guard lock(mutex_);
    return lines_;
  }
  [[nodiscard]] bool logged(std::string_view part) const {
    auto all = lines();
    return std::any_of(all.begin(), all.end(), [&](const auto& line) { return line.find(part) != std::string::npos; });
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;  // guarded by mutex_
  Logger logger_;
  std::optional<Error> error_;
  std::unique_ptr<MessageStore> store_;
};

}  // namespace apogee::store
