#include "broker/transactions/transactions.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <utility>

#include "broker/handlers/send_operation.h"
#include "common/message/properties.h"
#include "common/message/property_names.h"
#include "common/message/sys_flag.h"
#include "common/remoting/response_code.h"

namespace apogee::broker {

namespace code = remoting::response_code;
namespace property = message::property;

namespace {

constexpr int64_t kTickMs = 1'000;
constexpr int64_t kSaveMs = 2'000;
constexpr int64_t kStopMs = 5'000;

constexpr const char* kDecidedBefore = "The transaction has been decided before; this request is ignored";

}  // namespace

Transactions::Transactions(Parts parts) : parts_(std::move(parts)) {}

Transactions::~Transactions() { stop(); }

Status Transactions::start() {
  APOGEE_TRY(recover());
  store_ops(true);
  thread_ = std::thread([this] { run(); });
  return {};
}

void Transactions::stop() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
  tick(true);
  std::unique_lock lock(mutex_);
  wake_.wait_for(lock, std::chrono::milliseconds(kStopMs), [this] { return ops_under_way_ == 0; });
}

void Transactions::run() {
  int64_t last_check = parts_.now_ms();
  int64_t last_save = last_check;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const int64_t now = parts_.now_ms();
    const int64_t interval = parts_.config.transaction_check_interval_ms;
    if (now < last_check || now - last_check >= interval) {
      last_check = now;
      lock.unlock();
      check_round();
      lock.lock();
      continue;
    }
    if (now < last_save || now - last_save >= kSaveMs) {
      last_save = now;
      lock.unlock();
      save_progress();
      lock.lock();
      continue;
    }
    if (ops_due_locked(false, now)) {
      lock.unlock();
      store_ops(false);
      lock.lock();
      continue;
    }
    int64_t wait = std::min(kTickMs, interval - (now - last_check));
    if (!ops_.empty())
      wait =
          std::min(wait, std::max(ops_not_before_ms_, ops_since_ms_ + parts_.config.transaction_op_interval_ms) - now);
    wake_.wait_for(lock, std::chrono::milliseconds(std::max<int64_t>(1, wait)));
  }
}

void Transactions::tick(bool all) {
  store_ops(all);
  save_progress();
}

std::optional<std::string> Transactions::busy() const {
  std::lock_guard lock(mutex_);
  const auto undecided = static_cast<int64_t>(table_.size() - decided_);
  if (undecided < parts_.config.transaction_undecided_max) return std::nullopt;
  return "too many transactions are undecided, " + std::to_string(undecided) + " (transactionUndecidedMax)";
}

Transactions::Figures Transactions::figures() const {
  std::lock_guard lock(mutex_);
  Figures figures = figures_;
  figures.undecided = static_cast<int64_t>(table_.size() - decided_);
  figures.ops_waiting = static_cast<int64_t>(decided_);
  return figures;
}

std::map<std::string, std::string> Transactions::texts() const {
  const Figures now = figures();
  return {{"transactionsUndecided", std::to_string(now.undecided)},
          {"transactionOpsWaiting", std::to_string(now.ops_waiting)},
          {"transactionsCommitted", std::to_string(now.committed)},
          {"transactionsRolledBack", std::to_string(now.rolled_back)},
          {"transactionEndsIgnored", std::to_string(now.ignored)},
          {"transactionChecks", std::to_string(now.checks)},
          {"transactionsGivenUp", std::to_string(now.given_up)}};
}

void Transactions::prepare(const store::MessageDraft& draft, store::PutCallback done) {
  const bool of_5x = parts_.config.store_compatibility == store::StoreCompatibility::k5x;
  const std::string properties = half_properties(draft, of_5x);
  store::MessageDraft half = draft;
  half.topic = kHalfTopic;
  half.queue_id = 0;
  half.sys_flag &= ~message::sys_flag::kTransactionMask;
  half.properties = properties;
  Entry entry;
  entry.born_ms = draft.born_timestamp_ms;
  entry.immunity_s = immunity_s_of(properties);
  int64_t begun = 0;
  {
    std::lock_guard lock(mutex_);
    begun = halves_.begin_put();
  }
  parts_.put.deliver(half, [this, begun, entry, done = std::move(done)](store::PutResult result) mutable {
    {
      std::lock_guard lock(mutex_);
      if (result.stored()) {
        entry.offset = result.queue_offset;
        entry.physical = result.offsets.front();
        log_.see(entry.physical);
        table_.emplace(entry.offset, entry);
        halves_.end_put(begun, entry.offset);
      } else {
        halves_.end_put(begun, std::nullopt);
      }
    }
    done(std::move(result));
  });
}

