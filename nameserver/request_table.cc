#include "nameserver/request_table.h"

#include <exception>
#include <utility>

namespace apogee::nameserver {

using remoting::Caller;
using remoting::Command;
using remoting::RequestCode;

RequestTable::RequestTable(const RegistrationHandlers& registration, const RouteHandlers& routes,
                           const ConfigHandlers& config, Post housekeeping, const Logger& logger)
    : housekeeping_(std::move(housekeeping)), logger_(logger) {
  const auto of = [](const auto& part, auto method) {
    return [&part, method](const Caller& caller, const Command& request) { return (part.*method)(caller, request); };
  };
  using Registrations = RegistrationHandlers;
  using Routes = RouteHandlers;
  using Config = ConfigHandlers;
  // clang-format off
  rows_ = {
      // code                                        runs on                 handler
      {RequestCode::kRegisterBroker,                {RunsOn::kIoLoop,       of(registration, &Registrations::register_broker)}},
      {RequestCode::kUnregisterBroker,              {RunsOn::kIoLoop,       of(registration, &Registrations::unregister_broker)}},
      {RequestCode::kQueryDataVersion,              {RunsOn::kIoLoop,       of(registration, &Registrations::query_data_version)}},
      {RequestCode::kBrokerHeartbeat,               {RunsOn::kIoLoop,       of(registration, &Registrations::heartbeat)}},
      {RequestCode::kRegisterTopicInNamesrv,        {RunsOn::kIoLoop,       of(registration, &Registrations::register_topic)}},
      {RequestCode::kGetBrokerMemberGroup,          {RunsOn::kIoLoop,       of(registration, &Registrations::members)}},
      {RequestCode::kGetRouteinfoByTopic,           {RunsOn::kIoLoop,       of(routes, &Routes::route)}},
      {RequestCode::kGetBrokerClusterInfo,          {RunsOn::kIoLoop,       of(routes, &Routes::cluster_info)}},
      {RequestCode::kGetAllTopicListFromNameserver, {RunsOn::kIoLoop,       of(routes, &Routes::all_topics)}},
      {RequestCode::kGetTopicsByCluster,            {RunsOn::kIoLoop,       of(routes, &Routes::topics_of_cluster)}},
      {RequestCode::kGetSystemTopicListFromNs,      {RunsOn::kIoLoop,       of(routes, &Routes::system_topics)}},
      {RequestCode::kGetUnitTopicList,              {RunsOn::kIoLoop,       of(routes, &Routes::unit_topics)}},
      {RequestCode::kGetHasUnitSubTopicList,        {RunsOn::kIoLoop,       of(routes, &Routes::unit_topics)}},
      {RequestCode::kGetHasUnitSubUnunitTopicList,  {RunsOn::kIoLoop,       of(routes, &Routes::unit_topics)}},
      {RequestCode::kDeleteTopicInNamesrv,          {RunsOn::kIoLoop,       of(routes, &Routes::delete_topic)}},
      {RequestCode::kWipeWritePermOfBroker,         {RunsOn::kIoLoop,       of(routes, &Routes::wipe_write_permission)}},
      {RequestCode::kAddWritePermOfBroker,          {RunsOn::kIoLoop,       of(routes, &Routes::add_write_permission)}},
      {RequestCode::kGetKvConfig,                   {RunsOn::kIoLoop,       of(config, &Config::get)}},
      {RequestCode::kGetKvlistByNamespace,          {RunsOn::kIoLoop,       of(config, &Config::list)}},
      {RequestCode::kPutKvConfig,                   {RunsOn::kHousekeeping, of(config, &Config::put)}},
      {RequestCode::kDeleteKvConfig,                {RunsOn::kHousekeeping, of(config, &Config::remove)}},
      {RequestCode::kUpdateNamesrvConfig,           {RunsOn::kHousekeeping, of(config, &Config::update_config)}},
      {RequestCode::kGetNamesrvConfig,              {RunsOn::kIoLoop,       of(config, &Config::get_config)}},
  };
  // clang-format on
}

Command RequestTable::answer(const Caller& caller, const Command& request) const {
  auto row = rows_.find(request.request_code());
  if (row == rows_.end()) {
    logger_.warn("request {} ({}) from {} is not supported", request.code, to_string(request.request_code()),
                 caller.address);
    return refusal(request, remoting::response_code::kRequestCodeNotSupported,
                   fmt::format(" request type {} not supported", request.code));
  }
  try {
    return row->second.handle(caller, request);
  } catch (const std::exception& failure) {
    logger_.error("request {} from {} failed: {}", to_string(request.request_code()), caller.address, failure.what());
    return refusal(request, remoting::response_code::kSystemError, fmt::format("internal error: {}", failure.what()));
  }
}

void RequestTable::dispatch(const Caller& caller, Command request, remoting::Responder respond) const {
  auto row = rows_.find(request.request_code());
  if (row == rows_.end() || row->second.runs_on == RunsOn::kIoLoop) {
    respond(answer(caller, request));
    return;
  }
  auto refused = refusal(request, remoting::response_code::kSystemError, "the name server is shutting down");
  if (!housekeeping_([this, caller, request = std::move(request), respond] { respond(answer(caller, request)); }))
    respond(std::move(refused));
}

}  // namespace apogee::nameserver
