#include "tools/mqadmin/topic_drain.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "client/src/send_request.h"
#include "common/base/hash.h"
#include "common/remoting/response_code.h"

namespace mqadmin {

using apogee::Errc;
using apogee::Error;
using apogee::MessageQueue;
using apogee::Result;
using apogee::Status;
using Clock = std::chrono::steady_clock;

namespace {

constexpr size_t kLanesMax = 16;
constexpr size_t kWindowMax = 256;  ///< messages of one queue that are read and not committed
constexpr size_t kBytesMax = 64 * 1024 * 1024;
constexpr int32_t kPullMax = 32;
constexpr auto kCommitInterval = std::chrono::milliseconds(500);
constexpr auto kMarkInterval = std::chrono::seconds(10);
/// Marks move so long after what they stand for was committed: brokers save offsets every few seconds.
constexpr auto kMarkDelay = std::chrono::seconds(30);
constexpr auto kRetryPause = std::chrono::milliseconds(200);
/// How far clocks of brokers may be apart.
constexpr int64_t kClockMarginMs = 60'000;
constexpr size_t kGroupNameMax = 120;

/// Whether the same request may succeed a little later.
bool may_pass(const Error& error) {
  switch (error.code) {
    case Errc::kBusy:
    case Errc::kTimeout:
    case Errc::kNetwork:
    case Errc::kBroker: return true;
    default: return false;
  }
}

}  // namespace

struct TopicDrain::Copy {
  apogee::ReceivedMessage message;
  Source* source = nullptr;
  size_t target = 0;
  bool done = false;  // guarded by mutex_
};

struct TopicDrain::Source {
  DrainQueue queue;
  std::string from;
  int64_t next = 0;  ///< everything before it was read
  int64_t committed = 0;
  std::deque<std::shared_ptr<Copy>> window;  ///< read and not committed; by the thread that runs the drain
};

struct TopicDrain::Lane {
  std::deque<std::shared_ptr<Copy>> waiting;  // guarded by mutex_
  std::thread thread;
};

struct TopicDrain::Mark {
  Clock::time_point made;
  std::vector<int64_t> target_offsets;  ///< of the next message, by target
  std::vector<int64_t> read_to;         ///< by source
  std::optional<Clock::time_point> covered;
};

TopicDrain::TopicDrain(apogee::AdminClient& client, DrainOptions options)
    : client_(client), options_(std::move(options)) {}

TopicDrain::~TopicDrain() { stop_lanes(); }

std::string TopicDrain::mark_group() const {
  auto name = fmt::format("DRAIN_{}_{}", options_.group, options_.topic);
  if (name.size() <= kGroupNameMax) return name;
  return fmt::format("DRAIN_{:016x}", apogee::fnv1a_64(name));
}

std::string TopicDrain::from_of(const MessageQueue& queue) {
  return fmt::format("{}/{}/{}", queue.topic, queue.broker_name, queue.queue_id);
}

size_t TopicDrain::target_of(const apogee::ReceivedMessage& message, const std::string& from) const {
  std::string_view key;
  if (!options_.key_property.empty()) {
    key = message.property(options_.key_property).value_or("");
  } else {
    key = message.property("__SHARDINGKEY").value_or("");
    if (key.empty()) key = message.keys();
  }
  return apogee::queue_index_of_key(key.empty() ? std::string_view(from) : key, targets_.size());
}

Status TopicDrain::check_nobody_consumes() {
  auto clients = client_.group_clients(options_.group);
  if (clients)
    return Error{Errc::kBusy,
                 fmt::format("the group {} has {} members that consume what is to be copied; stop them first",
                             options_.group, clients->clients.size())};
  const auto& error = clients.error();
  if (error.code == Errc::kNotFound || error.response_code == apogee::remoting::response_code::kConsumerNotOnline)
    return {};
  return error;
}

Result<DrainPlan> TopicDrain::plan() {
  if (options_.topic == options_.target)
    return Error{Errc::kInvalidArgument, "a topic cannot be copied into itself: name another target"};
  APOGEE_TRY(check_nobody_consumes());
  DrainPlan plan;
  APOGEE_TRY_ASSIGN(auto queues, client_.queues_of_topic(options_.topic));
  APOGEE_TRY_ASSIGN(plan.targets, client_.writable_queues(options_.target));
  targets_ = plan.targets;
  bool known = false;
  for (const auto& queue : queues) {
    DrainQueue part;
    part.queue = queue;
    APOGEE_TRY_ASSIGN(auto committed, client_.consumer_offset(options_.group, queue));
    APOGEE_TRY_ASSIGN(auto first, client_.min_offset(queue));
    APOGEE_TRY_ASSIGN(part.end, client_.max_offset(queue));
    known = known || committed.has_value();
    part.committed = committed.value_or(first);
    part.begin = std::min(std::max(part.committed, first), part.end);
    plan.messages += part.end - part.begin;
    if (part.committed < first) plan.expired += first - part.committed;
    plan.queues.push_back(std::move(part));
  }
  if (!known)
    return Error{Errc::kNotFound,
                 fmt::format("the group {} has no offsets in the topic {}; give it some with resetOffsetByTime",
                             options_.group, options_.topic)};
  APOGEE_TRY(find_copies(plan));
  for (const auto& part : plan.queues) {
    auto found = copied_before_.find(from_of(part.queue));
    if (found == copied_before_.end()) continue;
    plan.copied_already += std::count_if(found->second.begin(), found->second.end(),
                                         [&part](int64_t o) { return o >= part.begin && o < part.end; });
  }
  return plan;
}

Result<int64_t> TopicDrain::oldest_message_ms(const DrainPlan& plan) {
  int64_t oldest = INT64_MAX;
  for (const auto& part : plan.queues) {
    if (part.begin >= part.end) continue;
    apogee::admin::PullRequest request;
    request.queue = part.queue;
    request.offset = part.begin;
    request.messages_max = 1;
    APOGEE_TRY_ASSIGN(auto pulled, client_.pull(request));
    if (!pulled.messages.empty()) oldest = std::min(oldest, pulled.messages.front().store_time_ms());
  }
  return oldest;
}

Status TopicDrain::find_copies(const DrainPlan& plan) {
  copied_before_.clear();
  std::map<std::string, int64_t> committed;
  for (const auto& part : plan.queues) committed[from_of(part.queue)] = part.committed;
  const std::string marks = mark_group();
  std::map<std::string, bool> begun;  // by broker: a drain began and did not end
  for (size_t i = 0; i < targets_.size(); ++i) {
    const auto& target = targets_[i];
    if (begun.count(target.broker_name) == 0) {
      APOGEE_TRY_ASSIGN(auto address, client_.broker_address(target.broker_name));
      APOGEE_TRY_ASSIGN(auto groups, client_.groups(address));
      begun[target.broker_name] = groups.count(marks) != 0;
    }
    if (!begun[target.broker_name]) continue;
    APOGEE_TRY_ASSIGN(auto mark, client_.consumer_offset(marks, target));
    if (!mark) {
      // The broker lost it. A copy cannot be older than what it is a copy of.
      APOGEE_TRY_ASSIGN(auto oldest_ms, oldest_message_ms(plan));
      if (oldest_ms == INT64_MAX) continue;
      APOGEE_TRY_ASSIGN(mark, client_.offset_by_time(target, std::max<int64_t>(oldest_ms - kClockMarginMs, 0)));
    }
    APOGEE_TRY(find_copies_in(i, *mark, committed));
  }
  return {};
}

Status TopicDrain::find_copies_in(size_t target, int64_t from, const std::map<std::string, int64_t>& committed) {
  APOGEE_TRY_ASSIGN(auto end, client_.max_offset(targets_[target]));
  apogee::admin::PullRequest request;
  request.queue = targets_[target];
  request.offset = from;
  while (request.offset < end) {
    APOGEE_TRY_ASSIGN(auto pulled, client_.pull(request));
    for (const auto& message : pulled.messages) {
      const std::string text(message.property(kFromProperty).value_or(""));
      const auto slash = text.rfind('/');
      if (slash == std::string::npos) continue;
      const auto source = committed.find(text.substr(0, slash));
      int64_t offset = -1;
      std::from_chars(text.data() + slash + 1, text.data() + text.size(), offset);
      if (source == committed.end() || offset < source->second) continue;
      if (target_of(message, source->first) != target)
        return Error{Errc::kInvalidArgument,
                     fmt::format("the drain that was interrupted sent the keys to other queues of {}: it had another "
                                 "number of queues or another -k; what goes on now would break their order",
                                 options_.target)};
      copied_before_[source->first].insert(offset);
    }
    if (pulled.next_offset <= request.offset) break;
    request.offset = pulled.next_offset;
  }
  return {};
}

Result<std::set<std::string>> TopicDrain::masters_of(const std::string& topic) {
  APOGEE_TRY_ASSIGN(auto route, client_.topic_route(topic));
  std::set<std::string> addresses;
  for (const auto& broker : route.brokers) {
    auto master = broker.addresses.find(0);
    if (master != broker.addresses.end()) addresses.insert(master->second);
  }
  return addresses;
}

Status TopicDrain::begin_marks() {
  APOGEE_TRY_ASSIGN(auto addresses, masters_of(options_.target));
  apogee::admin::GroupConfig config;
  config.group = mark_group();
  config.consume_enable = false;
  config.retry_queues = 0;
  for (const auto& address : addresses) APOGEE_TRY(client_.create_group(address, config));
  for (const auto& target : targets_) {
    APOGEE_TRY_ASSIGN(auto mark, client_.consumer_offset(config.group, target));
    if (mark) continue;
    APOGEE_TRY_ASSIGN(auto end, client_.max_offset(target));
    APOGEE_TRY(client_.update_consumer_offset(config.group, target, end));
  }
  return {};
}

Status TopicDrain::move_marks() {
  const auto now = Clock::now();
  if (marks_.empty() || now - marks_.back().made >= kMarkInterval) {
    Mark mark;
    mark.made = now;
    for (const auto& source : sources_) mark.read_to.push_back(source->next);
    for (const auto& target : targets_) {
      APOGEE_TRY_ASSIGN(auto end, client_.max_offset(target));
      mark.target_offsets.push_back(end);
    }
    marks_.push_back(std::move(mark));
  }
  for (auto& mark : marks_) {
    if (mark.covered) continue;
    for (size_t i = 0; i < sources_.size(); ++i)
      if (sources_[i]->committed < mark.read_to[i]) return {};
    mark.covered = now;
  }
  while (!marks_.empty() && marks_.front().covered && now - *marks_.front().covered >= kMarkDelay) {
    for (size_t i = 0; i < targets_.size(); ++i)
      APOGEE_TRY(client_.update_consumer_offset(mark_group(), targets_[i], marks_.front().target_offsets[i]));
    marks_.pop_front();
  }
  return {};
}

Status TopicDrain::remove_marks() {
  APOGEE_TRY_ASSIGN(auto addresses, masters_of(options_.target));
  // The brokers of the source too: they save their offsets with it.
  APOGEE_TRY_ASSIGN(auto more, masters_of(options_.topic));
  addresses.insert(more.begin(), more.end());
  for (const auto& address : addresses) {
    auto removed = client_.delete_group(address, mark_group(), true);
    if (!removed && removed.error().code != Errc::kNotFound) return removed;
  }
  return {};
}

Result<bool> TopicDrain::read_on() {
  bool any = false;
  for (auto& source : sources_) {
    {
      std::lock_guard lock(mutex_);
      if (bytes_ >= kBytesMax) break;
    }
    const int64_t end = source->queue.end;
    if (source->next >= end || source->window.size() >= kWindowMax) continue;
    apogee::admin::PullRequest request;
    request.queue = source->queue.queue;
    request.offset = source->next;
    request.messages_max = kPullMax;
    // After a reset the broker takes no offset of the group before the group has pulled.
    request.group = options_.group;
    auto answer = client_.pull(request);
    if (!answer) {
      if (may_pass(answer.error())) continue;  // the broker may come back; commit() tells when it does not
      return std::move(answer).error();
    }
    const auto before = copied_before_.find(source->from);
    std::lock_guard lock(mutex_);
    for (auto& message : answer->messages) {
      if (message.queue_offset() < source->next || message.queue_offset() >= end) continue;
      auto copy = std::make_shared<Copy>();
      copy->source = source.get();
      copy->target = target_of(message, source->from);
      copy->message = std::move(message);
      source->window.push_back(copy);
      if (before != copied_before_.end() && before->second.count(copy->message.queue_offset()) != 0) {
        copy->done = true;
        ++copied_already_;
        continue;
      }
      bytes_ += copy->message.body().size();
      lanes_[copy->target % lanes_.size()]->waiting.push_back(std::move(copy));
    }
    any = any || answer->next_offset > source->next;
    source->next = std::max(source->next, std::min(answer->next_offset, end));
    changed_.notify_all();
  }
  return any;
}

Status TopicDrain::commit() {
  for (auto& source : sources_) {
    {
      std::lock_guard lock(mutex_);
      while (!source->window.empty() && source->window.front()->done) source->window.pop_front();
    }
    const int64_t to = source->window.empty() ? source->next : source->window.front()->message.queue_offset();
    if (to <= source->committed) continue;
    const auto& queue = source->queue.queue;
    APOGEE_TRY_ASSIGN(auto current, client_.consumer_offset(options_.group, queue));
    if (current.value_or(0) > source->committed)
      return Error{
          Errc::kPermission,
          fmt::format("somebody else consumes for the group {}: its offset in queue {} of {} on {} "
                      "is {}, and {} was expected",
                      options_.group, queue.queue_id, queue.topic, queue.broker_name, *current, source->committed)};
    APOGEE_TRY(client_.update_consumer_offset(options_.group, queue, to));
    source->committed = to;
  }
  return {};
}

Status TopicDrain::settle() {
  for (auto& source : sources_) {
    const auto& queue = source->queue.queue;
    APOGEE_TRY_ASSIGN(auto current, client_.consumer_offset(options_.group, queue));
    if (current.value_or(0) >= source->committed) continue;
    APOGEE_TRY(client_.update_consumer_offset(options_.group, queue, source->committed));
    APOGEE_TRY_ASSIGN(current, client_.consumer_offset(options_.group, queue));
    if (current.value_or(0) < source->committed)
      return Error{Errc::kPermission,
                   fmt::format("the broker keeps the offset of {} in queue {} of {} on {} at {}", options_.group,
                               queue.queue_id, queue.topic, queue.broker_name, current.value_or(0))};
  }
  return {};
}

bool TopicDrain::all_done() {
  return std::all_of(sources_.begin(), sources_.end(), [](const auto& source) {
    return source->next >= source->queue.end && source->committed >= source->queue.end;
  });
}

Status TopicDrain::send(const Copy& copy) {
  const apogee::AdminClient::Properties from{
      {kFromProperty, fmt::format("{}/{}", copy.source->from, copy.message.queue_offset())}};
  const auto begin = Clock::now();
  while (true) {
    auto receipt = client_.send_copy(copy.message, targets_[copy.target], from);
    if (receipt) return {};
    if (!may_pass(receipt.error()) || Clock::now() - begin >= options_.give_up)
      return Error{receipt.error().code,
                   fmt::format("message {} of {} cannot be copied: {}", copy.message.queue_offset(), copy.source->from,
                               receipt.error().message)};
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, kRetryPause, [this] { return stopping_; })) return std::move(receipt).error();
  }
}