std::optional<Transactions::Answer> Transactions::refusal(const EndTransaction& request,
                                                          const HalfMessage& half) const {
  auto wrong = [](const char* why) { return Answer{code::kSystemError, why}; };
  if (half.group != request.group) return wrong("The producer group wrong");
  if (half.record.queue_offset != request.half_offset) return wrong("The transaction state table offset wrong");
  if (half.record.physical_offset != request.log_offset) return wrong("The commit log offset wrong");
  if (!request.transaction_id.empty() && request.transaction_id != half.unique_key)
    return wrong("The transaction id wrong: it is not that of the half message");
  const int64_t age = parts_.now_ms() - half.record.born_timestamp_ms;
  if (!request.from_check && half.immunity_s >= 0 &&
      age > immunity_ms_of(half.immunity_s, parts_.config.transaction_timeout_ms))
    return Answer{code::kIllegalOperation,
                  "The time is over in which the producer decides by itself (CHECK_IMMUNITY_TIME_IN_SECONDS); it will "
                  "be asked"};
  return std::nullopt;
}

bool Transactions::claim(store::QueueOffset root) {
  std::lock_guard lock(mutex_);
  auto entry = table_.find(root);
  if (entry == table_.end() || entry->second.state != State::kOpen) return false;
  entry->second.state = State::kDeciding;
  return true;
}

void Transactions::end(const EndTransaction& request, Done done) {
  if (request.decision == EndTransaction::Decision::kUnknown)
    return done({code::kSuccess, "the transaction stays undecided"});
  auto not_found = [&request](const std::string& why) {
    return Answer{code::kSystemError, "Find prepared transaction message failed: at the offset " +
                                          std::to_string(request.log_offset) + " of the log " + why};
  };
  auto bytes = request.log_offset < 0 ? std::nullopt : parts_.store.stored_record_at(request.log_offset);
  if (!bytes) return done(not_found("no message begins"));
  auto half = HalfMessage::of(std::move(*bytes));
  if (!half) return done(not_found("is no half message: " + half.error().message));
  if (auto answer = refusal(request, *half)) return done(std::move(*answer));
  if (!claim(half->root)) {
    {
      std::lock_guard lock(mutex_);
      ++figures_.ignored;
    }
    return done({code::kIllegalOperation, kDecidedBefore});
  }
  if (request.decision == EndTransaction::Decision::kCommit) return commit(*half, request.awaited, std::move(done));
  roll_back(*half, request.awaited, std::move(done));
}

void Transactions::commit(const HalfMessage& half, bool awaited, Done done) {
  auto copy = half.committed();
  if (!copy) {
    std::lock_guard lock(mutex_);
    table_.at(half.root).state = State::kOpen;
    return done({code::kSystemError, copy.error().message});
  }
  copy->wait_store_ok = awaited;
  auto shared = std::make_shared<StoredCopy>(std::move(*copy));
  int64_t begun = 0;
  {
    std::lock_guard lock(mutex_);
    begun = log_.begin_put();
  }
  parts_.put.put(shared->draft(parts_.store_host), [this, shared, root = half.root, begun,
                                                    done = std::move(done)](const store::PutResult& result) {
    {
      std::lock_guard lock(mutex_);
      Entry& entry = table_.at(root);
      if (result.stored()) {
        log_.end_put(begun, result.offsets.front());
        entry.commit_at = result.offsets.front();
        ++figures_.committed;
        decided_locked(root, entry);
      } else {
        log_.end_put(begun, std::nullopt);
        entry.state = State::kOpen;
      }
    }
    if (!result.stored()) {
      SendAnswer answer = answer_of(result, parts_.config.message_bytes_max);
      parts_.logger.warn("a transaction could not be committed, its producer will be asked: {}", answer.remark);
      return done({answer.code, std::move(answer.remark)});
    }
    parts_.stats.on_put(shared->topic, 1, static_cast<int64_t>(shared->record.body.size()), 0);
    store_ops(false);
    done({code::kSuccess, {}});
  });
}

void Transactions::roll_back(const HalfMessage& half, bool awaited, Done done) {
  {
    std::lock_guard lock(mutex_);
    // A commit is told by its message; of a rollback nothing is in the log but the op message.
    ops_urgent_ = true;
    ++figures_.rolled_back;
    if (awaited) waiters_.emplace(half.root, std::exchange(done, nullptr));
    decided_locked(half.root, table_.at(half.root));
  }
  store_ops(false);
  if (done) done({code::kSuccess, {}});
}

// A copy that is on its way to the end of the half queue is told to the op topic too.
void Transactions::decided_locked(store::QueueOffset root, Entry& entry) {
  if (entry.state != State::kDecided) ++decided_;
  entry.state = State::kDecided;
  if (entry.copying) return;
  if (entry.also >= 0) push_op_locked({-1, entry.also, -1});
  push_op_locked({root, entry.offset, entry.commit_at});
  wake_.notify_all();
}

void Transactions::push_op_locked(const Op& op) {
  if (ops_.empty()) ops_since_ms_ = parts_.now_ms();
  ops_.push_back(op);
  op_bytes_ += std::to_string(op.offset).size() + 1;
}

