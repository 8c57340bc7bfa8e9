#include "nameserver/kv_config.h"

#include <fmt/core.h>

#include <nlohmann/json.hpp>

#include "common/config/properties_file.h"

namespace apogee::nameserver {

using nlohmann::json;

Status KvConfig::load() {
  if (path_.empty()) return {};
  auto text = config::read_whole_file(path_);
  if (!text && text.error().code == Errc::kNotFound) return {};
  if (!text) return std::move(text).error();
  if (text->empty()) return {};
  json root = json::parse(*text, nullptr, false);
  if (root.is_discarded() || !root.is_object())
    return Error{
        Errc::kCorrupt,
        fmt::format(
            "{}: is not a JSON object; repair it, or move it away ({}.bak has the state before the last change)", path_,
            path_)};
  Tables tables;
  auto config_table = root.find("configTable");
  if (config_table != root.end() && config_table->is_object()) {
    for (const auto& [name_space, entries] : config_table->items()) {
      if (!entries.is_object())
        return Error{Errc::kCorrupt, fmt::format("{}: configTable.{} is not an object", path_, name_space)};
      for (const auto& [key, value] : entries.items()) {
        if (!value.is_string())
          return Error{Errc::kCorrupt, fmt::format("{}: configTable.{}.{} is not text", path_, name_space, key)};
        tables[name_space][key] = value.get<std::string>();
      }
    }
  }
  std::unique_lock lock(mutex_);
  tables_ = std::move(tables);
  return {};
}

Status KvConfig::save_and_adopt(Tables changed) {
  if (!path_.empty()) {
    json root;
    root["configTable"] = changed;
    APOGEE_TRY(config::replace_file(path_, root.dump(2, ' ', false, json::error_handler_t::replace) + "\n"));
  }
  std::unique_lock lock(mutex_);
  tables_ = std::move(changed);
  return {};
}

Status KvConfig::put(const std::string& name_space, const std::string& key, const std::string& value) {
  std::lock_guard change(change_mutex_);
  Tables changed;
  {
    std::shared_lock lock(mutex_);
    changed = tables_;
  }
  changed[name_space][key] = value;
  return save_and_adopt(std::move(changed));
}

Status KvConfig::remove(const std::string& name_space, const std::string& key) {
  std::lock_guard change(change_mutex_);
  Tables changed;
  {
    std::shared_lock lock(mutex_);
    changed = tables_;
  }
  auto found = changed.find(name_space);
  if (found == changed.end() || found->second.erase(key) == 0) return {};
  return save_and_adopt(std::move(changed));
}

std::optional<std::string> KvConfig::get(const std::string& name_space, const std::string& key) const {
  std::shared_lock lock(mutex_);
  auto table = tables_.find(name_space);
  if (table == tables_.end()) return std::nullopt;
  auto entry = table->second.find(key);
  if (entry == table->second.end()) return std::nullopt;
  return entry->second;
}

std::optional<KvConfig::Table> KvConfig::list(const std::string& name_space) const {
  std::shared_lock lock(mutex_);
  auto table = tables_.find(name_space);
  if (table == tables_.end()) return std::nullopt;
  return table->second;
}

}  // namespace apogee::nameserver
