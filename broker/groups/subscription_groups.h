#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/result.h"
#include "broker/groups/client_info.h"
#include "common/base/logger.h"
#include "common/remoting/bodies/group_bodies.h"

namespace apogee::broker {

/// What a consumer group may do; an entry of subscriptionGroup.json.
using GroupConfig = remoting::SubscriptionGroupConfig;

/// Names: prefix CID_RMQ_SYS_ and the built-in groups. They exist always and cannot be removed.
bool is_system_group(std::string_view group);
/// The table of consumer groups, kept in config/subscriptionGroup.json in RocketMQ's form.
/// Thread: any. Readers get snapshots. put() and remove() write the file before they return (not for IO loops).
class SubscriptionGroups {
 public:
  struct Options {
    std::string file;  ///< empty: nothing is read or written
    bool auto_create = true;
  };
  SubscriptionGroups(Options options, const Logger& logger, NowMs now_ms = system_now_ms);
  ~SubscriptionGroups();

  /// Reads the file, or its .bak where it is missing or bad; adds the built-in groups.
  /// Errors: kCorrupt when there is a file but neither it nor the .bak can be read; kIo.
  [[nodiscard]] Status load();

  void set_auto_create(bool on) { auto_create_.store(on, std::memory_order_relaxed); }  ///< autoCreateSubscriptionGroup

  /// nullptr when there is no such group; creates nothing.
  [[nodiscard]] std::shared_ptr<const GroupConfig> find(std::string_view group) const;
  /// As find(); where creation is allowed (auto_create, or a system group) an unknown group is made with the
  /// defaults. That touches no disk: save_if_changed() writes it. nullptr when it is not allowed or the name is bad.
  [[nodiscard]] std::shared_ptr<const GroupConfig> find_or_create(std::string_view group);

  /// Adds or replaces. Errors: kInvalidArgument naming the field; kIo, kDiskFull (then nothing changed).
  [[nodiscard]] Status put(GroupConfig config);
  [[nodiscard]] Status put_all(std::vector<GroupConfig> configs);
  /// Errors: kNotFound, kPermission (a system group), kIo.
  [[nodiscard]] Status remove(std::string_view group);
  /// A slave's groups are its master's: take_over() changes them and nothing else does (kPermission).
  /// find_or_create() then makes a group for its caller only.
  void set_read_only(bool on) { read_only_.store(on, std::memory_order_relaxed); }
  /// Makes the table what the master's is, with its version. Errors: kIo, kDiskFull (then nothing changed).
  [[nodiscard]] Status take_over(remoting::SubscriptionGroupWrapper master);
  /// Writes what find_or_create() made; call every second and at stop.
  [[nodiscard]] Status save_if_changed();

  [[nodiscard]] std::vector<std::shared_ptr<const GroupConfig>> all() const;  ///< ascending by name
  [[nodiscard]] remoting::DataVersion version() const;
  /// What else the file had, for its wrapper (SubscriptionGroupWrapper::other_members).
  [[nodiscard]] std::string other_members() const;

 private:
  using Table = std::map<std::string, std::shared_ptr<const GroupConfig>, std::less<>>;
  [[nodiscard]] Status write(const Table& table, const remoting::DataVersion& version, std::string other_members) const;
  [[nodiscard]] Status read(const std::string& path);
  template <typename Edit>
  [[nodiscard]] Status change(Edit edit);
  [[nodiscard]] remoting::DataVersion next_version() const;

  const std::string file_;
  const Logger& logger_;
  const NowMs now_ms_;
  std::atomic<bool> auto_create_;
  std::atomic<bool> read_only_{false};
  std::mutex write_mutex_;  ///< one change at a time; taken before mutex_
  mutable std::shared_mutex mutex_;
  Table table_;                    // guarded by mutex_
  remoting::DataVersion version_;  // guarded by mutex_
  std::string other_members_;      // guarded by mutex_
  bool unsaved_ = false;           // guarded by mutex_
};

}  // namespace apogee::broker
