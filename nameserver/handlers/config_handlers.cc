#include "nameserver/handlers/config_handlers.h"

#include <map>

#include "common/base/text.h"
#include "common/config/properties_file.h"
#include "common/remoting/bodies/kv_bodies.h"

namespace apogee::nameserver {

using remoting::Command;

Command ConfigHandlers::put(const Caller& caller, const Command& request) const {
  APOGEE_FIELD(std::string name_space, request, required_text, "namespace");
  APOGEE_FIELD(std::string key, request, required_text, "key");
  const std::string value(request.ext.get("value").value_or(""));  // an empty value has no bytes in the binary header
  if (auto status = kv_.put(name_space, key, value); !status) {
    logger_.error("cannot save {}/{}: {}", name_space, key, status.error().message);
    return refusal(request, status.error());
  }
  logger_.info("{}/{} set to \"{}\", as asked by {}", name_space, key, value, caller.address);
  return reply(request);
}

Command ConfigHandlers::get(const Caller& /*caller*/, const Command& request) const {
  APOGEE_FIELD(std::string name_space, request, required_text, "namespace");
  APOGEE_FIELD(std::string key, request, required_text, "key");
  auto value = kv_.get(name_space, key);
  if (!value)
    return refusal(request, remoting::response_code::kQueryNotFound,
                   fmt::format("No config item, Namespace: {} Key: {}", name_space, key));
  auto response = reply(request);
  response.ext.set("value", *value);
  return response;
}

Command ConfigHandlers::remove(const Caller& caller, const Command& request) const {
  APOGEE_FIELD(std::string name_space, request, required_text, "namespace");
  APOGEE_FIELD(std::string key, request, required_text, "key");
  if (auto status = kv_.remove(name_space, key); !status) {
    logger_.error("cannot remove {}/{}: {}", name_space, key, status.error().message);
    return refusal(request, status.error());
  }
  logger_.info("{}/{} removed, as asked by {}", name_space, key, caller.address);
  return reply(request);
}

Command ConfigHandlers::list(const Caller& /*caller*/, const Command& request) const {
  APOGEE_FIELD(std::string name_space, request, required_text, "namespace");
  auto table = kv_.list(name_space);
  if (!table)
    return refusal(request, remoting::response_code::kQueryNotFound,
                   fmt::format("No config item, Namespace: {}", name_space));
  return reply_with_body(request, remoting::encode(remoting::KvTable{std::move(*table)}));
}

Command ConfigHandlers::update_config(const Caller& caller, const Command& request) const {
  auto asked = config::parse_properties(request.body.bytes);
  if (!asked) return refusal(request, remoting::response_code::kSystemError, "the body, line " + asked.error().message);
  const std::string black_list = config_.config_black_list.get();
  for (const auto& property : *asked)
    for (auto forbidden : split(black_list, ";"))
      if (trim(forbidden) == property.key)
        return refusal(request, remoting::response_code::kNoPermission,
                       fmt::format("Can not update config in black list: {}", property.key));
  auto changes = table_.update(request.body.bytes);
  for (const auto& notice : table_.take_notices()) logger_.warn("{}", notice);
  if (!changes) {
    const int32_t code = changes.error().code == Errc::kPermission ? remoting::response_code::kNoPermission
                                                                   : remoting::response_code::kSystemError;
    return refusal(request, code, changes.error().message);
  }
  std::map<std::string, std::string> values;
  for (const auto& change : *changes) {
    logger_.info("setting {} changed from \"{}\" to \"{}\", as asked by {}", change.key, change.before, change.after,
                 caller.address);
    values[change.key] = change.after;
  }
  if (on_change_ && !changes->empty()) on_change_(*changes);
  if (!values.empty() && !config_.config_store_path.empty()) {
    if (auto status = config::update_properties_file(config_.config_store_path, values); !status) {
      logger_.error("changed settings are not saved: {}", status.error().message);
      return refusal(request, remoting::response_code::kSystemError,
                     "changed, but only until the next start: " + status.error().message);
    }
  }
  return reply(request);
}

Command ConfigHandlers::get_config(const Caller& /*caller*/, const Command& request) const {
  return reply_with_body(request, table_.to_properties_text());
}

}  // namespace apogee::nameserver
