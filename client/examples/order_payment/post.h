#pragma once

#include <chrono>
#include <string>

#include "apogee/admin_client.h"
#include "apogee/message.h"
#include "apogee/producer.h"
#include "apogee/push_consumer.h"
#include "apogee/transaction_producer.h"

namespace shop {

using Clock = std::chrono::steady_clock;

// Topics and groups. In a company each service would own its group, and all would know the topics.
inline constexpr const char* kOrders = "ShopOrders";        ///< what happened: created, paid (the tag says which)
inline constexpr const char* kDeadlines = "ShopDeadlines";  ///< timers: pay until then
inline constexpr const char* kWarehouse = "ShopWarehouse";  ///< what to do, in order per order: pick, pack, ship
inline constexpr const char* kNotices = "ShopNotices";      ///< for customers and for accounts
inline constexpr const char* kCheckoutGroup = "shop_checkout";
inline constexpr const char* kDeadlineGroup = "shop_deadlines";
inline constexpr const char* kLabelGroup = "shop_labels";
inline constexpr const char* kWarehouseGroup = "shop_warehouse";
/// "shop_" and the subscriber's name.
std::string notice_group(const std::string& subscriber);

/// How often a label is tried again before its message goes to the dead letters.
inline constexpr int kLabelRetries = 2;

struct Settings {
  std::string namesrv;
  Clock::time_point until;  ///< then everything gives up
};

/// Makes topics and groups on all brokers. Nothing changes where they exist.
apogee::Status create_topics(apogee::AdminClient& admin);

apogee::AdminConfig admin_config(const Settings& settings);
apogee::PushConsumerConfig consumer_config(const Settings& settings, const std::string& group);
apogee::TransactionProducerConfig producer_config(const Settings& settings);

/// Whether a send that failed with this error may succeed when it is tried again: a broker that is gone comes back.
bool may_pass(const apogee::Error& error);
/// Before something is tried again.
void wait_a_little();

/// Sends messages, however long a broker is away.
class Post {
 public:
  explicit Post(const Settings& settings);

  apogee::Status start() { return producer_.start(); }
  apogee::Status stop() { return producer_.shutdown(); }

  /// Tries until a broker has stored the message, or the time of the program is over. A send that timed out may have
  /// been stored, so that consumers get the message twice: this is why they ask the books.
  ///
  /// Listeners call this too. While a broker is away they wait here with their message, instead of failing: each
  /// failure would cost the message one of its retries, and a long outage would lead healthy messages to the dead
  /// letters.
  [[nodiscard]] apogee::Result<apogee::SendReceipt> deliver(const apogee::Message& message,
                                                            const apogee::SendOptions& options = {});
  /// Takes back a message that waits for its instant.
  [[nodiscard]] apogee::Status cancel(const apogee::SendReceipt& timer) { return producer_.cancel_timer(timer); }

 private:
  const Clock::time_point until_;
  apogee::Producer producer_;
};

}  // namespace shop
