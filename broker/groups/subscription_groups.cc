#include "broker/groups/subscription_groups.h"

#include <array>
#include <utility>

#include "common/base/text.h"
#include "common/config/properties_file.h"

namespace apogee::broker {

namespace {

constexpr std::array<std::string_view, 8> kSystemGroups = {
    "TOOLS_CONSUMER",  "FILTERSRV_CONSUMER",    "SELF_TEST_C_GROUP", "CID_ONS-HTTP-PROXY",
    "CID_ONSAPI_PULL", "CID_ONSAPI_PERMISSION", "CID_ONSAPI_OWNER",  "CID_RMQ_SYS_TRANS"};
constexpr std::string_view kSystemGroupPrefix = "CID_RMQ_SYS_";

GroupConfig default_config(std::string_view group) {
  GroupConfig config;
  config.group_name = group;
  return config;
}

Status check(const GroupConfig& config) {
  APOGEE_TRY(check_group_name(config.group_name));
  if (config.retry_queue_nums < 0)
    return Error{Errc::kInvalidArgument, "retryQueueNums of group " + config.group_name + " is negative"};
  if (config.broker_id < 0)
    return Error{Errc::kInvalidArgument, "brokerId of group " + config.group_name + " is negative"};
  return {};
}

}  // namespace

bool is_system_group(std::string_view group) {
  if (group.substr(0, kSystemGroupPrefix.size()) == kSystemGroupPrefix) return true;
  for (auto name : kSystemGroups)
    if (group == name) return true;
  return false;
}

SubscriptionGroups::SubscriptionGroups(Options options, const Logger& logger, NowMs now_ms)
    : file_(std::move(options.file)), logger_(logger), now_ms_(std::move(now_ms)), auto_create_(options.auto_create) {
  for (auto name : kSystemGroups)
    table_.emplace(std::string(name), std::make_shared<const GroupConfig>(default_config(name)));
  version_.timestamp = now_ms_();
}

SubscriptionGroups::~SubscriptionGroups() = default;

Status SubscriptionGroups::read(const std::string& path) {
  APOGEE_TRY_ASSIGN(const std::string text, config::read_whole_file(path));
  auto wrapper = remoting::decode_subscription_group_wrapper(text);
  if (!wrapper) return Error{Errc::kCorrupt, path + ": " + wrapper.error().message};
  std::unique_lock<std::shared_mutex> lock(mutex_);
  for (auto& [name, config] : wrapper->subscription_group_table) {
    if (config.group_name.empty()) config.group_name = name;
    table_[name] = std::make_shared<const GroupConfig>(std::move(config));
  }
  version_ = wrapper->data_version;
  other_members_ = std::move(wrapper->other_members);
  return {};
}

Status SubscriptionGroups::load() {
  if (file_.empty()) return {};
  Status status = read(file_);
  if (status) return {};
  Status backup = read(file_ + ".bak");
  if (backup) {
    logger_.warn("{}; its .bak is used", status.error().message);
    return {};
  }
  if (status.error().code == Errc::kNotFound && backup.error().code == Errc::kNotFound) return {};
  return status.error().code == Errc::kNotFound ? backup : status;
}

std::shared_ptr<const GroupConfig> SubscriptionGroups::find(std::string_view group) const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  auto found = table_.find(group);
  return found == table_.end() ? nullptr : found->second;
}

std::shared_ptr<const GroupConfig> SubscriptionGroups::find_or_create(std::string_view group) {
  if (auto found = find(group)) return found;
  if (!auto_create_.load(std::memory_order_relaxed) && !is_system_group(group)) return nullptr;
  if (!check_group_name(group)) return nullptr;
  if (read_only_.load(std::memory_order_relaxed)) return std::make_shared<const GroupConfig>(default_config(group));
  std::unique_lock<std::shared_mutex> lock(mutex_);
  auto& slot = table_[std::string(group)];
  if (slot == nullptr) {
    slot = std::make_shared<const GroupConfig>(default_config(group));
    version_ = next_version();
    unsaved_ = true;
    logger_.info("subscription group {} created by use", group);
  }
  return slot;
}

remoting::DataVersion SubscriptionGroups::next_version() const {
  remoting::DataVersion next = version_;
  next.timestamp = now_ms_();
  ++next.counter;
  return next;
}

