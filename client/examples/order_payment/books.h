#pragma once

#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "apogee/producer.h"
#include "apogee/transaction_producer.h"

namespace shop {

/// What becomes of an order. refused, or created and then either cancelled, or paid, picked, packed and shipped.
enum class Step { kRefused, kCreated, kPaid, kCancelled, kPicked, kPacked, kShipped };
const char* to_string(Step step);

struct Order {
  enum class Pays { kPromptly, kLate, kNever };

  std::string id;  ///< of this run of the program only: what earlier runs left in the topics is not in the books
  int amount = 0;
  std::string address;  ///< not every printer can print every one
  std::string channel;  ///< how the customer wants to hear of the order: "email" or "sms"
  std::string region;
  Pays pays = Pays::kPromptly;
  bool forgetful = false;  ///< the process that does its transactions forgets to tell the broker what became of them
};

/// That a customer was told of a step: the order's id and the step.
using Notice = std::pair<std::string, Step>;

/// Stands for the database of the shop. Every message of the workflow may come twice, and steps of different services
/// race with each other; it is here that each is done once: a step that was done before, or that the order's state does
/// not allow, changes nothing. Thread: any.
class Books {
 public:
  explicit Books(std::vector<Order> orders);

  [[nodiscard]] const std::vector<Order>& orders() const { return orders_; }
  /// nullptr: not an order of this run.
  [[nodiscard]] const Order* find(std::string_view id) const;

  /// Does the local work of a transaction and keeps its outcome with it, both or none: a database would do this in one
  /// transaction of its own.
  apogee::TransactionState enter_in_transaction(const std::string& transaction, const Order& order, Step step);
  /// What became of a transaction. One that is not known is closed: its work, which may be about to begin in a process
  /// that is slow, must not be done any more once the broker was told so.
  apogee::TransactionState outcome(const std::string& transaction);

  enum class Entered { kNow, kBefore, kNotAllowed };
  Entered enter(const Order& order, Step step);
  [[nodiscard]] bool has(const Order& order, Step step) const;

  /// The timer that will cancel the order.
  void keep_deadline(const Order& order, const apogee::SendReceipt& receipt);
  /// One without an instant: there is none.
  [[nodiscard]] apogee::SendReceipt deadline(const Order& order) const;

  void notice_sent(const Order& order, Step step);
  void notice_received(const std::string& subscriber, const Order& order, Step step);
  /// What a subscriber must get of the notices that are sent, no more and no less.
  void expect(const std::string& subscriber, std::function<bool(const Order&, Step)> wanted);

  /// Something that must not happen did.
  void complain(std::string what);

  struct Figures {
    std::map<Step, size_t> orders;  ///< that have taken the step
    size_t unknown = 0;             ///< orders that are not in the books yet
    size_t undecided = 0;           ///< created, neither paid nor cancelled
    size_t open = 0;                ///< created, neither shipped nor cancelled
    size_t notices = 0, notices_received = 0, notices_expected = 0;
    size_t repeated = 0;   ///< messages that came again and changed nothing
    size_t questions = 0;  ///< of brokers about transactions
    friend bool operator==(const Figures& a, const Figures& b) = default;
  };
  [[nodiscard]] Figures figures() const;
  /// Nothing is open any more.
  [[nodiscard]] bool settled() const;
  /// What does not balance, one line each; at the end of the day there is none.
  [[nodiscard]] std::vector<std::string> mistakes() const;
  /// A line for each order with its history, and for each notice that a subscriber got.
  [[nodiscard]] std::vector<std::string> list() const;

 private:
  struct Page {
    const Order* order = nullptr;
    std::vector<Step> history;
    apogee::SendReceipt deadline;
  };
  struct Subscriber {
    std::function<bool(const Order&, Step)> wanted;
    std::set<Notice> received;
  };
  Entered enter_locked(Page& page, Step step);
  [[nodiscard]] std::set<Notice> expected_by(const Subscriber& subscriber) const;

  const std::vector<Order> orders_;
  mutable std::mutex mutex_;  // guards what follows
  std::map<std::string, Page, std::less<>> pages_;
  std::map<std::string, apogee::TransactionState> transactions_;
  std::set<Notice> notices_;
  std::map<std::string, Subscriber> subscribers_;
  std::vector<std::string> complaints_;
  size_t repeated_ = 0, questions_ = 0;
};

}  // namespace shop
