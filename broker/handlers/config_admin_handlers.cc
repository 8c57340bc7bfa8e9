#include "broker/handlers/config_admin_handlers.h"

#include <array>
#include <map>
#include <utility>

#include "broker/handlers/request_fields.h"
#include "common/config/properties_file.h"

namespace apogee::broker {

namespace code = remoting::response_code;

namespace {

// Keys by which a request could reach files that are none of its business.
constexpr std::array<std::string_view, 3> kForbiddenKeys = {"brokerConfigPath", "rocketmqHome", "configBlackList"};

int32_t code_of(const Error& error) {
  return error.code == Errc::kPermission ? code::kNoPermission : code::kInvalidParameter;
}

}  // namespace

ConfigAdminHandlers::ConfigAdminHandlers(Parts parts) : parts_(std::move(parts)) {
  version_.timestamp = parts_.now_ms();
}

// Writes the changes to the file; where that fails, the settings become what they were.
Status ConfigAdminHandlers::save(const Changes& changes) {
  std::map<std::string, std::string> after, before;
  for (const auto& change : changes) {
    after[change.key] = change.after;
    before[change.key] = change.before;
  }
  Status status = config::update_properties_file(parts_.config_file, after);
  if (!status) {
    auto undone = parts_.table.update(config::to_properties_text(before));
    if (!undone) parts_.logger.error("settings could not be set back: {}", undone.error().message);
  }
  return status;
}

void ConfigAdminHandlers::update_config(const remoting::Caller& caller, remoting::Command request,
                                        remoting::Responder respond) {
  if (request.body.empty())
    return refuse(request, respond, code::kInvalidParameter, "the body, which holds the settings, is empty");
  auto properties = config::parse_properties(request.body.bytes);
  if (!properties) return refuse_body(request, respond, "properties text", properties.error());
  for (const auto& property : *properties)
    for (auto forbidden : kForbiddenKeys)
      if (property.key == forbidden)
        return refuse(request, respond, code::kNoPermission, "No permission to change the setting " + property.key);

  std::lock_guard<std::mutex> lock(mutex_);
  auto changes = parts_.table.update(request.body.bytes);
  if (!changes) return refuse(request, respond, code_of(changes.error()), changes.error().message);
  if (!changes->empty()) {
    if (Status status = save(*changes); !status) return refuse(request, respond, status.error());
    version_.timestamp = parts_.now_ms();
    ++version_.counter;
    for (const auto& change : *changes)
      parts_.logger.info("setting {} changed from {} to {} by {}", change.key, change.before, change.after,
                         caller.address);
    if (parts_.on_change) parts_.on_change(*changes);
  }
  accept(request, respond);
}

void ConfigAdminHandlers::get_config(const remoting::Caller& /*caller*/, remoting::Command request,
                                     remoting::Responder respond) {
  remoting::Command response = remoting::Command::response_to(request, code::kSuccess);
  {
    std::lock_guard<std::mutex> lock(mutex_);
    response.ext.set("version", encode(version_));
  }
  response.body = SharedBytes::from(parts_.table.to_properties_text());
  respond(std::move(response));
}

}  // namespace apogee::broker