Status SubscriptionGroups::write(const Table& table, const remoting::DataVersion& version,
                                 std::string other_members) const {
  if (file_.empty()) return {};
  remoting::SubscriptionGroupWrapper wrapper;
  wrapper.data_version = version;
  wrapper.other_members = std::move(other_members);
  for (const auto& [name, config] : table) wrapper.subscription_group_table[name] = *config;
  return config::replace_file(file_, encode(wrapper));
}

// Edits a copy, writes that, and then edits the table, to which find_or_create() may have added in between.
template <typename Edit>
Status SubscriptionGroups::change(Edit edit) {
  std::lock_guard<std::mutex> one_at_a_time(write_mutex_);
  Table copy;
  remoting::DataVersion version;
  std::string other_members;
  bool was_unsaved;
  {
    std::unique_lock<std::shared_mutex> lock(mutex_);
    copy = table_;
    version = next_version();
    other_members = other_members_;
    was_unsaved = std::exchange(unsaved_, false);
  }
  edit(copy);
  Status status = write(copy, version, std::move(other_members));
  std::unique_lock<std::shared_mutex> lock(mutex_);
  if (!status) {
    unsaved_ = unsaved_ || was_unsaved;
    return status;
  }
  edit(table_);
  version_ = unsaved_ ? next_version() : version;
  return {};
}

Status SubscriptionGroups::put(GroupConfig config) {
  std::vector<GroupConfig> one;
  one.push_back(std::move(config));
  return put_all(std::move(one));
}

Status SubscriptionGroups::put_all(std::vector<GroupConfig> configs) {
  if (read_only_.load(std::memory_order_relaxed))
    return Error{Errc::kPermission, "the broker is a slave: subscription groups are to be changed at its master"};
  std::vector<std::shared_ptr<const GroupConfig>> entries;
  for (auto& config : configs) {
    APOGEE_TRY(check(config));
    entries.push_back(std::make_shared<const GroupConfig>(std::move(config)));
  }
  return change([&entries](Table& table) {
    for (const auto& entry : entries) table[entry->group_name] = entry;
  });
}

Status SubscriptionGroups::remove(std::string_view group) {
  if (is_system_group(group))
    return Error{Errc::kPermission, "group " + std::string(group) + " is built in and cannot be deleted"};
  if (read_only_.load(std::memory_order_relaxed))
    return Error{Errc::kPermission, "the broker is a slave: subscription groups are to be changed at its master"};
  if (find(group) == nullptr)
    return Error{Errc::kNotFound, "subscription group " + std::string(group) + " does not exist"};
  return change([group](Table& table) {
    auto found = table.find(group);
    if (found != table.end()) table.erase(found);
  });
}

Status SubscriptionGroups::take_over(remoting::SubscriptionGroupWrapper master) {
  Table table;
  for (auto& [name, config] : master.subscription_group_table) {
    if (config.group_name.empty()) config.group_name = name;
    table[name] = std::make_shared<const GroupConfig>(std::move(config));
  }
  std::lock_guard<std::mutex> one_at_a_time(write_mutex_);
  APOGEE_TRY(write(table, master.data_version, master.other_members));
  std::unique_lock<std::shared_mutex> lock(mutex_);
  table_ = std::move(table);
  version_ = master.data_version;
  other_members_ = std::move(master.other_members);
  unsaved_ = false;
  return {};
}

Status SubscriptionGroups::save_if_changed() {
  {
    std::shared_lock<std::shared_mutex> lock(mutex_);
    if (!unsaved_) return {};
  }
  return change([](Table&) {});
}

std::vector<std::shared_ptr<const GroupConfig>> SubscriptionGroups::all() const {
  std::vector<std::shared_ptr<const GroupConfig>> configs;
  std::shared_lock<std::shared_mutex> lock(mutex_);
  configs.reserve(table_.size());
  for (const auto& [name, config] : table_) configs.push_back(config);
  return configs;
}

std::string SubscriptionGroups::other_members() const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  return other_members_;
}

remoting::DataVersion SubscriptionGroups::version() const {
  std::shared_lock<std::shared_mutex> lock(mutex_);
  return version_;
}

}  // namespace apogee::broker
