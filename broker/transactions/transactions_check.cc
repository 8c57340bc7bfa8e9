#include <algorithm>
#include <memory>
#include <utility>

#include "broker/transactions/transactions.h"
#include "common/message/message_id.h"

namespace apogee::broker {

namespace {

constexpr int64_t kHourMs = 3'600'000;
/// An undecided message that is this far behind is stored again at the end, so that neither progress nor a start have
/// to come back for it.
constexpr int64_t kRenewAfterOffsets = 10'000;
constexpr int64_t kRenewAfterBytes = 256LL << 20;

}  // namespace

Transactions::Due Transactions::due_locked(const Entry& entry, int64_t now, int64_t log_end) const {
  if (entry.state != State::kOpen || entry.copying) return Due::kNo;
  const int64_t age = now - entry.born_ms;
  if (age < 0 || age > immunity_ms_of(entry.immunity_s, parts_.config.transaction_timeout_ms)) return Due::kAsk;
  if (halves_.next() - entry.offset > kRenewAfterOffsets || log_end - entry.physical > kRenewAfterBytes)
    return Due::kRenew;
  return Due::kNo;
}

void Transactions::check_round() {
  const int64_t now = parts_.now_ms();
  const int64_t log_end = parts_.store.figures().log_max_offset;
  std::vector<store::QueueOffset> roots;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [root, entry] : table_)
      if (due_locked(entry, now, log_end) != Due::kNo) roots.push_back(root);
  }
  std::sort(roots.begin(), roots.end());
  for (auto root : roots) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    look_after(root, now, log_end);
  }
}

void Transactions::look_after(store::QueueOffset root, int64_t now, int64_t log_end) {
  store::LogOffset physical = 0;
  Due due = Due::kNo;
  int64_t age = 0;
  {
    std::lock_guard lock(mutex_);
    auto entry = table_.find(root);
    if (entry == table_.end()) return;
    due = due_locked(entry->second, now, log_end);
    physical = entry->second.physical;
    age = now - entry->second.born_ms;
  }
  if (due == Due::kNo) return;
  auto bytes = parts_.store.stored_record_at(physical);
  auto half = bytes ? HalfMessage::of(std::move(*bytes)) : Result<HalfMessage>(Error{});
  if (!half) return forget_unreadable(root, physical);
  if (age > parts_.config.file_reserved_hours * kHourMs) return give_up(*half, "it is older than fileReservedTime");
  if (due == Due::kAsk && half->check_times >= parts_.config.transaction_check_max)
    return give_up(*half, "its producers were asked transactionCheckMax times");
  renew(*half, due == Due::kAsk);
}

// As in Apache RocketMQ the copy goes to the end of the half queue before the producer is asked: it carries how often
// that was done.
void Transactions::renew(const HalfMessage& half, bool ask) {
  auto copy = half.renewed(half.check_times + (ask ? 1 : 0));
  if (!copy) return;
  auto shared = std::make_shared<const StoredCopy>(std::move(*copy));
  int64_t begun = 0;
  {
    std::lock_guard lock(mutex_);
    auto entry = table_.find(half.root);
    if (entry == table_.end() || entry->second.state != State::kOpen || entry->second.copying) return;
    entry->second.copying = true;
    begun = halves_.begin_put();
  }
  parts_.put.deliver(
      shared->draft(parts_.store_host),
      [this, half, shared, ask, begun](const store::PutResult& result) { renewed(half, *shared, ask, begun, result); });
}

void Transactions::renewed(const HalfMessage& half, const StoredCopy& copy, bool ask, int64_t begun,
                           const store::PutResult& result) {
  bool open = false;
  {
    std::lock_guard lock(mutex_);
    Entry& entry = table_.at(half.root);
    entry.copying = false;
    open = entry.state == State::kOpen;
    halves_.end_put(begun, result.stored() ? std::optional(result.queue_offset) : std::nullopt);
    if (result.stored()) {
      log_.see(result.offsets.front());
      if (entry.also >= 0) halves_.release(std::exchange(entry.also, -1));
      if (open) {
        halves_.release(entry.offset);
        entry.offset = result.queue_offset;
        entry.physical = result.offsets.front();
      } else {
        entry.also = result.queue_offset;
      }
    }
    if (entry.state == State::kDecided) decided_locked(half.root, entry);
    if (open && ask && result.stored()) ++figures_.checks;
  }
  if (!result.stored())
    parts_.logger.warn("a half message could not be stored again before its producer is asked: {}", result.detail);
  else if (open && ask)
    ask_producer(half, copy, result);
  store_ops(false);
}

void Transactions::ask_producer(const HalfMessage& half, const StoredCopy& copy, const store::PutResult& place) {
  const auto members = parts_.producers.members(half.group);
  if (members.empty()) {
    parts_.logger.info("no producer of group {} is connected that could be asked for transaction {}", half.group,
                       half.unique_key);
    return;
  }
  const auto& producer = members[next_producer_.fetch_add(1, std::memory_order_relaxed) % members.size()];
  const store::LogOffset physical = place.offsets.front();
  auto request = request_for(producer, remoting::RequestCode::kCheckTransactionState);
  request.flag |= remoting::kOnewayFlag;
  request.ext.set("tranStateTableOffset", place.queue_offset);
  request.ext.set("commitLogOffset", physical);
  request.ext.set("msgId", half.unique_key);
  request.ext.set("transactionId", half.unique_key);
  request.ext.set("offsetMsgId",
                  message::encode_offset_message_id({parts_.store_host.ip_bytes, parts_.store_host.port}, physical));
  request.ext.set("topic", half.real_topic);
  request.ext.set("bname", parts_.config.broker_name);
  request.body = SharedBytes::from(half.for_producer(copy.properties, place.queue_offset, physical));
  parts_.calls.send_oneway(producer.connection, std::move(request));
}

void Transactions::give_up(const HalfMessage& half, const char* why) {
  auto copy = half.given_up();
  if (!copy || !claim(half.root)) return;
  parts_.logger.warn("transaction {} of group {} is given up, its message goes to {}: {}", half.unique_key, half.group,
                     kCheckMaxTopic, why);
  auto shared = std::make_shared<const StoredCopy>(std::move(*copy));
  parts_.put.deliver(shared->draft(parts_.store_host),
                     [this, shared, root = half.root](const store::PutResult& result) {
                       {
                         std::lock_guard lock(mutex_);
                         Entry& entry = table_.at(root);
                         if (result.stored()) {
                           ++figures_.given_up;
                           ops_urgent_ = true;
                           decided_locked(root, entry);
                         } else {
                           entry.state = State::kOpen;
                         }
                       }
                       store_ops(false);
                     });
}

void Transactions::forget_unreadable(store::QueueOffset root, store::LogOffset physical) {
  if (!claim(root)) return;
  parts_.logger.error("the half message at {} of the log cannot be read any more: its transaction is lost", physical);
  {
    std::lock_guard lock(mutex_);
    ++figures_.given_up;
    decided_locked(root, table_.at(root));
  }
  store_ops(false);
}

}  // namespace apogee::broker