bool Transactions::ops_due_locked(bool all, int64_t now) const {
  if (ops_.empty() || now < ops_not_before_ms_) return false;
  return all || ops_urgent_ || parts_.config.store_compatibility == store::StoreCompatibility::k49 ||
         op_bytes_ >= static_cast<size_t>(parts_.config.transaction_op_bytes_max.get()) ||
         now - ops_since_ms_ >= parts_.config.transaction_op_interval_ms;
}

void Transactions::store_ops(bool all) {
  const bool single = parts_.config.store_compatibility == store::StoreCompatibility::k49;
  const auto bytes_max = static_cast<size_t>(parts_.config.transaction_op_bytes_max.get());
  for (;;) {
    Ops taken;
    std::string body;
    int64_t begun = 0;
    store::LogOffset covered = 0;
    bool awaited = false;
    const int64_t now = parts_.now_ms();
    {
      std::lock_guard lock(mutex_);
      if (!ops_due_locked(all, now)) return;
      size_t count = 0;
      for (const auto& op : ops_) {
        std::string text = std::to_string(op.offset);
        if (count > 0 && (single || body.size() + text.size() + 1 > bytes_max)) break;
        if (count++ > 0) body += ',';
        body += text;
        op_bytes_ -= text.size() + 1;
        awaited = awaited || waiters_.count(op.root) != 0;
      }
      taken.assign(ops_.begin(), ops_.begin() + static_cast<Ops::difference_type>(count));
      ops_.erase(ops_.begin(), ops_.begin() + static_cast<Ops::difference_type>(count));
      if (ops_.empty()) ops_urgent_ = false;
      ++ops_under_way_;
      begun = op_messages_.begin_put();
      covered = log_.floor();
    }
    std::string properties;
    message::append_property(properties, property::kTags, kOpTag);
    message::append_property(properties, kOpsCoverProperty, std::to_string(covered));
    store::MessageDraft draft;
    draft.topic = kOpTopic;
    draft.born_timestamp_ms = now;
    draft.born_host = draft.store_host = parts_.store_host;
    draft.body = body;
    draft.properties = properties;
    draft.wait_store_ok = awaited;
    parts_.put.deliver(draft, [this, taken = std::move(taken), begun](const store::PutResult& result) mutable {
      op_stored(std::move(taken), begun, result);
    });
  }
}

void Transactions::op_stored(Ops ops, int64_t begun, const store::PutResult& result) {
  std::vector<Done> waiters;
  Answer answer{code::kSuccess, {}};
  if (!result.stored()) {
    SendAnswer failed = answer_of(result, parts_.config.message_bytes_max);
    parts_.logger.warn("decisions of transactions could not be stored, tried again soon: {}", failed.remark);
    answer = {failed.code, "the rollback holds, but could not be stored yet: " + failed.remark};
  }
  {
    std::lock_guard lock(mutex_);
    store::QueueOffset highest = 0;
    for (const auto& op : ops) {
      if (auto waiter = waiters_.find(op.root); waiter != waiters_.end()) {
        waiters.push_back(std::move(waiter->second));
        waiters_.erase(waiter);
      }
      if (!result.stored()) {
        op_bytes_ += std::to_string(op.offset).size() + 1;
        continue;
      }
      highest = std::max(highest, op.offset);
      halves_.release(op.offset);
      if (op.root < 0) continue;
      if (op.commit_at >= 0) log_.release(op.commit_at);
      table_.erase(op.root);
      --decided_;
    }
    if (result.stored()) {
      op_messages_.end_put(begun, result.queue_offset);
      log_.see(result.offsets.front());
      ops_undone_[result.queue_offset] = highest;
    } else {
      op_messages_.end_put(begun, std::nullopt);
      ops_.insert(ops_.begin(), ops.begin(), ops.end());
      ops_not_before_ms_ = parts_.now_ms() + kTickMs;
    }
    --ops_under_way_;
    wake_.notify_all();
  }
  for (auto& waiter : waiters) waiter(answer);
}

// The op queue is passed only as far as the half queue had been passed at the time before: what is saved of the two
// may be torn by a crash, and a half message must not be found without its op message.
void Transactions::save_progress() {
  store::QueueOffset half = 0, op = 0;
  {
    std::lock_guard lock(mutex_);
    while (!ops_undone_.empty() && ops_undone_.begin()->second < half_progress_) {
      op_messages_.release(ops_undone_.begin()->first);
      ops_undone_.erase(ops_undone_.begin());
    }
    half = halves_.floor();
    op = op_messages_.floor();
    if (half == half_progress_ && op == op_progress_) return;
    half_progress_ = half;
    op_progress_ = op;
  }
  parts_.offsets.commit(kTransactionGroup, kHalfTopic, 0, half);
  parts_.offsets.commit(kTransactionGroup, kOpTopic, 0, op);
}

}  // namespace apogee::broker
