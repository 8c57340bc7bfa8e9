#pragma once

#include "broker/handlers/client_handlers.h"
#include "broker/handlers/client_offset_handlers.h"
#include "broker/handlers/config_admin_handlers.h"
#include "broker/handlers/group_admin_handlers.h"
#include "broker/handlers/relay_handlers.h"
#include "broker/handlers/reset_offset_handlers.h"
#include "broker/handlers/stats_admin_handlers.h"
#include "broker/handlers/store_admin_handlers.h"
#include "broker/handlers/topic_admin_handlers.h"
#include "broker/request_table.h"

namespace apogee::broker {

/// The families of requests besides sending and pulling.
struct AdminHandlers {
  ClientHandlers& client;
  ClientOffsetHandlers& client_offsets;
  TopicAdminHandlers& topics;
  GroupAdminHandlers& groups;
  ConfigAdminHandlers& config;
  StatsAdminHandlers& stats;
  ResetOffsetHandlers& reset;
  RelayHandlers& relay;
  StoreAdminHandlers& store;
};

/// Adds their rows; the handlers outlive the table.
void add_rows(RequestTable& table, AdminHandlers handlers);

}  // namespace apogee::broker
