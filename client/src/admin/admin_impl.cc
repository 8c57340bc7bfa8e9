#include "client/src/admin/admin_impl.h"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "common/base/text.h"
#include "common/config/properties_file.h"

namespace apogee {

using remoting::Command;
using remoting::RequestCode;

namespace {

/// Four bytes of an address of this machine, for message ids: the first that is up and not loopback.
std::string own_ip_bytes() {
  std::string found("\x7f\0\0\1", 4);
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return found;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
    if ((entry->ifa_flags & IFF_UP) == 0 || (entry->ifa_flags & IFF_LOOPBACK) != 0) continue;
    const auto* address = reinterpret_cast<const sockaddr_in*>(entry->ifa_addr);
    found.assign(reinterpret_cast<const char*>(&address->sin_addr), 4);
    break;
  }
  freeifaddrs(list);
  return found;
}

std::vector<std::string> split_addresses(std::string_view text) {
  std::vector<std::string> addresses;
  for (auto part : split(text, ";")) {
    for (auto one : split(part, ",")) {
      one = trim(one);
      if (!one.empty()) addresses.emplace_back(one);
    }
  }
  return addresses;
}

remoting::RpcClient::Options rpc_options(const AdminConfig& config) {
  remoting::RpcClient::Options options;
  options.connect_timeout_ms = config.connect_timeout.count();
  return options;
}

Errc kind_of(int32_t code) {
  namespace rc = remoting::response_code;
  switch (code) {
    case rc::kTopicNotExist:
    case rc::kQueryNotFound:
    case rc::kSubscriptionGroupNotExist:
    case rc::kConsumerNotOnline: return Errc::kNotFound;
    case rc::kNoPermission: return Errc::kPermission;
    case rc::kSystemBusy:
    case rc::kFlowControl: return Errc::kBusy;
    case rc::kRequestCodeNotSupported: return Errc::kUnsupported;
    default: return Errc::kBroker;
  }
}

}  // namespace

AdminClient::Impl::Impl(AdminConfig given)
    : config(std::move(given)),
      logger(config.log_sink, config.log_level),
      namesrvs(split_addresses(config.name_servers)),
      ids(own_ip_bytes(), getpid(), static_cast<int32_t>(std::random_device()())),
      thread("admin"),
      rpc(thread.loop(), rpc_options(config), logger) {}

AdminClient::Impl::~Impl() { rpc.shutdown(); }

Error AdminClient::Impl::refusal(const std::string& address, const Command& answer) {
  std::string remark = answer.remark.value_or("");
  // A Java peer's remark may go on with a stack trace; what an operator needs is in the first line.
  remark = remark.substr(0, remark.find('\n'));
  return Error{kind_of(answer.code),
               fmt::format("{} answered {} {}{}{}", address, answer.code, remoting::response_code_name(answer.code),
                           remark.empty() ? "" : ": ", remark),
               answer.code};
}

Result<Command> AdminClient::Impl::call_any(const std::string& address, Command request) {
  auto code = request.request_code();
  auto answer = rpc.call_and_wait(address, std::move(request), config.request_timeout.count());
  if (answer) return answer;
  if (answer.error().code == Errc::kNetwork) {
    std::lock_guard lock(mutex);
    broker_addresses.clear();
  }
  Error error = std::move(answer).error();
  if (error.message.find(address) == std::string::npos) {
    error.message = fmt::format("{}: {}", address, error.message);
  }
  if (error.code == Errc::kTimeout) error.message += fmt::format(" ({})", remoting::to_string(code));
  return error;
}

Result<Command> AdminClient::Impl::call(const std::string& address, Command request) {
  APOGEE_TRY_ASSIGN(auto answer, call_any(address, std::move(request)));
  if (answer.code != remoting::response_code::kSuccess) return refusal(address, answer);
  return answer;
}

Result<Command> AdminClient::Impl::call_namesrv(const Command& request) {
  if (namesrvs.empty()) return Error{Errc::kInvalidArgument, "no NameServer address is given"};
  Error last;
  for (const auto& address : namesrvs) {
    auto answer = call(address, request);
    if (answer || answer.error().response_code >= 0) return answer;
    last = std::move(answer).error();
  }
  last.message = "no NameServer answers: " + last.message;
  return last;
}

Status AdminClient::Impl::call_every_namesrv(const Command& request) {
  if (namesrvs.empty()) return Error{Errc::kInvalidArgument, "no NameServer address is given"};
  for (const auto& address : namesrvs) APOGEE_TRY(call(address, request));
  return {};
}

Result<Command> AdminClient::Impl::call_broker_of(const MessageQueue& queue, Command request) {
  APOGEE_TRY_ASSIGN(auto address, address_of(queue.broker_name));
  request.ext.set("topic", queue.topic);
  request.ext.set("queueId", queue.queue_id);
  return call(address, std::move(request));
}

Result<remoting::ClusterInfo> AdminClient::Impl::cluster_info() {
  APOGEE_TRY_ASSIGN(auto answer, call_namesrv(Command::request(RequestCode::kGetBrokerClusterInfo)));
  return admin::decode_body("the NameServer", answer, remoting::decode_cluster_info);
}

Result<remoting::TopicRouteData> AdminClient::Impl::route(const std::string& topic) {
  auto request = Command::request(RequestCode::kGetRouteinfoByTopic);
  request.ext.set("topic", topic);
  APOGEE_TRY_ASSIGN(auto answer, call_namesrv(request));
  return admin::decode_body("the NameServer", answer, remoting::decode_topic_route_data);
}

Result<std::vector<std::pair<std::string, std::string>>> AdminClient::Impl::brokers_of_topic(const std::string& topic) {
  APOGEE_TRY_ASSIGN(auto data, route(topic));
  std::vector<std::pair<std::string, std::string>> brokers;
  for (const auto& broker : data.broker_datas) {
    auto address = admin::main_address(broker);
    if (!address.empty()) brokers.emplace_back(broker.broker_name, address);
  }
  std::sort(brokers.begin(), brokers.end());
  if (brokers.empty()) return Error{Errc::kNotFound, fmt::format("no broker has the topic {}", topic)};
  std::lock_guard lock(mutex);
  for (const auto& [name, address] : brokers) broker_addresses[name] = address;
  return brokers;
}

Result<std::string> AdminClient::Impl::address_of(const std::string& broker_name) {
  {
    std::lock_guard lock(mutex);
    auto known = broker_addresses.find(broker_name);
    if (known != broker_addresses.end()) return known->second;
  }
  APOGEE_TRY_ASSIGN(auto info, cluster_info());
  auto found = info.broker_addr_table.find(broker_name);
  std::string address = found == info.broker_addr_table.end() ? "" : admin::main_address(found->second);
  if (address.empty()) return Error{Errc::kNotFound, fmt::format("no broker has the name {}", broker_name)};
  std::lock_guard lock(mutex);
  broker_addresses[broker_name] = address;
  return address;
}

namespace admin {

std::string main_address(const remoting::BrokerData& broker) {
  return broker.broker_addrs.empty() ? "" : broker.broker_addrs.begin()->second;
}

Result<std::map<std::string, std::string>> parse_config_text(const std::string& from, std::string_view text) {
  auto parsed = config::parse_properties(text);
  if (!parsed) return Error{Errc::kCorrupt, fmt::format("{} sent: {}", from, parsed.error().message)};
  std::map<std::string, std::string> properties;
  for (auto& property : *parsed) properties[property.key] = std::move(property.value);
  return properties;
}

}  // namespace admin
}  // namespace apogee
