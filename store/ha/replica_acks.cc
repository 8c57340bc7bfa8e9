#include "store/ha/replica_acks.h"

#include <fmt/core.h>

#include <algorithm>

namespace apogee::store {

namespace {

/// A slave that is so near gets into the in-sync set while confirmed() stands still, at most for so long and so often.
constexpr LogOffset kNearBytes = 8 << 20;
constexpr auto kFreeze = std::chrono::milliseconds(200);
constexpr auto kBetweenFreezes = std::chrono::milliseconds(1'000);
constexpr auto kRateInterval = std::chrono::milliseconds(1'000);

int64_t ms_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
  return std::max<int64_t>(0, std::chrono::duration_cast<std::chrono::milliseconds>(to - from).count());
}

std::string ip_of(const std::string& address) { return address.substr(0, address.rfind(':')); }

std::string name_of(const ReplicaAcks::Slave& slave) {
  return slave.classic ? fmt::format("slave {} (classic)", slave.address)
                       : fmt::format("slave {} (broker id {})", slave.address, slave.broker_id);
}

}  // namespace

ReplicaAcks::ReplicaAcks(ReplicationRules rules, std::function<LogOffset()> end, WholeEnd whole_end,
                         const Logger& logger)
    : end_(std::move(end)), whole_end_(std::move(whole_end)), logger_(logger), waits_(rules.waits), rules_(rules) {}

bool ReplicaAcks::same_broker(const Slave& one, const Slave& other) {
  if (one.classic != other.classic) return false;
  return one.classic ? ip_of(one.address) == ip_of(other.address) : one.broker_id == other.broker_id;
}

ReplicaAcks::SlaveId ReplicaAcks::connected(std::string address, int64_t broker_id, bool classic, LogOffset proven) {
  const auto now = Clock::now();
  Answers answers;
  bool grown = false;
  SlaveId id = 0;
  {
    std::lock_guard lock(mutex_);
    Member member;
    member.slave.address = std::move(address);
    member.slave.broker_id = broker_id;
    member.slave.classic = classic;
    member.slave.acknowledged = member.slave.sent = member.rated_sent = proven;
    member.caught_up_at = member.mark_at = member.rated_at = now;
    member.mark_end = end_();
    // It may have less now than it had: what it acknowledged on its earlier connection counts no more.
    for (auto it = members_.begin(); it != members_.end();) {
      if (same_broker(it->second.slave, member.slave)) {
        if (it->second.connected)
          logger_.warn("{} takes the place of {}", name_of(member.slave), name_of(it->second.slave));
        it = members_.erase(it);
      } else {
        ++it;
      }
    }
    id = next_id_++;
    auto& added = members_[id] = std::move(member);
    try_join_locked(added, now);
    grown = set_limit_locked();
    release_locked(answers);
  }
  finish(std::move(answers), grown);
  return id;
}

void ReplicaAcks::sent(SlaveId slave, LogOffset end) {
  std::lock_guard lock(mutex_);
  auto found = members_.find(slave);
  if (found != members_.end()) found->second.slave.sent = std::max(found->second.slave.sent, end);
}

Status ReplicaAcks::acknowledged(SlaveId slave, LogOffset end) {
  const auto now = Clock::now();
  Answers answers;
  bool grown = false;
  {
    std::lock_guard lock(mutex_);
    auto found = members_.find(slave);
    if (found == members_.end() || !found->second.connected)
      return Error(Errc::kNotFound, "another connection has taken the place of this one");
    auto& member = found->second;
    if (end > member.slave.sent)
      return Error(Errc::kInvalidArgument, fmt::format("{} acknowledges {}, but was sent up to {}",
                                                       name_of(member.slave), end, member.slave.sent));
    if (end < member.slave.acknowledged)
      return Error(Errc::kInvalidArgument,
                   fmt::format("{} acknowledges {} after {}", name_of(member.slave), end, member.slave.acknowledged));
    member.slave.acknowledged = end;
    const LogOffset log_end = end_();
    if (end >= log_end) {
      member.caught_up_at = now;
    } else if (end >= member.mark_end) {
      member.caught_up_at = std::max(member.caught_up_at, member.mark_at);
    }
    if (end >= member.mark_end) {
      member.mark_end = log_end;
      member.mark_at = now;
    }
    try_join_locked(member, now);
    grown = set_limit_locked();
    release_locked(answers);
  }
  finish(std::move(answers), grown);
  return {};
}

void ReplicaAcks::disconnected(SlaveId slave) {
  std::lock_guard lock(mutex_);
  auto found = members_.find(slave);
  if (found == members_.end()) return;
  auto& member = found->second;
  member.connected = false;
  member.left_at = Clock::now();
  // A member stays for a moment: what is confirmed must not run ahead of it just because it connects again.
  if (!member.slave.in_sync) members_.erase(found);
}

void ReplicaAcks::set_confirm_listener(std::function<void()> grown) { grown_ = std::move(grown); }

size_t ReplicaAcks::in_sync_locked() const {
  return 1 + static_cast<size_t>(std::count_if(members_.begin(), members_.end(),
                                               [](const auto& each) { return each.second.slave.in_sync; }));
}

/// Slaves that have the log up to `end`, or are near enough to be waited for.
size_t ReplicaAcks::available_locked(LogOffset end) const {
  return static_cast<size_t>(std::count_if(members_.begin(), members_.end(), [&](const auto& each) {
    const auto& member = each.second;
    return member.slave.acknowledged >= end ||
           (member.connected && end - member.slave.acknowledged <= rules_.fall_behind_bytes_max);
  }));
}

/// Up to where as many brokers have the log as the rules want; -1: nowhere.
LogOffset ReplicaAcks::replicated_locked() const {
  if (rules_.all_in_sync) {
    if (in_sync_locked() < static_cast<size_t>(std::max(1, rules_.min_in_sync_replicas))) return -1;
    LogOffset least = kNoLimit;
    for (const auto& [id, member] : members_)
      if (member.slave.in_sync) least = std::min(least, member.slave.acknowledged);
    return least;
  }
  if (rules_.in_sync_replicas <= 1) return kNoLimit;
  std::vector<LogOffset> ends;
  for (const auto& [id, member] : members_) ends.push_back(member.slave.acknowledged);
  const auto wanted = static_cast<size_t>(rules_.in_sync_replicas - 1);
  if (ends.size() < wanted) return -1;
  std::nth_element(ends.begin(), ends.begin() + static_cast<std::ptrdiff_t>(wanted - 1), ends.end(), std::greater<>());
  return ends[wanted - 1];
}

void ReplicaAcks::try_join_locked(Member& member, Clock::time_point now) {
  if (!waits() || stopped_ || member.slave.in_sync) return;
  const LogOffset acknowledged = member.slave.acknowledged;
  if (const LogOffset confirmed = confirmed_locked(); acknowledged < confirmed) {
    // Alone, the master confirms each append at once; a slave would always be one message behind.
    if (limit_.load() != kNoLimit || now < next_freeze_ || confirmed - acknowledged > kNearBytes) return;
    frozen_ = confirmed;
    frozen_until_ = now + kFreeze;
    next_freeze_ = now + kBetweenFreezes;
    return;
  }
  member.slave.in_sync = true;
  member.caught_up_at = now;
  frozen_ = kNoLimit;
  logger_.info("{} is in sync at {}: {} brokers are", name_of(member.slave), acknowledged, in_sync_locked());
}

/// Whether what is confirmed may have grown since the listener was told. Where a limit comes, that is what was appended
/// shortly before: who appends tells later, and then only if there is no limit. A slave may have a part of a record;
/// then the limit is where that begins, because readers would take the part for damage.
bool ReplicaAcks::set_limit_locked() {
  LogOffset limit = frozen_;
  for (const auto& [id, member] : members_)
    if (member.slave.in_sync) limit = std::min(limit, member.slave.acknowledged);
  if (stopped_) limit = kNoLimit;
  if (!waits()) return false;
  if (limit != kNoLimit) {
    if (whole_end_) limit = whole_end_(std::max(told_, last_limit_), limit);
    last_limit_ = limit;
  }
  const LogOffset before = limit_.exchange(limit);
  return before < limit || (before == kNoLimit && limit != kNoLimit);
}

void ReplicaAcks::release_locked(Answers& answers) {
  if (waiting_.empty()) return;
  auto end = waiting_.upper_bound(replicated_locked());
  for (auto it = waiting_.begin(); it != end; ++it)
    answers.emplace_back(std::move(it->second.released), Replicated::kYes);
  waiting_.erase(waiting_.begin(), end);
}

void ReplicaAcks::finish(Answers answers, bool grown) const {
  // Readers first: who is told that a message is stored may look for it.
  if (grown && grown_) grown_();
  for (auto& [released, replicated] : answers) released(replicated);
}

bool ReplicaAcks::admits(std::string* why) const {
  if (!waits()) return true;
  std::lock_guard lock(mutex_);
  const size_t in_sync = in_sync_locked();
  if (rules_.min_in_sync_replicas <= static_cast<int32_t>(in_sync)) return true;
  if (why != nullptr)
    *why = fmt::format("{} brokers are in sync, minInSyncReplicas is {}", in_sync, rules_.min_in_sync_replicas);
  return false;
}

void ReplicaAcks::wait_for(LogOffset end, Released released) {
  Replicated at_once = Replicated::kYes;
  {
    std::lock_guard lock(mutex_);
    const size_t wanted = rules_.all_in_sync ? static_cast<size_t>(std::max(1, rules_.min_in_sync_replicas)) - 1
                                             : static_cast<size_t>(std::max(1, rules_.in_sync_replicas)) - 1;
    if (stopped_) {
      at_once = Replicated::kTimeout;
    } else if (waits() && replicated_locked() < end) {
      if (available_locked(end) >= wanted) {
        waiting_.emplace_hint(
            waiting_.end(), end,
            Waiting{Clock::now() + std::chrono::milliseconds(rules_.timeout_ms), std::move(released)});
        return;
      }
      at_once = Replicated::kNoSlave;
    }
  }
  released(at_once);
}

void ReplicaAcks::expire() {
  const auto now = Clock::now();
  Answers answers;
  bool grown = false;
  {
    std::lock_guard lock(mutex_);
    if (members_.empty() && waiting_.empty() && frozen_ == kNoLimit) return;
    for (auto it = waiting_.begin(); it != waiting_.end();) {
      if (it->second.deadline > now) {
        ++it;
        continue;
      }
      answers.emplace_back(std::move(it->second.released), Replicated::kTimeout);
      it = waiting_.erase(it);
    }
    const LogOffset log_end = end_();
    for (auto it = members_.begin(); it != members_.end();) {
      auto& member = it->second;
      auto& slave = member.slave;
      if (!member.connected && ms_between(member.left_at, now) >= rules_.timeout_ms) {
        if (slave.in_sync)
          logger_.warn("{} has been away for {} ms: it is in sync no more", name_of(slave), rules_.timeout_ms);
        it = members_.erase(it);
        continue;
      }
      if (member.connected && slave.acknowledged >= log_end) member.caught_up_at = now;
      if (slave.in_sync && ms_between(member.caught_up_at, now) > rules_.catch_up_ms_max) {
        slave.in_sync = false;
        logger_.warn("{} has lagged for more than {} ms, {} bytes now: it is in sync no more", name_of(slave),
                     rules_.catch_up_ms_max, log_end - slave.acknowledged);
      }
      if (now - member.rated_at >= kRateInterval) {
        slave.bytes_per_second =
            (slave.sent - member.rated_sent) * 1'000 / std::max<int64_t>(1, ms_between(member.rated_at, now));
        member.rated_sent = slave.sent;
        member.rated_at = now;
      }
      ++it;
    }
    if (frozen_ != kNoLimit && now >= frozen_until_) frozen_ = kNoLimit;
    grown = set_limit_locked();
    release_locked(answers);
  }
  finish(std::move(answers), grown);
}

void ReplicaAcks::stop() {
  Answers answers;
  bool grown = false;
  {
    std::lock_guard lock(mutex_);
    stopped_ = true;
    for (auto& [end, each] : waiting_) answers.emplace_back(std::move(each.released), Replicated::kTimeout);
    waiting_.clear();
    grown = set_limit_locked();
  }
  finish(std::move(answers), grown);
}

LogOffset ReplicaAcks::confirmed() const {
  if (!waits()) return end_();
  if (const LogOffset limit = limit_.load(); limit != kNoLimit) return limit;
  std::lock_guard lock(mutex_);
  return confirmed_locked();
}

/// The limit falls from "none" alone, under the lock: so that it never falls below what somebody was told.
LogOffset ReplicaAcks::confirmed_locked() const {
  if (const LogOffset limit = limit_.load(); limit != kNoLimit) return limit;
  told_ = std::max(told_, end_());
  return told_;
}

void ReplicaAcks::set_rules(const ReplicationRules& rules) {
  Answers answers;
  bool grown = false;
  {
    std::lock_guard lock(mutex_);
    if (rules.waits && !waits()) told_ = std::max(told_, end_());
    rules_ = rules;
    waits_ = rules.waits;
    for (auto& [id, member] : members_) {
      member.slave.in_sync = member.slave.in_sync && rules.waits;
      try_join_locked(member, Clock::now());
      // At once: what is confirmed must not run ahead of who has just joined, while the next one tries.
      grown = set_limit_locked() || grown;
    }
    if (!rules.waits) {
      limit_ = kNoLimit;
      frozen_ = kNoLimit;
      for (auto& [end, each] : waiting_) answers.emplace_back(std::move(each.released), Replicated::kYes);
      waiting_.clear();
      grown = true;
    } else {
      grown = set_limit_locked() || grown;
      release_locked(answers);
    }
  }
  finish(std::move(answers), grown);
}

ReplicationRules ReplicaAcks::rules() const {
  std::lock_guard lock(mutex_);
  return rules_;
}

std::vector<ReplicaAcks::Slave> ReplicaAcks::slaves() const {
  std::lock_guard lock(mutex_);
  const auto now = Clock::now();
  const LogOffset log_end = end_();
  std::vector<Slave> slaves;
  for (const auto& [id, member] : members_) {
    if (!member.connected) continue;
    slaves.push_back(member.slave);
    slaves.back().caught_up_ms_ago = member.slave.acknowledged >= log_end ? 0 : ms_between(member.caught_up_at, now);
  }
  return slaves;
}

size_t ReplicaAcks::in_sync() const {
  std::lock_guard lock(mutex_);
  return in_sync_locked();
}

}  // namespace apogee::store
