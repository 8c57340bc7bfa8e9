#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "apogee/admin_client.h"
#include "apogee/push_consumer.h"
#include "apogee/transaction_producer.h"
#include "books.h"
#include "post.h"

// The services of the shop. In a company each would be a program of its own; nothing but the books (the database) and
// the broker connects them. start() before use; stop() waits for what runs.
namespace shop {

inline constexpr int kCreditLimit = 1'000;

/// TRANSACTIONS. What happens to an order is told to the other services if, and only if, it is in the books.
class OrderDesk {
 public:
  OrderDesk(const Settings& settings, Books& books);
  apogee::Status start() { return producer_.start(); }
  apogee::Status stop() { return producer_.shutdown(); }

  /// Return when the books say what became of it, or when the time of the program is over.
  void place(const Order& order);
  void pay(const Order& order);

 private:
  void try_once(const Order& order, const char* event);
  Books& books_;
  const Clock::time_point until_;
  apogee::TransactionProducer producer_;
};

/// TIMERS. Customers have some time to pay; an order that is not paid until then is cancelled.
class Checkout {
 public:
  struct Parts {
    Books& books;
    Post& post;
    OrderDesk& desk;
    class Notices& notices;
  };
  Checkout(const Settings& settings, Parts parts, std::chrono::milliseconds pay_within);
  ~Checkout();
  apogee::Status start();
  apogee::Status stop();

 private:
  apogee::ConsumeResult created(const Order& order);
  apogee::ConsumeResult deadline(const Order& order);
  /// The customers: those who pay do so at once, or in the very last moment.
  void customers();
  const Settings settings_;
  const Parts parts_;
  const std::chrono::milliseconds pay_within_;
  apogee::PushConsumer created_;
  apogee::PushConsumer deadlines_;
  std::mutex mutex_;  // guards the rest
  std::condition_variable changed_;
  std::multimap<Clock::time_point, const Order*> will_pay_;
  bool closed_ = false;
  std::thread customers_;
};

/// ORDER, RETRIES. Prints a label for each paid order and has it picked, packed and shipped, in this order.
class Warehouse {
 public:
  Warehouse(const Settings& settings, Books& books, Post& post, Notices& notices);
  apogee::Status start();
  apogee::Status stop();

  /// Until its printer is repaired, labels with other than ASCII letters cannot be printed.
  void repair_printer() { printer_prints_all_ = true; }
  static bool is_plain(std::string_view address);

 private:
  apogee::ConsumeResult paid(const Order& order, const apogee::ReceivedMessage& message,
                             apogee::ConcurrentContext& context);
  apogee::OrderlyResult work(const Order& order, std::string_view step);
  Books& books_;
  Post& post_;
  Notices& notices_;
  std::atomic<bool> printer_prints_all_{false};
  apogee::PushConsumer labels_;
  apogee::PushConsumer workers_;
};

/// FILTERS. Customers hear by mail or by text message, which tags tell apart; accounts wants what SQL describes.
class Notices {
 public:
  Notices(const Settings& settings, Books& books, Post& post);
  apogee::Status start();
  apogee::Status stop();
  /// Error: the time of the program is over.
  apogee::Status send(const Order& order, Step step);

 private:
  void add(const std::string& name, const apogee::MessageSelector& selector,
           std::function<bool(const Order&, Step)> wanted);
  struct Subscriber {
    apogee::MessageSelector selector;
    std::unique_ptr<apogee::PushConsumer> consumer;
  };
  const Settings settings_;
  Books& books_;
  Post& post_;
  std::vector<Subscriber> subscribers_;
};

/// DEAD LETTERS. Messages that failed too often wait in a topic of their own until somebody looks after them.
class DeadLetters {
 public:
  DeadLetters(const Settings& settings, Books& books) : books_(books), admin_(admin_config(settings)) {}
  /// Reads those that have come; of an order that is dead twice the first one counts.
  void look();
  [[nodiscard]] size_t count() const { return letters_.size(); }
  [[nodiscard]] bool has(const Order& order) const { return letters_.count(order.id) == 1; }
  /// Hands all to their group once more. As `mqadmin resendDlq -g shop_labels` does.
  void resend(Clock::time_point until);

 private:
  Books& books_;
  apogee::AdminClient admin_;
  std::map<apogee::MessageQueue, int64_t> read_;  ///< up to this offset
  std::map<std::string, apogee::ReceivedMessage> letters_;
};

}  // namespace shop
