#include "broker/handlers/store_admin_handlers.h"

#include <utility>

#include "broker/handlers/request_fields.h"

namespace apogee::broker {

void StoreAdminHandlers::clean_expired_queues(const remoting::Caller& caller, remoting::Command request,
                                              remoting::Responder respond) {
  auto removed = parts_.store.clean_expired_queues();
  if (!removed) return refuse(request, respond, removed.error());
  parts_.logger.info("{} expired queues removed, asked for by {}", *removed, caller.address);
  accept(request, respond);
}

void StoreAdminHandlers::clean_unused_topics(const remoting::Caller& caller, remoting::Command request,
                                             remoting::Responder respond) {
  for (const auto& topic : parts_.store.topics()) {
    if (parts_.topics.is_system_topic(topic) || parts_.topics.find(topic) != nullptr) continue;
    parts_.store.delete_topic(topic);
    parts_.logger.info("queues of topic {}, which is not there any more, removed; asked for by {}", topic,
                       caller.address);
  }
  accept(request, respond);
}

void StoreAdminHandlers::delete_expired_files(const remoting::Caller& caller, remoting::Command request,
                                              remoting::Responder respond) {
  parts_.store.clean_expired_files();
  parts_.logger.info("expired files of the log may go at any hour now, asked for by {}", caller.address);
  accept(request, respond);
}

}  // namespace apogee::broker
