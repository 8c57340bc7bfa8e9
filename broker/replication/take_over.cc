#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <filesystem>
#include <mutex>
#include <set>

#include "broker/replication/acting_master.h"
#include "broker/replication/member_group.h"
#include "broker/schedule/delay_levels.h"
#include "broker/timers/timer_rule.h"

namespace apogee::broker {

namespace code = remoting::response_code;
using remoting::Command;
using remoting::RequestCode;

namespace {

constexpr int64_t kSlaveMsMax = 10'000;
constexpr int64_t kRetryMs = 200;

std::set<std::string> slaves_of(const BrokerConfig& config, remoting::RpcClient& client, const Logger& logger) {
  std::set<std::string> slaves;
  for (const auto& server : split_addresses(config.namesrv_addr.get())) {
    const auto group = ask_member_group(server, config, client);
    if (!group) {
      logger.warn("the NameServer {} does not tell whether a slave acts for this broker: {}", server,
                  group.error().message);
      continue;
    }
    for (const auto& [id, address] : group->broker_addrs)
      if (id != 0) slaves.insert(address);
  }
  return slaves;
}

/// Error: kUnsupported: it acts for nobody.
Result<ActingProgress> ask_slave(const std::string& slave, const BrokerConfig& config, remoting::RpcClient& client) {
  const int64_t until = steady_now_ms() + kSlaveMsMax;
  std::mutex mutex;
  std::condition_variable nobody;
  for (;;) {
    auto request = Command::request(RequestCode::kExchangeBrokerHaInfo);
    request.ext.set(kTakeOverField, true);
    request.ext.set("brokerName", config.broker_name);
    auto reply = client.call_and_wait(slave, std::move(request), std::max<int64_t>(1, until - steady_now_ms()));
    if (reply && reply->code == code::kSuccess) return decode_acting_progress(reply->body.bytes);
    const bool starting = reply && reply->remark.value_or("") == kBrokerStarting;
    if (reply && !starting) return Error{Errc::kUnsupported, "it acts for nobody"};
    if (steady_now_ms() + kRetryMs >= until) {
      if (!reply) return std::move(reply).error();
      return Error{Errc::kBroker, std::to_string(reply->code) + " " + reply->remark.value_or("")};
    }
    std::unique_lock lock(mutex);
    nobody.wait_for(lock, std::chrono::milliseconds(kRetryMs));
  }
}

/// Whom it let consume in order goes on with that.
void merge_locks(const std::string& slave, remoting::RpcClient& client, const TakeOver& parts) {
  auto reply = client.call_and_wait(slave, Command::request(RequestCode::kGetAllQueueLocks), kSlaveMsMax);
  Status merged;
  if (!reply) {
    merged = std::move(reply).error();
  } else if (reply->code != code::kSuccess) {
    merged = Error{Errc::kBroker, std::to_string(reply->code) + " " + reply->remark.value_or("")};
  } else {
    merged = parts.locks.merge(reply->body.bytes);
  }
  if (!merged)
    parts.logger.warn("the slave {} does not tell which queues it has locked: {}", slave, merged.error().message);
}

}  // namespace

Status take_over(const TakeOver& parts) {
  const auto& config = parts.config;
  if (!config.slave_acting_master || config.namesrv_addr.get().empty()) return {};
  loop::LoopThread loop("takeover");
  remoting::RpcClient client(loop.loop(), remoting::RpcClient::Options{}, parts.logger);
  ActingProgress theirs;
  for (const auto& slave : slaves_of(config, client, parts.logger)) {
    auto progress = ask_slave(slave, config, client);
    if (progress) {
      theirs.merge(*progress);
      merge_locks(slave, client, parts);
    } else if (progress.error().code == Errc::kUnsupported) {
      parts.logger.info("the slave {} does not act for its master", slave);
    } else {
      parts.logger.warn(
          "the slave {} does not tell how far it went in place of this master: {}; what it delivered may be delivered "
          "again",
          slave, progress.error().message);
    }
  }
  client.shutdown();
  loop.stop_and_join();
  if (theirs == ActingProgress{}) return {};

  // What a slave had and this log lacks is no progress: other messages will be there.
  auto& store = parts.store;
  theirs.half_offset = std::min(theirs.half_offset, std::max<int64_t>(0, store.max_offset(kHalfTopic, 0)));
  theirs.timer_queue_offset =
      std::min(theirs.timer_queue_offset, std::max<int64_t>(0, store.max_offset(kTimerTopic, 0)));
  for (auto& [level, offset] : theirs.delay_offsets)
    offset = std::min(offset, std::max<int64_t>(0, store.max_offset(kScheduleTopic, level - 1)));
  const std::string delay_file = config.config_file("delayOffset.json");
  const std::string timers_file = config.config_file("timersCheckpoint.json");
  const auto own = read_progress_files(delay_file, timers_file);
  auto both = own;
  both.merge(theirs);
  APOGEE_TRY(write_progress_files(both, delay_file, timers_file));
  const bool timers_moved = both.timers_until_ms != own.timers_until_ms;
  if (timers_moved) {
    // It knows what this master delivered, not what the slave did.
    std::error_code error;
    std::filesystem::remove_all(config.store_root + "/timersdb", error);
    if (error) return Error{Errc::kIo, config.store_root + "/timersdb: " + error.message()};
  }
  const auto half_before = parts.offsets.query(kTransactionGroup, kHalfTopic, 0).value_or(0);
  if (theirs.half_offset > half_before) {
    parts.offsets.commit(kTransactionGroup, kHalfTopic, 0, theirs.half_offset);
    APOGEE_TRY(parts.offsets.flush(true));
  }
  parts.logger.info("what a slave delivered in place of this master is taken over{}; half messages up to {}",
                    timers_moved ? ", its timers too" : "", std::max(half_before, theirs.half_offset));
  return {};
}

}  // namespace apogee::broker
