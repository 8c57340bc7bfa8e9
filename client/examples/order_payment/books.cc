#include "books.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

namespace shop {

namespace {

bool contains(const std::vector<Step>& history, Step step) {
  return std::find(history.begin(), history.end(), step) != history.end();
}

/// Whether a step may follow what happened so far. This is the state machine of an order.
bool allowed(const std::vector<Step>& history, Step step) {
  switch (step) {
    case Step::kRefused:
    case Step::kCreated: return history.empty();
    case Step::kPaid:
    case Step::kCancelled: return !history.empty() && history.back() == Step::kCreated;
    case Step::kPicked: return !history.empty() && history.back() == Step::kPaid;
    case Step::kPacked: return !history.empty() && history.back() == Step::kPicked;
    case Step::kShipped: return !history.empty() && history.back() == Step::kPacked;
  }
  return false;
}

const char* to_string(Order::Pays pays) {
  return pays == Order::Pays::kPromptly ? "promptly" : pays == Order::Pays::kLate ? "late" : "never";
}

}  // namespace

const char* to_string(Step step) {
  static constexpr const char* kNames[] = {"refused", "created", "paid", "cancelled", "picked", "packed", "shipped"};
  return kNames[static_cast<size_t>(step)];
}

Books::Books(std::vector<Order> orders) : orders_(std::move(orders)) {
  for (const auto& order : orders_) pages_[order.id].order = &order;
}

const Order* Books::find(std::string_view id) const {
  // The orders themselves never change: only their pages do.
  auto page = pages_.find(id);
  return page == pages_.end() ? nullptr : page->second.order;
}

apogee::TransactionState Books::enter_in_transaction(const std::string& transaction, const Order& order, Step step) {
  std::lock_guard lock(mutex_);
  if (auto known = transactions_.find(transaction); known != transactions_.end()) return known->second;
  const bool done = enter_locked(pages_[order.id], step) == Entered::kNow && step != Step::kRefused;
  return transactions_[transaction] = done ? apogee::TransactionState::kCommit : apogee::TransactionState::kRollback;
}

apogee::TransactionState Books::outcome(const std::string& transaction) {
  std::lock_guard lock(mutex_);
  ++questions_;
  return transactions_.try_emplace(transaction, apogee::TransactionState::kRollback).first->second;
}

Books::Entered Books::enter(const Order& order, Step step) {
  std::lock_guard lock(mutex_);
  return enter_locked(pages_[order.id], step);
}

Books::Entered Books::enter_locked(Page& page, Step step) {
  if (contains(page.history, step)) {
    ++repeated_;
    return Entered::kBefore;
  }
  if (!allowed(page.history, step)) return Entered::kNotAllowed;
  page.history.push_back(step);
  return Entered::kNow;
}

bool Books::has(const Order& order, Step step) const {
  std::lock_guard lock(mutex_);
  return contains(pages_.at(order.id).history, step);
}

void Books::keep_deadline(const Order& order, const apogee::SendReceipt& receipt) {
  std::lock_guard lock(mutex_);
  pages_[order.id].deadline = receipt;
}

apogee::SendReceipt Books::deadline(const Order& order) const {
  std::lock_guard lock(mutex_);
  return pages_.at(order.id).deadline;
}

void Books::notice_sent(const Order& order, Step step) {
  std::lock_guard lock(mutex_);
  notices_.emplace(order.id, step);
}

void Books::notice_received(const std::string& subscriber, const Order& order, Step step) {
  std::lock_guard lock(mutex_);
  // A customer is not told twice: what was noted is not done again.
  if (!subscribers_[subscriber].received.emplace(order.id, step).second) ++repeated_;
}

void Books::expect(const std::string& subscriber, std::function<bool(const Order&, Step)> wanted) {
  std::lock_guard lock(mutex_);
  subscribers_[subscriber].wanted = std::move(wanted);
}

std::set<Notice> Books::expected_by(const Subscriber& subscriber) const {
  std::set<Notice> expected;
  for (const auto& notice : notices_) {
    if (subscriber.wanted(*pages_.at(notice.first).order, notice.second)) expected.insert(notice);
  }
  return expected;
}

void Books::complain(std::string what) {
  std::lock_guard lock(mutex_);
  complaints_.push_back(std::move(what));
}

Books::Figures Books::figures() const {
  std::lock_guard lock(mutex_);
  Figures figures;
  for (const auto& [id, page] : pages_) {
    for (const Step step : page.history) ++figures.orders[step];
    const bool created = contains(page.history, Step::kCreated);
    const bool cancelled = contains(page.history, Step::kCancelled);
    if (page.history.empty()) ++figures.unknown;
    if (created && !cancelled && !contains(page.history, Step::kPaid)) ++figures.undecided;
    if (created && !cancelled && !contains(page.history, Step::kShipped)) ++figures.open;
  }
  figures.notices = notices_.size();
  for (const auto& [name, subscriber] : subscribers_) {
    figures.notices_received += subscriber.received.size();
    figures.notices_expected += expected_by(subscriber).size();
  }
  figures.repeated = repeated_;
  figures.questions = questions_;
  return figures;
}

bool Books::settled() const {
  const auto now = figures();
  // Of each order three notices are sent, or one when it is cancelled.
  const auto of = [&](Step step) { return now.orders.count(step) == 0 ? 0 : now.orders.at(step); };
  return now.unknown == 0 && now.open == 0 && now.notices == 2 * of(Step::kShipped) + of(Step::kCancelled) &&
         now.notices_received >= now.notices_expected;
}

std::vector<std::string> Books::mistakes() const {
  std::lock_guard lock(mutex_);
  auto mistakes = complaints_;
  for (const auto& [id, page] : pages_) {
    // The state machine lets nothing else happen; what may be missing is the end.
    const Step last = page.history.empty() ? Step::kCreated : page.history.back();
    if (page.history.empty()) {
      mistakes.push_back(fmt::format("order {} is not in the books", id));
    } else if (last != Step::kRefused && last != Step::kCancelled && last != Step::kShipped) {
      mistakes.push_back(fmt::format("order {} is only {}", id, to_string(last)));
    }
    for (const Step step : {Step::kPaid, Step::kShipped, Step::kCancelled}) {
      if (contains(page.history, step) != (notices_.count({id, step}) == 1)) {
        mistakes.push_back(fmt::format("order {}: {} in the books or among the notices only", id, to_string(step)));
      }
    }
  }
  for (const auto& [name, subscriber] : subscribers_) {
    const auto expected = expected_by(subscriber);
    for (const auto& [id, step] : expected) {
      if (subscriber.received.count({id, step}) == 0) {
        mistakes.push_back(fmt::format("{} never heard that order {} was {}", name, id, to_string(step)));
      }
    }
    for (const auto& [id, step] : subscriber.received) {
      if (expected.count({id, step}) == 0) {
        mistakes.push_back(
            fmt::format("{} heard that order {} was {}, which is not for it", name, id, to_string(step)));
      }
    }
  }
  return mistakes;
}

std::vector<std::string> Books::list() const {
  std::lock_guard lock(mutex_);
  std::vector<std::string> lines;
  for (const auto& order : orders_) {
    std::string history;
    for (const Step step : pages_.at(order.id).history) history += fmt::format(" {}", to_string(step));
    lines.push_back(fmt::format("order {} amount {} region {} channel {} pays {} :{}", order.id, order.amount,
                                order.region, order.channel, to_string(order.pays), history));
  }
  for (const auto& [name, subscriber] : subscribers_) {
    for (const auto& [id, step] : subscriber.received) {
      lines.push_back(fmt::format("notice to {} : {} {}", name, id, to_string(step)));
    }
  }
  return lines;
}

}  // namespace shop
