#include "broker/replication/setting_notices.h"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <utility>

namespace apogee::broker {

using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr std::chrono::milliseconds kWaitMax{1'000};

}  // namespace

std::string SettingNotices::version(Table table) const {
  const auto version = table == Table::kTopics ? parts_.topics.data_version() : parts_.groups.version();
  return fmt::format("{}-{}-{}-{}", parts_.boot, version.state_version, version.timestamp, version.counter);
}

void SettingNotices::asked(const remoting::Caller& slave, int64_t broker_id, Table table, std::string_view known) {
  int64_t counter = -1;
  if (known.substr(0, parts_.boot.size() + 1) == parts_.boot + "-") {
    const auto digits = known.substr(known.rfind('-') + 1);
    if (std::from_chars(digits.data(), digits.data() + digits.size(), counter).ec != std::errc()) counter = -1;
  }
  {
    std::lock_guard lock(mutex_);
    auto& entry = slaves_[broker_id];
    entry.connection = slave.connection;
    (table == Table::kTopics ? entry.topics : entry.groups) = counter;
    if (waiting_.empty()) return;
  }
  look();
}

void SettingNotices::connection_closed(remoting::ConnectionId connection) {
  {
    std::lock_guard lock(mutex_);
    const auto gone = std::find_if(slaves_.begin(), slaves_.end(),
                                   [&](const auto& each) { return each.second.connection == connection; });
    if (gone == slaves_.end()) return;
    slaves_.erase(gone);
    if (waiting_.empty()) return;
  }
  look();
}

void SettingNotices::tell() {
  std::vector<remoting::ConnectionId> connections;
  {
    std::lock_guard lock(mutex_);
    for (const auto& each : slaves_) connections.push_back(each.second.connection);
  }
  for (const auto connection : connections)
    parts_.calls.send_oneway(connection, Command::request(RequestCode::kNotifySettingsChanged));
}

void SettingNotices::wait(std::function<void()> then) {
  const Waiting waiting{parts_.topics.data_version().counter, parts_.groups.version().counter, Clock::now() + kWaitMax,
                        std::move(then)};
  bool at_once = !parts_.acks.waits();
  {
    std::lock_guard lock(mutex_);
    at_once = at_once || stopped_;
    if (!at_once) waiting_.push_back(waiting);
  }
  tell();
  if (at_once) return waiting.then();
  look();
  parts_.loop.post([this] { parts_.loop.run_after(kWaitMax, [this] { look(); }); });
}

std::vector<SettingNotices::Waiting> SettingNotices::release_locked(
    const std::vector<store::ReplicaAcks::Slave>& followers, Clock::time_point now) {
  const auto lacks = [&](const Waiting& waiting) {
    return std::any_of(followers.begin(), followers.end(), [&](const auto& follower) {
      const auto slave = slaves_.find(follower.broker_id);
      return follower.in_sync && slave != slaves_.end() &&
             (slave->second.topics < waiting.topics || slave->second.groups < waiting.groups);
    });
  };
  const auto through = std::stable_partition(waiting_.begin(), waiting_.end(), [&](const Waiting& waiting) {
    return !stopped_ && now < waiting.until && lacks(waiting);
  });
  std::vector<Waiting> released(std::make_move_iterator(through), std::make_move_iterator(waiting_.end()));
  waiting_.erase(through, waiting_.end());
  return released;
}

void SettingNotices::look() {
  const auto followers = parts_.acks.slaves();
  const auto now = Clock::now();
  std::vector<Waiting> released;
  {
    std::lock_guard lock(mutex_);
    released = release_locked(followers, now);
  }
  for (const auto& each : released) {
    if (now >= each.until)
      parts_.logger.warn("a slave in sync has not taken over the newest topics and groups within {} ms",
                         kWaitMax.count());
    each.then();
  }
}

void SettingNotices::stop() {
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  look();
}

void SettingNotices::wrap(RequestTable& table) {
  for (const auto code : {RequestCode::kUpdateAndCreateTopic, RequestCode::kUpdateAndCreateTopicList,
                          RequestCode::kDeleteTopicInBroker, RequestCode::kUpdateAndCreateSubscriptiongroup,
                          RequestCode::kUpdateAndCreateSubscriptiongroupList, RequestCode::kDeleteSubscriptiongroup})
    table.wrap(code, [this](remoting::RequestHandler handler) -> remoting::RequestHandler {
      return [this, handler = std::move(handler)](const remoting::Caller& caller, Command request,
                                                  const remoting::Responder& respond) {
        handler(caller, std::move(request), remoting::Responder([this, respond](Command response) {
                  if (response.code != remoting::response_code::kSuccess) return respond(std::move(response));
                  auto answer = std::make_shared<Command>(std::move(response));
                  wait([respond, answer] { respond(std::move(*answer)); });
                }));
      };
    });
}

}  // namespace apogee::broker
