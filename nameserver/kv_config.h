#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "apogee/result.h"

namespace apogee::nameserver {

/// Namespace of the order configuration: topic to "broker:queues;broker:queues".
inline constexpr const char* kOrderTopicNamespace = "ORDER_TOPIC_CONFIG";

/// Key-value settings of clients and tools, by namespace; saved at each change as
/// {"configTable":{namespace:{key:value}}}.
/// Thread: any; changes write the file and are made one after another.
class KvConfig {
 public:
  using Table = std::map<std::string, std::string>;

  /// path: of the file; empty = nothing is saved.
  explicit KvConfig(std::string path) : path_(std::move(path)) {}
  /// Reads the file; a missing one is an empty configuration. Errors: kIo, kPermission, kCorrupt, naming the path.
  [[nodiscard]] Status load();

  /// Errors: kIo, kPermission, kDiskFull; then nothing is changed.
  [[nodiscard]] Status put(const std::string& name_space, const std::string& key, const std::string& value);
  [[nodiscard]] Status remove(const std::string& name_space, const std::string& key);
  [[nodiscard]] std::optional<std::string> get(const std::string& name_space, const std::string& key) const;
  [[nodiscard]] std::optional<Table> list(const std::string& name_space) const;

 private:
  using Tables = std::map<std::string, Table>;
  [[nodiscard]] Status save_and_adopt(Tables changed);

  const std::string path_;
  std::mutex change_mutex_;          // held for a whole change, the file included
  mutable std::shared_mutex mutex_;  // guards tables_; taken after change_mutex_
  Tables tables_;
};

}  // namespace apogee::nameserver
