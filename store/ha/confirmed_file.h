#pragma once

#include <optional>
#include <string>

#include "apogee/result.h"
#include "common/io/file_system.h"
#include "store/message_store.h"

namespace apogee::store {

/// The newest confirmed offset that a slave was told, kept durably: what lies in front of it may have been acknowledged
/// to a producer, and is not cut without being asked for. One line of text. Thread: one at a time.
class ConfirmedFile {
 public:
  /// An empty path: nothing is kept.
  ConfirmedFile(std::string path, io::FileSystem& files) : path_(std::move(path)), files_(files) {}

  /// nullopt: there is none, or it cannot be read; then nothing is known.
  [[nodiscard]] std::optional<LogOffset> read() const;
  /// Durable when it returns. Errors: kIo, kDiskFull; then the old one is still there.
  [[nodiscard]] Status write(LogOffset confirmed);

 private:
  const std::string path_;
  io::FileSystem& files_;
};

}  // namespace apogee::store
