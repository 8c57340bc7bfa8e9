#include "broker/handlers/ha_admin_handlers.h"

#include "broker/handlers/request_fields.h"

namespace apogee::broker {

namespace code = remoting::response_code;

void HaAdminHandlers::exchange_info(const remoting::Caller& /*caller*/, remoting::Command request,
                                    remoting::Responder respond) {
  if (request.ext.get("masterHaAddress") || request.ext.get("masterFlushOffset"))
    return refuse(request, respond, code::kSystemError, "this broker is told nothing about its master by others");
  if (parts_.config.role == BrokerRole::kSlave)
    return refuse(request, respond, code::kSystemError, "the broker is a slave, ask its master");
  remoting::Command response = remoting::Command::response_to(request, code::kSuccess);
  response.ext.set("masterHaAddress", parts_.ha_address);
  response.ext.set("masterFlushOffset", parts_.store.figures().flushed_offset);
  response.ext.set("masterAddress", parts_.address);
  respond(std::move(response));
}

void HaAdminHandlers::ha_status(const remoting::Caller& /*caller*/, remoting::Command request,
                                remoting::Responder respond) {
  accept(request, respond, encode(parts_.status()));
}

void HaAdminHandlers::epoch_cache(const remoting::Caller& /*caller*/, remoting::Command request,
                                  remoting::Responder respond) {
  accept(request, respond, encode(parts_.epochs()));
}

}  // namespace apogee::broker
