#include "test/replication/load.h"

#include <memory>

#include "common/base/hash.h"
#include "common/message/message_id.h"
#include "common/remoting/response_code.h"
#include "test/support/random.h"
#include "test/support/raw_requests.h"
#include "test/support/wait.h"

namespace apogee::test {

using Clock = std::chrono::steady_clock;

namespace {

int64_t ms_of(Clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
}

/// Whether the answer says that the message has a place in the log.
bool is_stored(int32_t code) {
  using namespace remoting::response_code;
  return code == kSuccess || code == kFlushDiskTimeout || code == kSlaveNotAvailable || code == kFlushSlaveTimeout;
}

}  // namespace

std::string id_in(std::string_view body) { return std::string(body.substr(0, body.find(':'))); }

void Ledger::sent(const std::string& id, uint64_t body_hash) {
  const std::lock_guard lock(mutex_);
  sent_[id] = body_hash;
}

void Ledger::acknowledged(int32_t queue, int64_t offset, Acknowledged message) {
  const std::lock_guard lock(mutex_);
  ++counts_[message.code];
  auto& last = last_offsets_.emplace(message.code, -1).first->second;
  last = std::max(last, message.log_offset);
  auto [at, fresh] = queues_[queue].emplace(offset, message);
  if (fresh) return;
  contradictions_.push_back("offset " + std::to_string(offset) + " of queue " + std::to_string(queue) +
                            " was given to " + at->second.id + " and " + message.id);
  at->second = std::move(message);
}

std::vector<std::string> Ledger::contradictions() const {
  const std::lock_guard lock(mutex_);
  return contradictions_;
}

size_t Ledger::count(int code) const {
  const std::lock_guard lock(mutex_);
  auto at = counts_.find(code);
  return at == counts_.end() ? 0 : at->second;
}

std::map<int32_t, Ledger::Queue> Ledger::queues() const {
  const std::lock_guard lock(mutex_);
  return queues_;
}

bool Ledger::was_sent(const std::string& id, uint64_t body_hash) const {
  const std::lock_guard lock(mutex_);
  auto at = sent_.find(id);
  return at != sent_.end() && at->second == body_hash;
}

int64_t Ledger::last_log_offset(int code) const {
  const std::lock_guard lock(mutex_);
  auto at = last_offsets_.find(code);
  return at == last_offsets_.end() ? -1 : at->second;
}

Load::Load(const ReplicatedCluster& cluster, Ledger& ledger, Options options)
    : cluster_(cluster), ledger_(ledger), options_(std::move(options)) {
  for (int i = 0; i < options_.senders; ++i) threads_.emplace_back([this, i] { send_all(i); });
}

void Load::stop() {
  stopping_ = true;
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

bool Load::more(size_t count, std::chrono::milliseconds limit) const {
  const auto before = ledger_.count(remoting::response_code::kSuccess);
  return eventually([&] { return ledger_.count(remoting::response_code::kSuccess) >= before + count; }, limit);
}

void Load::bad_day_ends() {
  resumed_after_ms_ = -1;
  ended_at_ms_ = ms_of(Clock::now());
}

void Load::answered(Clock::time_point sent_at) {
  const int64_t ended = ended_at_ms_;
  int64_t none = -1;
  if (ended >= 0 && ms_of(sent_at) >= ended)
    resumed_after_ms_.compare_exchange_strong(none, ms_of(Clock::now()) - ended);
}

void Load::send_all(int number) {
  static std::atomic<int> generation{0};
  const auto name = std::to_string(++generation) + "." + std::to_string(number);
  Random random(static_cast<uint64_t>(generation));
  std::unique_ptr<RawClient> client;
  for (int64_t count = 0; !stopping_; ++count) {
    std::string body = name + "-" + std::to_string(count) + ":";
    body += random.bytes(static_cast<size_t>(random.between(0, options_.body_bytes_max)));
    const auto hash = fnv1a_64(body);
    const auto id = id_in(body);
    ledger_.sent(id, hash);
    const auto queue = static_cast<int32_t>(random.below(options_.queues));
    while (!stopping_) {
      const auto sent_at = Clock::now();
      try {
        if (!client) client = cluster_.connect(options_.node, options_.answer_limit);
      } catch (const std::exception&) {
        pause(std::chrono::milliseconds(20));
        continue;
      }
      RawSend send{options_.topic, queue, body};
      auto reply = client->call(send_request(std::move(send)), options_.answer_limit);
      if (!reply) {
        client.reset();  // whether it is stored nobody knows
        continue;
      }
      if (!is_stored(reply->code)) {
        pause(std::chrono::milliseconds(10));
        continue;
      }
      auto place = message::decode_offset_message_id(std::string(reply->ext.get("msgId").value_or("")));
      ledger_.acknowledged(queue, reply->ext.get_int<int64_t>("queueOffset").value_or(-1),
                           {id, hash, place ? place->physical_offset : -1, reply->code});
      if (reply->code == remoting::response_code::kSuccess) answered(sent_at);
      break;
    }
    if (options_.pace.count() > 0) pause(options_.pace);
  }
}

}  // namespace apogee::test