void TopicDrain::send_all(Lane& lane) {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return stopping_ || !lane.waiting.empty(); });
    if (stopping_) return;
    auto copy = lane.waiting.front();
    if (options_.rate > 0) {
      const int64_t now_us = apogee::steady_us();
      const apogee::TokenBucket::Rate evenly{options_.rate, 1};
      const auto wait_us = static_cast<int64_t>(pace_.due_us(evenly, 1, now_us)) - now_us;
      pace_.take(evenly, 1, now_us);
      if (wait_us > 0 && changed_.wait_for(lock, std::chrono::microseconds(wait_us), [this] { return stopping_; }))
        return;
    }
    lock.unlock();
    auto sent = send(*copy);
    lock.lock();
    if (!sent) {
      if (!stopping_ && !failure_) failure_ = sent.error();
      stopping_ = true;
      changed_.notify_all();
      return;
    }
    copy->done = true;
    ++copied_;
    bytes_ -= copy->message.body().size();
    lane.waiting.pop_front();
    changed_.notify_all();
  }
}

void TopicDrain::stop_lanes() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  for (auto& lane : lanes_)
    if (lane->thread.joinable()) lane->thread.join();
}

Status TopicDrain::work(const std::function<bool(int64_t done, int64_t total)>& progress, int64_t total) {
  auto commit_at = Clock::now() + kCommitInterval;
  auto trouble_since = Clock::time_point::max();
  while (true) {
    int64_t done = 0;
    {
      std::lock_guard lock(mutex_);
      if (failure_) return *failure_;
      done = copied_ + copied_already_;
    }
    if (!progress(done, total)) return {};
    APOGEE_TRY_ASSIGN(auto any, read_on());
    if (Clock::now() >= commit_at || done == total) {
      auto committed = commit();
      if (committed) committed = move_marks();
      const auto now = Clock::now();
      if (committed) {
        trouble_since = Clock::time_point::max();
        if (all_done()) return {};
      } else if (!may_pass(committed.error())) {
        return committed;
      } else {
        // A broker that is away for a while may come back.
        trouble_since = std::min(trouble_since, now);
        if (now - trouble_since >= options_.give_up) return committed;
      }
      commit_at = now + kCommitInterval;
    }
    if (any) continue;
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::milliseconds(20));
  }
}

DrainResult TopicDrain::run(const DrainPlan& plan, const std::function<bool(int64_t done, int64_t total)>& progress) {
  const auto begin = Clock::now();
  DrainResult result;
  for (const auto& part : plan.queues) {
    auto source = std::make_unique<Source>();
    source->queue = part;
    source->from = from_of(part.queue);
    source->next = part.begin;
    source->committed = part.committed;
    sources_.push_back(std::move(source));
  }
  Status status = begin_marks();
  if (status) {
    for (size_t i = 0; i < std::min(kLanesMax, targets_.size()); ++i) lanes_.push_back(std::make_unique<Lane>());
    for (auto& lane : lanes_) lane->thread = std::thread([this, own = lane.get()] { send_all(*own); });
    status = work(progress, plan.messages);
    stop_lanes();
    // What was copied until now counts, however the drain ended.
    Status last = commit();
    if (status) status = last;
  }
  if (status && all_done()) {
    status = settle();
    result.complete = status.has_value();
    if (status) status = remove_marks();
  }
  if (!status) result.error = status.error();
  result.copied = copied_;
  result.copied_already = copied_already_;
  result.seconds = std::chrono::duration<double>(Clock::now() - begin).count();
  return result;
}

}  // namespace mqadmin
